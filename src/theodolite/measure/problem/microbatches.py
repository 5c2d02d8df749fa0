"""Batches in microbatches: what fits a core's cache is up to twice as fast, what fits the memory can be done at all.

That the loss of a batch is the mean over its microbatches, or their sum, is not assumed but seen, on all batches. The
outputs of microbatches are those of microbatches twice as large (no statistics of the batch in between). As functions
of the outputs both losses have the same slope, and the same product of their Hessian with a random vector (no quotient
that changes with the batch). Where one of them differs, or a part of a batch cannot be taken alone, batches stay whole.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from theodolite.measure.problem.batches import Batch, alike, count, is_list_of_samples
from theodolite.measure.problem.objective import Objective
from theodolite.measure.problem.vocabulary import Logits
from theodolite.streams import named_seed


@dataclass(frozen=True, slots=True)
class Microbatches:
    """Data whose batches are cut."""

    data: Iterable[Batch]
    size: int  # of samples, at most

    def __iter__(self) -> Iterator[Batch]:
        """The microbatches of one batch after those of the other."""
        for batch in self.data:
            yield from microbatches(batch, self.size)


def first_samples(batch: Batch, size: int) -> Batch:
    """The first samples of a batch, at most ``size``; all of it where something in it has no place for samples."""
    n = count(batch)
    return _parts(batch, [0, size, n])[0] if n > size else batch


def halves(batch: Batch) -> list[Batch]:
    """A batch in two; in one, where it has one sample, or something in it has no place for samples."""
    return microbatches(batch, -(-count(batch) // 2))


def microbatches(batch: Batch, size: int) -> list[Batch]:
    """A batch in parts of nearly equal size; one, where something in it has no place for samples."""
    n = count(batch)
    parts = max(1, -(-n // size))
    return _parts(batch, [n * i // parts for i in range(parts + 1)])


def adds_up_in_microbatches(
    objective: Objective, point: Tensor, batch: Batch, size: int, *, samples_independent: bool
) -> bool:
    """Whether a batch may go in parts of at most ``size`` samples: its loss is then the same.

    Args:
        objective: model and loss.
        point: the parameters ``(P,)``.
        batch: of the objective's data.
        size: samples in a part, at most.
        samples_independent: the model is known to treat samples apart, so that outputs need not be compared.
    """
    parts = microbatches(batch, size)
    try:
        return len(parts) == 1 or _same(objective, point, batch, parts, samples_independent)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever a part of a batch raises: it is not to be taken alone
        return False


def in_microbatches(objective: Objective, point: Tensor, size: int, *, samples_independent: bool) -> Objective:
    """The same loss over batches of at most ``size`` samples; as it was, if that would be another one."""
    cut = False
    for batch, _ in objective.batches():
        cut |= count(batch) > size
        if not adds_up_in_microbatches(objective, point, batch, size, samples_independent=samples_independent):
            return objective
    return cut_into(objective, size) if cut else objective


def cut_into(objective: Objective, size: int) -> Objective:
    """The same loss over batches of at most ``size`` samples, which is known to add up."""
    return replace(objective, data=Microbatches(objective.data, size))


def _parts(batch: Batch, bounds: list[int]) -> list[Batch]:
    if len(bounds) == 2:
        return [batch]
    if is_list_of_samples(*batch):
        return [(batch[0][a:b], batch[1][a:b]) for a, b in pairwise(bounds)]
    parts = [_cut(batch, bounds[-1], slice(a, b)) for a, b in pairwise(bounds)]
    return [batch] if any(part is UNCUT for part in parts) else parts


UNCUT = object()  # stands for what has no place for samples


def _cut(part: Any, n: int, here: slice) -> Any:
    if isinstance(part, Tensor):
        return part[here] if part.layout == torch.strided and part.ndim and len(part) == n else UNCUT
    if isinstance(part, PackedSequence):
        return UNCUT
    if isinstance(part, Mapping):
        cut = {key: _cut(value, n, here) for key, value in part.items()}
        return UNCUT if any(value is UNCUT for value in cut.values()) else alike(part, cut)
    if isinstance(part, (tuple, list)):
        values = [_cut(value, n, here) for value in part]
        return UNCUT if any(value is UNCUT for value in values) else alike(part, values)
    return part


def _same(objective: Objective, point: Tensor, batch: Batch, parts: list[Batch], samples_independent: bool) -> bool:
    parameters = objective.unflatten(point.detach())
    with torch.set_grad_enabled(objective.grad_in_loss):
        found = [_opened(objective.outputs(parameters, inputs)) for inputs, _ in parts]
        closed = found[0][2]
        counts = [count(part) for part in parts]
        shape = found[0][1]
        for (leaves, structure, _), size in zip(found, counts, strict=True):
            if structure != shape or not all(_per_sample(leaf, size) for leaf in leaves):
                return False
        leaves = [torch.cat(each) for each in zip(*(leaves for leaves, _, _ in found), strict=True)]
        if not samples_independent:
            at = 0
            for inputs, targets in microbatches(batch, 2 * max(counts)):
                larger, structure, _ = _opened(objective.outputs(parameters, inputs))
                here = slice(at, at := at + count((inputs, targets)))
                if structure != shape or any(not _close(a, b[here]) for a, b in zip(larger, leaves, strict=True)):
                    return False
    return _adds_up(objective, point.detach(), batch, parts, leaves, lambda some: closed(some, shape), counts)


def _opened(outputs: Any) -> tuple[list[Any], TreeSpec, Callable[[list[Any], TreeSpec], Any]]:
    """The leaves of outputs, their structure, and what puts others into it: of logits not held, what they are of."""
    leaves, structure = tree_flatten(outputs)
    unheld = {at: leaf for at, leaf in enumerate(leaves) if isinstance(leaf, Logits)}

    def closed(some: list[Any], structure: TreeSpec) -> Any:
        put = [unheld[at].with_rows(leaf) if at in unheld else leaf for at, leaf in enumerate(some)]
        return tree_unflatten(put, structure)

    return [leaf.rows if isinstance(leaf, Logits) else leaf for leaf in leaves], structure, closed


def _adds_up(
    objective: Objective,
    point: Tensor,
    batch: Batch,
    parts: list[Batch],
    leaves: list[Tensor],
    close: Callable[[list[Any]], Any],
    counts: list[int],
) -> bool:
    """Whether the batch's loss is the mean of its parts', or their sum, with first and second slope at the outputs."""
    weights = [objective.weight(part) for part in parts]
    whole = objective.weight(batch)
    if abs(sum(weights) - whole) > 1e-9 * abs(whole):
        return False
    shares = [1.0 if objective.reduction == "sum" else weight / (whole or 1.0) for weight in weights]
    with objective.at(objective.unflatten(point)):
        return _slopes_agree(objective, batch, parts, leaves, close, counts, shares)


def _slopes_agree(
    objective: Objective,
    batch: Batch,
    parts: list[Batch],
    leaves: list[Tensor],
    close: Callable[[list[Any]], Any],
    counts: list[int],
    shares: list[float],
) -> bool:
    real = [leaf.detach().requires_grad_(leaf.is_floating_point()) for leaf in leaves]
    free = [leaf for leaf in real if leaf.requires_grad]
    cut = zip(*(leaf.split(counts) for leaf in real), strict=True)
    each = [
        share * objective.loss(close(list(some)), targets)
        for some, (_, targets), share in zip(cut, parts, shares, strict=True)
        if share
    ]
    both = [objective.loss(close(real), batch[1]), torch.stack(each).sum()]
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


def _per_sample(leaf: Any, size: int) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 0 and len(leaf) == size


def _close(a: Tensor, b: Tensor) -> bool:
    """Equal to rounding, which other sizes of matrix products change in the last digits."""
    if not a.is_floating_point():
        return torch.equal(a, b)
    if a.shape != b.shape:
        return False
    bound = torch.finfo(a.dtype).eps ** 0.5 * float(b.detach().abs().max() if b.numel() else 0)
    return bool(((a - b).detach().abs() <= bound + torch.finfo(a.dtype).tiny).all())
