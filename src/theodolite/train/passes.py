"""Forward and backward pass of a stack of multilayer perceptrons, written out: no graph, no allocation.

Activations lie feature by feature, ``(R, features, batch)``, so that the batch fills the vector registers whatever the
widths are; a row of ones under each layer's activations makes its bias one more column of the weights. A layer is then
three batched products: Z = W A, dW = dZ Aᵀ (bias included) and dA = Wᵀ dZ.
"""

import torch
from torch import Tensor

from theodolite.models.description import Activation
from theodolite.train.activations import KERNELS
from theodolite.train.aligned import Layer, padded


class Passes:
    """Memory for the passes of R replicas over batches of up to ``batch`` samples, and the passes.

    All matrices hold ``batch`` rounded up to whole alignment units; what the padding holds is finite, and its gradient
    is zero because the loss gives it weight zero.
    """

    def __init__(
        self,
        shape: tuple[Layer, ...],
        activation: Activation,
        replicas: int,
        batch: int,
        like: Tensor,
        *,
        backward: bool = True,
    ) -> None:
        self.layers, self.kernel = shape, KERNELS[activation]
        self.batch = padded(batch, like.dtype)

        def matrix(rows: int) -> Tensor:
            return like.new_zeros(replicas, rows, self.batch)

        most = max(max(layer.inputs if number else 0, layer.rows) for number, layer in enumerate(shape))
        scratch = matrix(most).flatten()

        def borrowed(rows: int) -> Tensor:
            return scratch[: replicas * rows * self.batch].view(replicas, rows, self.batch)

        keep = backward and not self.kernel.saves_output
        self.z = [matrix(layer.rows) if keep else borrowed(layer.rows) for layer in shape[:-1]]
        self.outputs = matrix(shape[-1].rows)
        self.a = [matrix(layer.columns) for layer in shape[1:]]  # what each layer but the first takes
        for a, layer in zip(self.a, shape[1:], strict=True):
            if layer.bias:
                a[:, layer.inputs] = 1
        if backward:
            self.dz = [matrix(layer.rows) for layer in shape]
            self.da = [borrowed(layer.inputs) for layer in shape[1:]]

    @property
    def true_outputs(self) -> Tensor:
        """The outputs without padded rows, ``(R, outputs, batch)``."""
        return self.outputs[:, : self.layers[-1].outputs]

    @property
    def output_gradient(self) -> Tensor:
        """Where the loss writes its gradient, ``(R, outputs, batch)``."""
        return self.dz[-1][:, : self.layers[-1].outputs]

    def forward(self, weights: list[Tensor], inputs: Tensor) -> Tensor:
        """Outputs ``(R, outputs, batch)`` for inputs ``(R, batch, columns of the first layer)``; its own memory."""
        a = inputs.transpose(1, 2)
        for w, z, following, layer in zip(weights, self.z, self.a, self.layers, strict=False):
            torch.bmm(w, a, out=z)
            self.kernel.forward(z[:, : layer.outputs], following[:, : layer.outputs])
            a = following
        torch.bmm(weights[-1], a, out=self.outputs)
        return self.true_outputs

    def backward(self, weights: list[Tensor], inputs: Tensor, gradients: list[Tensor]) -> None:
        """Write the gradient of every weight, given ``output_gradient`` and the last forward pass."""
        for number in range(len(self.layers) - 1, 0, -1):
            layer, dz, da, width = self.layers[number], self.dz[number], self.da[number - 1], self.layers[number].inputs
            torch.bmm(dz, self.a[number - 1].transpose(1, 2), out=gradients[number])
            torch.bmm(weights[number][:, : layer.outputs, :width].transpose(1, 2), dz[:, : layer.outputs], out=da)
            saved = self.a[number - 1] if self.kernel.saves_output else self.z[number - 1]
            self.kernel.backward(da, saved[:, :width], self.dz[number - 1][:, :width])
        torch.bmm(self.dz[0], inputs, out=gradients[0])


def working_set(shape: tuple[Layer, ...], batch: int, dtype: torch.dtype, computed: torch.dtype) -> int:
    """Bytes that one replica touches in a training step: weights, gradient, two moments, activations, batch.

    Where passes are computed in another type than weights are kept in, weights and gradient are there in both.
    """
    parameters = sum(layer.rows * layer.columns for layer in shape)
    units = sum(layer.rows + layer.columns for layer in shape)
    twice = 0 if computed == dtype else 2 * parameters
    return 4 * parameters * dtype.itemsize + (twice + padded(batch, computed) * units) * computed.itemsize
