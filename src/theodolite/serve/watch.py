"""What is going on in a results folder, for any number of onlookers: worked out when one asks, and for all at once."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from theodolite import studies, survey
from theodolite.errors import StoreError, TheodoliteError
from theodolite.findings import Verdict
from theodolite.report import page, text
from theodolite.store import live, lock, records
from theodolite.store.records import Plan, Status
from theodolite.study import AnalysisSpec, RunSpec, Study

EVERY = 2.0  # seconds a state serves all who ask
SHARE = 10  # a report is made anew at most this fraction of the time: it reads every record
LEAST = 5.0  # seconds between two reports
CURVES = 24  # drawn of one study


class Watch:
    """A results folder, looked at on demand.

    ``state`` costs one look at the time of each status file; those that changed are read. The report behind the page
    and the verdicts is made in a thread of its own, when records were finished since and no oftener than it may.
    """

    def __init__(self, directory: Path, scripts: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.directory, self.scripts, self.clock = directory, scripts, clock
        self.looks = 0  # how often the folder was looked at
        self._lock = threading.Lock()
        self._until = -1.0
        self._state = b""
        self._statuses: dict[Path, tuple[tuple[int, int], Status | None]] = {}
        self._plans: dict[Path, tuple[tuple[int, int], Plan | None]] = {}
        self._making: threading.Thread | None = None
        self._report_due = -1.0
        self._finished = ""  # which records the report was made of
        self._verdicts: list[Verdict] = []
        self._problem = ""
        self._page, self._tag = b"", ""
        self.make()

    def state(self) -> bytes:
        """JSON: runs done and left, failures, curves, verdicts; the same bytes for all who ask within two seconds."""
        with self._lock:
            if self.clock() >= self._until:
                self._state = json.dumps(self._look(), allow_nan=False).encode()
                self._until = self.clock() + EVERY
            return self._state

    def page(self) -> bytes:
        """The newest page there is."""
        return self._page

    def make(self) -> None:
        """Make the report; where nothing is finished yet, an empty one."""
        started = self.clock()
        finished = self._fingerprint()
        try:
            found, self._problem = survey.findings(self.directory), ""
        except StoreError as error:
            found, self._problem = [], "" if self._nothing_finished() else str(error)
        except TheodoliteError as error:
            found, self._problem = [], str(error)
        if found or not self._page:
            self._verdicts = [verdict for study in found for verdict in study.verdicts]
            made = page.html(found, scripts=self.scripts, connect="'self'").encode()
            self._tag = etag(made)
            self._page = made.replace(b"<body>", f'<body data-page="{self._tag}">'.encode(), 1)
        self._finished = finished
        self._report_due = self.clock() + max(LEAST, SHARE * (self.clock() - started))

    def wait(self) -> None:
        """Until no report is being made."""
        if self._making is not None:
            self._making.join()

    def _look(self) -> dict[str, Any]:
        self.looks += 1
        held = lock.is_held(self.directory)
        problem = self._problem
        rows = []
        for study in studies.readable():
            try:
                plan = self._plan(study.name)
            except StoreError as error:
                problem = problem or str(error)
                continue
            if plan is not None:
                rows.append(self._row(study, plan, held=held))
        idle = self._making is None or not self._making.is_alive()
        if idle and self.clock() >= self._report_due and self._fingerprint() != self._finished:
            self._making = threading.Thread(target=self.make, daemon=True)
            self._making.start()
        return {
            "running": held,
            "problem": problem,
            "page": self._tag,
            "studies": rows,
            "verdicts": [_verdict(verdict) for verdict in self._verdicts],
        }

    def _row(self, study: Study, plan: Plan, *, held: bool) -> dict[str, Any]:
        statuses = list(self._statuses_of(plan))
        states = [status.state if status is not None else "missing" for _, _, status in statuses]
        failures: dict[str, list[str]] = {}
        for fingerprint, _, status in statuses:
            if status is not None and status.state == "failed":
                failures.setdefault(status.error, []).append(fingerprint)
        done, failed = states.count("done"), states.count("failed")
        under_way = {
            name: label for name, label, status in statuses if status is not None and status.state == "running"
        }
        curves = live.read(self.directory, study.name) if held and under_way else {}
        shown = [(under_way[name], *curve) for name, curve in curves.items() if name in under_way]
        return {
            "name": study.name,
            "title": study.title,
            "preset": plan.preset,
            "total": len(states),
            "done": done,
            "diverged": sum(status is not None and status.diverged_epoch is not None for _, _, status in statuses),
            "running": len(under_way) if held else 0,
            "failed": failed,
            "left": len(states) - done - failed,
            "errors": [{"reason": reason, "runs": names} for reason, names in failures.items()],
            "curves": [dict(zip(("label", "epoch", "train", "test"), curve, strict=True)) for curve in shown[:CURVES]],
            "more_curves": max(0, len(shown) - CURVES),
        }

    def _statuses_of(self, plan: Plan) -> Iterator[tuple[str, str, Status | None]]:
        """Fingerprint, labels in words, and status of all that is planned."""
        for kind, planned in ((RunSpec.FOLDER, plan.runs), (AnalysisSpec.FOLDER, plan.analyses)):
            for item in planned:
                folder = self.directory / plan.study / kind / item.fingerprint
                status = _cached(self._statuses, folder / records.STATUS, lambda path: records.read_status(path.parent))
                label = ", ".join(f"{name} {value}" for name, value in item.labels.items())
                yield item.fingerprint, f"{label}{', ' if label else ''}seed {item.seed}", status

    def _plan(self, study: str) -> Plan | None:
        path = self.directory / study / records.PLAN
        plan: Plan | None = _cached(self._plans, path, lambda _: records.read_plan(self.directory, study))
        return plan

    def _fingerprint(self) -> str:
        """Of the records that are finished: it changes when one more is."""
        total = hashlib.sha256()
        for study in studies.readable():
            try:
                plan = self._plan(study.name)
            except StoreError:
                continue
            for fingerprint, _, status in self._statuses_of(plan) if plan is not None else ():
                if status is not None and status.readable:
                    total.update(f"{study.name}/{fingerprint}/{sorted(status.files.items())}\n".encode())
        return total.hexdigest()

    def _nothing_finished(self) -> bool:
        return self._fingerprint() == hashlib.sha256().hexdigest()


def etag(content: bytes) -> str:
    """Names a content, for a browser that has it already."""
    return hashlib.sha256(content).hexdigest()[:16]


def _cached(known: dict[Path, tuple[tuple[int, int], Any]], path: Path, read: Callable[[Path], Any]) -> Any:
    """What a file held when it last changed. Every file is written whole, so a new one has another inode."""
    try:
        now = path.stat()
    except OSError:
        known.pop(path, None)
        return read(path)
    mark = (now.st_mtime_ns, now.st_ino)
    if path not in known or known[path][0] != mark:
        known[path] = (mark, read(path))
    return known[path][1]


def _verdict(verdict: Verdict) -> dict[str, Any]:
    """As the page's table says it."""
    return {
        "row": f"{verdict.study}-{verdict.id}",
        "verdict": verdict.verdict,
        "decision": text.decision(verdict),
        "estimate": text.estimate(verdict),
        "seeds": str(verdict.seeds),
        "holm": verdict.verdict_holm,
    }
