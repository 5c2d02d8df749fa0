"""Tests that hold their size however often one looks: of each threshold, how much the numbers so far speak against it.

An e-process starts at 1 and, where the threshold is the truth, reaches 1 / α in at most the share α of all sequences
(Ville 1939), whenever one stops. Decisions follow from the whole path, so that looking seldom gives what looking at
every seed would have given.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, logsumexp

Array = NDArray[np.float64]

PRIOR_SEEDS = 3.0  # how many seeds the prior weighs: with fewer, large effects are found sooner and small ones later
TEMPERED = 0.6  # of the seeds count, so that skewed numbers keep the size too (docs/decisions/0039-sizes.md)
BETS = np.linspace(0.05, 0.95, 19)  # shares of the stake


def mean(values: Array, threshold: float) -> Array:
    r"""Logarithm of the e-value after each number, against a mean that is the threshold.

    With m = 0.6 n, the prior's weight g and :math:`u = t^2 / (n - 1 + t^2)`,

    .. math:: E = \sqrt{g / (m + g)}\, (1 - u\, m / (m + g))^{-m / 2}

    which for m = n is the mixture of likelihood ratios of normal numbers over a normal effect size.

    Source: Lai 1976, "On confidence sequences"; Wang and Ramdas 2024, "Anytime-valid t-tests and confidence sequences
    for Gaussian means with unknown variance".
    """
    away = values - threshold
    n = np.arange(1, len(values) + 1)
    total, squares = np.cumsum(away), np.cumsum(away**2)
    spread = squares - total**2 / n > 1e-12 * squares  # equal numbers do not say how far another may lie
    u = np.divide(total**2, n * squares, out=np.zeros(len(values)), where=spread)
    m = TEMPERED * n
    found: Array = np.log(PRIOR_SEEDS / (m + PRIOR_SEEDS)) / 2 - m / 2 * np.log1p(-u * m / (m + PRIOR_SEEDS))
    return np.where(spread, found, -np.inf)


def mean_ends(values: Array, alpha: float) -> tuple[float, float]:
    """The thresholds at which :func:`mean` has not reached 1 / alpha after all numbers: it solved for them."""
    n = len(values)
    if n < 2 or not np.isfinite(mean_quantile(n, alpha)) or (values == values[0]).all():
        return -np.inf, np.inf
    half = mean_quantile(n, alpha) * float(values.std(ddof=1)) / np.sqrt(n)
    return float(values.mean()) - half, float(values.mean()) + half


def mean_quantile(n: int, alpha: float) -> float:
    """The t of n numbers at which :func:`mean` reaches 1 / alpha; infinite where none does."""
    m = TEMPERED * n
    u = (1 - (alpha * np.sqrt(PRIOR_SEEDS / (m + PRIOR_SEEDS))) ** (2 / m)) * (m + PRIOR_SEEDS) / m
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
    found = betaln(most + PRIOR_SEEDS, others + PRIOR_SEEDS) - betaln(PRIOR_SEEDS, PRIOR_SEEDS)
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
    stakes = 1 - BETS[:, None] + BETS[:, None] * values / max(threshold, 1e-12)
    found: Array = logsumexp(np.log(stakes).cumsum(1), axis=0) - np.log(len(BETS))
    return found


def ranged_ends(values: Array, alpha: float) -> tuple[float, float]:
    """The thresholds at which :func:`ranged` has not reached 2 / alpha after all numbers, by bisection."""
    ends = []
    for above in (True, False):
        outer, inner = (0.0, 1.0) if above else (1.0, 0.0)
        for _ in range(40):
            middle = (outer + inner) / 2
            against = ranged(values, middle, above=above)[-1] >= np.log(2 / alpha)
            outer, inner = (middle, inner) if against else (outer, middle)
        ends.append(outer if ranged(values, outer, above=above)[-1] >= np.log(2 / alpha) else float(not above))
    return ends[0], ends[1]
