"""Claims on numbers that one has: of one kind of run, or of two compared."""

import math
from dataclasses import dataclass, fields
from typing import Any, Literal

import pandas as pd

from theodolite.claims import given
from theodolite.claims.changes import change
from theodolite.claims.claim import Claim, smallest_p
from theodolite.claims.evidence import Evidence
from theodolite.claims.intervals import MEDIANS, Statistic
from theodolite.claims.judge import LEVEL, verdict
from theodolite.claims.needed import FEWEST
from theodolite.claims.notes import ROUGH
from theodolite.claims.ways import SEEDS_OF_A_MEDIAN
from theodolite.errors import SettingError
from theodolite.findings import Decision
from theodolite.wording import counted

HOW: dict[tuple[str, str], Statistic] = {
    ("difference", "mean"): "mean",
    ("difference", "median"): "median",
    ("ratio", "mean"): "ratio",
    ("ratio", "median"): "median_ratio",
}


@dataclass(frozen=True, slots=True)
class Tested:
    """A verdict with what it rests on; prints as a short table."""

    verdict: Decision
    estimate: float  # in the statistic's unit; NaN where there is none
    interval: tuple[float, float]  # infinite where nothing bounds it
    p_value: float  # smallest 1 - level at which it is decided; 1 where it never is
    seeds: int
    needed_seeds: int | None  # that would decide it with a chance of 80 %, where undecided and estimable
    rough: bool  # a median of so few seeds that its interval assumes something
    statistic: str
    claimed: str
    level: float
    looks: int = 1
    note: str = ""

    def __str__(self) -> str:
        """Rows of a name and a value."""
        low, high = self.interval
        rows = {
            "verdict": self.verdict + (", rough" if self.rough else ""),
            "claimed": f"{self.statistic} {self.claimed}",
            "estimate": f"{self.estimate:.4g} [{low:.4g}, {high:.4g}] at {100 * self.level:g} %",
            "p-value": f"{self.p_value:.2g}",
            "seeds": str(self.seeds),
            "needed": f"about {counted(self.needed_seeds, 'seed')}" if self.needed_seeds else "",
            "looks": str(self.looks) if self.looks > 1 else "",
            "note": self.note,
        }
        return "\n".join(f"{name:9} {value}" for name, value in rows.items() if value)

    def to_frame(self) -> pd.DataFrame:
        """One row, a column a field; the interval is ``low`` and ``high``."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        low, high = own.pop("interval")
        return pd.DataFrame([{**own, "low": low, "high": high}])


def test(
    values: Any,
    *,
    above: float | None = None,
    below: float | None = None,
    within: tuple[float, float] | None = None,
    statistic: Statistic = "mean",
    level: float = LEVEL,
) -> Tested:
    """Test a claim on one number a seed, as the studies' claims are tested.

    Args:
        values: a sequence, an array, a Series indexed by seed, a dict, or :class:`Evidence`. NaN is a seed that gave
            no number, and counts at its worst.
        above: the claim is that the statistic lies above this.
        below: or below this.
        within: or between these two.
        statistic: ``mean``; ``ratio``, the geometric mean of positive numbers; ``correlation``, the mean of numbers in
            [-1, 1]; ``share``, of ones among zeros; ``median`` and ``median_ratio``.
        level: of the interval that decides.

    Returns:
        Verdict, estimate, interval, p-value and needed seeds. To look again after each seed, use :class:`Monitor`.

    Raises:
        SettingError: the numbers or the threshold are none; the message says what was expected.

    Example:
        >>> found = test([1.9, 2.3, 2.1, 2.4, 2.0, 2.2], above=1.0)
        >>> found.verdict, round(found.estimate, 2), found.seeds
        ('holds', 2.15, 6)
    """
    claim = given.claim(statistic, above, below, within, level)
    return _tested(claim, given.numbers(values, statistic), level)


def compare(
    a: Any,
    b: Any,
    *,
    how: Literal["difference", "ratio"] = "difference",
    paired: bool = True,
    above: float | None = None,
    below: float | None = None,
    within: tuple[float, float] | None = None,
    statistic: Literal["mean", "median"] = "mean",
    level: float = LEVEL,
) -> Tested:
    """Test a claim on the difference a - b, or the ratio a / b, of two arms.

    Args:
        a: one number a seed, as for :func:`test`.
        b: the same of the other arm.
        how: what is claimed of: the difference of the two, or their ratio, for positive numbers.
        paired: seed by seed, where both arms share each seed's data or start, which takes their common chance out.
            Else the arms are independent and may have any seeds: the interval is made of theirs (:func:`change`).
        above: the claim is that it lies above this.
        below: or below this.
        within: or between these two.
        statistic: of the seeds: their mean (geometric for ratios), or their median.
        level: of the interval that decides.

    Raises:
        SettingError: as :func:`test`, and for pairs whose seeds differ.

    Example:
        >>> flat, sharp = {0: 1.0, 1: 1.2, 2: 0.9, 3: 1.1}, {0: 4.0, 1: 5.0, 2: 3.5, 3: 4.5}
        >>> compare(flat, sharp, how="ratio", below=0.5).verdict
        'holds'
    """
    if (how, statistic) not in HOW:
        raise SettingError(
            f"expected how='difference' or 'ratio' and statistic='mean' or 'median', got {how!r} and {statistic!r}."
        )
    kind = HOW[how, statistic]
    claim = given.claim(kind, above, below, within, level)
    first, second = given.numbers(a, kind), given.numbers(b, kind)
    if not paired:
        return _independent(claim, first, second, level)
    if set(first.low.index) != set(second.low.index):
        alone = sorted(map(str, set(first.low.index) ^ set(second.low.index)))
        raise SettingError(
            f"expected pairs, the same seeds in both arms, got {', '.join(alone[:5])} in one only. Leave them out, or "
            "pass paired=False (--unpaired)."
        )
    return _tested(claim, first / second if how == "ratio" else first - second, level)


def _tested(claim: Claim, evidence: Evidence, level: float) -> Tested:
    judged = verdict(claim, evidence, study="", preset="", level=level)
    found = judged.verdict
    low, high = found.interval
    return Tested(
        verdict=found.verdict,
        estimate=math.nan if found.estimate is None else found.estimate,
        interval=(-math.inf if low is None else low, math.inf if high is None else high),
        p_value=1.0 if found.p_value is None else found.p_value,
        seeds=found.seeds,
        needed_seeds=found.needed_seeds,
        rough=found.rough,
        statistic=claim.statistic,
        claimed=claim.claimed,
        level=level,
        note=found.note,
    )


def _independent(claim: Claim, first: Evidence, second: Evidence, level: float) -> Tested:
    seeds = min(len(first.low), len(second.low))

    def decide(level: float) -> Decision:
        return claim.decide(change(second, first, claim.kind, level)) if seeds >= FEWEST else "undecided"

    found, decision = change(second, first, claim.kind, level), decide(level)
    rough = claim.kind in MEDIANS and seeds < SEEDS_OF_A_MEDIAN and decision != "undecided"
    return Tested(
        verdict=decision,
        estimate=found.estimate,
        interval=(found.low, found.high),
        p_value=smallest_p(lambda p: decide(1 - p) != "undecided"),
        seeds=seeds,
        needed_seeds=None,
        rough=rough,
        statistic=claim.statistic,
        claimed=claim.claimed,
        level=level,
        note=" ".join(
            filter(
                None,
                (
                    f"Two independent arms, of {len(first.low)} and {len(second.low)} seeds.",
                    ROUGH if rough else "",
                ),
            )
        ),
    )
