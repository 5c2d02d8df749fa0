"""A claim that is looked at while its seeds come in, with an error that does not grow with the looks."""

from typing import Any

import pandas as pd

from theodolite.claims import given, paths
from theodolite.claims.claim import smallest_p
from theodolite.claims.evidence import Evidence
from theodolite.claims.intervals import Statistic
from theodolite.claims.judge import LEVEL
from theodolite.claims.tested import Tested
from theodolite.errors import SettingError


class Monitor:
    """Test a claim again and again as seeds come in, whenever and however often one looks.

    A decision stands once it is reached. What each kind of statistic assumes, and the error rates that were measured
    with a look after each of 200 seeds: docs/decisions/0039-sizes.md and 0065-skew-at-hand.md.

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
        claim, known = self._claim, Evidence.exact(self._values)
        followed = paths.of(claim, {"": known})
        found = paths.ends(claim, known, 1 - self._level)
        return Tested(
            verdict=paths.decide(claim.side, followed, 1 - self._level),
            estimate=found.estimate,
            interval=(found.low, found.high),
            p_value=smallest_p(lambda p: paths.decide(claim.side, followed, p) != "undecided"),
            seeds=len(self._values),
            needed_seeds=None,
            rough=False,
            statistic=claim.statistic,
            claimed=claim.claimed,
            level=self._level,
            looks=self._looks,
            note="Valid at every look.",
        )
