"""Intervals over seeds, by kind of statistic; what each covers was measured (docs/decisions/0039-sizes.md).

One rule for numbers known only between bounds, for all kinds: the lower end of the interval comes from the lower
bounds and the upper end from the upper bounds, so an unknown number is always taken at its worst, never left out.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv  # not scipy.stats: half a second to import, and 0.1 ms a number

from theodolite.claims import means
from theodolite.claims.evidence import Evidence
from theodolite.claims.means import VERDICT, Tails
from theodolite.claims.medians import apart, order_statistics

Statistic = Literal["mean", "ratio", "correlation", "share", "median", "median_ratio"]
MEDIANS: tuple[Statistic, ...] = ("median", "median_ratio")
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the statistic lies. Ends are infinite where nothing bounds them, the estimate NaN where there is none."""

    estimate: float
    low: float
    high: float

    def columns(self, name: str) -> dict[str, Any]:
        """As columns of a table, which the page shows as one.

        >>> Interval(0.5, 0.4, 0.6).columns("loss")
        {'loss': 0.5, 'loss low': 0.4, 'loss high': 0.6}
        """
        return {name: self.estimate, f"{name} low": self.low, f"{name} high": self.high}


@dataclass(frozen=True, slots=True)
class Scale:
    """The scale on which a statistic's numbers are averaged, and the range they can have."""

    forward: Callable[[Any], Any]
    back: Callable[[Any], Any]
    range: tuple[float, float]


def _same(x: Any) -> Any:
    return x


def _log(x: Any) -> Any:
    with np.errstate(divide="ignore"):  # a ratio known only to be positive has the lower bound 0
        return np.log(x)


def _exp(x: Any) -> Any:
    with np.errstate(over="ignore"):  # at the highest levels an end may lie beyond the largest float
        return np.exp(x)


_PLAIN = Scale(_same, _same, (-math.inf, math.inf))
_LOG = Scale(_log, _exp, (0.0, math.inf))
SCALES: dict[Statistic, Scale] = {
    "mean": _PLAIN,
    "ratio": _LOG,
    "correlation": Scale(_same, _same, (-1.0, 1.0)),
    "share": Scale(_same, _same, (0.0, 1.0)),
    "median": _PLAIN,
    "median_ratio": _LOG,
}


def interval(evidence: Evidence, kind: Statistic, level: float = 0.95, tails: Tails = VERDICT) -> Interval:
    """Estimate a statistic over seeds, with the interval that covers it in ``level`` of all surveys.

    =============================== =====================================================================
    mean, ratio                     Student's t, plain or on logarithms, with the degrees of freedom that
                                    tails like these leave, and longer on the side of the longer tail
                                    (:func:`means.student`)
    correlation                     the mean itself, of numbers that have a range (:func:`means.ranged`)
    share                           Clopper and Pearson 1934: covers in at least ``level``, often in more
    median, median_ratio            order statistics, and beyond the outermost where seeds are too few for
                                    the level (:func:`medians.order_statistics`)
    =============================== =====================================================================

    No interval of known numbers has width zero. Where all are equal nothing says how far the next may lie: means and
    medians are unbounded then, and a correlation is bounded by its range.

    Args:
        evidence: one number a seed, positive for ratios, in [-1, 1] for correlations, 0 or 1 for shares.
        kind: the statistic.
        level: between 0 and 1.
        tails: that numbers may have, for their means and ratios to be covered.

    Returns:
        Estimate and ends in the statistic's own unit. Where the estimate itself is known only between two finite
        bounds, the middle of them on the statistic's scale.

    Raises:
        ValueError: a number lies outside the range of its kind.

    Example:
        >>> import pandas as pd
        >>> found = interval(Evidence.exact(pd.Series([0.5, 1.0, 2.0])), "ratio")
        >>> f"{found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}]"
        '1.00 [0.04, 24.85]'
    """
    least, most = SCALES[kind].range
    low = np.nan_to_num(evidence.low.to_numpy(dtype=np.float64), nan=least, posinf=math.inf, neginf=-math.inf)
    high = np.nan_to_num(evidence.high.to_numpy(dtype=np.float64), nan=most, posinf=math.inf, neginf=-math.inf)
    _check(low, high, kind)
    if not len(low):
        return Interval(math.nan, least, most)
    if kind == "share":
        return _share(low, high, level)
    scale = SCALES[kind]
    low, high = scale.forward(low), scale.forward(high)
    below, above = _ends(low, high, kind, level, tails)
    ends = [_estimate(low, kind), _estimate(high, kind)]
    estimate = ends[0] if ends[0] == ends[1] else sum(ends) / 2 if np.isfinite(ends).all() else math.nan
    floor, ceiling = scale.forward(np.array(scale.range))
    below, above = max(below, floor), min(above, ceiling)
    return Interval(*(float(scale.back(x)) for x in (estimate, below, above)))


def _check(low: Array, high: Array, kind: Statistic) -> None:
    least, most = SCALES[kind].range
    if (low < least).any() or (high > most).any() or (kind == "share" and not np.isin((low, high), (0, 1)).all()):
        allowed = "0 or 1" if kind == "share" else f"between {least} and {most}"
        raise ValueError(f"expected numbers {allowed} for a {kind}, got {low.min()} to {high.max()}. Use another kind.")


def _estimate(values: Array, kind: Statistic) -> float:
    if kind in MEDIANS:
        middle = np.sort(values)[[(len(values) - 1) // 2, len(values) // 2]]
        return float(middle[0] if middle[0] == middle[1] else middle.sum() / 2)  # never inf - inf
    return float(values.mean()) if np.isfinite(values).all() else math.nan


def _ends(low: Array, high: Array, kind: Statistic, level: float, tails: Tails) -> tuple[float, float]:
    def ends(values: Array) -> tuple[float, float]:
        if kind in MEDIANS:
            return order_statistics(values, level)
        if kind == "correlation":
            return means.ranged(values, -1.0, 1.0, level)
        return means.student(values, level, tails)

    if not np.array_equal(low, high):
        return ends(low)[0], ends(high)[1]
    return apart(low, *ends(low)) if kind in MEDIANS else ends(low)


def _share(low: Array, high: Array, level: float) -> Interval:
    n = len(low)
    below, above = shares(low.sum(), n, level)[0], shares(high.sum(), n, level)[1]
    return Interval(float((low.mean() + high.mean()) / 2), float(below), float(above))


def shares(successes: Any, n: Any, level: float) -> tuple[Array, Array]:
    """Interval of a share from counts (arrays too), by quantiles of the beta distribution.

    Source: Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the
    binomial".

    Example:
        >>> low, high = shares(5, 5, 0.95)
        >>> f"{low:.3f} {high}"
        '0.478 1.0'
    """
    low = np.where(successes > 0, betaincinv(np.maximum(successes, 1), n - successes + 1, (1 - level) / 2), 0.0)
    high = np.where(successes < n, betaincinv(successes + 1, np.maximum(n - successes, 1), (1 + level) / 2), 1.0)
    return low, high
