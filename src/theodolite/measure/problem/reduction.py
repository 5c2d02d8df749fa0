r"""What a loss is over a batch, a mean or a sum, and what a batch counts for.

Over several batches :math:`L = \sum_b \frac{w_b}{W} \mathrm{loss}_b` where the loss is a mean, with :math:`w_b` the
number of samples, and :math:`L = \sum_b \mathrm{loss}_b` where it is a sum. PyTorch's cross entropy with class weights
or ``ignore_index`` is a mean that divides by the weights of those targets that count: :math:`w_b` is their share of
the batch's samples then, so that the sum is the quotient of the whole set, however it was put into batches.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from theodolite.errors import BadData, BadLoss
from theodolite.measure.problem.batches import Batch, count, tensors

Reduction = Literal["mean", "sum"]
Samples = Callable[[Batch], float]

ADDS_UP = 1e-3  # relative: how exactly two halves must give the whole, to call it a sum
CLASSES = {  # PyTorch's losses over class numbers, as module and function -> keyword of the class weights
    nn.CrossEntropyLoss: functional.cross_entropy,
    nn.NLLLoss: functional.nll_loss,
}


def reduction_of(loss: Any, given: Reduction | None) -> Reduction:
    """What the loss is over a batch: as given, or as a loss of PyTorch says of itself, or a mean.

    Raises:
        BadLoss: the two disagree.
    """
    said = _keyword(loss, "reduction")
    own: Reduction | None = "sum" if said == "sum" else "mean" if said in ("mean", "batchmean") else None
    if given is not None and own is not None and given != own:
        raise BadLoss(
            f"expected a loss that is what reduction='{given}' says, got one that says reduction='{said}' of itself. "
            "Leave reduction out."
        )
    return given or own or "mean"


def weigh(batch: Batch, loss: Any = None, samples: Samples | None = None) -> float:
    """What a batch counts for.

    Raises:
        BadData: ``samples`` gives no finite number of at least 0.
    """
    if samples is not None:
        try:
            weight = float(samples(batch))
        except Exception as error:
            raise BadData(
                f"expected samples= as a function of a batch (inputs, targets) that gives a number, got "
                f"{type(error).__name__}: {error}. For example: samples=lambda batch: len(batch[1])."
            ) from error
        if not (math.isfinite(weight) and weight >= 0):
            raise BadData(f"expected samples= to give a number of at least 0 for a batch, got {weight}.")
        return weight
    return count(batch) * share_of_targets(loss, batch[1])


def share_of_targets(loss: Any, targets: Any) -> float:
    """The mean weight of the targets in PyTorch's cross entropy, 0 for ignored ones; 1 for any other loss."""
    function = next((f for kind, f in CLASSES.items() if _is(loss, kind, f)), None)
    if function is None or not isinstance(targets, Tensor) or targets.is_floating_point() or not targets.numel():
        return 1.0
    ignored, weights = _keyword(loss, "ignore_index"), _keyword(loss, "weight")
    counted = targets != (-100 if ignored is None else ignored)
    if not isinstance(weights, Tensor):
        return 1.0 if bool(counted.all()) else float(counted.double().mean())
    known = counted & (targets >= 0) & (targets < len(weights))
    at = torch.where(known, targets, torch.zeros_like(targets)).to(weights.device)
    return float((weights.detach().double()[at] * known.to(weights.device)).mean())


def looks_like_a_sum(whole: Tensor, halves: list[tuple[Tensor, float]]) -> bool:
    """Whether a loss adds up over two halves of a batch, where a mean would be their mean by weight."""
    scale = float(whole.abs()) + sum(abs(float(part)) for part, _ in halves)
    added = sum(float(part) for part, _ in halves)
    return abs(float(whole) - added) <= ADDS_UP * scale < abs(float(whole) - _averaged(halves))


def looks_like_a_mean_over(whole: Tensor, halves: list[tuple[Tensor, float]], others: list[float]) -> bool:
    """Whether a loss is the mean of its halves by other weights, where it is not by theirs."""
    scale = float(whole.abs()) + sum(abs(float(part)) for part, _ in halves)
    by_others = _averaged([(part, weight) for (part, _), weight in zip(halves, others, strict=True)])
    return abs(float(whole) - by_others) <= ADDS_UP * scale < abs(float(whole) - _averaged(halves))


def _averaged(parts: list[tuple[Tensor, float]]) -> float:
    total = sum(weight for _, weight in parts) or 1.0
    return sum(float(part) * weight / total for part, weight in parts)


def marked(targets: Any) -> float:
    """The share of class numbers that are none, as -100 is: losses leave those out."""
    if not isinstance(targets, Tensor) or targets.is_floating_point() or targets.is_complex() or not targets.numel():
        return 0.0
    return float((targets < 0).double().mean())


def check_counts(sizes: list[tuple[float, float]]) -> None:
    """Raise BadData where inputs and targets count differently, in another ratio from batch to batch.

    Args:
        sizes: the first dimension of inputs and of targets, a batch each.
    """
    ratios = {round(targets / inputs, 9) for inputs, targets in sizes if inputs}
    if len(ratios) > 1:
        number, (inputs, targets) = next((i, s) for i, s in enumerate(sizes) if s[0] != s[1])
        raise BadData(
            f"expected as many targets as inputs, got {targets:.0f} and {inputs:.0f} in batch {number}. Check how they "
            "were paired; or say for how many samples a batch counts, samples=lambda batch: len(batch[1])."
        )


def lengths(batch: Batch) -> tuple[float, float] | None:
    """The first dimensions of inputs and targets, where both have one."""
    inputs, targets = batch
    found = tensors(targets) if not isinstance(targets, list) else []
    if not found or not found[0].ndim or isinstance(inputs, list) or inputs is targets:
        return None
    return float(count(batch)), float(len(found[0]))


def _is(loss: Any, kind: type, function: Any) -> bool:
    return type(loss) is kind or loss is function or (isinstance(loss, partial) and loss.func is function)


def _keyword(loss: Any, name: str) -> Any:
    if isinstance(loss, partial):
        return loss.keywords.get(name, None)
    return getattr(loss, name, None) if isinstance(loss, nn.Module) else None
