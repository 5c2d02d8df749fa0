"""Tests that hold their size however often one looks: of each threshold, how much the numbers so far speak against it.

An e-process starts at 1 and, where the threshold is the truth, reaches 1 / α in at most the share α of all sequences
(Ville 1939), whenever one stops. Decisions follow from the whole path, so that looking seldom gives what looking at
every seed would have given.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, logsumexp

from theodolite.claims import skew

Array = NDArray[np.float64]

# How many seeds the prior weighs: with fewer, large effects are found sooner and small ones later.
PRIOR_OF_MEANS = 10.0
PRIOR_OF_SIGNS = 3.0
BETS = np.linspace(0.05, 0.95, 19)  # shares of the stake


def mean(values: Array, threshold: float) -> Array:
    r"""Logarithm of the e-value after each number, against a mean that is the threshold.

    With the prior's weight g and :math:`u = t^2 / (n - 1 + t^2)`,

    .. math:: E = \sqrt{g / (n + g)}\, (1 - u\, n / (n + g))^{-n / 2}

    is the mixture of likelihood ratios of normal numbers over a normal effect size. It is taken at the t that is left
    of theirs when their skewness speaks against it (:func:`skew.undone`): never more, so normal numbers keep the size.

    Source: Lai 1976, "On confidence sequences"; Wang and Ramdas 2024, "Anytime-valid t-tests and confidence sequences
    for Gaussian means with unknown variance".
    """
    values, threshold = _near_one(values, threshold)
    away = values - threshold
    n = np.arange(1, len(values) + 1)
    middle, (variance, skewness) = np.cumsum(away) / n, skew.so_far(values)
    spread = variance > 1e-12 * np.cumsum(away**2) / n  # equal numbers do not say how far another may lie
    t = np.sqrt(n - 1) * np.divide(np.abs(middle), np.sqrt(variance), out=np.zeros(len(values)), where=spread)
    t = skew.undone(t, n.astype(np.float64), np.maximum(0.0, -np.sign(middle) * skewness))
    u, g = t**2 / np.maximum(n - 1 + t**2, 1), PRIOR_OF_MEANS
    found: Array = np.log(g / (n + g)) / 2 - n / 2 * np.log1p(-u * n / (n + g))
    return np.where(spread, found, -np.inf)


def _near_one(values: Array, threshold: float) -> tuple[Array, float]:
    """In a unit in which no square leaves the range of floats: a power of two, which changes no digit."""
    largest = max(float(np.abs(values).max(initial=0.0)), abs(threshold))
    unit = np.exp2(-np.floor(np.log2(largest))) if largest > 0 else 1.0
    return values * unit, threshold * float(unit)


def mean_ends(values: Array, alpha: float) -> tuple[float, float]:
    """The thresholds at which :func:`mean` has not reached 1 / alpha after all numbers: it solved for them."""
    n = len(values)
    if n < 2 or not np.isfinite(t := mean_quantile(n, alpha)) or (values == values[0]).all():
        return -np.inf, np.inf
    middle, error, skewness = float(values.mean()), float(values.std(ddof=1)) / np.sqrt(n), skew.skewness(values)
    below, above = (float(skew.reach(t, n, max(0.0, to))) * error for to in (-skewness, skewness))
    return middle - below, middle + above


def mean_quantile(n: int, alpha: float) -> float:
    """The t of n numbers without skewness at which :func:`mean` reaches 1 / alpha; infinite where none does."""
    g = PRIOR_OF_MEANS
    u = (1 - (alpha * np.sqrt(g / (n + g))) ** (2 / n)) * (n + g) / n
    return float(np.sqrt((n - 1) * u / (1 - u))) if u < 1 else np.inf


def median(values: Array, threshold: float) -> Array:
    """The same against a median that is the threshold: signs, and a mixture over how they are shared.

    A number at the threshold speaks for it, so it counts on the other side of whichever side has the more.

    Source: Robbins 1970, "Statistical methods related to the law of the iterated logarithm".
    """
    above, below = (np.cumsum(side, dtype=np.int64) for side in (values > threshold, values < threshold))
    n, most = np.arange(1, len(values) + 1), np.maximum(above, below)
    return np.where(2 * most > n, _signs(most, n - most), -np.inf)


def median_ends(values: Array, alpha: float) -> tuple[float, float]:
    """The order statistics between which :func:`median` has not reached 1 / alpha."""
    n, ordered, k = len(values), np.sort(values), median_rank(len(values), alpha)
    return (-np.inf, np.inf) if k == 0 else (float(ordered[k - 1]), float(ordered[n - k]))


def median_rank(n: int, alpha: float) -> int:
    """How many numbers of one side, 0 to this - 1, let :func:`median` reach 1 / alpha."""
    below = np.arange(n // 2 + 1)
    return int((_signs(n - below, below) >= -np.log(alpha)).sum())


def _signs(most: NDArray[np.int64], others: NDArray[np.int64]) -> Array:
    found = betaln(most + PRIOR_OF_SIGNS, others + PRIOR_OF_SIGNS) - betaln(PRIOR_OF_SIGNS, PRIOR_OF_SIGNS)
    return np.asarray(found + (most + others) * np.log(2), dtype=np.float64)


def ranged(values: Array, threshold: float, *, above: bool) -> Array:
    r"""The same against a mean of numbers in [0, 1] that is at most (or at least) the threshold, whatever they are.

    The mean over several stakes c of what a gambler has who bets c on each number: :math:`\prod 1 - c + c x_i / \mu`.

    Source: Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting".
    """
    if not above:
        return ranged(1 - values, 1 - threshold, above=True)
    if threshold >= 1:
        return np.full(len(values), -np.inf)
    return _together(_gambled(values, threshold))


def _gambled(values: Array, threshold: float) -> Array:
    """Logarithm of what each stake has become after each number (stakes, n)."""
    factors = 1 - BETS[:, None] + BETS[:, None] * values / max(threshold, 1e-12)
    found: Array = np.log(factors).cumsum(1)
    return found


def _together(gambled: Array) -> Array:
    found: Array = logsumexp(gambled, axis=0) - np.log(len(BETS))
    return found


def ranged_ends(values: Array, alpha: float) -> tuple[float, float]:
    """The thresholds at which :func:`ranged` has not reached 2 / alpha after all numbers, by bisection."""
    low, high = (_lowest(numbers, np.log(2 / alpha)) for numbers in (values, 1 - values))
    return low, 1 - high


def _lowest(values: Array, bound: float) -> float:
    """The highest threshold that the numbers speak against, as lying below their mean; 0 where there is none."""

    def against(threshold: float) -> bool:
        return threshold < 1 and bool(_together(_gambled(values, threshold)[:, -1:])[0] >= bound)

    outer, inner = 0.0, 1.0
    for _ in range(40):
        middle = (outer + inner) / 2
        outer, inner = (middle, inner) if against(middle) else (outer, middle)
    return outer
