"""A claim: a sentence with all that decides its verdict, and the test of it on the numbers of each seed."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from theodolite.claims.evidence import Evidence
from theodolite.claims.intervals import Interval, Statistic, interval
from theodolite.claims.means import VERDICT, Tails
from theodolite.claims.needed import FEWEST
from theodolite.claims.words import PLAIN, Words
from theodolite.errors import SettingError
from theodolite.findings import Decision
from theodolite.wording import signed

if TYPE_CHECKING:
    from theodolite.store.records import Records

Side = Literal["above", "below", "within"]

SMALLEST_P = 1e-12  # below it, rounding decides


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence of the report with all that decides its verdict, fixed before any run.

    ``kind`` names the statistic over seeds and with it the interval (:func:`~theodolite.claims.interval`): ``mean``;
    ``ratio`` (geometric mean of positive numbers); ``correlation`` (mean of numbers in [-1, 1]); ``share`` (of seeds,
    from zeros and ones: "always" is a share of runs); ``median`` and ``median_ratio``, which cope with runs that did
    not converge.

    Evidence of several tasks, by name, is tested task by task: the claim holds if it holds for all, and fails if it
    fails for one at 1 - (1 - level) / k. Each error stays below 1 - level, however the tasks depend on each other
    (intersection and union: Berger 1982, "Multiparameter hypothesis testing and acceptance sampling").
    """

    id: str
    sentence: str  # the report's words, or ours where the study goes beyond it
    source: str  # "report, Figure 1 right", or "beyond"
    statistic: str  # in words, with its unit
    kind: Statistic
    side: Side  # where the claim says that the statistic lies; "within": between the two thresholds
    threshold: float | tuple[float, float]  # a pair for "within": the margin
    evidence: Callable[["Records[Any]"], "Evidence | Mapping[str, Evidence]"]
    words: Words = PLAIN  # for a reader: title, a sentence for each verdict, figures
    seeds: Callable[[Any], int] | None = None  # how many of them give a number, by the settings; None: each

    def __post_init__(self) -> None:
        for name, known in (("side", get_args(Side)), ("kind", get_args(Statistic))):
            if getattr(self, name) not in known:
                raise SettingError(
                    f"expected the {name} of claim '{self.id}' as one of {', '.join(known)}, got "
                    f"{getattr(self, name)!r:.60}. Write one of them."
                )
        try:
            limits = np.atleast_1d(np.asarray(self.threshold, dtype=np.float64))
        except (TypeError, ValueError):
            limits = np.array([np.nan])
        wanted = 2 if self.side == "within" else 1
        if isinstance(self.threshold, tuple) != (wanted == 2) or limits.shape != (wanted,):
            raise SettingError(
                f"expected two thresholds for 'within' and one otherwise in claim '{self.id}', got "
                f"{self.threshold!r:.60} for '{self.side}'."
            )
        if not np.isfinite(limits).all() or (np.diff(limits) <= 0).any():
            raise SettingError(
                f"expected thresholds that are finite and ascending in claim '{self.id}', got {self.threshold}."
            )

    @property
    def claimed(self) -> str:
        """Side and threshold in words: ``below 0.5``, ``between 0.8 and 1.25``."""
        if isinstance(self.threshold, tuple):
            low, high = (signed(f"{end:g}") for end in self.threshold)
            return f"between {low} and {high}"
        return f"{self.side} {signed(f'{self.threshold:g}')}"

    def decide(self, found: Interval) -> Decision:
        """``holds`` where the interval lies wholly on the claimed side, ``fails`` where wholly on the other.

        An end that touches the threshold decides nothing.
        """
        if isinstance(self.threshold, tuple):
            least, most = self.threshold
            inside, outside = least < found.low and found.high < most, found.high < least or most < found.low
        else:
            above, below = found.low > self.threshold, found.high < self.threshold
            inside, outside = (above, below) if self.side == "above" else (below, above)
        return "holds" if inside else "fails" if outside else "undecided"


def worded(claims: Sequence[Claim], words: Mapping[str, Words]) -> tuple[Claim, ...]:
    """The claims, each with its words, by their ids.

    Raises:
        SettingError: a claim without words, or words without a claim.
    """
    ids = [claim.id for claim in claims]
    if sorted(ids) != sorted(words):
        apart = ", ".join(sorted(set(ids) ^ set(words)))
        raise SettingError(f"expected words for each claim and for no other, but one side lacks {apart}. Write them.")
    return tuple(replace(claim, words=words[claim.id]) for claim in claims)


def by_task(evidence: Evidence | Mapping[str, Evidence]) -> Mapping[str, Evidence]:
    """Evidence by the name of its task; of one task alone the name is empty.

    Raises:
        ValueError: a mapping without a task.
    """
    if isinstance(evidence, Evidence):
        return {"": evidence}
    if not evidence:
        raise ValueError("expected evidence of at least one task, got an empty mapping.")
    return evidence


def decide(claim: Claim, parts: Mapping[str, Evidence], level: float, tails: Tails = VERDICT) -> Decision:
    """What the intervals of all tasks say together: ``holds`` if all hold, ``fails`` if one fails at the k-th part."""

    def each(level: float) -> list[Decision]:
        return [claim.decide(interval(part, claim.kind, level, tails)) for part in parts.values()]

    if min(len(part.low) for part in parts.values()) < FEWEST:
        return "undecided"
    decisions = each(level)
    if all(decision == "holds" for decision in decisions):
        return "holds"
    if len(parts) > 1 and "fails" in decisions:
        decisions = each(1 - (1 - level) / len(parts))
    return "fails" if "fails" in decisions else "undecided"


def smallest_p(decided: Callable[[float], bool]) -> float:
    """The smallest p at which ``decided(p)`` is true, by bisection on its logarithm; 1 where it never is.

    So a p-value agrees with the interval by construction, whatever the kind: it is below 0.05 just where the claim is
    decided at 95 %. For a threshold it is the two-sided p-value of the test that the interval inverts; for a margin,
    the larger of the two; for several tasks, the largest of theirs, or k times the smallest if that decides against it.

    Args:
        decided: true from some p on.
    """
    if decided(SMALLEST_P):
        return SMALLEST_P
    if not decided(1 - SMALLEST_P):
        return 1.0
    low, high = math.log(SMALLEST_P), 0.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if decided(min(math.exp(middle), 1 - SMALLEST_P)) else (middle, high)
    return math.exp(high)
