"""How far the runs or analyses of one study are, kept up to date at the cost of what changed."""

import os
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path

from theodolite.store import records
from theodolite.store.records import Planned, Status

TURN = 100  # files that a look asks for their time whatever is known of them: under 1 ms

Mark = tuple[int, int]  # time and inode: every file is written whole, so a new one has another inode


class Statuses:
    """Statuses below one folder, ``STUDY/runs`` or ``STUDY/analyses``.

    A look reads what is new, and what is not done and changed. A folder's names are listed when its time says that one
    came or went. What is done stays so, or nearly: all files are looked at in turn too, some at each look, and all of
    them where the caller knows of a reason.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)  # 5 µs a file less than a path
        self.planned: dict[str, Planned] = {}  # by fingerprint, as all that follows
        self.done: set[str] = set()
        self.running: set[str] = set()
        self.failed: dict[str, str] = {}  # why
        self.diverged: set[str] = set()
        self.readable: set[str] = set()  # whose tables a report is made of
        self.changes = 0  # of what is readable, so far
        self._plan: Sequence[Planned] = ()
        self._known: dict[str, tuple[Mark, Status | None]] = {}
        self._listed: Mark | None = None
        self._there: set[str] = set()  # what has a folder
        self._open: set[str] = set()  # has a folder, and is not done
        self._turn: Iterator[str] = iter(())

    def follow(self, plan: Sequence[Planned]) -> None:
        """Take another plan; what is known of runs that are in both stays known."""
        if plan is self._plan:
            return
        self.changes += plan != self._plan
        self._plan, self.planned = plan, {item.fingerprint: item for item in plan}
        for name in self._known.keys() - self.planned.keys():
            self._forget(name)
            del self._known[name]
        self._listed, self._there, self._open = None, set(), set()
        self._turn = cycle(self.planned)

    def look(self, *, whole: bool = False) -> None:
        """Bring all up to date; ``whole``: whatever is thought to be settled too."""
        self._list()
        for name in list(self.planned) if whole else self._open.union(islice(self._turn, TURN)):
            self._check(name)

    def _list(self) -> None:
        """Which runs have a folder: only those can have a status."""
        mark = mark_of(self.folder)
        if mark == self._listed:
            return
        try:
            there = self.planned.keys() & os.listdir(self.folder) if mark is not None else set()
        except OSError:  # it went just now
            mark, there = None, set()
        self._open |= there ^ self._there
        self._listed, self._there = mark, there

    def _check(self, name: str) -> None:
        mark = mark_of(f"{self.folder}/{name}/{records.STATUS}")
        before, status = self._known.get(name, (None, None))
        if mark != before:
            self._forget(name)
            self._known.pop(name, None)
            now = records.read_status(Path(self.folder, name)) if mark is not None else None
            if mark is not None:
                self._known[name] = (mark, now)
            self.changes += _content(now) != _content(status) or (now is not None and now.partial)
            self._learn(name, now)
            status = now
        open_ = name in self._there if mark is None else status is None or status.state != "done"
        (self._open.add if open_ else self._open.discard)(name)

    def _learn(self, name: str, status: Status | None) -> None:
        if status is None:
            return
        if status.state == "failed":
            self.failed[name] = status.error
        else:
            (self.done if status.state == "done" else self.running).add(name)
        if status.diverged_epoch is not None:
            self.diverged.add(name)
        if status.readable:
            self.readable.add(name)

    def _forget(self, name: str) -> None:
        self.failed.pop(name, None)
        for names in (self.done, self.running, self.diverged, self.readable):
            names.discard(name)


def _content(status: Status | None) -> object:
    """What a report is made of; None where there is nothing that may be read."""
    return status.files if status is not None and status.readable else None


def mark_of(path: str) -> Mark | None:
    """Of what is there now; None where nothing is."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
