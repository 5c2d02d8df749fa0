r"""Exact Hessians of networks of linear layers, from what their outputs alone know: 15 to 25 times faster.

A linear layer's output :math:`z_l = W_l a_l` is all through which its weights reach the loss. So perturb each output,
:math:`z_l + \epsilon_l`, and let :math:`\delta_l = \partial L / \partial \epsilon_l`. To second order in a change of
the weights,

.. math:: H_{(l,ij),(m,kq)} = \sum_n Z^{lm}_{n,ik}\, a_{l,nj}\, a_{m,nq}
          + \delta_{m,nk} \frac{\partial a_{m,nq}}{\partial \epsilon_{l,ni}} a_{l,nj}, \qquad
          Z^{lm}_{n,ik} = \frac{\partial \delta_{m,nk}}{\partial \epsilon_{l,ni}}, \quad l \le m,

where the second term is there for l < m only, and a bias is the weight of an input that is always 1. Z and the
derivatives of a take one backward pass for each unit of the network instead of one for each weight (18 against 610
for 64-8-10), and the sums over samples n are matrix products.

For many replicas of a plain perceptron of some ten units, :mod:`~theodolite.measure.critical.mlp_hessian` is 7 to 8
times faster still; for one network with wider layers the two are about equal, and this one takes residual sums,
normalisation and any activation.

It holds if each measured tensor belongs to one ``nn.Linear`` that is called once, on ``(n, features)``, and samples
do not reach each other. :mod:`~theodolite.measure.curvature.dense` verifies that on every call and takes the kept graph
else.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad, vjp, vmap

from theodolite.measure.problem.batches import Batch
from theodolite.measure.problem.objective import Objective

ROWS = 2**18  # numbers in one factor of a matrix product: about what a core's cache holds


class NotLayered(Exception):
    """This network is not one of linear layers called once each."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One linear layer whose weight or bias is measured."""

    name: str
    module: nn.Linear
    weight: int | None  # where it starts in the flat vector
    bias: int | None


def layers(objective: Objective) -> list[Layer]:
    """The linear layers that hold all measured parameters, in the model's order.

    Raises:
        NotLayered: some parameter is elsewhere, or is tied.
    """
    places = dict(zip(objective.names, _offsets([shape.numel() for shape in objective.shapes]), strict=False))
    every = [p for _, p in objective.model.named_parameters(remove_duplicate=False)]
    found = []
    for name, module in objective.model.named_modules():
        if type(module) is nn.Linear:
            prefix = f"{name}." if name else ""
            weight, bias = places.pop(f"{prefix}weight", None), places.pop(f"{prefix}bias", None)
            if weight is not None or bias is not None:
                found.append(Layer(name, module, weight, bias))
    if places or len(every) != len({id(p) for p in every}):
        raise NotLayered
    return found


def layerwise(objective: Objective, found: list[Layer], vectors: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Loss ``(S,)``, gradient ``(S, P)`` and Hessian ``(S, P, P)`` of one batch at S parameter vectors ``(S, P)``.

    Raises:
        NotLayered: a layer is not called exactly once, on ``(n, features)``.
    """
    called, samples = _order_of_calls(objective, found, vectors[0], batch)
    loss, deltas, inputs, rows = vmap(lambda vector: _differentiate(objective, called, samples, vector, batch))(vectors)
    units = _offsets([layer.module.out_features for layer in called])
    features = _offsets([0, *(layer.module.in_features for layer in called[1:])], units[-1])
    weights = _offsets([layer.module.out_features * (layer.module.in_features + 1) for layer in called])
    inputs = [torch.cat([a, torch.ones_like(a[..., :1])], -1) for a in inputs]
    hessian = vectors.new_empty(len(vectors), weights[-1], weights[-1])
    for m in range(len(called)):
        columns = slice(weights[m], weights[m + 1])
        for l in range(m + 1):  # noqa: E741 - the equation's letter
            Z = rows[l][:, units[m] : units[m + 1]].permute(0, 2, 3, 1)  # (S, n, i, k)
            if l == m:
                hessian[:, columns, columns] = _diagonal_block(Z, inputs[m])
                continue
            J = rows[l][:, features[m] : features[m + 1]].permute(0, 2, 3, 1)  # (S, n, i, q)
            block = _block(Z, J, inputs[l], inputs[m], deltas[m])
            hessian[:, weights[l] : weights[l + 1], columns] = block
            hessian[:, columns, weights[l] : weights[l + 1]] = block.mT
    gradient = torch.cat([(d.mT @ a).flatten(1) for d, a in zip(deltas, inputs, strict=True)], 1)
    here = _flat_order(called, objective.size).to(vectors.device)
    return loss, gradient[:, here], hessian[:, here][:, :, here]


def _order_of_calls(objective: Objective, found: list[Layer], vector: Tensor, batch: Batch) -> tuple[list[Layer], int]:
    """The layers as they are called, and the number of samples that reach each."""
    shapes: dict[str, torch.Size] = {}
    calls = 0

    def watch(layer: Layer, inputs: Tensor, output: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        shapes[layer.name] = inputs.shape
        return output

    with _hooked(found, watch), torch.no_grad():
        objective.batch_loss(objective.unflatten(vector), batch)
    rows = {shape[0] if len(shape) == 2 else -1 for shape in shapes.values()}
    if calls != len(found) or len(shapes) != len(found) or len(rows) != 1 or -1 in rows:
        raise NotLayered
    by_name = {layer.name: layer for layer in found}
    return [by_name[name] for name in shapes], rows.pop()


def _differentiate(objective: Objective, called: list[Layer], samples: int, vector: Tensor, batch: Batch) -> Any:
    """Loss, δ and a of every layer, and by layer l the rows ``(units + features, n, i)`` of Z and of ∂a/∂ε_l."""
    parameters = objective.unflatten(vector)

    def value(epsilon: list[Tensor]) -> Any:
        inputs: list[Tensor] = []

        def perturb(layer: Layer, a: Tensor, z: Tensor) -> Tensor:
            inputs.append(a)
            return z + epsilon[len(inputs) - 1]

        with _hooked(called, perturb):
            loss = objective.batch_loss(parameters, batch)
        return loss, (loss, inputs)

    def first(epsilon: list[Tensor]) -> Any:
        deltas, (loss, inputs) = grad(value, has_aux=True)(epsilon)
        return [*deltas, *inputs[1:]], (loss, deltas, inputs)

    zero = [vector.new_zeros(samples, layer.module.out_features) for layer in called]
    outputs, pull, (loss, deltas, inputs) = vjp(first, zero, has_aux=True)  # type: ignore[misc]
    widths = [output.shape[1] for output in outputs]
    unit = torch.eye(sum(widths), dtype=vector.dtype, device=vector.device).split(widths, 1)
    rows = vmap(lambda *one: pull([part.expand(samples, -1) for part in one])[0])(*unit)
    return loss, deltas, inputs, rows


@contextmanager
def _hooked(found: list[Layer], change: Callable[[Layer, Tensor, Tensor], Tensor]) -> Iterator[None]:
    """Let ``change(layer, inputs, outputs)`` decide what each layer gives out."""
    handles = [
        layer.module.register_forward_hook(lambda _, inputs, output, layer=layer: change(layer, inputs[0], output))
        for layer in found
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _block(Z: Tensor, J: Tensor, a: Tensor, b: Tensor, delta: Tensor) -> Tensor:
    """The block of layers l < m: rows (i, j), columns (k, q)."""
    S, N, units, others = Z.shape
    total = Z.new_zeros(S, a.shape[2], units * others * b.shape[2])
    for part in _parts(N, S * units * others * b.shape[2]):
        right = Z[:, part, :, :, None] * b[:, part, None, None, :]
        right[..., :-1] += delta[:, part, None, :, None] * J[:, part, :, None, :]
        total.baddbmm_(a[:, part].mT, right.flatten(2))
    return total.view(S, -1, units, others, b.shape[2]).transpose(1, 2).reshape(S, units * a.shape[2], -1)


def _diagonal_block(Z: Tensor, a: Tensor) -> Tensor:
    """The block of a layer with itself, where Z is symmetric: half of the products is enough."""
    S, N, units, _ = Z.shape
    i, k = torch.triu_indices(units, units, device=Z.device)
    half, features = Z[:, :, i, k], a.shape[2]
    total = Z.new_zeros(S, features, len(i) * features)
    for part in _parts(N, S * len(i) * features):
        total.baddbmm_(a[:, part].mT, (half[:, part, :, None] * a[:, part, None, :]).flatten(2))
    total = total.view(S, features, len(i), features).transpose(1, 2)
    block = Z.new_empty(S, units, units, features, features)
    block[:, k, i] = total.mT
    block[:, i, k] = total
    return block.transpose(2, 3).reshape(S, units * features, -1)


def _parts(samples: int, width: int) -> list[slice]:
    step = max(16, ROWS // width)
    return [slice(at, at + step) for at in range(0, samples, step)]


def _flat_order(called: list[Layer], size: int) -> Tensor:
    """For each place of the flat vector, where blocks ordered (layer, unit, feature and then 1) hold it."""
    order = torch.empty(size, dtype=torch.int64)
    at = 0
    for layer in called:
        units, features = layer.module.out_features, layer.module.in_features
        places = torch.arange(at, at + units * (features + 1)).view(units, features + 1)
        if layer.weight is not None:
            order[layer.weight : layer.weight + units * features] = places[:, :-1].flatten()
        if layer.bias is not None:
            order[layer.bias : layer.bias + units] = places[:, -1]
        at += places.numel()
    return order


def _offsets(sizes: list[int], start: int = 0) -> list[int]:
    return list(accumulate(sizes, initial=start))
