"""Loss and accuracy along the straight line between two models."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor, nn

from theodolite.measure.problem.batch_norm import renewed
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.evaluate import StackedStates, Values, evaluate, mix
from theodolite.measure.problem.join import objective
from theodolite.measure.problem.objective import Loss, Objective
from theodolite.measure.problem.options import ProblemOptions, with_options
from theodolite.measure.problem.state_dicts import stacked
from theodolite.measure.problem.validation import checked, coordinates
from theodolite.measure.results.base import Result

ALPHAS = tuple(i / 20 for i in range(-20, 41))  # -1 to 2, as the report's Figure 11 has it; 0 and 1 are exact


@dataclass(frozen=True, slots=True)
class Interpolation(Result, kind="interpolation"):
    """What lies on the line; a barrier is read off at the alphas within [0, 1] and at the ends, so never too high."""

    alphas: Tensor  # (K,) float64; 0 is model_a, 1 is model_b
    loss: Tensor  # (K,) float64, mean over samples
    accuracy: Tensor  # (K,) float64, share of samples; NaN where targets are not classes
    ends: tuple[float, float]  # loss of model_a and of model_b
    barrier: float  # highest loss less the mean of the ends (Frankle et al. 2020), unit of the loss
    barrier_above_line: float  # highest excess over the straight line between the ends' losses (Entezari et al. 2022)
    error_barrier: float  # as barrier, for the share of samples classified wrongly; NaN without classes


@checked
@with_options(ProblemOptions)
def interpolate(
    model_a: nn.Module,
    model_b: nn.Module,
    loss: Loss,
    data: Data,
    alphas: Sequence[float] | Tensor = ALPHAS,
    *,
    update_bn: Data | None = None,
    **options: Unpack[ProblemOptions],
) -> Interpolation:
    r"""Measure loss and accuracy at :math:`\theta(\alpha) = (1 - \alpha)\,\theta_a + \alpha\,\theta_b`.

    .. math:: B = \max_{\alpha \in [0, 1]} L(\theta(\alpha)) - \tfrac12 \big( L(\theta_a) + L(\theta_b) \big)

    Args:
        model_a: one end, measured in the mode it is in.
        model_b: the other end, of the same architecture; only its weights and statistics are used.
        loss: maps (outputs, targets) to a scalar mean over samples.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches.
        alphas: ``(K,)``, any numbers.
        update_bn: data on which BatchNorm statistics are computed anew at every alpha (the training set, as a rule).
            Without it they are interpolated too, and held at the nearer end outside [0, 1], where a variance could
            turn negative.

    Raises:
        BadModel: the models do not match, in a shape, type or device; names the parameter or buffer.
        SettingError: no alphas, or one that is not finite.

    Source: Frankle et al. 2020, "Linear Mode Connectivity and the Lottery Ticket Hypothesis", section 2, with the loss
    in place of the error (that is ``error_barrier``); Goodfellow et al. 2015 for the line.

    Example:
        >>> a, b = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.constant_(a.weight, -1.0), nn.init.constant_(b.weight, 1.0)
        >>> data = torch.ones(4, 1), torch.zeros(4, 1)
        >>> interpolate(a, b, nn.MSELoss(), data, [0, 0.5, 1]).loss.tolist()  # (2 alpha - 1) squared
        [1.0, 0.0, 1.0]
    """
    (found,) = on_lines(model_a, model_b, loss, [data], alphas, update_bn=update_bn, **options)
    return found


def on_lines(
    model_a: nn.Module,
    model_b: nn.Module,
    loss: Loss,
    sets: Sequence[Data],
    alphas: Sequence[float] | Tensor,
    *,
    update_bn: Data | None = None,
    **options: Unpack[ProblemOptions],
) -> list[Interpolation]:
    """As :func:`interpolate`, on each of several sets of data; statistics are renewed once for all of them."""
    where = coordinates("alphas", alphas)
    parameters, buffers = stacked(model_a, model_b)
    wholes = [objective(model_a, loss, data, **options) for data in sets]
    renewal = None if update_bn is None else objective(model_a, loss, update_bn, **options)
    points = torch.cat([torch.tensor([0.0, 1.0], dtype=torch.float64), where])
    weights = torch.stack([1 - points, points], 1)
    return [_found(points, values) for values in along(wholes, parameters, buffers, weights, points, renewal)]


def _found(points: Tensor, values: Values) -> Interpolation:
    """The values at ``points (2 + K,)``, of which the first two are the ends, with their barriers."""
    inside = (points >= 0) & (points <= 1)
    a, b = values.loss[:2].tolist()
    error = 1 - values.accuracy
    return Interpolation(
        alphas=points[2:],
        loss=values.loss[2:],
        accuracy=values.accuracy[2:],
        ends=(a, b),
        barrier=float(values.loss[inside].max()) - (a + b) / 2,
        barrier_above_line=float((values.loss - (1 - points) * a - points * b)[inside].max()),
        error_barrier=float(error[inside].max() - error[:2].mean()),
    )


def along(
    wholes: Sequence[Objective],
    parameters: StackedStates,
    buffers: StackedStates,
    weights: Tensor,
    positions: Tensor,
    renewal: Objective | None,
) -> list[Values]:
    """Loss and accuracy over the data of each of ``wholes``, at combinations of models, ``weights (K, B)``.

    Buffers go from the first to the last model with ``positions (K,)``, or are renewed on the data of ``renewal``.
    """
    between = torch.stack([1 - positions.clamp(0, 1), positions.clamp(0, 1)], 1)
    buffers = {name: tensor[[0, -1]] for name, tensor in buffers.items()}
    if renewal is None:
        basis = side_by_side(parameters, weights, buffers, between)
        return [evaluate(whole, *basis).checked() for whole in wholes]
    parts = []
    for row, at in zip(weights, between, strict=True):
        state = {n: mix(row, t) for n, t in parameters.items()} | {n: mix(at, t) for n, t in buffers.items()}
        new = {n: t[None] for n, t in renewed(renewal, state).items()}
        parts.append([evaluate(whole, new, torch.ones(1, 1)) for whole in wholes])
    return [_joined(part).checked() for part in zip(*parts, strict=True)]


def _joined(parts: Sequence[Values]) -> Values:
    return Values(torch.cat([p.loss for p in parts]), torch.cat([p.accuracy for p in parts]))


def side_by_side(
    first: StackedStates, weights: Tensor, second: StackedStates, others: Tensor
) -> tuple[StackedStates, Tensor]:
    """Two families of tensors, each with its own combinations, as one basis ``(B + C, ...)`` and its weights."""
    if not second:
        return first, weights
    b, c = weights.shape[1], others.shape[1]
    padded = {n: torch.cat([t, t.new_zeros(c, *t.shape[1:])]) for n, t in first.items()}
    padded |= {n: torch.cat([t.new_zeros(b, *t.shape[1:]), t]) for n, t in second.items()}
    return padded, torch.cat([weights, others], 1)
