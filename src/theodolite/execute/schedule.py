"""Which job is next, and what becomes of one that ends: what all engines share. Knows no process and no clock."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TRIES = 3  # a job whose worker dies is started this often
ENDS = ("done", "failed", "died")  # of a job, as :meth:`Schedule.ended` takes them

Emit = Callable[[Any], None]
Work = Callable[[Any, Emit], Any]
Split = Callable[[Any], Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job, or a tick (``job`` is -1) when nothing did for a while.

    ``kind``: started | progress (``value``: what the work emitted) | done (``value``: what the work returned) |
    failed (``value``: why, in words) | died (``value``: how its worker ended; it is started again) | split (``value``:
    smaller jobs in its place, which take the next numbers) | tick
    """

    kind: str
    job: int
    value: Any = None


class Schedule:
    """Jobs by number, in order of the sequence; some wait for others.

    A job whose worker died is tried again, three times in all. Where it can be split its parts are tried in its place:
    what ran out of memory as one may fit in pieces. A job that fails takes with it those that wait for it.

    Example:
        >>> plan = Schedule(["long", "short"], after={1: {0}})
        >>> plan.take(), plan.take()
        (0, None)
        >>> [event.kind for event in plan.done(0, value=42)], plan.take(), plan.left
        (['done'], 1, True)
    """

    def __init__(
        self, jobs: Sequence[Any], *, after: Mapping[int, Collection[int]] | None = None, split: Split | None = None
    ) -> None:
        self.jobs = list(jobs)
        self._after = {job: set(needed) for job, needed in (after or {}).items()}
        self._split = split or (lambda job: [job])
        self._waiting = list(range(len(jobs)))
        self._tries = [0] * len(jobs)
        self._under_way: set[int] = set()
        self._done: set[int] = set()

    @property
    def left(self) -> bool:
        """Whether a job waits or is under way."""
        return bool(self._waiting or self._under_way)

    def take(self) -> int | None:
        """The next job that may start now; None while there is none."""
        index = next((n for n in self._waiting if self._done.issuperset(self._after.get(n, ()))), None)
        if index is not None:
            self._waiting.remove(index)
            self._tries[index] += 1
            self._under_way.add(index)
        return index

    def ended(self, kind: str, job: int, value: Any) -> Iterator[Event]:
        """A job ended as ``kind`` says: ``done`` with what it returned, ``failed`` or ``died`` with the reason."""
        ways = {"done": self.done, "failed": self.failed, "died": self.died}
        yield from ways[kind](job, value)

    def done(self, job: int, value: Any) -> Iterator[Event]:
        """A job is done."""
        self._under_way.discard(job)
        self._done.add(job)
        yield Event("done", job, value)

    def failed(self, job: int, why: str) -> Iterator[Event]:
        """A job failed, and so does every job that waits for it."""
        self._under_way.discard(job)
        yield Event("failed", job, why)
        for index in [n for n in self._waiting if job in self._after.get(n, ())]:
            if index in self._waiting:
                self._waiting.remove(index)
                yield from self.failed(index, "what it needs failed")

    def died(self, job: int, how: Any) -> Iterator[Event]:
        """A job's worker died: it, or its parts, come first again; after the last try it has failed."""
        if self._tries[job] >= TRIES:
            yield from self.failed(job, f"its worker died {TRIES} times ({how}; exit code -9 is often lack of memory)")
            return
        self._under_way.discard(job)
        yield Event("died", job, how)
        parts = self._split(self.jobs[job])
        if len(parts) < 2:
            self._waiting.insert(0, job)
            return
        numbers = range(len(self.jobs), len(self.jobs) + len(parts))
        self.jobs += parts
        self._tries += [self._tries[job]] * len(parts)
        self._waiting[:0] = numbers
        for needed in self._after.values():
            if job in needed:
                needed.remove(job)
                needed.update(numbers)
        yield Event("split", job, list(parts))

    def back(self, job: int) -> None:
        """A job that was taken did not run, through no fault of its own: it waits again, and the try is not counted."""
        self._under_way.discard(job)
        self._tries[job] -= 1
        self._waiting.insert(0, job)
