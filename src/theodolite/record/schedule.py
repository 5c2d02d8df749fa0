"""When to measure: schedules that count marks, and a budget that thins them out. Pure, and without a clock."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from theodolite.errors import SettingError

Schedule = Callable[[int, int], int]  # (steps, epochs) done -> marks passed by then; a new mark asks for a measurement
Every = int | str | Schedule

KINDS = "an integer (steps), '100 steps', '2 epochs', '10 per decade', or a function (steps, epochs) -> marks passed"
GRAMMAR = re.compile(r"(?:(\d+) )?(steps?|epochs?|per decade)")


def steps(n: int) -> Schedule:
    """After the first step and every n steps.

    >>> due = steps(100)
    >>> [due(step, 0) for step in (0, 1, 99, 100, 199, 200)]
    [0, 1, 1, 2, 2, 3]
    """
    return lambda step, epoch: (step > 0) + (step // n if n > 1 else max(step - 1, 0))


def epochs(n: int) -> Schedule:
    """At the end of every n epochs."""
    return lambda step, epoch: epoch // n


def logarithmic(per_decade: int) -> Schedule:
    """After steps 1, 10, 100, … and as many between as make ``per_decade``, evenly on a logarithmic axis.

    >>> due = logarithmic(3)
    >>> [step for step in range(1, 101) if due(step, 0) > due(step - 1, 0)]
    [1, 3, 5, 10, 22, 47, 100]
    """
    # A thousandth of a millionth: log10(1000) may fall just short of 3.
    return lambda step, epoch: 1 + math.floor(per_decade * math.log10(step) + 1e-9) if step > 0 else 0


def parse(every: Every) -> Schedule:
    """A schedule from what a user writes.

    Args:
        every: a number of steps; ``"100 steps"``, ``"2 epochs"`` or ``"1 epoch"``; ``"10 per decade"``, logarithmic
            in steps; or a schedule of the user's own.

    Raises:
        SettingError: none of these.
    """
    if callable(every):
        return every
    if isinstance(every, int) and not isinstance(every, bool) and every > 0:
        return steps(every)
    found = GRAMMAR.fullmatch(every.strip()) if isinstance(every, str) else None
    number = int(found[1] or 1) if found else 0
    if found is None or not number:
        raise SettingError(f"expected every as {KINDS}, got {every!r}.")
    unit = found[2].removesuffix("s")
    return {"step": steps, "epoch": epochs, "per decade": logarithmic}[unit](number)


def parse_all(every: Every | Mapping[str, Every], names: Sequence[str]) -> dict[str, Schedule]:
    """A schedule for each name: one for all, or one each.

    Raises:
        SettingError: a schedule is none, or the names are others.
    """
    if not isinstance(every, Mapping):
        return dict.fromkeys(names, parse(every))
    if set(every) != set(names):
        raise SettingError(
            f"expected every for each of {', '.join(names)}, got it for {', '.join(every) or 'none'}. Name all of "
            "them, or give one schedule for all."
        )
    return {name: parse(every[name]) for name in names}


@dataclass(frozen=True, slots=True)
class Ledger:
    """What one instrument was asked for, did and took. Times in seconds."""

    marks: int = 0  # of its schedule, passed
    asked: int = 0
    measured: int = 0
    failed: int = 0
    skipped: int = 0  # by the budget
    spent: float = 0.0  # on measurements, failed ones included
    last: float | None = None  # what the last one took; None: none yet

    def asks(self, marks: int) -> bool:
        """Whether the schedule asks for a measurement."""
        return marks > self.marks

    def affords(self, part: float, left: float) -> bool:
        """Whether one more measurement like the last fits into this instrument's seconds, and into what all have left.

        The first is always taken: only then is it known what one takes. So a budget holds from the moment on at which
        training has earned the first measurement of each instrument.
        """
        return self.last is None or (self.spent + self.last <= part and self.last <= left)

    def at(self, marks: int) -> "Ledger":
        """Where so many marks are passed already."""
        return replace(self, marks=marks)

    def skip(self, marks: int) -> "Ledger":
        """Asked, and left out for the budget's sake."""
        return replace(self, marks=marks, asked=self.asked + 1, skipped=self.skipped + 1)

    def take(self, marks: int, seconds: float, *, failed: bool) -> "Ledger":
        """Asked, and done or tried."""
        return replace(
            self,
            marks=marks,
            asked=self.asked + 1,
            measured=self.measured + (not failed),
            failed=self.failed + failed,
            spent=self.spent + seconds,
            last=seconds,
        )
