"""Where estimates and intervals lie, seen from their thresholds: as claimed on the right, against it on the left.

Each claim has a scale of its own, since its statistic has a unit of its own: logarithmic for ratios, and as long as the
farthest end of its interval asks. So a row says how long the interval is beside its distance from the threshold.
"""

import math
from dataclasses import dataclass

from theodolite.findings import Verdict

REACH = 0.94  # of half a row, to which the farthest end goes
RATIOS = ("ratio", "median_ratio")


@dataclass(frozen=True, slots=True)
class Strip:
    """One row, from -1 at its left end to 1 at its right; the threshold at 0."""

    low: float
    high: float
    middle: float | None  # the estimate
    open_low: bool  # nothing bounds it there
    open_high: bool


def strip(verdict: Verdict) -> Strip | None:
    """A claim's row; None where nothing is known yet."""
    low, middle, high = distances(verdict)
    if math.isnan(middle) and math.isinf(low) and math.isinf(high):
        return None
    known = [abs(x) for x in (low, middle, high) if math.isfinite(x)]
    unit = REACH / (max(known, default=0.0) or 1.0)

    def place(x: float) -> float:
        return math.copysign(1.0, x) if math.isinf(x) else round(unit * x, 4)

    return Strip(
        place(low), place(high), None if math.isnan(middle) else place(middle), math.isinf(low), math.isinf(high)
    )


def clearance(verdict: Verdict) -> float:
    """How far the interval lies from the threshold, in lengths of the interval; 0 where it is across."""
    low, _, high = distances(verdict)
    nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    return nearest / (high - low) if high > low else 0.0


def imbalance(verdict: Verdict) -> float:
    """How far the estimate lies from the threshold, as a share of its interval: 0 for what is most open."""
    low, middle, high = distances(verdict)
    return abs(middle) / (high - low) if high > low and math.isfinite(middle) else math.inf


def distances(verdict: Verdict) -> tuple[float, float, float]:
    """Lower end, estimate and upper end as distances from the threshold, positive on the claimed side.

    From a margin, distances are those to its nearer limit, negative outside of it.
    """
    low, high = (math.inf * sign if end is None else end for end, sign in zip(verdict.interval, (-1, 1), strict=True))
    x = [
        _on_scale(value, verdict.kind)
        for value in (low, math.nan if verdict.estimate is None else verdict.estimate, high)
    ]
    if isinstance(verdict.threshold, tuple):
        least, most = (_on_scale(limit, verdict.kind) for limit in verdict.threshold)
        ends = [min(value - least, most - value) for value in x]
        centre = (least + most) / 2
        highest = (most - least) / 2 if x[0] <= centre <= x[2] else max(ends[0], ends[2])
        return min(ends[0], ends[2]), ends[1], highest
    at = _on_scale(verdict.threshold, verdict.kind)
    if verdict.claimed.startswith("below"):
        return at - x[2], at - x[1], at - x[0]
    return x[0] - at, x[1] - at, x[2] - at


def _on_scale(value: float, kind: str) -> float:
    if kind not in RATIOS:
        return value
    return math.log(value) if value > 0 else (math.nan if math.isnan(value) else -math.inf)
