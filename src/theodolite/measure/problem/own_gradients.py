"""The gradient of each sample's own loss: all of a batch at once where PyTorch can, else one sample after the other."""

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.func import grad, vmap

from theodolite.errors import BadLoss
from theodolite.measure.problem.batches import Batch, count
from theodolite.measure.problem.isolation import loops_allowed, preserve_rng
from theodolite.measure.problem.microbatches import microbatches
from theodolite.measure.problem.objective import Objective
from theodolite.measure.problem.plain import bound_gradient

MOST_NUMBERS = 2**24  # in the gradients of the samples that go together
MIXED = 1e-3  # of their length, that samples' gradients may be apart from their batch's: far above rounding


def own_gradients(whole: Objective) -> Iterator[tuple[Tensor, list[Tensor]]]:
    r"""By batch, its part of the gradient over all data ``(P,)``, and its samples', rows ``(n, P)``, some at a time.

    A sample's part c_n is such that all of them sum to the gradient of the loss, mean or sum; that they do, batch by
    batch, is what they are checked by.

    Raises:
        BadLoss: samples taken alone have other gradients than within their batch.
    """
    point = whole.vector
    together = True
    with preserve_rng(), torch.enable_grad():
        for batch, share in whole.batches():
            total = share * bound_gradient(whole, point, batch)[1]
            rows = _all_at_once(whole, point, batch) if together else None
            if rows is not None and not _agree(rows, total):
                rows = None
            if rows is None:
                together, rows = False, _one_by_one(whole, point, batch)
                if not _agree(rows, total):
                    raise mixed()
            yield total, rows


def mixed() -> BadLoss:
    """What is said where a sample has no gradient of its own."""
    return BadLoss(
        "expected a loss that is a mean over samples, each with a gradient of its own, but samples taken alone have "
        "other gradients than within their batch. Call model.eval(): BatchNorm mixes samples in training mode."
    )


def _agree(rows: list[Tensor], total: Tensor) -> bool:
    summed = sum((part.double().sum(0) for part in rows), torch.zeros_like(total, dtype=torch.float64))
    length: float = sum(float(part.double().square().sum()) for part in rows) ** 0.5
    apart = float((summed - total).norm())
    return apart <= MIXED * length + torch.finfo(total.dtype).eps * float(total.norm())


def _share(whole: Objective, alone: Batch) -> float:
    return 1.0 if whole.reduction == "sum" else whole.share(alone)


def _one_by_one(whole: Objective, point: Tensor, batch: Batch) -> list[Tensor]:
    parts = microbatches(batch, 1)
    if len(parts) < count(batch):
        raise mixed()
    found = []
    for alone in parts:
        share = _share(whole, alone)
        try:
            found.append((share * bound_gradient(whole, point, alone)[1] if share else torch.zeros_like(point))[None])
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a sample alone raises, as BatchNorm does
            raise mixed() from error
    return found


def _all_at_once(whole: Objective, point: Tensor, batch: Batch) -> list[Tensor] | None:
    """By a map over samples; None where model or loss do not go into one, or a sample is more than a row of tensors."""
    inputs, targets = batch
    if not (isinstance(inputs, Tensor) and isinstance(targets, Tensor) and len(inputs) == len(targets) == count(batch)):
        return None
    shares = [_share(whole, (inputs[i : i + 1], targets[i : i + 1])) for i in range(len(inputs))]

    def of_one(vector: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return whole.batch_loss(whole.unflatten(vector), (x[None], y[None]))

    each = vmap(grad(of_one), (None, 0, 0))
    size = max(1, MOST_NUMBERS // len(point))
    try:
        with loops_allowed(), warnings.catch_warnings():
            warnings.simplefilter("error")
            found = [each(point, x, y).detach() for x, y in zip(inputs.split(size), targets.split(size), strict=True)]
    except torch.OutOfMemoryError:
        raise
    except Exception:  # operations without a rule for maps, values that are looked at, statistics that are written
        return None
    weights = torch.tensor(shares, dtype=point.dtype, device=point.device).split(size)
    return [weight[:, None] * rows for weight, rows in zip(weights, found, strict=True)]
