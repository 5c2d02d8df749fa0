"""The page and the verdicts of a results folder, made again when waiting has paid for them."""

import hashlib
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from theodolite import survey
from theodolite.errors import StoreError, TheodoliteError
from theodolite.findings import Verdict
from theodolite.report import page
from theodolite.serve.folder import Seen
from theodolite.serve.pace import SHARE
from theodolite.serve.paid import Paid

IDLE = 0.1  # of one processor for pages while no training runs
VERDICTS = (0.1, 0.001)  # processor seconds that a study and a record cost (benchmarks/report.py)
PAGE = (0.8, 0.002)

Made = TypeVar("Made")


class LiveReport:
    """What was made last of all records: in a thread of its own, one thing at a time.

    Args:
        directory: the results folder.
        scripts: for the page to run.
        clock: seconds.
        used: processor seconds of this process.
    """

    def __init__(
        self, directory: Path, scripts: Sequence[str], clock: Callable[[], float], used: Callable[[], float]
    ) -> None:
        self.directory, self.scripts, self.clock, self.used = directory, scripts, clock, used
        self.page, self.tag = b"", ""
        self.verdicts: list[Verdict] = []
        self.problem = ""  # why nothing could be made
        self.busy = False  # something was being made since the last look
        self._thread: threading.Thread | None = None
        self._paged, self._judged = Paid(*PAGE), Paid(*VERDICTS)
        self._training = False  # at the last look
        self._owed = False  # a training has ended, and no page was begun since

    def follow(self, seen: Seen) -> None:
        """Begin what is due after this look, if anything."""
        self._owed = not seen.training and (self._owed or self._training)
        self._training = seen.training
        self.busy = self._thread is not None and self._thread.is_alive()
        work = None if self.busy else self._due(seen)
        if work is not None:
            self.busy, self._owed = True, self._owed and work != self.make
            self._thread = threading.Thread(target=work, args=(seen,), daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Until nothing is being made."""
        if self._thread is not None:
            self._thread.join()

    def make(self, seen: Seen) -> None:
        """Make page and verdicts; where nothing is finished yet, an empty page."""
        used = self.used()
        found = self._read(survey.findings, seen)
        if found or not self.page:
            self.verdicts = [verdict for study in found for verdict in study.verdicts]
            made = page.html(found, scripts=self.scripts, connect="'self'").encode()
            self.tag = etag(made)
            self.page = made.replace(b"<body>", f'<body data-page="{self.tag}">'.encode(), 1)
        self._paged.did(self.clock(), self.used() - used, seen.changes)
        self._judged.did(self.clock(), self._judged.cost, seen.changes)

    def judge(self, seen: Seen) -> None:
        """Make the verdicts alone, for a fraction of what figures take."""
        used = self.used()
        self.verdicts = self._read(survey.verdicts, seen) or self.verdicts
        self._judged.did(self.clock(), self.used() - used, seen.changes)

    def _due(self, seen: Seen) -> Callable[[Seen], None] | None:
        now, known = self.clock(), {"changes": seen.changes, "studies": seen.studies, "records": seen.records}
        if self._owed and seen.changes != self._paged.changes:
            return self.make
        if self._paged.is_due(now, SHARE if seen.training else IDLE, **known):
            return self.make
        return self.judge if seen.training and self._judged.is_due(now, SHARE, **known) else None

    def _read(self, made: Callable[[Path], list[Made]], seen: Seen) -> list[Made]:
        """What is made of the records; where they cannot be read, nothing, and why is said."""
        try:
            found, self.problem = made(self.directory), ""
        except StoreError as error:
            found, self.problem = [], str(error) if seen.records else ""
        except TheodoliteError as error:
            found, self.problem = [], str(error)
        return found


@lru_cache(maxsize=4)  # fifty pages get the same bytes
def etag(content: bytes) -> str:
    """Names a content, for a browser that has it already."""
    return hashlib.sha256(content).hexdigest()[:16]
