r"""Loss, gradient and exact Hessian of many multilayer perceptrons at once, in closed form: no graph, no tracing.

For a chain :math:`z_l = W_l a_{l-1} + b_l`, :math:`a_l = \varphi(z_l)`, all that a sample says about the curvature is
the Hessian of its loss with respect to the units of each layer, which runs backwards through the layers:

.. math:: S_l = \operatorname{diag}(\varphi'_l)\, W_{l+1}^T S_{l+1} W_{l+1} \operatorname{diag}(\varphi'_l)
          + \operatorname{diag}(\varphi''_l \odot W_{l+1}^T \delta_{l+1}), \qquad
          \frac{\partial \delta_m}{\partial z_l} = S_m \frac{\partial z_m}{\partial z_l}, \quad l \le m .

With a bias as the weight of an input that is always 1, the block of the weights of layers l ≤ m is

.. math:: H_{(l,ij),(m,kq)} = \sum_n a_{l-1,nj} \Big( \frac{\partial \delta_{m,nk}}{\partial z_{l,ni}} a_{m-1,nq}
          + [l < m]\, \delta_{m,nk} \frac{\partial a_{m-1,nq}}{\partial z_{l,ni}} \Big) .

:mod:`~theodolite.measure.layerwise` computes the same for any network of linear layers. This form needs no vmap and no
hooks, and so is 1.7 to 2.7 times faster for hundreds of replicas of some ten units, which is what the search for
critical points takes; for one network of 64 inputs it takes 1.2 to 2 times as long (`benchmarks/curvature.py`).

Source: Bishop 1992, "Exact calculation of the Hessian matrix for the multilayer perceptron".
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from theodolite.measure.evaluate import chain
from theodolite.measure.objective import Batch, Objective

POINTWISE: tuple[type[nn.Module], ...] = (
    *(nn.Tanh, nn.Sigmoid, nn.Softplus, nn.GELU, nn.SiLU, nn.Mish, nn.LogSigmoid, nn.Tanhshrink, nn.Softsign),
    *(nn.ReLU, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU),
)

Activation = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Perceptron:
    """A model that is linear layers with at most one pointwise activation between two of them."""

    widths: tuple[int, ...]  # units of every layer, from the input to the output
    bias: bool  # all layers have one, or none has
    activations: tuple[Activation | None, ...]  # of each hidden layer; None: the identity
    loss: Callable[[Any, Any], Tensor]

    @property
    def blocks(self) -> list[slice]:
        """Where each layer lies in the flat vector."""
        return _slices([(i + self.bias) * o for i, o in pairwise(self.widths)])

    def layers(self, vectors: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """Weight ``(S, o, i)`` and bias ``(S, 1, o)`` of every layer, from flat vectors ``(S, P)``."""
        parts = []
        for block, (i, o) in zip(self.blocks, pairwise(self.widths), strict=True):
            own = vectors[:, block]
            parts.append((own[:, : i * o].unflatten(1, (o, i)), own[:, None, i * o :] if self.bias else None))
        return parts


@dataclass(frozen=True, slots=True)
class _Pass:
    """A pass forwards and backwards of S networks over N samples."""

    loss: Tensor  # (S,)
    inputs: list[
        Tensor
    ]  # a_{l-1} of every layer with a 1 behind if there are biases, (S, N, features); (1, N, ·) first
    slopes: list[Tensor]  # φ'(z_l) of every hidden layer, (S, N, units)
    bends: list[Tensor]  # φ''(z_l) ∂L/∂a_l, the same
    deltas: list[Tensor]  # ∂L/∂z_l of every layer, (S, N, units)
    curvature: Tensor  # ∂²L/∂z² of the last layer, (S, N, outputs, outputs)


def perceptron(objective: Objective) -> Perceptron | None:
    """The objective's model as a chain that has the closed forms above, or None if it is none."""
    links = [module for _, module in chain(objective.model) or [] if type(module) is not nn.Identity]
    linear = [m for m in links if type(m) is nn.Linear]
    activations: list[Activation | None] = []
    for left, right in pairwise([*links, None]):
        if type(left) is nn.Linear:
            activations.append(right if type(right) in POINTWISE else None)
        elif type(left) not in POINTWISE or type(right) is not nn.Linear or left is links[0]:
            return None
    parameters = {id(p) for m in linear for p in m.parameters()}
    measured = {id(p) for name, p in objective.model.named_parameters() if name in objective.names}
    if not linear or len({m.bias is None for m in linear}) > 1 or parameters != measured:
        return None
    if len({id(m) for m in linear}) != len(linear):  # one layer used twice
        return None
    widths = (linear[0].in_features, *(m.out_features for m in linear))
    if sum((m.bias is not None) * m.out_features + m.weight.numel() for m in linear) != objective.size:
        return None  # tied
    return Perceptron(widths, linear[0].bias is not None, tuple(activations[:-1]), objective.loss)


def derivatives(net: Perceptron, vectors: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Loss ``(S,)``, gradient ``(S, P)`` and Hessian ``(S, P, P)`` of one batch at flat vectors ``(S, P)``."""
    done = _run(net, vectors, batch)
    weights = [weight for weight, _ in net.layers(vectors)]
    S = _curvatures(done, weights)
    hessian = vectors.new_empty(*vectors.shape, vectors.shape[1])
    for l, rows in enumerate(net.blocks):  # noqa: E741 - the equation's letter
        hessian[:, rows, rows] = _weigh(S[l], done.inputs[l], done.inputs[l])
        if l == len(weights) - 1:
            break
        rise = done.slopes[l].diag_embed()  # ∂a_{m-1} / ∂z_l, (S, N, units of m - 1, units of l)
        for m in range(l + 1, len(weights)):
            J = weights[m][:, None] @ rise  # ∂z_m / ∂z_l
            block = _weigh((S[m] @ J).mT, done.inputs[l], done.inputs[m])
            _add_bilinear(block, done.inputs[l], done.deltas[m], rise)
            hessian[:, rows, net.blocks[m]] = block
            hessian[:, net.blocks[m], rows] = block.mT
            if m < len(weights) - 1:
                rise = done.slopes[m][..., None] * J
    order = _flat_order(net).to(vectors.device)
    return done.loss, _gradient(net, done), hessian[:, order[:, None], order]


def _run(net: Perceptron, vectors: Tensor, batch: Batch) -> _Pass:
    inputs, targets = batch
    a = inputs[None]
    layers, found, slopes, bends = net.layers(vectors), [], [], []
    for number, (weight, bias) in enumerate(layers):
        found.append(torch.cat([a, torch.ones_like(a[..., :1])], -1) if net.bias else a)
        z = a @ weight.mT
        if bias is not None:
            z += bias
        if number < len(layers) - 1:
            a, slope, bend = bent(net.activations[number], z)
            slopes.append(slope)
            bends.append(bend)
    loss, delta, D = _outputs(net.loss, z, targets)
    deltas = [delta]
    for number in range(len(layers) - 1, 0, -1):
        signal = deltas[0] @ layers[number][0]  # ∂L/∂a
        deltas.insert(0, slopes[number - 1] * signal)
        bends[number - 1] = bends[number - 1] * signal
    return _Pass(loss, found, slopes, bends, deltas, D)


def bent(activation: Activation | None, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """φ(z), φ'(z), φ''(z)."""
    if activation is None:
        return z, torch.ones_like(z), torch.zeros_like(z)
    if type(activation) is nn.Tanh:
        a = z.tanh()
        slope = 1 - a * a
        return a, slope, -2 * a * slope
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        a = activation(z.clone())  # which may write in place
        (slope,) = torch.autograd.grad(a.sum(), z, create_graph=True)
        bend = torch.zeros_like(z)
        if slope.requires_grad:
            (bend,) = torch.autograd.grad(slope.sum(), z, materialize_grads=True)
    return a.detach(), slope.detach(), bend


def _outputs(loss: Any, z: Tensor, targets: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, and its first and second derivatives by the outputs, if samples do not reach each other there."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        value = vmap(lambda outputs: loss(outputs, targets))(z)
        (delta,) = torch.autograd.grad(value.sum(), z, create_graph=True)
        D = z.new_zeros(*z.shape, z.shape[-1])
        if delta.requires_grad:
            for k in range(z.shape[-1]):
                (D[..., k],) = torch.autograd.grad(delta[..., k].sum(), z, retain_graph=True, materialize_grads=True)
    return value.detach(), delta.detach(), D


def _gradient(net: Perceptron, done: _Pass) -> Tensor:
    """Σ_n δ_l a_{l-1}ᵀ of every layer, flat."""
    parts = []
    for delta, a in zip(done.deltas, done.inputs, strict=True):
        own = delta.mT @ a
        parts += [own[..., :-1].flatten(1), own[..., -1]] if net.bias else [own.flatten(1)]
    return torch.cat(parts, 1)


def _curvatures(done: _Pass, weights: list[Tensor]) -> list[Tensor]:
    """∂²L/∂z_l² of every layer and sample, (S, N, units, units), from the output down."""
    found = [done.curvature]
    for W, slope, bend in zip(weights[:0:-1], done.slopes[::-1], done.bends[::-1], strict=True):
        N, K, units = *found[0].shape[1:3], W.shape[2]
        half = (
            (found[0].flatten(1, 2) @ W).view(-1, N, K, units).mT.reshape(-1, N * units, K)
        )  # one product for all samples
        below = (half @ W).view(-1, N, units, units) * (slope[..., :, None] * slope[..., None, :])
        below.diagonal(dim1=-2, dim2=-1).add_(bend)
        found.insert(0, below)
    return found


def _weigh(Z: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Σ_n Z_nik a_nj b_nq as a matrix: rows (i, j), columns (k, q)."""
    outer = (a[..., :, None] * b[..., None, :]).flatten(2)  # one for all S at the first layer
    total = Z.flatten(2).mT @ (outer if len(outer) > 1 else outer[0])
    R, K, J, Q = *Z.shape[2:], a.shape[2], b.shape[2]
    return total.view(-1, R, K, J, Q).transpose(2, 3).reshape(-1, R * J, K * Q)


def _add_bilinear(block: Tensor, a: Tensor, delta: Tensor, rise: Tensor) -> None:
    """Add Σ_n δ_nk rise_nqi a_nj to the rows (i, j) and columns (k, q) of a block; the last q may be a bias's 1."""
    J, K, Q, R = a.shape[2], delta.shape[2], *rise.shape[2:]
    left = (a[..., :, None] * delta[..., None, :]).flatten(2)
    total = (left.mT @ rise.flatten(2)).view(-1, J, K, Q, R)
    block.view(len(block), R, J, K, -1)[..., :Q] += total.permute(0, 4, 1, 2, 3)


def _flat_order(net: Perceptron) -> Tensor:
    """For each place of the flat vector, where blocks ordered (layer, unit, feature and then 1) hold it."""
    parts = []
    for block, (i, o) in zip(net.blocks, pairwise(net.widths), strict=True):
        places = torch.arange(block.start, block.stop).view(o, i + net.bias)
        parts += [places[:, :i].flatten(), places[:, i:].flatten()]
    return torch.cat(parts)


def _slices(sizes: list[int]) -> list[slice]:
    return [slice(a, b) for a, b in pairwise(accumulate(sizes, initial=0))]
