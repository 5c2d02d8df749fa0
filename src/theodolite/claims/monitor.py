"""A claim that is looked at while its seeds come in, with an error that does not grow with the looks."""

import math
from typing import Any

import numpy as np
import pandas as pd

from theodolite.claims import given, looks
from theodolite.claims.intervals import MEDIANS, SCALES, Statistic, interval
from theodolite.claims.judge import LEVEL
from theodolite.claims.looks import Array
from theodolite.claims.needed import FEWEST
from theodolite.claims.tested import Tested
from theodolite.errors import SettingError
from theodolite.findings import Decision


class Monitor:
    """Test a claim again and again as seeds come in, whenever and however often one looks.

    A decision stands once it is reached. What each kind of statistic assumes, and the error rates that were measured
    with a look after each of 200 seeds: docs/decisions/0039-sizes.md.

    Args:
        above: the claim is that the statistic lies above this.
        below: or below this.
        within: or between these two.
        statistic: as for :func:`test`.
        level: 1 minus the share of monitors that may ever decide with the truth on the threshold.

    Example:
        >>> monitor = Monitor(above=0.0)
        >>> monitor.update([0.9, 1.4, 1.1]).verdict
        'undecided'
        >>> monitor.update([0.9, 1.4, 1.1, 1.3, 0.8, 1.2, 1.0, 1.1, 0.9, 1.3, 1.2, 1.0, 1.1]).verdict
        'holds'
    """

    def __init__(
        self,
        *,
        above: float | None = None,
        below: float | None = None,
        within: tuple[float, float] | None = None,
        statistic: Statistic = "mean",
        level: float = LEVEL,
    ) -> None:
        self._claim = given.claim(statistic, above, below, within, level)
        self._level = level
        self._values = pd.Series(dtype="float64")
        self._looks = 0

    def update(self, values: Any) -> Tested:
        """Look: give all numbers so far, earlier ones unchanged; the order in which seeds came is kept.

        Raises:
            SettingError: a number is missing, unknown or another than at an earlier look.
        """
        evidence = given.numbers(values, self._claim.kind)
        new, before = evidence.low, self._values
        if new.isna().any() or not new.equals(evidence.high):
            raise SettingError(
                "expected a known number of each seed, got one that is not. A monitor cannot take it at its worst: use "
                "th.claims.test once, with the number of seeds fixed beforehand."
            )
        if not before.index.isin(new.index).all() or not new.loc[before.index].equals(before):
            raise SettingError(
                "expected all numbers of earlier looks, unchanged, and new ones. Pass all values so far."
            )
        self._values = pd.concat([before, new.drop(before.index)]) if len(before) else new
        self._looks += 1
        return self._look(SCALES[self._claim.kind].forward(self._values.to_numpy(dtype=np.float64)))

    def _look(self, numbers: Array) -> Tested:
        claim, scale, alpha = self._claim, SCALES[self._claim.kind], 1 - self._level
        limits = np.atleast_1d(scale.forward(np.asarray(claim.threshold)))
        crossed, p = zip(*(self._against(numbers, float(limit), alpha) for limit in limits), strict=True)
        low, high = self._ends(numbers, alpha)
        estimate = interval(given.numbers(self._values, claim.kind), claim.kind).estimate
        decision = _decision(claim.side, crossed)
        return Tested(
            verdict=decision,
            estimate=estimate,
            interval=(float(scale.back(low)), float(scale.back(high))),
            p_value=min(p) if decision == "fails" else max(p),
            seeds=len(numbers),
            needed_seeds=None,
            rough=False,
            statistic=claim.statistic,
            claimed=claim.claimed,
            level=self._level,
            looks=self._looks,
            note="Valid at every look.",
        )

    def _against(self, numbers: Array, limit: float, alpha: float) -> tuple[int, float]:
        """On which side of a threshold the statistic was first found (1, -1, or 0 for neither), and the p-value."""
        kind = self._claim.kind
        if kind in ("share", "correlation"):
            x, at = _unit(numbers, kind), float(_unit(np.array(limit), kind))
            up, down = (looks.ranged(x, at, above=above) - math.log(2) for above in (True, False))
            path, side = np.maximum(up, down), np.where(up > down, 1, -1)
        elif kind in MEDIANS:
            path = looks.median(numbers, limit)
            side = np.sign(np.cumsum(np.sign(numbers - limit)))
        else:
            path = looks.mean(numbers, limit)
            side = np.sign(np.cumsum(numbers - limit))
        path, side = path[FEWEST - 1 :], side[FEWEST - 1 :]
        there = np.flatnonzero(path >= -math.log(alpha))
        return int(side[there[0]]) if len(there) else 0, math.exp(-max(0.0, float(path.max(initial=0.0))))

    def _ends(self, numbers: Array, alpha: float) -> tuple[float, float]:
        kind = self._claim.kind
        if len(numbers) < FEWEST:
            low, high = SCALES[kind].forward(np.array(SCALES[kind].range))
            return float(low), float(high)
        if kind in ("share", "correlation"):
            low, high = looks.ranged_ends(_unit(numbers, kind), alpha)
            return (low, high) if kind == "share" else (2 * low - 1, 2 * high - 1)
        return looks.median_ends(numbers, alpha) if kind in MEDIANS else looks.mean_ends(numbers, alpha)


def _unit(numbers: Array, kind: Statistic) -> Array:
    """Numbers of a range as numbers from 0 to 1."""
    return numbers if kind == "share" else (numbers + 1) / 2


def _decision(side: str, crossed: tuple[int, ...]) -> Decision:
    if side == "within":
        inside, outside = crossed == (1, -1), crossed[0] == -1 or crossed[1] == 1
    else:
        inside, outside = crossed[0] == (1 if side == "above" else -1), crossed[0] == (-1 if side == "above" else 1)
    return "holds" if inside else "fails" if outside else "undecided"
