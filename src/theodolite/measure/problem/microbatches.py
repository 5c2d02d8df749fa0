"""Batches in pieces: what fits a core's cache is up to twice as fast, and what fits the memory can be done at all.

That the loss of a batch is the mean over its pieces is not assumed but seen, on all batches. The outputs of pieces are
those of pieces twice as large (no statistics of the batch in between). As functions of the outputs both losses have the
same slope, and the same product of their Hessian with a random vector (no class weights or ``ignore_index`` that
change what is divided by). Where one of them differs, batches stay whole.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from theodolite.errors import MeasurementError
from theodolite.measure.problem.batches import Batch, Data, alike, pairs, samples
from theodolite.measure.problem.objective import Loss, Objective, objective
from theodolite.streams import named_seed


@dataclass(frozen=True, slots=True)
class Pieces:
    """Data whose batches are cut."""

    data: Iterable[Batch]
    size: int  # of samples
    cut: Callable[[Batch, int], list[Batch]]  # :func:`pieces` or :func:`headed`

    def __iter__(self) -> Iterator[Batch]:
        """The pieces of one batch after those of the other."""
        for batch in self.data:
            yield from self.cut(batch, self.size)


def head(batch: Batch, size: int) -> Batch:
    """The first samples of a batch, at most ``size``; all of it where something in it has no place for samples."""
    return headed(batch, size)[0]


def checked(model: nn.Module, loss: Loss, data: Data, *, parameters: str | None, size: int) -> Objective:
    """:func:`~theodolite.measure.problem.objective.objective`, checked on a few samples of batches too large."""
    whole = pairs(data)
    try:
        return replace(objective(model, loss, Pieces(whole, size, headed), parameters=parameters), data=whole)
    except (MeasurementError, RuntimeError, TypeError, ValueError, LookupError):
        pass  # a batch that cannot be cut; or what is wrong with it is said below
    return objective(model, loss, data, parameters=parameters)


def in_pieces(objective: Objective, point: Tensor, size: int, *, apart: bool) -> Objective:
    """The same loss over batches of at most ``size`` samples; as it was, if that would be another one.

    Args:
        objective: model, loss and data.
        point: the parameters ``(P,)``.
        size: samples in a piece, at most.
        apart: the model is known to treat samples apart, so that outputs need not be compared.
    """
    cut = False
    for batch, _ in objective.batches():
        parts = pieces(batch, size)
        cut |= len(parts) > 1
        if len(parts) > 1 and not _same(objective, point, batch, parts, apart):
            return objective
    return replace(objective, data=Pieces(objective.data, size, pieces)) if cut else objective


def pieces(batch: Batch, size: int) -> list[Batch]:
    """A batch in pieces of nearly equal size; one, where something in it has no place for samples."""
    n = samples(batch)
    count = max(1, -(-n // size))
    return _parts(batch, [n * i // count for i in range(count + 1)])


def headed(batch: Batch, size: int) -> list[Batch]:
    """At most ``size`` samples, then the others; one piece, where something in it has no place for samples."""
    n = samples(batch)
    return _parts(batch, [0, size, n] if n > size else [0, n])


def _parts(batch: Batch, bounds: list[int]) -> list[Batch]:
    if len(bounds) == 2:
        return [batch]
    parts = [_cut(batch, bounds[-1], slice(a, b)) for a, b in pairwise(bounds)]
    return [batch] if any(part is None for part in parts) else parts


def _cut(part: Any, n: int, here: slice) -> Any:
    if isinstance(part, Tensor):
        return part[here] if part.ndim and len(part) == n else None
    if isinstance(part, Mapping):
        cut = {key: _cut(value, n, here) for key, value in part.items()}
        return None if any(value is None for value in cut.values()) else cut
    if isinstance(part, (tuple, list)):
        values = [_cut(value, n, here) for value in part]
        return None if any(value is None for value in values) else alike(part, values)
    return part


def _same(objective: Objective, point: Tensor, batch: Batch, parts: list[Batch], apart: bool) -> bool:
    parameters = objective.unflatten(point.detach())
    with torch.no_grad():
        found = [tree_flatten(objective.outputs(parameters, inputs)) for inputs, _ in parts]
        counts = [samples(part) for part in parts]
        shape = found[0][1]
        for (leaves, structure), count in zip(found, counts, strict=True):
            if structure != shape or not all(_per_sample(leaf, count) for leaf in leaves):
                return False
        leaves = [torch.cat(each) for each in zip(*(leaves for leaves, _ in found), strict=True)]
        if not apart:
            at = 0
            for inputs, targets in pieces(batch, 2 * max(counts)):
                larger, structure = tree_flatten(objective.outputs(parameters, inputs))
                here = slice(at, at := at + samples((inputs, targets)))
                if structure != shape or any(not _close(a, b[here]) for a, b in zip(larger, leaves, strict=True)):
                    return False
    return _adds_up(objective, batch, parts, leaves, shape, counts)


def _adds_up(
    objective: Objective, batch: Batch, parts: list[Batch], leaves: list[Tensor], shape: TreeSpec, counts: list[int]
) -> bool:
    """Whether the batch's loss is the mean of its pieces', by the first and second derivative at the outputs."""
    real = [leaf.detach().requires_grad_(leaf.is_floating_point()) for leaf in leaves]
    free = [leaf for leaf in real if leaf.requires_grad]
    cut = zip(*(leaf.split(counts) for leaf in real), strict=True)
    each = [
        count / sum(counts) * objective.loss(tree_unflatten(list(some), shape), targets)
        for some, (_, targets), count in zip(cut, parts, counts, strict=True)
    ]
    both = [objective.loss(tree_unflatten(real, shape), batch[1]), torch.stack(each).sum()]
    if not all(loss.requires_grad for loss in both):
        return not any(loss.requires_grad for loss in both)
    slopes = [torch.autograd.grad(loss, free, create_graph=True, materialize_grads=True) for loss in both]
    random = torch.Generator().manual_seed(named_seed(0, "pieces of a batch"))
    v = [torch.randn(leaf.shape, generator=random, dtype=torch.float64).to(leaf) for leaf in free]
    bends = [
        torch.autograd.grad([s for s in slope if s.requires_grad], free, _where(slope, v), materialize_grads=True)
        if any(s.requires_grad for s in slope)
        else [torch.zeros_like(leaf) for leaf in free]
        for slope in slopes
    ]
    return all(
        _close(a, b) for pair in (slopes, bends) for a, b in zip(*pair, strict=True)
    ) and _close(*(loss.detach() for loss in both))  # fmt: skip


def _where(slope: tuple[Tensor, ...], v: list[Tensor]) -> list[Tensor]:
    return [direction for s, direction in zip(slope, v, strict=True) if s.requires_grad]


def _per_sample(leaf: Any, count: int) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 0 and len(leaf) == count


def _close(a: Tensor, b: Tensor) -> bool:
    """Equal to rounding, which other sizes of matrix products change in the last digits."""
    if not a.is_floating_point():
        return torch.equal(a, b)
    if a.shape != b.shape:
        return False
    bound = torch.finfo(a.dtype).eps ** 0.5 * float(b.detach().abs().max() if b.numel() else 0)
    return bool(((a - b).detach().abs() <= bound + torch.finfo(a.dtype).tiny).all())
