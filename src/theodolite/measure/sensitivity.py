"""How strongly the loss reacts to the input."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from theodolite.errors import BadData, BadLoss
from theodolite.measure.problem.batches import Batch, Data, count
from theodolite.measure.problem.isolation import preserve_rng
from theodolite.measure.problem.join import objective
from theodolite.measure.problem.microbatches import first_samples
from theodolite.measure.problem.objective import Loss, Objective, check_finite, check_reached
from theodolite.measure.problem.options import ProblemOptions, with_options
from theodolite.measure.problem.validation import checked
from theodolite.measure.results.base import Result


@dataclass(frozen=True, slots=True)
class Sensitivity(Result, kind="sensitivity"):
    """Norms of the derivative of the loss by the input, in units of loss per unit of input."""

    value: float  # Frobenius norm of the derivative of the mean loss by all inputs, (N, ...)
    mean: float  # of the samples' own norms; NaN if not measured per sample
    standard_error: float  # of that mean, over samples; NaN below two samples
    per_sample: Tensor | None  # (N,) float64, in the order of the data
    samples: int


@checked
@with_options(ProblemOptions)
def sensitivity(
    model: nn.Module,
    loss: Loss,
    data: Data,
    *,
    per_sample: bool = True,
    **options: Unpack[ProblemOptions],
) -> Sensitivity:
    r"""Measure how strongly the loss reacts to its input.

    .. math:: S = \lVert \partial L / \partial X \rVert_F, \qquad
              s_i = \lVert \partial \ell_i / \partial x_i \rVert_F, \qquad
              S = \frac1N \Big( \sum_i s_i^2 \Big)^{1/2}

    with the mean loss :math:`L = \frac1N \sum_i \ell_i` over all N samples X. S shrinks as :math:`1/\sqrt N` with the
    size of the data set; the mean of the :math:`s_i` does not, so compare data sets by that. A sample's own
    derivative is N times its row of the whole one, which is exact where a sample's loss depends on that sample alone.
    This is checked on the first batch.

    Args:
        model: any module, measured in the mode it is in.
        loss: maps (outputs, targets) to a scalar mean over samples.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches; inputs a tensor ``(N, ...)``, or a
            tuple or dict of them, of which all that are floating point count as one input.
        per_sample: also the samples' own norms. Pass False where samples are mixed (BatchNorm in training mode).

    Raises:
        BadData: no input is floating point.
        BadLoss: a sample's derivative is not its own: samples are mixed, or the loss is not a plain mean.

    Source: Novak et al. 2018, "Sensitivity and Generalization in Neural Networks", who take the norm of the
    derivative of the outputs; the report takes that of the loss.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.constant_(model.weight, 1.0)
        >>> result = sensitivity(model, nn.L1Loss(), (torch.eye(2), torch.zeros(2, 1)))
        >>> round(result.value, 6), round(result.mean, 6)  # each derivative is (1, 1) for one sample, of two
        (1.0, 1.414214)
    """
    whole = objective(model, loss, data, **options)
    norms, squares = [], 0.0
    with preserve_rng(), torch.enable_grad():
        for number, (batch, share) in enumerate(whole.batches()):
            size = count(batch)
            times = 1 if whole.reduction == "sum" else size  # what a sample's derivative is divided by
            gradients = _gradients(whole, batch, number)
            squares += sum(float((share * g.double()).pow(2).sum()) for g in gradients)
            if not per_sample:
                continue
            if number == 0:
                _check_own(whole, batch, gradients, size)
            rows = torch.stack([(times * g.double()).flatten(1).norm(dim=1) for g in gradients])
            norms.append(rows.norm(dim=0).cpu())
    check_finite("the derivative of the loss by its inputs", squares, whole)
    own = torch.cat(norms) if per_sample else None
    nan = float("nan")
    return Sensitivity(
        value=squares**0.5,
        mean=nan if own is None else float(own.mean()),
        standard_error=nan if own is None or len(own) < 2 else float(own.std()) / len(own) ** 0.5,
        per_sample=own,
        samples=whole.samples,
    )


def _gradients(whole: Objective, batch: Batch, number: int) -> list[Tensor]:
    """Derivatives of a batch's mean loss by its floating-point inputs."""
    leaves: list[Tensor] = []
    inputs = _as_leaves(batch[0], leaves)
    if not leaves:
        raise BadData(
            f"expected a floating-point input to differentiate by, got none in batch {number}. Tokens have no "
            "derivative: pass their embeddings."
        )
    own = {n: p.detach() for n, p in whole.model.named_parameters()}
    with whole.at(own):
        value = whole.loss_of((inputs, batch[1]))
        if value.requires_grad:
            found = torch.autograd.grad(value, leaves, allow_unused=True)
            return [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, leaves, strict=True)]
    if not value.requires_grad:  # the model ignores its inputs, or no gradient passes at all
        check_reached(whole.batch_loss(dict(whole.model.named_parameters()), batch))
    return [torch.zeros_like(leaf) for leaf in leaves]


def _as_leaves(part: Any, leaves: list[Tensor]) -> Any:
    if isinstance(part, Tensor):
        if part.is_floating_point():
            leaves.append(part.detach().requires_grad_())
            return leaves[-1]
        return part
    if isinstance(part, Mapping):
        return {key: _as_leaves(value, leaves) for key, value in part.items()}
    return type(part)(_as_leaves(p, leaves) for p in part) if isinstance(part, (tuple, list)) else part


def _check_own(whole: Objective, batch: Batch, gradients: list[Tensor], size: int) -> None:
    """Half a batch must give its samples the derivatives that the whole batch gives them."""
    half = (size + 1) // 2
    mixed = BadLoss(
        "expected the loss to be a plain mean of losses that depend on one sample each, but a sample's derivative "
        "changes with the batch it is in. Call model.eval() (BatchNorm mixes samples in training mode), leave out "
        "class weights, or pass per_sample=False."
    )
    some = first_samples(batch, half)
    if any(g.shape[0] != size for g in gradients) or (some is batch and half < size):
        raise mixed
    try:
        alone = _gradients(whole, some, 0)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever half a batch raises, as BatchNorm does of one sample
        raise mixed from error
    for part, g in zip(alone, gradients, strict=True):
        work = torch.promote_types(g.dtype, torch.float32)
        wanted, got = g[:half].to(work), part.to(work)
        if whole.reduction == "mean":
            wanted, got = size * wanted, half * got
        if float((wanted - got).norm()) > 100 * torch.finfo(g.dtype).eps ** 0.75 * float(wanted.norm()):
            raise mixed
