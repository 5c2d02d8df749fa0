"""How many samples it takes for a batch's gradient to be more signal than noise."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor, nn

from theodolite.errors import BadData, SettingError
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.join import objective
from theodolite.measure.problem.objective import Loss, Objective, check_finite
from theodolite.measure.problem.options import ProblemOptions, with_options
from theodolite.measure.problem.own_gradients import own_gradients
from theodolite.measure.problem.validation import checked
from theodolite.measure.results.base import Result


@dataclass(frozen=True, slots=True)
class GradientNoiseScale(Result, kind="gradient_noise_scale"):
    """Variance of the samples' gradients beside the gradient, and what it says of the batch size."""

    value: float  # B_simple = tr Σ / |G|², samples; inf where the gradient is not told from noise
    standard_error: float  # of that, over samples, by the jackknife; NaN where the value is infinite
    variance: float  # tr Σ, squared loss per squared unit of weight
    gradient_norm: float  # of the loss over all data, noise of its samples and all
    variances: Mapping[str, float]  # of each parameter tensor; they sum to the variance
    scales: Mapping[str, float]  # B_simple of each parameter tensor by itself
    cosine: float  # between gradients of two batches, the mean over all pairs; NaN of one batch
    cosine_standard_error: float  # over batches, by the jackknife; NaN below three
    batch_size: float  # samples in a batch of the data, the mean
    steps_factor: float  # of training steps at that size over the least: 1 + value / batch_size
    samples_factor: float  # of samples seen at that size over the least: 1 + batch_size / value
    samples: int


@checked
@with_options(ProblemOptions)
def gradient_noise_scale(
    model: nn.Module,
    loss: Loss,
    data: Data,
    *,
    parameters: str | None = None,
    **options: Unpack[ProblemOptions],
) -> GradientNoiseScale:
    r"""Measure the noise of the samples' gradients, and the batch size at which it equals the signal.

    .. math:: B_{\text{simple}} = \frac{\mathrm{tr}\, \Sigma}{|G|^2}, \qquad
              \Sigma = \mathrm{Cov}(g_n), \quad G = \mathbb{E}\, g_n

    with g_n the gradient of sample n's own loss. The data are taken as draws from a distribution, and both
    parts are without bias,

    .. math:: \mathrm{tr}\, \hat\Sigma = \frac{1}{N - 1} \sum_n |g_n - \bar g|^2, \qquad
              |\hat G|^2 = |\bar g|^2 - \frac1N\, \mathrm{tr}\, \hat\Sigma .

    Every sample's gradient is taken, so that the batch size has no part in the estimate; the standard error is that of
    leaving out one sample at a time.

    Training with batches of B samples takes about :math:`1 + B_{\text{simple}} / B` times the least number of steps and
    :math:`1 + B / B_{\text{simple}}` times the least number of samples: far below, a larger batch saves steps at no
    cost; far above, it costs samples and saves nothing.

    Args:
        model: any module, measured in the mode it is in; frozen parameters are left out.
        loss: maps (outputs, targets) to a scalar mean over samples.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches; for the cosine, batches as in training.
        parameters: a pattern such as ``"0.*"`` that restricts the measurement to a part of the model.

    Raises:
        BadData: fewer than three samples.
        BadLoss: samples taken alone have other gradients than within their batch (BatchNorm in training mode).
        SettingError: ``samples`` is given: each row of a batch is one, with a gradient of its own.
        MeasurementError: model, loss or data cannot be measured; see
            :func:`~theodolite.measure.problem.join.objective`.

    Source: McCandlish, Kaplan and Amodei 2018, "An Empirical Model of Large-Batch Training", section 2 and appendix A.

    Example:
        >>> model = nn.Linear(1, 1, bias=False).double()
        >>> _ = nn.init.zeros_(model.weight)
        >>> x, y = torch.ones(4, 1).double(), torch.tensor([[1.0], [2.0], [3.0], [4.0]]).double()
        >>> found = gradient_noise_scale(model, nn.MSELoss(), (x, y))  # g = -2 y: variance 20/3, mean -5
        >>> round(found.variance, 6), round(found.value, 6)
        (6.666667, 0.285714)
    """
    if options.get("samples") is not None:
        raise SettingError(
            "expected samples= to be left out, since each row of a batch is a sample with a gradient of its own. "
            "Pass reduction='sum' where the loss adds up."
        )
    whole = objective(model, loss, data, parameters=parameters, **options)
    if whole.samples < 3:
        raise BadData(f"expected at least three samples to tell noise from signal, got {whole.samples}. Pass more.")
    squares, along, batches, units = _moments(whole)
    norms = along.sum(0)  # |Σ c|², a tensor each
    check_finite("the gradient of a sample", squares.sum() + norms.sum(), whole)
    N = len(squares)
    total, each = (
        _scale(N, squares.sum(1), along.sum(1)),
        [_scale(N, s, d) for s, d in zip(squares.T, along.T, strict=True)],
    )
    unit = 1.0 if whole.reduction == "sum" else float(N)  # a sample's own gradient over its part
    size = N / batches
    cosine, error = _mean_cosine(units)
    return GradientNoiseScale(
        value=total,
        standard_error=_jackknife(squares.sum(1), along.sum(1)) if math.isfinite(total) else math.nan,
        variance=unit**2 * float(_variance(N, squares.sum(), norms.sum())),
        gradient_norm=float(norms.sum()) ** 0.5,
        variances={
            n: unit**2 * float(_variance(N, s, d)) for n, s, d in zip(whole.names, squares.sum(0), norms, strict=True)
        },
        scales=dict(zip(whole.names, each, strict=True)),
        cosine=cosine,
        cosine_standard_error=error,
        batch_size=size,
        steps_factor=1 + total / size,
        samples_factor=1 + size / total if total else math.inf,
        samples=N,
    )


def _moments(whole: Objective) -> tuple[Tensor, Tensor, int, Tensor]:
    """What the data say, in two readings.

    Returns:
        Of each sample's part of the gradient, by tensor ``(N, T)``, |c_n|² and c_n · Σ c; how many batches; and of the
        unit vectors u of their gradients, |Σ u|² and each u · Σ u ``(1 + batches,)``.
    """
    sizes = [shape.numel() for shape in whole.shapes]
    gradient = torch.zeros(whole.size, dtype=torch.float64, device=whole.device)
    directions = torch.zeros_like(gradient)
    for total, _ in own_gradients(whole):
        gradient += total
        directions += _unit(total)
    squares, along, units = [], [], [directions @ directions]
    for total, rows in own_gradients(whole):
        units.append(_unit(total) @ directions)
        for part in rows:
            double = part.double()
            squares.append(_by_tensor(double.square(), sizes))
            along.append(_by_tensor(double * gradient, sizes))
    return torch.cat(squares), torch.cat(along), len(units) - 1, torch.stack(units)


def _unit(gradient: Tensor) -> Tensor:
    wide = gradient.double()
    length = wide.norm()
    return wide / length if length else wide


def _by_tensor(numbers: Tensor, sizes: list[int]) -> Tensor:
    return torch.stack([part.sum(1) for part in numbers.split(sizes, 1)], 1)


def _variance(N: int, squares: Tensor, norm: Tensor) -> Tensor:
    """The trace of Σ over N², without bias, from Σ |c|² and |Σ c|²."""
    return (squares - norm / N) / (N - 1) if N > 1 else torch.full_like(squares, torch.nan)


def _scale(N: int, squares: Tensor, along: Tensor) -> float:
    """The ratio tr Σ / |G|², both over N² and without bias, of N samples."""
    return float(_ratio(N, squares.sum(), along.sum()))


def _ratio(N: int, squares: Tensor, norm: Tensor) -> Tensor:
    variance = _variance(N, squares, norm)
    signal = norm / N**2 - variance / N
    return torch.where(signal > 0, variance / signal, torch.inf)


def _jackknife(squares: Tensor, along: Tensor) -> float:
    """The standard error of the scale, from leaving out each sample once."""
    N, norm = len(squares), along.sum()
    left_out = _ratio(N - 1, squares.sum() - squares, norm - 2 * along + squares)
    if not bool(torch.isfinite(left_out).all()):
        return math.nan
    return float(((N - 1) / N * (left_out - left_out.mean()).square().sum()).sqrt())


def _mean_cosine(units: Tensor) -> tuple[float, float]:
    """Over pairs of batches, and its standard error from leaving out each batch once."""
    length, along = units[0], units[1:]
    B = len(along)
    if B < 2:
        return math.nan, math.nan
    cosine = float((length - B) / (B * (B - 1)))
    if B < 3:
        return cosine, math.nan
    left_out = (length - 2 * along + 1 - (B - 1)) / ((B - 1) * (B - 2))
    return cosine, float(((B - 1) / B * (left_out - left_out.mean()).square().sum()).sqrt())
