"""Whether one claim came out alike in two surveys: both intervals together, at any level, and Holm's correction."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from theodolite.claims.claim import by_task, smallest_p
from theodolite.claims.evidence import Evidence
from theodolite.claims.intervals import SCALES, Interval, Statistic, interval
from theodolite.claims.judge import LEVEL, NOTHING, survivors
from theodolite.claims.means import VERDICT, Tails
from theodolite.claims.needed import FEWEST
from theodolite.findings import Verdict

Chance = Literal["more than chance", "within chance", "cannot say"]


@dataclass(frozen=True, slots=True)
class Change:
    """One claim in two surveys, A and B."""

    a: Verdict
    b: Verdict
    ratio: bool  # whether ``change`` is B over A, or B minus A
    change: Interval  # in the statistic's unit, or without one where it is a ratio
    p_value: float  # two-sided, of no difference
    chance: Chance  # whether the estimates differ by more than chance, at the verdicts' level
    chance_holm: Chance  # with Holm's correction over all claims compared

    @property
    def turned(self) -> bool:
        """Whether the verdict is another."""
        return self.a.verdict != self.b.verdict


def change(a: Evidence, b: Evidence, kind: Statistic, level: float = LEVEL, tails: Tails = VERDICT) -> Interval:
    r"""How far the statistic of B lies from that of A, with an interval made of both their intervals.

    .. math:: L = \hat b - \hat a - \sqrt{(\hat b - b_L)^2 + (a_U - \hat a)^2},\qquad
              U = \hat b - \hat a + \sqrt{(b_U - \hat b)^2 + (\hat a - a_L)^2}

    Ratios are taken on the logarithm, so that their change is a ratio again; everything else as it is. The ends need
    not lie evenly about the estimates, so it serves correlations, shares and medians as well as means. The two surveys
    count as independent. Where they share seeds and with them chance, they are more alike than that: the interval is
    then too wide, and a difference that is found is there all the more.

    Args:
        a: one number a seed of the first survey.
        b: the same of the second.
        kind: of the claim.
        level: between 0 and 1.
        tails: that numbers may have, for their means to be covered.

    Returns:
        B minus A, or B over A for ``ratio`` and ``median_ratio``; NaN where either has no estimate, ends infinite
        where either interval has none.

    Source: Zou and Donner 2008, "Construction of confidence limits about effect measures: a general approach"; for
    correlations Zou 2007, "Toward using confidence intervals to compare correlations".

    Example:
        >>> import pandas as pd
        >>> slow, fast = (Evidence.exact(x * pd.Series([0.9, 1.0, 1.1])) for x in (100.0, 50.0))
        >>> found = change(slow, fast, "ratio")
        >>> f"{found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}]"
        '0.50 [0.25, 1.00]'
    """
    first, second = (interval(evidence, kind, level, tails) for evidence in (a, b))
    scale = SCALES[kind] if is_ratio(kind) else SCALES["mean"]
    (x, x_low, x_high), (y, y_low, y_high) = (
        scale.forward(np.array([found.estimate, found.low, found.high])) for found in (first, second)
    )
    low = y - x - math.hypot(y - y_low, x_high - x)
    high = y - x + math.hypot(y_high - y, x - x_low)
    return Interval(*(float(scale.back(end)) for end in (y - x, low, high)))


def is_ratio(kind: Statistic) -> bool:
    """Whether a change of this kind is a ratio."""
    return kind in ("ratio", "median_ratio")


Tasks = Evidence | Mapping[str, Evidence]


def changes(pairs: Sequence[tuple[Verdict, Verdict, Tasks, Tasks, Statistic]]) -> list[Change]:
    """Claims that two surveys share: verdicts beside each other, and whether the estimates differ by more than chance.

    Of a claim about several tasks the one that differs most is shown, its p-value times the number that both have.

    Args:
        pairs: verdict and evidence of A and of B, and the claim's kind.

    Returns:
        A change a pair, in the same order; ``chance`` is told at 95 % for each claim by itself, ``chance_holm`` with
        Holm's correction over all of them.
    """
    found = [_largest(*pair) for pair in pairs]
    kept = survivors([entry.p_value for entry in found])
    return [
        replace(entry, chance_holm="within chance" if entry.chance == "more than chance" else entry.chance)
        if number not in kept
        else entry
        for number, entry in enumerate(found)
    ]


def _largest(a: Verdict, b: Verdict, first: Tasks, second: Tasks, kind: Statistic) -> Change:
    ours, theirs = by_task(first), by_task(second)
    shared = [name for name in ours if name in theirs]
    found = [_change(a, b, ours[name], theirs[name], kind) for name in shared]
    if not found:  # tasks have other names in one of them
        return _change(a, b, NOTHING, NOTHING, kind)
    most = min(found, key=lambda entry: entry.p_value)
    p_value = min(1.0, most.p_value * len(found))
    told = "within chance" if most.chance == "more than chance" and p_value >= 1 - LEVEL else most.chance
    return replace(most, p_value=p_value, chance=told, chance_holm=told)


def _change(a: Verdict, b: Verdict, first: Evidence, second: Evidence, kind: Statistic) -> Change:
    nothing = 1.0 if is_ratio(kind) else 0.0

    def apart(level: float) -> bool:
        found = change(first, second, kind, level)
        return found.high < nothing or found.low > nothing

    found = change(first, second, kind)
    few = min(len(first.low), len(second.low)) < FEWEST
    p_value = 1.0 if few or math.isnan(found.estimate) else smallest_p(lambda p: apart(1 - p))
    chance: Chance = "more than chance" if p_value < 1 - LEVEL else "within chance"
    if few or not (math.isfinite(found.low) or math.isfinite(found.high)) or math.isnan(found.estimate):
        chance = "cannot say"
    return Change(a, b, is_ratio(kind), found, p_value, chance, chance)
