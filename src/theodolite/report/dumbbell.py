"""Two surveys in one picture: for each claim where A and B lie, seen from its threshold, and what changed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from theodolite.claims import Change
from theodolite.report import forest


@dataclass(frozen=True, slots=True)
class Row:
    """One claim: both surveys on one scale, from -1 to 1 with the threshold at 0; None where one has no estimate."""

    change: Change
    a: float | None
    b: float | None


def rows(changes: Sequence[Change]) -> list[Row]:
    """A row a claim, as long as the farther of both estimates asks."""
    found = []
    for change in changes:
        ends = [forest.distances(side)[1] for side in (change.a, change.b)]
        unit = forest.REACH / (max((abs(x) for x in ends if math.isfinite(x)), default=0.0) or 1.0)
        a, b = (round(unit * x, 4) if math.isfinite(x) else None for x in ends)
        found.append(Row(change, a, b))
    return found
