"""A curve of low loss between two minima, trained."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Unpack

import torch
from torch import Tensor, nn

from theodolite.errors import SettingError
from theodolite.measure.interpolate import along
from theodolite.measure.problem.batch_norm import on_batch_statistics
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.isolation import preserve_rng, without_subnormals
from theodolite.measure.problem.join import objective
from theodolite.measure.problem.objective import Loss, Objective, check_reached
from theodolite.measure.problem.options import ProblemOptions, with_options
from theodolite.measure.problem.state_dicts import stacked
from theodolite.measure.problem.validation import checked
from theodolite.measure.results.base import Result
from theodolite.streams import named_seed


@dataclass(frozen=True, slots=True)
class Curve(Result, kind="curve"):
    """Losses along a quadratic Bézier curve between two models, beside those along the straight line."""

    t: Tensor  # (K,) float64; 0 is model_a, 1 is model_b
    loss: Tensor  # (K,) float64, on the curve, mean over samples
    accuracy: Tensor  # (K,) float64, share of samples; NaN where targets are not classes
    line_loss: Tensor  # (K,) float64, on the line
    line_accuracy: Tensor  # (K,) float64
    highest: float  # loss on the curve
    line_highest: float  # loss on the line
    history: tuple[float, ...]  # mean loss at random points of the curve, an epoch each
    control: Mapping[str, Tensor] = field(repr=False)  # the control point, by parameter name


@checked
@with_options(ProblemOptions)
def connect(
    model_a: nn.Module,
    model_b: nn.Module,
    loss: Loss,
    data: Data,
    *,
    epochs: int = 100,
    learning_rate: float = 1e-2,
    points: int = 61,
    seed: int = 0,
    update_bn: Data | None = None,
    **options: Unpack[ProblemOptions],
) -> Curve:
    r"""Train a curve of low loss between two models.

    .. math:: \phi(t) = (1 - t)^2 \theta_a + 2 t (1 - t)\,\theta + t^2 \theta_b, \qquad
              \min_\theta \mathbb{E}_{t \sim U(0, 1)}\, L(\phi(t))

    Every step takes one batch and one random t; :math:`\theta` starts halfway, so that the curve starts as the line,
    and Adam moves it with a learning rate that falls to zero (cosine). A path below the line's barrier shows that the
    ends are connected that well; that none was found shows nothing.

    Args:
        model_a: one end, in the mode it is in.
        model_b: the other end, of the same architecture; only its weights and statistics are used.
        loss: maps (outputs, targets) to a scalar mean over samples.
        data: one ``(inputs, targets)`` pair or a re-iterable of batches, one step each; pass mini-batches for speed.
        epochs: passes over the data.
        learning_rate: Adam's first.
        points: values of t measured afterwards, evenly spaced with both ends.
        seed: of t, and of whatever order the data draw from PyTorch's own generator.
        update_bn: data for renewing BatchNorm statistics at every t, as in
            :func:`~theodolite.measure.interpolate.interpolate`; training then takes batch statistics.

    Raises:
        BadModel: the models do not match, in a shape, type or device; names the parameter or buffer.
        SettingError: a number out of its range.

    Source: Garipov et al. 2018, "Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs", equations 2 and 4.

    Example:
        >>> a, b = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
        >>> with torch.no_grad():
        ...     _ = a.weight.copy_(torch.tensor([[1.0, 0.0]])), b.weight.copy_(torch.tensor([[0.0, 1.0]]))
        >>> ring = lambda outputs, _: (a_norm(outputs) - 1) ** 2  # zero wherever the weights have length 1
        >>> a_norm = lambda outputs: outputs.pow(2).sum().sqrt()
        >>> curve = connect(a, b, ring, (torch.eye(2), torch.zeros(2, 1)))
        >>> curve.highest < 0.1 * curve.line_highest
        True
    """
    if not (epochs >= 0 and learning_rate > 0 and points >= 2):
        raise SettingError(
            f"expected epochs of 0 or more, a positive learning rate and 2 or more points, got epochs={epochs}, "
            f"learning_rate={learning_rate}, points={points}."
        )
    parameters, buffers = stacked(model_a, model_b)
    whole = objective(model_a, loss, data, **options)
    renewal = None if update_bn is None else objective(model_a, loss, update_bn, **options)
    training = whole if renewal is None else on_batch_statistics(whole)
    control, history = _train(training, parameters, buffers, epochs, learning_rate, seed)
    bent = {n: torch.stack([p[0], control[n], p[1]]) for n, p in parameters.items()}
    t = torch.linspace(0, 1, points, dtype=torch.float64)
    (curve,) = along([whole], bent, buffers, torch.stack(_bernstein(t), 1), t, renewal)
    (line,) = along([whole], parameters, buffers, torch.stack([1 - t, t], 1), t, renewal)
    return Curve(
        t=t,
        loss=curve.loss,
        accuracy=curve.accuracy,
        line_loss=line.loss,
        line_accuracy=line.accuracy,
        highest=float(curve.loss.max()),
        line_highest=float(line.loss.max()),
        history=tuple(history),
        control=control,
    )


def _bernstein(t: Tensor) -> list[Tensor]:
    return [(1 - t) ** 2, 2 * t * (1 - t), t**2]


def _train(
    whole: Objective, ends: Mapping[str, Tensor], buffers: Mapping[str, Tensor], epochs: int, rate: float, seed: int
) -> tuple[dict[str, Tensor], list[float]]:
    control = {n: p.mean(0).requires_grad_(n in whole.names) for n, p in ends.items()}  # frozen ones stay on the line
    moving = [control[n] for n in whole.names]
    optimizer = torch.optim.Adam(moving, lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(epochs, 1))
    generator = torch.Generator().manual_seed(named_seed(seed, "points of a curve"))
    history = []
    with preserve_rng(), without_subnormals(), torch.enable_grad():
        torch.manual_seed(named_seed(seed, "batches"))
        for _ in range(epochs):
            total = 0.0
            for batch, share in whole.batches():
                t = torch.rand((), generator=generator, dtype=torch.float64)
                a, c, b = (float(w) for w in _bernstein(t))
                point = {n: a * p[0] + c * control[n] + b * p[1] for n, p in ends.items()}
                point |= {n: p[0] + float(t) * (p[1] - p[0]) for n, p in buffers.items()}
                with whole.at(point):
                    value = whole.loss_of(batch)
                    check_reached(value)
                    optimizer.zero_grad()
                    value.backward(inputs=moving)  # and nothing else: a loss may have parameters of its own
                optimizer.step()
                total += share * float(value.detach())
            schedule.step()
            history.append(total)
    return {n: p.detach() for n, p in control.items()}, history
