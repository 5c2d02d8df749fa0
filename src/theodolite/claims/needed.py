"""How many seeds would decide a claim with a chance of 80 %, if estimate and spread stay as they are."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrc, bdtrik, ndtr, ndtri

from theodolite.claims import means, medians, skew
from theodolite.claims.evidence import Evidence
from theodolite.claims.intervals import MEDIANS, SCALES, Interval, Statistic

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

POWER = 0.8
FEWEST = 3  # seeds below which nothing is decided
HOPELESS = 10_000  # more seeds than this are not worth naming


def needed_seeds(
    evidence: Evidence, kind: Statistic, found: Interval, threshold: float | tuple[float, float], level: float
) -> int | None:
    """The fewest seeds, more than there are, whose interval lies on one side of each threshold with :data:`POWER`.

    Numbers are taken as normal on the kind's scale, with the spread that the interval has now; shares and medians as
    binomial. An estimate inside a margin must be told from both of its ends, any other only from the nearest.

    Returns:
        None where nothing can be said: no estimate, an end unbounded, the estimate on a threshold, or above 10,000.
    """
    seeds = len(evidence.low)
    if not seeds or math.isnan(found.estimate):
        return None
    limits = np.sort(np.atleast_1d(threshold))
    if not limits[0] < found.estimate < limits[-1]:
        limits = limits[[np.abs(limits - found.estimate).argmin()]]
    first = max(FEWEST, seeds + 1)
    for last in (10 * first, 100 * first, HOPELESS):  # ten thousand quantiles take a quarter of a second
        counts = np.arange(first, min(last, HOPELESS) + 1)
        chances = [_chance(evidence, kind, found, float(limit), level, counts) for limit in limits]
        enough = counts[sum(1 - chance for chance in chances) <= 1 - POWER]
        if len(enough):
            return int(enough[0])
    return None


def _chance(evidence: Evidence, kind: Statistic, found: Interval, limit: float, level: float, counts: Counts) -> Array:
    """Chance that the interval of so many seeds lies on the estimate's side of one threshold."""
    above = found.estimate > limit
    if found.estimate == limit:
        return np.zeros(len(counts))
    tail = (1 - level) / 2
    if kind == "share":
        truth, limit = (found.estimate, limit) if above else (1 - found.estimate, 1 - limit)
        if limit < 0:
            return np.ones(len(counts))
        most = np.ceil(bdtrik(1 - tail, counts, limit))  # successes that the threshold gives in all but the tail
        return np.where(most < counts, bdtrc(np.minimum(most, counts - 1), counts, truth), 0.0)
    if kind in MEDIANS:
        beyond = _share_beyond(evidence, kind, limit, above=above)
        wrong = np.floor(bdtrik(tail, counts, 0.5))  # so many on the other side leave the order statistics on this
        chances = np.asarray(bdtr(np.maximum(wrong, 0), counts, 1 - beyond), dtype=np.float64)
        for place in np.flatnonzero(0.5**counts >= tail):
            chances[place] = medians.power_beyond(float(ndtri(beyond)), int(counts[place]), level)
        return chances
    forward, seeds = SCALES[kind].forward, len(evidence.low)
    half = abs(forward(found.low if above else found.high) - forward(found.estimate))
    if seeds < 2 or not 0 < half < math.inf:  # one seed has no spread, though a bounded number has an interval
        return np.zeros(len(counts))

    def reach(n: Any, against: Any) -> Any:
        if kind == "correlation":
            return means.quantile(n, level, means.LOGARITHMS)
        return means.critical(n, level, against)

    own = forward((evidence.low if above else evidence.high).to_numpy(dtype=np.float64))
    skewness = skew.skewness(own) if np.isfinite(own).all() else 0.0
    spread = half * math.sqrt(seeds) / reach(seeds, max(0.0, -skewness if above else skewness))
    effect = abs(forward(limit) - forward(found.estimate)) / spread
    return np.asarray(skew.power(effect, counts, lambda against: reach(counts, against)), dtype=np.float64)


def _share_beyond(evidence: Evidence, kind: Statistic, limit: float, *, above: bool) -> float:
    """Share of seeds on the median's side of a threshold: as of normal numbers, or counted where one is open."""
    forward = SCALES[kind].forward
    values = forward(evidence.low.to_numpy(dtype=np.float64))
    known = bool(np.array_equal(evidence.low, evidence.high)) and bool(np.isfinite(values).all())
    if known and len(values) > 1 and values.std() > 0:
        distance = float(np.median(values) - forward(limit)) / float(values.std(ddof=1))
        return float(ndtr(distance if above else -distance))
    there = (evidence.low > limit) if above else (evidence.high < limit)
    return float((there.sum() + 0.5) / (len(there) + 1))
