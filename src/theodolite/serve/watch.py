"""What is going on in a results folder, for any number of onlookers: worked out when one asks, and for all at once."""

import hashlib
import json
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from theodolite import studies, survey
from theodolite.errors import StoreError, TheodoliteError
from theodolite.findings import Verdict
from theodolite.report import page, text
from theodolite.serve.paid import Paid
from theodolite.serve.statuses import Mark, Statuses, mark_of
from theodolite.store import live, lock, records
from theodolite.store.records import Plan, Planned
from theodolite.study import AnalysisSpec, RecordingSpec, RunSpec, Study

EVERY = 2.0  # seconds a state serves all who ask, at least
MOST = 15.0  # at most, while a training runs
SHARE = 0.005  # of one processor while a training runs: for looks and answers, for verdicts, and for pages, each
IDLE = 0.1  # of one processor for pages while none runs
VERDICTS = (0.1, 0.001)  # processor seconds that a study and a record cost (benchmarks/report.py)
PAGE = (0.8, 0.002)

Made = TypeVar("Made")


class Watch:
    """A results folder, looked at on demand, at a bounded share of one processor while a training runs.

    ``state`` costs what changed since the last one (:class:`theodolite.serve.statuses.Statuses`); the more it and the
    answers cost, the longer it serves. Verdicts, and the page with its figures, are made of all records, in a thread
    of its own: when waiting has paid for them (:class:`theodolite.serve.paid.Paid`), and at once when a training has
    ended.

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
        self.directory, self.scripts, self.clock, self.used = directory, scripts, clock, used
        self.looks = 0  # how often the folder was looked at
        self._lock = threading.Lock()
        self._until, self._every = -1.0, EVERY
        self._state = b""
        self._plans: dict[str, tuple[Mark, Plan | None]] = {}
        self._statuses: dict[str, tuple[Statuses, Statuses]] = {}  # of runs and of analyses
        self._held = self._training = False
        self._changes = self._records = self._begun = 0  # of what may be read; how many these are, of how many studies
        self._making: threading.Thread | None = None
        self._busy = False  # something was being made since the last look
        self._judged, self._made = Paid(*VERDICTS), Paid(*PAGE)
        self._ended = False  # a training has, and no page was begun since
        self._verdicts: list[Verdict] = []
        self._problem = ""
        self._page, self._tag = b"", ""
        self._update()
        self.make()
        self._used = self.used()

    def state(self) -> bytes:
        """JSON: runs done and left, failures, curves, verdicts; ``every``: the seconds that it serves all who ask."""
        with self._lock:
            if self.clock() >= self._until:
                self._state = json.dumps(self._look(), allow_nan=False).encode()
                self._until = self.clock() + self._every
            return self._state

    def page(self) -> bytes:
        """The newest page there is."""
        return self._page

    def make(self) -> None:
        """Make the report; where nothing is finished yet, an empty one."""
        used, changes = self.used(), self._changes
        found = self._read(survey.findings)
        if found or not self._page:
            self._verdicts = [verdict for study in found for verdict in study.verdicts]
            made = page.html(found, scripts=self.scripts, connect="'self'").encode()
            self._tag = etag(made)
            self._page = made.replace(b"<body>", f'<body data-page="{self._tag}">'.encode(), 1)
        self._made.did(self.clock(), self.used() - used, changes)
        self._judged.did(self.clock(), self._judged.cost, changes)

    def judge(self) -> None:
        """Make the verdicts alone, for a fraction of what figures take."""
        used, changes = self.used(), self._changes
        self._verdicts = self._read(survey.verdicts) or self._verdicts
        self._judged.did(self.clock(), self.used() - used, changes)

    def _read(self, made: Callable[[Path], list[Made]]) -> list[Made]:
        """What is made of the records; where they cannot be read, nothing, and why is said."""
        try:
            found, self._problem = made(self.directory), ""
        except StoreError as error:
            found, self._problem = [], str(error) if self._records else ""
        except TheodoliteError as error:
            found, self._problem = [], str(error)
        return found

    def wait(self) -> None:
        """Until no report is being made."""
        if self._making is not None:
            self._making.join()

    def _look(self) -> dict[str, Any]:
        self.looks += 1
        planned, problem = self._update()
        self._every = self._interval()
        self._busy = self._making is not None and self._making.is_alive()
        work = None if self._busy else self._due()
        if work is not None:
            self._busy, self._ended = True, self._ended and work != self.make
            self._making = threading.Thread(target=work, daemon=True)
            self._making.start()
        return {
            "running": self._held,
            "every": self._every,
            "problem": self._problem or problem,
            "page": self._tag,
            "studies": [self._row(study, plan, under_way) for study, plan, under_way in planned],
            "verdicts": [_verdict(verdict) for verdict in self._verdicts],
        }

    def _update(self) -> tuple[list[tuple[Study[Any], Plan, dict[str, Planned]]], str]:
        """Look at the folder; what is planned there, each with what is under way, and what of it cannot be read."""
        before, self._held = self._held, lock.is_held(self.directory)
        planned, problem = [], ""
        for study in survey.readable():
            try:
                plan = self._plan(study.name)
            except StoreError as error:
                problem = problem or str(error)
                continue
            if plan is None and study.name not in self._statuses:
                continue
            if study.name not in self._statuses:
                home = self.directory / study.name
                self._statuses[study.name] = Statuses(home / RunSpec.FOLDER), Statuses(home / AnalysisSpec.FOLDER)
            both = self._statuses[study.name]
            for statuses, part in zip(both, (plan.runs, plan.analyses) if plan is not None else ((), ()), strict=True):
                statuses.follow(part)
                statuses.look(whole=before != self._held)  # a survey may redo what was done, or has ended
            if plan is not None:
                planned.append((study, plan, self._running(study)))
        known = [statuses for both in self._statuses.values() for statuses in both]
        self._changes = sum(statuses.changes for statuses in known)
        readable = {name: sum(len(part.readable) for part in both) for name, both in self._statuses.items()}
        self._records, self._begun = sum(readable.values()), sum(map(bool, readable.values()))
        training = self._held or any(under_way for _, _, under_way in planned)
        self._ended = not training and (self._ended or self._training)
        self._training = training
        return planned, problem

    def _interval(self) -> float:
        """Seconds until the next look: what the last one and its answers took is then the share that they may take."""
        used = self.used()
        spent, self._used = used - self._used, used
        if not self._training:
            return EVERY
        return self._every if self._busy else min(MOST, max(EVERY, math.ceil(spent / SHARE)))

    def _due(self) -> Callable[[], None] | None:
        """What is to be made now, if anything."""
        now, known = self.clock(), {"changes": self._changes, "studies": self._begun, "records": self._records}
        if self._ended and self._changes != self._made.changes:
            return self.make
        if self._made.is_due(now, SHARE if self._training else IDLE, **known):
            return self.make
        return self.judge if self._training and self._judged.is_due(now, SHARE, **known) else None

    def _row(self, study: Study[Any], plan: Plan, under_way: Mapping[str, Planned]) -> dict[str, Any]:
        both = self._statuses[study.name]
        total, done, diverged, failed = (
            sum(len(getattr(statuses, name)) for statuses in both) for name in ("planned", "done", "diverged", "failed")
        )
        failures: dict[str, list[str]] = {}
        for statuses in both:
            for fingerprint, reason in sorted(statuses.failed.items()):
                failures.setdefault(reason, []).append(fingerprint)
        curves = live.read(self.directory, study.name) if self._held and under_way else {}
        drawn = [(_label(under_way[name]), *curve) for name, curve in curves.items() if name in under_way][: live.DRAWN]
        return {
            "name": study.name,
            "title": study.title,
            "preset": plan.preset,
            "total": total,
            "done": done,
            "diverged": diverged,
            "running": len(under_way),
            "failed": failed,
            "left": total - done - failed - len(under_way),  # as `theodolite status` counts: the columns add up
            "errors": [{"reason": reason, "runs": names} for reason, names in failures.items()],
            "curves": [dict(zip(("label", "epoch", "train", "test"), curve, strict=True)) for curve in drawn],
            "more_curves": len(under_way) - len(drawn) if drawn else 0,
        }

    def _running(self, study: Study[Any]) -> dict[str, Planned]:
        """What is under way: nothing that a killed process has left so."""
        found = {name: part.planned[name] for part in self._statuses[study.name] for name in part.running}
        if study.name in studies.INDEX:  # a survey holds the folder, a recording its own
            return found if self._held else {}
        home = self.directory / study.name / RecordingSpec.FOLDER
        return {name: item for name, item in found.items() if lock.is_held(home / name)}

    def _plan(self, study: str) -> Plan | None:
        """Read again when its file changed."""
        mark = mark_of(f"{self.directory}/{study}/{records.PLAN}")
        if mark is None:
            self._plans.pop(study, None)
            return records.read_plan(self.directory, study)
        if study not in self._plans or self._plans[study][0] != mark:
            self._plans[study] = (mark, records.read_plan(self.directory, study))
        return self._plans[study][1]


def _label(item: Planned) -> str:
    return ", ".join([*(f"{name} {value}" for name, value in item.labels.items()), f"seed {item.seed}"])


@lru_cache(maxsize=4)  # fifty pages get the same bytes
def etag(content: bytes) -> str:
    """Names a content, for a browser that has it already."""
    return hashlib.sha256(content).hexdigest()[:16]


def _verdict(verdict: Verdict) -> dict[str, Any]:
    """As the page's table says it."""
    return {
        "row": f"{verdict.study}-{verdict.id}",
        "verdict": verdict.verdict,
        "decision": text.decision(verdict),
        "estimate": text.tied(text.estimate(verdict)),
        "seeds": str(verdict.seeds),
        "holm": verdict.verdict_holm,
    }
