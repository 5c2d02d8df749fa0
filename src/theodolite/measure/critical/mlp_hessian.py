r"""Loss, gradient and exact Hessian of many multilayer perceptrons at once, in closed form: no graph, no tracing.

For a chain :math:`z_l = W_l a_{l-1} + b_l`, :math:`a_l = \varphi(z_l)`, what a sample says about the curvature is how
its :math:`\delta_m = \partial L / \partial z_m` move with the units of each layer l ≤ m: forwards, and back,

.. math:: J_{m+1} = W_{m+1} \operatorname{diag}(\varphi'_m) J_m, \qquad
          C_m = \operatorname{diag}(\varphi''_m \odot W_{m+1}^T \delta_{m+1}) J_m
          + \operatorname{diag}(\varphi'_m)\, W_{m+1}^T C_{m+1},

where :math:`J_m = \partial z_m / \partial z_l` starts as the identity and :math:`C_m = \partial \delta_m / \partial
z_l` as the Hessian of the loss by the outputs times the last J. With a bias as the weight of an input that is always 1,
the block of the weights of layers l ≤ m is

.. math:: H_{(l,ij),(m,kq)} = \sum_n a_{l-1,nj} \Big( C_{m,nki}\, a_{m-1,nq}
          + [l < m]\, \delta_{m,nk} \frac{\partial a_{m-1,nq}}{\partial z_{l,ni}} \Big) .

A block with l = m is symmetric in (i, k) and in (j, q), so a quarter of it is computed. Samples are the last dimension
of every tensor, which makes each sum over them one product of matrices.

:mod:`~theodolite.measure.curvature.dense_linear` computes the same for any network of linear layers. This form needs no
vmap and no hooks, and so is 7 to 8 times faster for hundreds of replicas of some ten units, which is what the search
for critical points takes; for one network of 64 inputs it takes 1.1 times as long (`benchmarks/curvature.py`).

Source: Bishop 1992, "Exact calculation of the Hessian matrix for the multilayer perceptron".
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from theodolite.measure.curvature.activations import POINTWISE, Activation, value_and_derivatives
from theodolite.measure.curvature.losses import Outputs, last_layer
from theodolite.measure.problem.batches import Batch
from theodolite.measure.problem.objective import Objective
from theodolite.measure.problem.sequential import chain


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
    """A pass forwards and backwards of S networks over N samples, which are the last dimension of all."""

    weights: list[Tensor]  # W_l, (S, units, features)
    inputs: list[Tensor]  # a_{l-1}, with a 1 behind if there are biases, (S, features, N); (1, features, N) first
    slopes: list[Tensor]  # φ'(z_l) of every hidden layer, (S, units, N)
    bends: list[Tensor]  # φ''(z_l) ∂L/∂a_l, the same
    deltas: list[Tensor]  # ∂L/∂z_l of every layer, (S, units, N)
    outputs: Outputs


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
    return Perceptron(widths, linear[0].bias is not None, tuple(activations[:-1]), objective.loss_alone)


def derivatives(net: Perceptron, vectors: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Loss ``(S,)``, gradient ``(S, P)`` and Hessian ``(S, P, P)`` of one batch at flat vectors ``(S, P)``."""
    places, order, entries = _layout(net.widths, net.bias, vectors.device)
    done = _run(net, vectors.index_select(1, order), batch)
    last = len(done.weights) - 1
    pieces = []
    for l in range(last + 1):  # noqa: E741 - the equation's letter
        C, rises = _along(done, l)
        pieces.append(_own_block(C[0], done.inputs[l]))
        pieces += [
            _block(C[m - l], rises[m - l - 1], done.inputs[l], done.inputs[m], done.deltas[m])
            for m in range(l + 1, last + 1)
        ]
    S, P = vectors.shape
    every = torch.cat([piece.expand(S, -1) for piece in pieces], 1)
    hessian = every.gather(1, entries.expand(S, -1)).view(S, P, P)
    gradient = torch.cat([(d @ a.mT).flatten(1) for d, a in zip(done.deltas, done.inputs, strict=True)], 1)
    return done.outputs.loss, gradient.index_select(1, places), hessian


def _run(net: Perceptron, vectors: Tensor, batch: Batch) -> _Pass:
    inputs, targets = batch
    a = inputs.mT[None]
    weights, found, slopes, bends = [], [], [], []
    for number, (block, (i, o)) in enumerate(zip(net.blocks, pairwise(net.widths), strict=True)):
        own = vectors[:, block].unflatten(1, (o, i + net.bias))
        weights.append(own[..., :i])
        found.append(torch.cat([a, torch.ones_like(a[:, :1])], 1) if net.bias else a)
        z = own @ found[-1]
        if number < len(net.activations):
            a, slope, bend = value_and_derivatives(net.activations[number], z)
            slopes.append(slope)
            bends.append(bend)
    outputs = last_layer(net.loss, z, targets)
    deltas = [outputs.delta]
    for number in range(len(slopes) - 1, -1, -1):
        signal = weights[number + 1].mT @ deltas[0]  # ∂L/∂a
        deltas.insert(0, slopes[number] * signal)
        bends[number] = bends[number] * signal
    return _Pass(weights, found, slopes, bends, deltas, outputs)


def _along(done: _Pass, l: int) -> tuple[list[Tensor], list[Tensor]]:  # noqa: E741
    """C of the layers from l on, (S, units of m, units of l, N), and ∂a_{m-1}/∂z_l of those above l, φ'_l first."""
    last = len(done.weights) - 1
    if l == last:
        return [done.outputs.curve(torch.eye(done.deltas[l].shape[1]).to(done.deltas[l])[..., None][None])], []
    J, rises = [done.weights[l + 1][..., None] * done.slopes[l][:, None]], [done.slopes[l]]
    for m in range(l + 1, last):
        rises.append(done.slopes[m][:, :, None] * J[-1])
        J.append(_times(done.weights[m + 1], rises[-1]))
    C = [done.outputs.curve(J[-1])]
    for m in range(last - 1, l - 1, -1):
        C.insert(0, _times(done.weights[m + 1].mT, C[0]).mul_(done.slopes[m][:, :, None]))
        if m > l:
            C[0].addcmul_(done.bends[m][:, :, None], J[m - l - 1])
    C[0].diagonal(dim1=1, dim2=2).add_(done.bends[l].mT)
    return C, rises


def _times(W: Tensor, T: Tensor) -> Tensor:
    """Σ_k W_ik T_krn: one product for all directions r and samples n."""
    total: Tensor = (W @ T.flatten(2)).view(len(T), W.shape[1], *T.shape[2:])
    return total


def _own_block(C: Tensor, a: Tensor) -> Tensor:
    """Σ_n C_nki a_nj a_nq for i ≥ k and j ≥ q, flat ``(S, ·)``."""
    i, k = _pairs(C.shape[1], C.device)
    j, q = _pairs(a.shape[1], a.device)
    half = C.flatten(1, 2).index_select(1, i * C.shape[1] + k).expand(-1, -1, a.shape[2])
    return _contract(half, a.index_select(1, j) * a.index_select(1, q)).flatten(1)


def _block(C: Tensor, rise: Tensor, a: Tensor, b: Tensor, delta: Tensor) -> Tensor:
    """Σ_n a_nj (C_nki b_nq + δ_nk rise_nqi), ordered (k, i, j, q), flat; the last b_q may be the 1 of biases."""
    K, R, J, Q = *C.shape[1:3], a.shape[1], b.shape[1]
    outer = (a[:, :, None] * b[:, None]).flatten(1, 2)
    total = _contract(C.flatten(1, 2), outer).view(-1, K, R, J, Q)
    left = (delta[:, :, None] * a[:, None]).flatten(1, 2)
    if rise.ndim == 3:  # neighbours: ∂a_q/∂z_i is zero unless q = i
        total.diagonal(dim1=2, dim2=4).add_((left @ rise.mT).view(-1, K, J, R))
    else:
        units = rise.shape[1]
        moved = (left @ rise.flatten(1, 2).mT).view(-1, K, J, units, R)
        total[..., :units].add_(moved.permute(0, 1, 4, 2, 3))
    return total.flatten(1)


def _contract(left: Tensor, right: Tensor) -> Tensor:
    """Σ_n left_xn right_yn for each of S; a side that is the same for all has one."""
    total: Tensor = left @ (right.mT if len(right) > 1 else right[0].mT)
    return total


@lru_cache(maxsize=64)
def _pairs(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The two indices ``(pairs,)`` of each unordered pair."""
    i, k = torch.tril_indices(size, size, device=device)
    return i, k


@lru_cache(maxsize=16)
def _layout(widths: tuple[int, ...], bias: bool, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Where the flat vector's entries lie in blocks (layer, unit, feature and then 1), the reverse, and the Hessian's.

    Entries ``(P²,)`` of the Hessian lie in the pieces that :func:`derivatives` computes, one behind the other.
    """
    places = _places(widths, bias)
    order = places.argsort()
    blocks = [
        own.view(o, i + bias)
        for own, (i, o) in zip(
            order.split([(i + bias) * o for i, o in pairwise(widths)]), pairwise(widths), strict=True
        )
    ]
    return places.to(device), order.to(device), _entries(blocks).flatten().to(device)


def _places(widths: tuple[int, ...], bias: bool) -> Tensor:
    """For each entry of the flat vector (a layer's weights, then its biases) its place among the blocks' ``(P,)``."""
    parts, start = [], 0
    for i, o in pairwise(widths):
        own = torch.arange(start, start + o * (i + bias)).view(o, i + bias)
        parts += [own[:, :i].flatten(), own[:, i:].flatten()]
        start += own.numel()
    return torch.cat(parts)


def _entries(blocks: list[Tensor]) -> Tensor:
    """For each two parameters the place of their second derivative among the pieces, ``(P, P)``.

    Args:
        blocks: of each layer where its entries ``(units, features)`` lie in the flat vector.
    """
    size = sum(block.numel() for block in blocks)
    entries, start = torch.empty(size, size, dtype=torch.int64), 0
    for number, lower in enumerate(blocks):
        own = _own_places(*lower.shape)  # as _own_block has them
        entries[lower[:, :, None, None], lower] = start + own
        start += int(own.max()) + 1
        for upper in blocks[number + 1 :]:
            (R, J), (K, Q) = lower.shape, upper.shape
            across = start + torch.arange(K * R * J * Q).view(K, R, J, Q)  # as _block has them: (k, i, j, q)
            entries[lower[:, :, None, None], upper] = across.permute(1, 2, 0, 3)
            entries[upper[:, :, None, None], lower] = across.permute(0, 3, 1, 2)
            start += across.numel()
    return entries


def _own_places(units: int, features: int) -> Tensor:
    """For entries (i, j) and (k, q) of one layer the place of their second derivative, ``(i, j, k, q)``."""
    of_units, of_features = _triangle(units), _triangle(features)
    width = features * (features + 1) // 2
    return width * of_units[:, None, :, None] + of_features[:, None]


def _triangle(size: int) -> Tensor:
    """For each of ``(size, size)`` the place of its pair among :func:`_pairs`."""
    i, k = _pairs(size, torch.device("cpu"))
    place = torch.empty(size, size, dtype=torch.int64)
    place[i, k] = place[k, i] = torch.arange(len(i))
    return place


def _slices(sizes: list[int]) -> list[slice]:
    return [slice(a, b) for a, b in pairwise(accumulate(sizes, initial=0))]
