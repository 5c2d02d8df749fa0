"""Exact Hessians, whole: of one small network, or of many replicas at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value, vjp, vmap

from theodolite.errors import CheckFailed
from theodolite.measure.curvature.autograd import ggn_product
from theodolite.measure.curvature.dense_linear import Layer, NotLayered, layers, layerwise
from theodolite.measure.problem.batches import Batch
from theodolite.measure.problem.isolation import loops_allowed, preserve_rng
from theodolite.measure.problem.objective import Objective
from theodolite.streams import named_seed

CHUNK_ENTRIES = 2**21  # numbers in the largest intermediate tensor of one chunk: beyond, a core's cache no longer helps

Contribution = Callable[[Tensor, Batch], tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class DenseHessians:
    """Loss, gradient and Hessian over all data at S points of weight space, in the precision of the points."""

    loss: Tensor  # (S,)
    gradient: Tensor  # (S, P)
    hessian: Tensor  # (S, P, P), exactly symmetric
    asymmetry: Tensor  # (S,) largest |H - Hᵀ| before it was made symmetric; 0 where symmetry was used
    backend: str  # how: "layerwise" or "kept graph"


def dense_hessians(objective: Objective, vectors: Tensor, *, chunk: int | None = None) -> DenseHessians:
    r"""Compute the exact Hessian of the loss over all data at each of S parameter vectors.

    Networks of linear layers take :mod:`~theodolite.measure.curvature.dense_linear`, after one product with it agreed
    with the kept graph at the first of the vectors; all others take the kept graph, :math:`v \mapsto \partial (g^\top
    v) / \partial\theta` for every unit vector v, which is right for every layer PyTorch can differentiate twice.

    Args:
        objective: model, loss and data; data in the precision of the vectors (``objective.to(torch.float64)``).
        vectors: ``(S, P)``.
        chunk: how many of the S go together; None: as many as fit a core's cache.

    Raises:
        CheckFailed: the kept graph gives a matrix that is not symmetric, so some layer's second derivative is wrong.

    Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian", for the product; the layers' blocks extend
    Bishop 1992, "Exact calculation of the Hessian matrix for the multilayer perceptron", to any network of linear
    layers.

    Example:
        >>> from torch import nn
        >>> from theodolite.measure.problem.join import objective
        >>> model = nn.Linear(2, 1, bias=False).double()
        >>> data = torch.tensor([[1.0, 2.0]]).double(), torch.zeros(1, 1).double()
        >>> dense_hessians(objective(model, nn.MSELoss(), data), torch.zeros(1, 2).double()).hessian[0].tolist()
        [[2.0, 4.0], [4.0, 8.0]]
    """
    vectors = vectors.detach()
    with preserve_rng(), loops_allowed(), objective.twice_differentiable(), torch.enable_grad():
        try:
            found = layers(objective)
            result = _layerwise(objective, found, vectors, chunk)
            if _agrees(objective, vectors[0], result, _transformed_product):
                return result
        except (NotLayered, RuntimeError):  # vmap refuses what is not a plain function: the kept graph does not
            pass
        return _kept_graph(objective, vectors, chunk)


def dense_gauss_newton(objective: Objective) -> Tensor:
    """The Gauss-Newton matrix ``(P, P)`` at the model's weights, a row a product, as it comes out: not symmetric."""
    point = objective.vector.requires_grad_()
    unit = torch.eye(len(point)).to(point.detach())
    total = torch.zeros_like(unit)
    with preserve_rng(), objective.twice_differentiable(), torch.enable_grad():
        for batch, share in objective.batches():
            product = ggn_product(objective, point, batch)
            for row, direction in zip(total, unit, strict=True):
                row += share * product(direction)
    return total


def _layerwise(objective: Objective, found: list[Layer], vectors: Tensor, chunk: int | None) -> DenseHessians:
    if chunk is None:
        widths = [(layer.module.out_features, layer.module.in_features) for layer in found]
        rows = sum(units for units, _ in widths) * sum(units + features for units, features in widths)
        chunk = max(1, CHUNK_ENTRIES // (rows * min(objective.samples, 2048) + objective.size**2))
    return _sum(objective, lambda part, batch: layerwise(objective, found, part, batch), vectors, chunk, "layerwise")


def _agrees(
    objective: Objective,
    vector: Tensor,
    result: DenseHessians,
    by: Callable[[Objective, Tensor, Batch, Tensor], Tensor],
) -> bool:
    """Whether a random product is that of another way, to the rounding of sums over P weights and N samples."""
    random = torch.Generator().manual_seed(named_seed(0, "agreement of dense and graph"))
    direction = torch.randn(len(vector), generator=random, dtype=torch.float64).to(vector)
    product = torch.zeros_like(vector)
    for batch, share in objective.batches():
        product += share * by(objective, vector, batch, direction)
    error = (result.hessian[0] @ direction - product).norm()
    scale = result.hessian[0].norm() * direction.norm()
    rounding = torch.finfo(vector.dtype).eps * (objective.size * objective.samples) ** 0.5
    return bool(error <= 10 * rounding * scale)


def _kept_graph(objective: Objective, vectors: Tensor, chunk: int | None) -> DenseHessians:
    products = max(8, CHUNK_ENTRIES // (64 * objective.samples))
    if chunk is None:
        chunk = max(1, products // objective.size)

    def one(vector: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        (gradient, loss), product = _differentiate(objective, vector, batch)
        unit = torch.eye(len(vector), dtype=vector.dtype, device=vector.device)
        return loss, gradient, vmap(product, chunk_size=products)(unit)

    def together(part: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        return vmap(lambda vector: one(vector, batch))(part)

    try:
        result = _sum(objective, together, vectors, chunk, "kept graph")
        if _agrees(objective, vectors[0], result, _product):
            return result
    except RuntimeError:
        pass
    return _sum(objective, lambda part, batch: _by_rows(objective, part[0], batch), vectors, 1, "kept graph")


def _differentiate(
    objective: Objective, vector: Tensor, batch: Batch
) -> tuple[tuple[Tensor, Tensor], Callable[[Tensor], Tensor]]:
    """Gradient and loss of one batch, and the product of its Hessian with a vector, by reverse over reverse."""

    def first(v: Tensor) -> Any:
        return grad_and_value(lambda w: objective.batch_loss(objective.unflatten(w), batch))(v)

    (gradient, loss), pull = vjp(first, vector)  # type: ignore[misc]
    return (gradient, loss), lambda direction: pull((direction, torch.zeros_like(loss)))[0]


def _transformed_product(objective: Objective, vector: Tensor, batch: Batch, direction: Tensor) -> Tensor:
    return _differentiate(objective, vector, batch)[1](direction)


def _product(objective: Objective, vector: Tensor, batch: Batch, direction: Tensor) -> Tensor:
    """By autograd alone: transformations of functions see no parameters in TorchScript, and give zeros."""
    point = vector.clone().requires_grad_()
    with objective.at(objective.unflatten(point)):
        (gradient,) = torch.autograd.grad(objective.loss_of(batch), point, create_graph=True, materialize_grads=True)
        if not gradient.requires_grad:
            return torch.zeros_like(vector)
        return torch.autograd.grad(gradient, point, direction, materialize_grads=True)[0]


def _by_rows(objective: Objective, vector: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """One replica, one row after the other: for layers that have no batched form of their backward pass."""
    point = vector.clone().requires_grad_()
    rows = torch.zeros(len(point), len(point)).to(vector)
    with objective.at(objective.unflatten(point)):
        loss = objective.loss_of(batch)
        (gradient,) = torch.autograd.grad(loss, point, create_graph=True, materialize_grads=True)
        if gradient.requires_grad:  # not where the loss is linear
            for row, entry in zip(rows, gradient, strict=True):
                row.copy_(torch.autograd.grad(entry, point, retain_graph=True, materialize_grads=True)[0])
    return loss.detach()[None], gradient.detach()[None], rows[None]


def _sum(objective: Objective, of_batch: Contribution, vectors: Tensor, chunk: int, backend: str) -> DenseHessians:
    """Σ over batches of their shares, chunk by chunk of the S vectors; the symmetric part of what comes out."""
    S, P = vectors.shape
    loss, gradient, hessian = vectors.new_zeros(S), vectors.new_zeros(S, P), vectors.new_zeros(S, P, P)
    for batch, share in objective.batches():
        for at in range(0, S, chunk):
            part = slice(at, at + chunk)
            for total, value in zip((loss, gradient, hessian), of_batch(vectors[part], batch), strict=True):
                total[part] += share * value.detach()
    asymmetry = (hessian - hessian.mT).abs().amax((1, 2))
    scale = hessian.abs().amax((1, 2))
    rounding = 1000 * torch.finfo(vectors.dtype).eps  # of numbers near one, which near zero loss is all there is
    if (asymmetry > 0.01 * scale + rounding).any():
        worst = float((asymmetry / scale).nan_to_num().max())
        raise CheckFailed(
            f"expected a symmetric Hessian, got entries that differ by {worst:.1e} of the largest. A layer's second "
            "derivative is wrong: make a HessianOperator of this model, whose error names the layer."
        )
    return DenseHessians(loss, gradient, (hessian + hessian.mT) / 2, asymmetry, backend)
