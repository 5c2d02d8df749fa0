"""Forward and backward pass of a stack of multilayer perceptrons, written out: no graph, no allocation.

Activations lie feature by feature, ``(R, features, batch)``, so that the batch fills the vector registers whatever the
widths are; a row of ones under each layer's activations makes its bias one more column of the weights. A layer is then
three batched products: Z = W A, dW = dZ Aᵀ (bias included) and dA = Wᵀ dZ.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from theodolite.models.description import Activation
from theodolite.train.activations import KERNELS
from theodolite.train.aligned import AlignedStack, Layer, padded


class _Forwards(NamedTuple):
    """A layer's weights, where Z goes, and the true rows of Z and of what the next layer takes, with all its rows."""

    weights: Tensor
    z: Tensor
    true_z: Tensor
    true_following: Tensor
    following: Tensor


class _Backwards(NamedTuple):
    """Of a layer but the first: its number, dZ, Aᵀ, true Wᵀ and dZ, where dA goes; what f' is taken from, dZ below."""

    number: int
    dz: Tensor
    a: Tensor
    weights: Tensor
    true_dz: Tensor
    da: Tensor
    saved: Tensor
    dz_below: Tensor


class Passes:
    """Memory for the passes of R replicas over batches of up to ``batch`` samples, and the passes.

    All matrices hold ``batch`` rounded up to whole alignment units; what the padding holds is finite, and its gradient
    is zero because the loss gives it weight zero. Views are made once: with small batches a step is as long as its
    calls.
    """

    def __init__(self, weights: AlignedStack, activation: Activation, batch: int, *, backward: bool = True) -> None:
        shape, replicas, like = weights.layers, weights.replicas, weights.buffer
        self.kernel, self.replicas, self.batch = KERNELS[activation], replicas, padded(batch, like.dtype)

        def matrix(rows: int) -> Tensor:
            return like.new_zeros(replicas, rows, self.batch)

        most = max(max(layer.inputs if number else 0, layer.rows) for number, layer in enumerate(shape))
        scratch = matrix(most).flatten()

        def borrowed(rows: int) -> Tensor:
            return scratch[: replicas * rows * self.batch].view(replicas, rows, self.batch)

        keep = backward and not self.kernel.saves_output
        z = [matrix(layer.rows) if keep else borrowed(layer.rows) for layer in shape[:-1]]
        a = [matrix(layer.columns) for layer in shape[1:]]  # what each layer but the first takes
        for taken, layer in zip(a, shape[1:], strict=True):
            if layer.bias:
                taken[:, layer.inputs] = 1
        *hidden, self._last = weights.matrices
        self._forwards = [
            _Forwards(w, into, into[:, : layer.outputs], following[:, : layer.outputs], following)
            for w, into, following, layer in zip(hidden, z, a, shape, strict=False)
        ]
        self._outputs = matrix(shape[-1].rows)
        self._true_outputs = self._outputs[:, : shape[-1].outputs]
        if not backward:
            return
        dz = [matrix(layer.rows) for layer in shape]
        da = [borrowed(layer.inputs) for layer in shape[1:]]
        saved = a if self.kernel.saves_output else z
        self._first_dz = dz[0]
        self.output_gradient = dz[-1][:, : shape[-1].outputs]  # (R, outputs, batch), where the loss writes its gradient
        self._backwards = [
            _Backwards(
                number,
                dz[number],
                a[number - 1].transpose(1, 2),
                weights.matrices[number][:, : layer.outputs, : layer.inputs].transpose(1, 2),
                dz[number][:, : layer.outputs],
                da[number - 1],
                saved[number - 1][:, : layer.inputs],
                dz[number - 1][:, : layer.inputs],
            )
            for number, layer in reversed([*enumerate(shape)][1:])
        ]

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs ``(R, outputs, batch)`` for inputs ``(R, batch, columns of the first layer)``; its own memory."""
        a = inputs.transpose(1, 2)
        for each in self._forwards:
            torch.bmm(each.weights, a, out=each.z)
            self.kernel.forward(each.true_z, each.true_following)
            a = each.following
        torch.bmm(self._last, a, out=self._outputs)
        return self._true_outputs

    def backward(self, inputs: Tensor, gradients: list[Tensor]) -> None:
        """Write the gradient of every weight, given ``output_gradient`` and the last forward pass."""
        for each in self._backwards:
            torch.bmm(each.dz, each.a, out=gradients[each.number])
            torch.bmm(each.weights, each.true_dz, out=each.da)
            self.kernel.backward(each.da, each.saved, each.dz_below)
        torch.bmm(self._first_dz, inputs, out=gradients[0])


def working_set(shape: tuple[Layer, ...], batch: int, dtype: torch.dtype, computed: torch.dtype) -> int:
    """Bytes that one replica touches in a training step: weights, gradient, two moments, activations, batch.

    Where passes are computed in another type than weights are kept in, weights and gradient are there in both.
    """
    parameters = sum(layer.rows * layer.columns for layer in shape)
    units = sum(layer.rows + layer.columns for layer in shape)
    twice = 0 if computed == dtype else 2 * parameters
    return 4 * parameters * dtype.itemsize + (twice + padded(batch, computed) * units) * computed.itemsize
