"""What is going on in a results folder, for any number of onlookers: worked out when one asks, and for all at once."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from theodolite.serve import state
from theodolite.serve.folder import Folder
from theodolite.serve.pace import Pace
from theodolite.serve.report import LiveReport


class LivePage:
    """A results folder, looked at on demand, at a bounded share of one processor while a training runs.

    ``state`` costs what changed since the last one (:class:`~theodolite.serve.folder.Folder`); the more it and the
    answers cost, the longer it serves (:class:`~theodolite.serve.pace.Pace`). Verdicts, and the page with its figures,
    are made of all records (:class:`~theodolite.serve.report.LiveReport`): when waiting has paid for them, and at once
    when a training has ended.

    Args:
        directory: the results folder.
        scripts: for the page to run.
        clock: seconds.
        used: processor seconds of this process.
    """

    def __init__(
        self,
        directory: Path,
        scripts: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        self.folder = Folder(directory)
        self.report = LiveReport(directory, scripts, clock, used)
        self.report.make(self.folder.look())
        self.pace = Pace(used)  # from here on: the first page is nobody's waiting
        self.looks = 0  # how often the folder was looked at since
        self._clock, self._lock = clock, threading.Lock()
        self._state, self._until = b"", -1.0

    def state(self) -> bytes:
        """JSON: runs done and left, failures, curves, verdicts; ``every``: the seconds that it serves all who ask."""
        with self._lock:
            if self._clock() >= self._until:
                self._state = json.dumps(self._look(), allow_nan=False).encode()
                self._until = self._clock() + self.pace.seconds
            return self._state

    def page(self) -> bytes:
        """The newest page there is."""
        return self.report.page

    def expire(self) -> None:
        """The next who asks has the folder looked at."""
        self._until = -1.0

    def _look(self) -> dict[str, Any]:
        self.looks += 1
        seen = self.folder.look()
        every = self.pace.after_look(training=seen.training, busy=self.report.busy)
        self.report.follow(seen)
        return {
            "running": seen.held,
            "every": every,
            "problem": self.report.problem or seen.problem,
            "page": self.report.tag,
            "studies": [state.row(part, self.folder.directory, held=seen.held) for part in seen.parts],
            "verdicts": state.verdicts(self.report.verdicts),
        }
