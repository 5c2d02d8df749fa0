"""The two ways to a verdict: one look at a number of seeds fixed beforehand, and looks as often as one likes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from theodolite.claims import paths
from theodolite.claims.claim import Claim, decide
from theodolite.claims.evidence import Evidence
from theodolite.claims.going_on import seeds_to_decide
from theodolite.claims.intervals import MEDIANS, Interval, interval
from theodolite.claims.means import VERDICT, Tails
from theodolite.claims.needed import FEWEST, needed_seeds
from theodolite.claims.paths import Path
from theodolite.findings import Decision

SEEDS_OF_A_MEDIAN = 6  # from which its interval assumes nothing
LATER = 0.1  # of the error, for all looks after the seeds that were planned first (docs/decisions/0047-looks.md)

Parts = Mapping[str, Evidence]


@dataclass(frozen=True, slots=True)
class Once:
    """One look, at all that there is."""

    claim: Claim
    parts: Parts

    def only(self, name: str) -> Self:
        """One task by itself."""
        return replace(self, parts={name: self.parts[name]})

    def decide(self, error: float, tails: Tails = VERDICT) -> Decision:
        """The decision with this chance of a false one, for numbers with these tails."""
        return decide(self.claim, self.parts, 1 - error, tails)

    def rough(self, error: float) -> bool:
        """Whether a decision rests on what the interval of a median of few seeds assumes."""
        few = min(len(part.low) for part in self.parts.values()) < SEEDS_OF_A_MEDIAN
        return self.claim.kind in MEDIANS and few and self.decide(error) != "undecided"

    def interval(self, name: str, error: float) -> Interval:
        """Where the statistic of a task lies."""
        return interval(self.parts[name], self.claim.kind, 1 - error)

    def needed(self, name: str, error: float) -> int | None:
        """Seeds that decide a task with a chance of 80 %, if all of them were planned beforehand."""
        found = self.interval(name, error)
        return needed_seeds(self.parts[name], self.claim.kind, found, self.claim.threshold, 1 - error)


@dataclass(frozen=True, slots=True)
class EveryLook:
    """Any number of looks: at the seeds planned first, where there are any, and at every seed after them.

    The first look spends the whole error, as :class:`Once` does; the path of all seeds a tenth more. Without a first
    look the path has it all.
    """

    claim: Claim
    parts: Parts
    first: Parts = field(default_factory=dict)  # of the seeds planned first; empty: no look of their own
    until_decided: bool = False  # planned so: no first look was ever meant
    followed: list[Path] = field(default_factory=list, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.followed:
            object.__setattr__(self, "followed", paths.of(self.claim, self.parts))

    def only(self, name: str) -> Self:
        """One task by itself."""
        first = {name: self.first[name]} if name in self.first else {}
        followed = [self.followed[list(self.parts).index(name)]]
        return replace(self, parts={name: self.parts[name]}, first=first, followed=followed)

    def decide(self, error: float, tails: Tails = VERDICT) -> Decision:
        """The decision with this chance of a false one at any look; the one that came first stands."""
        early = self._early().decide(error, tails) if self.first else "undecided"
        return early if early != "undecided" else paths.decide(self.claim.side, self.followed, self._left(error))

    def rough(self, error: float) -> bool:
        """Whether it was decided by the first look, and only roughly."""
        if not self.first or self._early().decide(error) == "undecided" or not self._early().rough(error):
            return False
        return paths.decide(self.claim.side, self.followed, self._left(error)) != self._early().decide(error)

    def interval(self, name: str, error: float) -> Interval:
        """Where the statistic of a task lies: what both looks leave of it."""
        later = paths.ends(self.claim, self.parts[name], self._left(error))
        if name not in self.first or len(self.first[name].low) < FEWEST:
            return later
        early = self._early().interval(name, error)
        low, high = max(early.low, later.low), min(early.high, later.high)
        return Interval(later.estimate, low, high) if low <= high else early

    def needed(self, name: str, error: float) -> int | None:
        """Seeds in all after which a task is decided with a chance of 80 %, the ones that are there among them."""
        return seeds_to_decide(self.claim, self.parts[name], self._left(error))

    def _early(self) -> Once:
        return Once(self.claim, self.first)

    def _left(self, error: float) -> float:
        return error if self.until_decided else LATER * error


Way = Once | EveryLook
