"""What the whole path of a claim's numbers decides, seed by seed: the same however often one looked on the way."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from theodolite.claims import looks
from theodolite.claims.claim import Claim, Side
from theodolite.claims.evidence import Evidence
from theodolite.claims.intervals import MEDIANS, SCALES, Interval, Statistic, interval
from theodolite.claims.looks import Array
from theodolite.claims.needed import FEWEST
from theodolite.findings import Decision

NEVER = 1 << 62  # seeds at which nothing happens


@dataclass(frozen=True, slots=True)
class Path:
    """Logarithms of the evidence after each seed that a statistic lies above, and below, each threshold of a claim."""

    above: Array  # (thresholds, n); -inf where the numbers so far lie on the other side
    below: Array

    def decided(self, side: Side, error: float) -> tuple[int, int]:
        """After how many seeds it first holds, and first fails; :data:`NEVER` where it does not."""
        up, down = (_reached(side, -math.log(error)) for side in (self.above, self.below))
        if side == "within":
            return max(up[0], down[1]), min(down[0], up[1])
        return (up[0], down[0]) if side == "above" else (down[0], up[0])


def _reached(evidence: Array, bound: float) -> list[int]:
    there = evidence >= bound
    there[:, : FEWEST - 1] = False
    return [int(row.argmax()) + 1 if row.any() else NEVER for row in there]


def numbers(evidence: Evidence, kind: Statistic) -> tuple[Array, Array]:
    """Lower and upper bounds on the scale of their kind, in the order given, unknown ones at their worst."""
    least, most = SCALES[kind].range
    low = evidence.low.fillna(least).to_numpy(dtype=np.float64)
    high = evidence.high.fillna(most).to_numpy(dtype=np.float64)
    return SCALES[kind].forward(low), SCALES[kind].forward(high)


def path(low: Array, high: Array, claim: Claim) -> Path:
    """The evidence for "above" from the lower bounds, and for "below" from the upper ones.

    Args:
        low: on the scale of the claim's kind, in the order of the seeds, (n,).
        high: likewise; the same where the numbers are known.
        claim: whose thresholds they are tested against.
    """
    limits = np.atleast_1d(SCALES[claim.kind].forward(np.asarray(claim.threshold, dtype=np.float64)))
    above = np.stack([_against(low, float(limit), claim.kind, above=True) for limit in limits])
    below = np.stack([_against(high, float(limit), claim.kind, above=False) for limit in limits])
    return Path(above, below)


def _against(values: Array, limit: float, kind: Statistic, *, above: bool) -> Array:
    if kind in ("share", "correlation"):
        at = float(_unit(np.array(limit), kind))
        return looks.ranged(_unit(values, kind), at, above=above) - math.log(2)
    found = np.full(len(values), -np.inf)
    if kind in MEDIANS:
        found, side = looks.median(values, limit), np.cumsum(np.sign(values - limit))
    else:  # a number without a bound leaves the mean without one, from there on
        open_ = ~np.isfinite(values)
        known = int(open_.argmax()) if open_.any() else len(values)
        found[:known], side = looks.mean(values[:known], limit), np.full(len(values), 0.0)
        side[:known] = np.cumsum(values[:known] - limit)
    return np.where(side > 0 if above else side < 0, found, -np.inf)


def of(claim: Claim, parts: Mapping[str, Evidence]) -> list[Path]:
    """The path of each task."""
    return [path(*numbers(part, claim.kind), claim) for part in parts.values()]


def reached(side: Side, followed: Sequence[Path], error: float) -> tuple[int, int]:
    """After how many seeds all tasks hold, and after how many one fails at 1 / k of the error."""
    holds = max(one.decided(side, error)[0] for one in followed)
    return holds, min(one.decided(side, error / len(followed))[1] for one in followed)


def decide(side: Side, followed: Sequence[Path], error: float) -> Decision:
    """What all tasks say together: whichever came first."""
    holds, fails = reached(side, followed, error)
    if min(holds, fails) == NEVER:
        return "undecided"
    return "holds" if holds <= fails else "fails"


def ends(claim: Claim, evidence: Evidence, error: float) -> Interval:
    """The interval that covers at every look at once, after all seeds; narrower where a decision was reached before.

    So its ends lie beyond a threshold just where the path has decided so.
    """
    scale, (low, high) = SCALES[claim.kind], numbers(evidence, claim.kind)
    below, above = _ends(low, claim.kind, error)[0], _ends(high, claim.kind, error)[1]
    first = min(path(low, high, claim).decided(claim.side, error))
    if first < len(low):
        below = max(below, _ends(low[:first], claim.kind, error)[0])
        above = min(above, _ends(high[:first], claim.kind, error)[1])
    estimate = interval(evidence, claim.kind).estimate
    floor, ceiling = (float(end) for end in scale.forward(np.array(scale.range)))
    return Interval(estimate, float(scale.back(max(below, floor))), float(scale.back(min(above, ceiling))))


def _ends(values: Array, kind: Statistic, error: float) -> tuple[float, float]:
    """On the scale of the kind; open where there are too few numbers."""
    if len(values) < FEWEST or not (kind in MEDIANS or np.isfinite(values).all()):
        return -math.inf, math.inf
    if kind in ("share", "correlation"):
        low, high = looks.ranged_ends(_unit(values, kind), error)
        return (low, high) if kind == "share" else (2 * low - 1, 2 * high - 1)
    return looks.median_ends(values, error) if kind in MEDIANS else looks.mean_ends(values, error)


def _unit(values: Array, kind: Statistic) -> Array:
    """Numbers of a range as numbers from 0 to 1."""
    return values if kind == "share" else (values + 1) / 2
