"""Model, loss and data joined to what instruments measure: checked in one pass over the data."""

import fnmatch
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from theodolite.errors import BadData, BadLoss, BadModel, TheodoliteError
from theodolite.measure.problem.batches import Batch, Data, count, pairs, tensors
from theodolite.measure.problem.isolation import Caller, of_torch, preserve_rng
from theodolite.measure.problem.microbatches import first_samples, halves
from theodolite.measure.problem.objective import Loss, Objective, unfit
from theodolite.measure.problem.plain import inspected
from theodolite.measure.problem.readings import Readings
from theodolite.measure.problem.reduction import (
    Reduction,
    Samples,
    check_counts,
    lengths,
    looks_like_a_mean_over,
    looks_like_a_sum,
    marked,
    reduction_of,
    weigh,
)

COMPARED = 64  # samples on which a mean is told from a sum


def objective(
    model: nn.Module,
    loss: Loss,
    data: Data,
    *,
    parameters: str | None = None,
    samples: Samples | None = None,
    reduction: Reduction | None = None,
    look: Callable[[Objective, Batch], None] | None = None,
    room: float = math.inf,
) -> Objective:
    """Check model, loss and data in one pass over the data, and join them.

    Args:
        model: any module; parameters with ``requires_grad=False`` are left out.
        loss: maps (outputs, targets) to a scalar.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches; inputs a tensor, tuple or dict. A batch
            may also be one dict: the model's keyword arguments, and the loss's targets.
        parameters: a pattern such as ``"layers.0.*"`` that restricts the measurement to a part of the model.
        samples: for how many samples a batch counts; None: the first dimension of its first input tensor.
        reduction: what the loss is over a batch; None: what a loss of PyTorch says of itself, else a mean.
        look: is shown each batch on this one pass, with the loss as far as it is known (not the number of samples).
        room: bytes there are for a look at the first samples.

    Raises:
        BadModel: no parameter is left, or one holds NaN.
        BadData: no batch, an iterator that can be read once only, or shapes that do not fit.
        BadLoss: the loss is not a finite scalar, or a sum that passes for a mean.
        NotDeterministic: two passes over the first batch differ (Dropout in training mode).
        CheckFailed: the model called plainly, its own parameters moved, gives another loss.
    """
    measured = measured_parameters(model, parameters)
    readings = Readings(pairs(data))
    weight = partial(weigh, loss=loss, samples=samples)
    shapes = tuple(p.shape for p in measured.values())
    whole = Objective(
        model, loss, readings, tuple(measured), shapes, 1, weight, reduction=reduction_of(loss, reduction)
    )
    whole = replace(whole, caller=Caller.of_instrument())
    total, counted, seen, only_ignored = 0.0, 0.0, 0, False
    sizes: list[tuple[float, float]] = []
    bad: list[int] = []
    left_out: dict[float, Batch] = {}  # two batches with other shares of targets that are marked as none
    own = samples is None and reduction is None and not of_torch(loss)
    with preserve_rng(), torch.enable_grad():  # a DataLoader draws from the random state whenever it is read
        for number, given in enumerate(readings):
            _check_numbers(given, number)
            size = count(given)
            share = weight(given) if size else 0.0
            ignored = bool(size) and whole.reduction == "mean" and not share
            only_ignored |= ignored
            if ignored or not size:  # a mean over nothing is none
                continue
            batch, seen = whole.cast(given), seen + 1
            total += share
            counted += size if samples is None else share
            if samples is None and (pair := lengths(given)) is not None:
                sizes.append(pair)
            if seen == 1:
                whole, first = inspected(whole, batch, room), batch
            if not _finite(given):
                bad.append(number)
                _check_leaves_out(whole, batch, number)
            if seen == 2 and reduction is None and not of_torch(loss):
                _check_mean(whole, first)
            if own and len(left_out) < 2:
                left_out.setdefault(marked(batch[1]), batch)
                if len(left_out) == 2:
                    _check_over_samples(whole, left_out)
            if look is not None:
                look(whole, batch)
    if counted == 0 and only_ignored:
        raise BadLoss(
            "expected a finite loss, got a mean over no target: all are ignored, or count for nothing. Check the "
            "targets, ignore_index and the class weights."
        )
    if counted == 0:
        raise BadData("expected at least one sample, got none. Pass (inputs, targets) or batches of them.")
    check_counts(sizes)
    return replace(whole, samples=round(counted), total=total or 1.0, bad_batches=tuple(bad))


def measured_parameters(model: nn.Module, parameters: str | None) -> dict[str, nn.Parameter]:
    """The trainable parameters whose names match the pattern, in the model's order.

    Raises:
        BadModel: there is none, or one holds NaN.
    """
    chosen = {
        name: p
        for name, p in model.named_parameters()
        if p.requires_grad and (parameters is None or fnmatch.fnmatchcase(name, parameters))
    }
    if not chosen:
        some = ", ".join(name for name, _ in list(model.named_parameters())[:8]) or "none at all"
        raise BadModel(
            f"expected at least one trainable parameter matching {parameters or '*'!r}; the model has: {some}. "
            "Pass another pattern, or set requires_grad."
        )
    for name, parameter in model.named_parameters():
        if _repeats(parameter):
            raise BadModel(
                f"expected parameters with memory for each of their numbers, but those of '{name}' share theirs, as "
                f"expand() leaves them. Give it its own: nn.Parameter({name}.clone()), or expand it in forward."
            )
    for name, parameter in chosen.items():
        if not torch.isfinite(parameter).all():
            raise BadModel(
                f"expected finite parameters, but '{name}' holds NaN or infinity. Measure an earlier checkpoint."
            )
    return chosen


def _repeats(tensor: torch.Tensor) -> bool:
    """Whether several of its numbers are in one place."""
    if tensor.layout != torch.strided:
        return False
    return any(stride == 0 and size > 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def _check_numbers(batch: Batch, number: int) -> None:
    """Raise BadData where tensors are descriptions alone."""
    if any(t.is_meta for t in (*tensors(batch[0]), *tensors(batch[1]))):
        raise BadData(f"expected data with numbers, but batch {number} is on the device 'meta'. Load them.")


def _finite(batch: Batch) -> bool:
    """Whether all numbers are: their sum is, in a tenth of the time, or they are looked at one by one."""
    inputs, targets = batch
    found = tensors(inputs) if inputs is targets else [*tensors(inputs), *tensors(targets)]
    return all(
        bool(torch.isfinite(t.sum())) or bool(torch.isfinite(t).all())
        for t in found
        if t.is_floating_point() and t.layout == torch.strided
    )


def _check_leaves_out(whole: Objective, batch: Batch, number: int) -> None:
    """Raise BadData where numbers of a batch that are none end up in the loss; masks and missing targets do not."""
    try:
        value = whole.batch_loss({}, batch)
    except TheodoliteError:
        raise
    except Exception as error:
        raise BadData(unfit(f"batch {number}", error)) from error
    if not bool(torch.isfinite(value).all()):
        raise BadData(f"expected finite data, but batch {number} holds NaN or infinity. Clean it first.")


def _in_halves(whole: Objective, batch: Batch) -> tuple[Tensor, list[tuple[Tensor, float]]] | None:
    """The loss of a batch, and of its halves with their weights; None where it is whole only."""
    try:
        with torch.set_grad_enabled(whole.grad_in_loss):
            parts = [(whole.batch_loss({}, part).detach(), whole.weight(part)) for part in halves(batch)]
            return (whole.batch_loss({}, batch).detach(), parts) if len(parts) > 1 else None
    except Exception:
        return None


def _check_over_samples(whole: Objective, by_share: Mapping[float, Batch]) -> None:
    """Raise BadLoss where a loss of the user's own divides by the targets that count, fewer in some batches."""
    for batch in by_share.values():
        found = _in_halves(whole, batch)
        if found is not None:
            counted = [whole.weight(part) * (1 - marked(part[1])) for part in halves(batch)]
            if looks_like_a_mean_over(*found, counted):
                raise BadLoss(
                    "expected a loss that is a mean over samples, got one that is a mean over the targets that count, "
                    "as -100 does not, and batches have different shares of those. Pass samples=lambda batch: "
                    "int((batch[1] >= 0).sum()), so that batches are weighted by what the loss divides by."
                )


def _check_mean(whole: Objective, first: Batch) -> None:
    """Raise BadLoss where a loss of the user's own is taken for a mean and adds up over samples."""
    found = _in_halves(whole, first_samples(first, COMPARED))
    if found is not None and looks_like_a_sum(*found):
        raise BadLoss(
            "expected a loss that is a mean over samples, got one that adds up over them, which counts large batches "
            "twice: by their samples, and by what the loss gives. Pass reduction='sum', or divide by the number of "
            "samples."
        )
