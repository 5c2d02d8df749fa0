"""Intervals of a median: between order statistics, and beyond the outermost for few seeds and small p-values."""

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]


def order_statistics(values: Array, level: float) -> tuple[float, float]:
    r"""Interval of a median between order statistics, interpolated; values may be infinite.

    The k-th smallest and k-th largest of n values hold the median with probability
    :math:`\gamma_k = 1 - 2\,P(B < k)`, B binomial (n, 1/2). Between two such pairs the ends are interpolated with
    :math:`\lambda = (n-k) I / (k + (n-2k) I)`, :math:`I = (\gamma_k - level) / (\gamma_k - \gamma_{k+1})`.

    Above :math:`\gamma_1` the ends lie beyond the outermost values, by c times their range R:

    .. math:: (2 (1 + c))^{-(n - 1)} = 1 - level

    This is exact for uniform numbers and holds for all whose density falls away from the median on both sides; equal
    numbers, which have no range, leave it unbounded there.

    Source: Hettmansperger and Sheather 1986, "Confidence intervals based on interpolated order statistics"; beyond
    the outermost, the proof is in docs/decisions/0039-sizes.md.

    Example:
        >>> order_statistics(np.array([1.0, 2.0, 3.0]), 0.75)  # the chance that three values hold the median
        (1.0, 3.0)
        >>> low, high = order_statistics(np.array([1.0, 2.0, 3.0]), 0.95)
        >>> f"{low:.2f} {high:.2f}"
        '-1.47 5.47'
    """
    n, ordered = len(values), np.sort(values)
    held = _held(n)
    k = int(np.flatnonzero(held >= level)[-1])
    if k == 0:
        return _beyond(ordered, level)
    if k > n // 2:  # a level of 0 with odd n: the median itself
        return float(ordered[n // 2]), float(ordered[n // 2])
    share = (held[k] - level) / (held[k] - held[k + 1])
    weight = (n - k) * share / (k + (n - 2 * k) * share)
    return _between(ordered[k - 1], ordered[k], weight), _between(ordered[n - k], ordered[n - k - 1], weight)


def apart(values: Array, low: float, high: float) -> tuple[float, float]:
    """Ends that coincide, because values are equal, moved out to the next values there are; unbounded without any."""
    if low < high:
        return low, high
    below, above = values[values < low], values[values > high]
    if not len(below) and not len(above):
        return -math.inf, math.inf
    return float(below.max(initial=-math.inf)) if len(below) else low, float(above.min()) if len(above) else high


def _beyond(ordered: Array, level: float) -> tuple[float, float]:
    n, least, most = len(ordered), float(ordered[0]), float(ordered[-1])
    if n < 2 or least == most or not math.isfinite(most - least):
        # An infinite value bounds nothing beyond it; the range of the others would not be that of the sample.
        return -math.inf, math.inf
    out = _ranges_out(n, level) * (most - least)
    return least - out, most + out


def _ranges_out(n: int, level: float) -> float:
    return float((1 - level) ** (-1 / (n - 1)) / 2 - 1)


def power_beyond(distance: float, n: int, level: float) -> float:
    r"""Chance that an interval whose ends lie beyond the outermost of n normal numbers leaves out a threshold.

    .. math:: \int_{-d}^\infty n\, \varphi(x)\, (\Phi(x + (x + d) / c) - \Phi(x))^{n - 1}\, dx

    over the smallest number x, in standard deviations from the median, for a threshold d of them below it: c times the
    range, by which the interval reaches beyond x, must not reach the threshold.
    """
    out = max(_ranges_out(n, level), 1e-9)  # 0 where the outermost are the ends themselves
    x = np.linspace(max(-distance, -9.0), 9.0, 2001)
    chance = n * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * (ndtr(x + (x + distance) / out) - ndtr(x)) ** (n - 1)
    return float(np.trapezoid(chance, x))


@cache
def _held(n: int) -> Array:
    """Probability that the k-th smallest and k-th largest of n hold the median, from k = 0 (no bound) to n // 2 + 1."""
    below = np.cumsum([0, *(math.comb(n, k) for k in range(n // 2 + 1))], dtype=object)  # exact: n may be thousands
    return np.array([1 - 2 * (outside / 2**n) for outside in below])


def _between(outer: float, inner: float, weight: float) -> float:
    if outer == inner or weight == 0:  # also where both are infinite
        return float(outer)
    return float((1 - weight) * outer + weight * inner)
