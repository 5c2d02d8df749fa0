"""Intervals of a mean: of any numbers, and of numbers that have a range (docs/decisions/0039-sizes.md, 0065)."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # not scipy.stats: half a second to import, and 0.1 ms a number

from theodolite.claims import skew

Array = NDArray[np.float64]

LOGARITHMS = 3.0  # excess kurtosis of those of the distances of bounded numbers from their ends


@dataclass(frozen=True, slots=True)
class Tails:
    """How heavy the tails of n numbers count: an excess kurtosis, so much for each number up to a most.

    The fewer the numbers, the less of a tail they show, and the more of it Student's t allows for by itself.
    """

    each: float
    most: float

    def kurtosis(self, n: Any) -> Any:
        """Excess kurtosis of n numbers."""
        return np.minimum(self.each * n, self.most)


# They cover means of lognormal numbers, and of two groups of which few seeds may have seen but one:
# docs/decisions/0065-skew-at-hand.md.
VERDICT = Tails(0.6, 5.0)  # at 95 %
CORRECTED = Tails(0.375, 7.5)  # far out, where Holm's correction looks


def degrees_of_freedom(n: Any, kurtosis: Any) -> Any:
    r"""Degrees of freedom of a sample variance, by its own variance.

    .. math:: \nu = 2 n / (\kappa + 2 n / (n - 1))

    which is n - 1 for normal numbers (:math:`\kappa = 0`) and fewer for all that have tails or are skewed.

    Source: Box 1953, "Non-normality and tests on variances"; Satterthwaite 1946 for the matching of two moments.
    """
    return 2 * n / (kurtosis + 2 * n / (n - 1))


def quantile(n: Any, level: float, kurtosis: Any) -> Any:
    """The two-sided quantile of t with these degrees of freedom."""
    return stdtrit(degrees_of_freedom(n, kurtosis), (1 + level) / 2)


def critical(n: Any, level: float, against: Any, tails: Tails = VERDICT) -> Any:
    """How many standard errors an end of the interval lies from the mean of n numbers.

    As many as t says for these tails, and more by the ratio that skewness asks of normal numbers (:func:`skew.reach`).
    """
    level = max(level, 1e-6)  # quantiles of less are rounding, and so is their ratio
    normal = quantile(n, level, 0.0)
    return quantile(n, level, tails.kurtosis(n)) / normal * skew.reach(normal, n, against)


def student(values: Array, level: float, tails: Tails = VERDICT) -> tuple[float, float]:
    """Student's t interval of a mean, for numbers with these tails, longer on the side of their longer tail.

    Unbounded where a value is infinite, where there is only one, and where all are equal: then nothing says how far
    the next may lie.
    """
    n = len(values)
    if n < 2 or not np.isfinite(values).all() or (values == values[0]).all():
        return -math.inf, math.inf
    middle, error, skewness = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(n), skew.skewness(values)
    below, above = (float(critical(n, level, max(0.0, to), tails)) for to in (-skewness, skewness))
    return middle - below * error, middle + above * error


def ranged(values: Array, least: float, most: float, level: float) -> tuple[float, float]:
    """Interval of the mean of numbers in ``[least, most]``.

    Between the ends: whatever lies farther out of the lognormal intervals of the two distances, from ``least`` and to
    ``most``. Where numbers lie close to an end, their distances from it are as skewed as lognormal numbers, and
    Student's interval covered their mean in 61 %. Numbers exactly at an end have no logarithm, and equal numbers no
    spread: there the interval assumes nothing (:func:`distribution_free`).
    """
    inside = bool((values > least).all() and (values < most).all())
    if not inside or (values == values[0]).all():
        return distribution_free(values, least, most, level)
    if len(values) < 2:
        return least, most
    from_least = lognormal(values - least, level)
    to_most = lognormal(most - values, level)
    low = min(least + from_least[0], most - to_most[1])
    high = max(least + from_least[1], most - to_most[0])
    return max(low, least), min(high, most)


def lognormal(values: Array, level: float) -> tuple[float, float]:
    r"""Interval of the mean of lognormal numbers: that of :math:`\mu + \sigma^2 / 2` on the logarithm.

    Source: Cox's method, in Land 1972, "An evaluation of approximate confidence interval estimation methods for
    lognormal means"; with Student's quantile, Olsson 2005, "Confidence intervals for the mean of a log-normal
    distribution".
    """
    n, logs = len(values), np.log(values)
    variance = float(logs.var(ddof=1))
    middle = float(logs.mean()) + variance / 2
    half = float(quantile(n, level, LOGARITHMS)) * math.sqrt(variance / n + variance**2 / (2 * (n - 1)))
    with np.errstate(over="ignore"):
        return float(np.exp(middle - half)), float(np.exp(middle + half))


def distribution_free(values: Array, least: float, most: float, level: float) -> tuple[float, float]:
    r"""Interval of the mean of numbers in ``[least, most]``, whatever their distribution.

    The lower end is the :math:`(1 - level) / 2` quantile of :math:`D_0\,least + \sum_i D_i x_i`, the weights D uniform
    on the simplex; the upper end likewise with ``most``. That it covers in at least ``level`` is a conjecture without
    a known exception, and proven for numbers at the two ends alone, where it is Clopper and Pearson's.

    Source: Gaffke 2005, "Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative
    variable"; Learned-Miller and Thomas 2019, "A new confidence interval for the mean of a bounded random variable".

    Example:
        >>> low, high = distribution_free(np.ones(8), 0.0, 1.0, 0.95)
        >>> f"{low:.4f} {high}"  # eight successes of eight: 0.025 to the power of one eighth
        '0.6306 1.0'
    """
    tail = (1 - level) / 2
    ordered = np.sort(values)
    return _mixed(np.r_[least, ordered], tail), -_mixed(-np.r_[ordered, most][::-1], tail)


def _mixed(knots: Array, probability: float) -> float:
    """Quantile of the mean of ``knots`` with weights uniform on the simplex, whose density is the B-spline on them."""
    from scipy.interpolate import BSpline  # a third of a second to import, for the few claims that come here

    low, high, degree = float(knots[0]), float(knots[-1]), len(knots) - 1
    if low == high:
        return low
    padded = np.r_[[low - 1] * degree, knots, [high + 1] * degree]
    distribution = BSpline(padded, np.r_[np.zeros(degree), np.ones(degree)], degree)
    for _ in range(4):  # each takes a two-hundredth of what was left; many points at once cost little more than one
        grid = np.linspace(low, high, 201)
        reached = int(np.searchsorted(distribution(grid[1:-1]), probability))
        low, high = float(grid[reached]), float(grid[reached + 1])
    return (low + high) / 2
