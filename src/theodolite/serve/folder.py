"""What a results folder holds just now: what is planned there, how far it is, and whether a training runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theodolite import studies, survey
from theodolite.errors import StoreError
from theodolite.recordings.trainings import NAME as RECORDINGS
from theodolite.serve.statuses import Mark, Statuses, mark_of
from theodolite.store import lock, records
from theodolite.store.plan import DESCRIPTION
from theodolite.store.records import Plan, Planned
from theodolite.study import AnalysisSpec, RecordingSpec, RunSpec, Study

Both = tuple[Statuses, Statuses]  # of runs and of analyses


@dataclass(frozen=True)
class Part:
    """One study of a folder."""

    study: Study[Any]
    plan: Plan
    statuses: Both
    under_way: Mapping[str, Planned]  # by fingerprint: nothing that a killed process has left so


@dataclass(frozen=True)
class Seen:
    """A results folder at one look."""

    parts: Sequence[Part]
    held: bool  # by a survey
    problem: str  # what of it cannot be read
    changes: int  # of what may be read, so far
    records: int  # that may be read
    studies: int  # that have some

    @property
    def training(self) -> bool:
        """Whether a survey or a recording is under way."""
        return self.held or any(part.under_way for part in self.parts)


class Folder:
    """A results folder; a look at it costs what changed since the last one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._plans: dict[str, tuple[Mark, Plan | None]] = {}
        self._statuses: dict[str, Both] = {}
        self._held = False
        self._studies: list[Study[Any]] = [*studies.INDEX.values()]
        self._described: dict[str, Mark | None] | None = None  # the mark of each description, when they were read

    def look(self) -> Seen:
        """Bring all up to date."""
        before, self._held = self._held, lock.is_held(self.directory)
        parts, problem = [], ""
        try:
            self._describe()
        except StoreError as error:
            problem = str(error)
        for study in self._studies:
            try:
                plan = self._plan(study.name)
            except StoreError as error:
                problem = problem or str(error)
                continue
            if plan is None and study.name not in self._statuses:
                continue
            # A survey that began may redo what was done, and one that ended has finished what was not.
            both = self._followed(study.name, plan, whole=before != self._held)
            if plan is not None:
                parts.append(Part(study, plan, both, self._under_way(study.name, both)))
        readable = [sum(len(part.readable) for part in both) for both in self._statuses.values()]
        changes = sum(part.changes for both in self._statuses.values() for part in both)
        return Seen(parts, self._held, problem, changes, sum(readable), sum(map(bool, readable)))

    def _describe(self) -> None:
        """Which studies there may be: read again when the description of one of one's own changed."""
        found = map(str, self.directory.glob(f"*/{DESCRIPTION}"))  # its own name is no pattern
        marks = {name: mark_of(name) for name in found}
        if marks != self._described:
            self._studies, self._described = survey.readable(self.directory), marks

    def _plan(self, study: str) -> Plan | None:
        """Read again when its file changed."""
        mark = mark_of(f"{self.directory}/{study}/{records.PLAN}")
        if mark is None:
            self._plans.pop(study, None)
            return records.read_plan(self.directory, study)
        if study not in self._plans or self._plans[study][0] != mark:
            self._plans[study] = (mark, records.read_plan(self.directory, study))
        return self._plans[study][1]

    def _followed(self, study: str, plan: Plan | None, *, whole: bool) -> Both:
        """How far what is planned is; where the plan is gone, nothing is."""
        if study not in self._statuses:
            home = self.directory / study
            self._statuses[study] = Statuses(home / RunSpec.FOLDER), Statuses(home / AnalysisSpec.FOLDER)
        both = self._statuses[study]
        for statuses, planned in zip(both, (plan.runs, plan.analyses) if plan is not None else ((), ()), strict=True):
            statuses.follow(planned)
            statuses.look(whole=whole)
        return both

    def _under_way(self, study: str, both: Both) -> dict[str, Planned]:
        found = {name: part.planned[name] for part in both for name in part.running}
        if study != RECORDINGS:  # a survey holds the folder, a recording its own
            return found if self._held else {}
        home = self.directory / study / RecordingSpec.FOLDER
        return {name: item for name, item in found.items() if lock.is_held(home / name)}
