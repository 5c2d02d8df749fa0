"""Records: what runs and analyses leave behind, all of a study as tables. Imports no torch.

| file, below the results folder | what it holds |
| --- | --- |
| theodolite.json | the format of the folder |
| STUDY/plan.json | preset, settings, and the fingerprints of what the survey set out to do |
| STUDY/runs/FINGERPRINT/spec.json | the spec, versions, device, wall seconds, peak memory |
| …/*.parquet, …/*.safetensors | metrics and whatever the study measured; weights |
| …/status.json | written last; names every other file with its checksum |
| STUDY/analyses/FINGERPRINT/… | the same for what was measured on several runs, or on none |
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, ValidationError

from theodolite.errors import RecordCorrupt
from theodolite.specs import RUN_COLUMNS, AnalysisSpec, RunSpec
from theodolite.store import content, lock
from theodolite.store import tables as parquet
from theodolite.store.folder import MARK, check_folder, claim_folder
from theodolite.store.plan import PLAN, add_to_plan, gone_on, read_plan, write_plan
from theodolite.store.record import (
    ANY,
    REDO,
    STATUS,
    Schemas,
    check_there,
    finished,
    folder_of,
    holds,
    parse_status,
    read_checked,
    read_file,
    read_metadata,
    read_spec,
    read_status,
    spec_in,
    write,
    write_failure,
    write_part,
    write_start,
)
from theodolite.store.schema import Plan, Planned, Spec, Status, first_line

__all__ = [
    "MARK", "PLAN", "REDO", "STATUS", "Plan", "Planned", "Records", "Spec", "Status", "add_to_plan", "check_folder",
    "claim_folder", "finished", "folder_of", "gone_on", "parse_status", "read", "read_file", "read_plan", "read_spec",
    "read_status", "write", "write_failure", "write_part", "write_plan", "write_start",
]  # fmt: skip


S = TypeVar("S", bound=BaseModel)
T = TypeVar("T")


@dataclass(frozen=True)
class Records(Generic[S]):
    """All that a survey planned in one study: runs and analyses with a row each, and their tables joined."""

    directory: Path  # the results folder
    plan: Plan
    settings_type: type[S] = BaseModel  # type: ignore[assignment]  # without fields: of no study that is known
    # By column of a table: what older versions wrote there, and what stands for it today. Read, it is all as today's.
    renamed: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    schemas: Schemas = field(default_factory=lambda: ANY, repr=False)  # what its tables are
    _tables: dict[tuple[str, str], Any] = field(default_factory=dict, repr=False, compare=False)  # read once
    _statuses: dict[Path, Status | None] = field(default_factory=dict, repr=False, compare=False)  # likewise

    @cached_property
    def settings(self) -> S:
        """What the survey was set to: a setting younger than its plan is at its default, one that is gone is left out.

        Raises:
            RecordCorrupt: the plan holds no settings of this study.
        """
        known = self.plan.settings.keys() & self.settings_type.model_fields.keys()
        try:
            return self.settings_type.model_validate({name: self.plan.settings[name] for name in known})
        except ValidationError as error:
            raise RecordCorrupt(
                f"{self._home / PLAN} holds no settings of {self.plan.study} ({first_line(error)}). "
                "Run the study again: finished runs are kept."
            ) from None

    @property
    def started(self) -> bool:
        """Whether anything of it is done."""
        places = [self._folder("runs", item.fingerprint) for item in self.plan.runs]
        places += [self._folder("analyses", item.fingerprint) for item in self.plan.analyses]
        # Statuses alone: what is damaged besides is redone.
        return any((status := read_status(place)) is not None and status.state == "done" for place in places)

    @property
    def complete(self) -> bool:
        """Whether all that was planned is done, or has failed."""
        states = [*self.runs["status"], *self.analyses["status"]]
        return bool(states) and not {"missing", "running"}.intersection(states)

    def first(self) -> "Records[S] | None":
        """The records of the seeds that were planned first, where all of them are there."""
        plan = self.plan.first()
        if plan is None:
            return None
        found = self if plan is self.plan else replace(self, plan=plan, _tables={})
        return found if found.complete else None

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row a run: fingerprint, seed, a column for each label, status, epochs, size and cost.

        ``status`` is ``done``, ``running``, ``failed`` or ``missing``; ``converged_epoch`` is NaN where the convergence
        was not reached within ``epochs`` (censored), ``diverged_epoch`` is NaN where the run did not diverge.
        """
        return self._rows("runs", self.plan.runs, RUN_COLUMNS)

    @cached_property
    def analyses(self) -> pd.DataFrame:
        """A row an analysis: fingerprint, seed, a column for each label, status and cost."""
        return self._rows("analyses", self.plan.analyses, ("wall_seconds",))

    @cached_property
    def done(self) -> pd.DataFrame:
        """The rows of ``runs`` that are done, diverged ones included."""
        return self.runs[self.runs["status"] == "done"].reset_index(drop=True)

    def table(self, name: str, only: Callable[[Mapping[str, Any]], bool] | None = None) -> pd.DataFrame:
        """One table of all runs that are done or may be read so far, with fingerprint, seed and label columns in front.

        Args:
            name: of the table.
            only: a test of a run's labels: the files of other runs are not read, and nothing is kept for the next call.

        Raises:
            RecordCorrupt: a file is missing, is not what was written, or is not what a study writes; it names the file.
        """
        if only is not None:
            return self._read("runs", [item for item in self.plan.runs if only(item.labels)], name)
        return self._joined("runs", self.plan.runs, name)

    def analysis(self, name: str) -> pd.DataFrame:
        """One table of all done analyses, as :meth:`table` gives those of the runs."""
        return self._joined("analyses", self.plan.analyses, name)

    def derived(self, make: Callable[["Records[S]"], T]) -> T:
        """What ``make(records)`` gives, made once: claims, tables and figures all start from the same summary."""
        key = (make.__module__, make.__qualname__)
        if key not in self._tables:
            self._tables[key] = make(self)
        found: T = self._tables[key]
        return found.copy(deep=False) if isinstance(found, pd.DataFrame) else found

    def specs(self) -> Iterable[RunSpec]:
        """The specs of all done runs."""
        for name in self.done["fingerprint"]:
            yield read_spec(self._folder("runs", name))

    def environment(self) -> dict[str, Any]:
        """Versions, device and machine of the first run or analysis to be read, as its ``spec.json`` holds them."""
        for kind, planned in (("runs", self.plan.runs), ("analyses", self.plan.analyses)):
            for item in planned:
                folder = self._folder(kind, item.fingerprint)
                status = self._status(folder)
                if status is not None and status.readable:
                    return read_metadata(folder, status).model_dump()
        return {}

    def readable(self) -> Iterable[tuple[Planned, Path]]:
        """The runs that are done or may be read so far, each with its folder."""
        for item in self.plan.runs:
            folder = self._folder("runs", item.fingerprint)
            status = self._status(folder)
            if status is not None and status.readable:
                yield item, folder

    def recording(self) -> int:
        """How many recordings are under way: each holds its own folder."""
        return sum(lock.is_held(self._folder("runs", item.fingerprint)) for item in self.plan.runs)

    def _folder(self, kind: str, fingerprint: str) -> Path:
        return self._home / f"{kind}/{fingerprint}"

    @cached_property
    def _home(self) -> Path:
        return self.directory / self.plan.study

    def _joined(self, kind: str, planned: Sequence[Planned], name: str) -> pd.DataFrame:
        if (kind, name) not in self._tables:
            self._tables[kind, name] = self._read(kind, planned, name)
        found: pd.DataFrame = self._tables[kind, name]
        return found.copy(deep=False)

    def _read(self, kind: str, planned: Sequence[Planned], name: str) -> pd.DataFrame:
        parts: list[pa.Table] = []
        labels, like = [], list[int]()
        schema = content.schema_of(self.schemas, name)
        for item in planned:
            folder = self._folder(kind, item.fingerprint)
            path = folder / f"{name}.parquet"
            status = self._status(folder)
            if kind == RunSpec.FOLDER and status is not None:
                check_there(path, status, self.schemas)
            if holds(path, status):
                part = parquet.from_bytes(read_checked(path, status), path, REDO, text=like)
                like = parquet.text_columns(part)
                part = part if schema is None else content.checked(part, schema, path, REDO)
                label = {"fingerprint": item.fingerprint, "seed": item.seed, **item.labels}
                if taken := [column for column in part.column_names if column in label]:
                    raise RecordCorrupt(f"{path}: column '{taken[0]}' is also a label of its run in {PLAN}. {REDO}")
                parts.append(part)
                labels.append(label)
        if not parts:
            return pd.DataFrame()
        try:
            promote = "default" if schema is None else "permissive"  # single precision beside double is double
            joined: pd.DataFrame = pa.concat_tables(parts, promote_options=promote).to_pandas(ignore_metadata=True)
        except pa.ArrowException as error:
            where = self._home / kind
            raise RecordCorrupt(
                f"the files {name}.parquet below {where} hold columns of different kinds ({first_line(error)}). "
                "Remove what does not belong there, and run the same command again."
            ) from None
        for column in self.renamed.keys() & set(joined.columns):
            joined[column] = joined[column].replace(dict(self.renamed[column]))
        rows = np.repeat(np.arange(len(parts)), [part.num_rows for part in parts])  # a dictionary a row took minutes
        return pd.concat([_repeated(pd.DataFrame(labels), rows), joined], axis=1)

    def _rows(self, kind: str, planned: Sequence[Planned], columns: Sequence[str]) -> pd.DataFrame:
        table = pd.DataFrame([self._row(self._folder(kind, item.fingerprint), item) for item in planned])
        return table.assign(**{name: math.nan for name in ("seed", *columns, "error", "status") if name not in table})

    def _status(self, folder: Path) -> Status | None:
        if folder not in self._statuses:
            self._statuses[folder] = read_status(folder)
        return self._statuses[folder]

    def _row(self, folder: Path, item: Planned) -> dict[str, Any]:
        status = self._status(folder)
        row = {"fingerprint": item.fingerprint, "seed": item.seed, **item.labels}
        if status is None:
            return {**row, "status": "missing"}
        if status.state != "done":
            return {**row, "status": status.state, "error": status.error}
        metadata = read_metadata(folder, status)
        row |= {"status": "done", "wall_seconds": metadata.wall_seconds}
        if folder.parent.name == AnalysisSpec.FOLDER:
            return row
        if "training" not in metadata.spec:  # a recording: what it watched is described by its metadata alone
            facts = metadata.model_dump(include={"parameters", "steps", "epochs", "ended_by"})
            return {**facts, **row}  # labels may be called so
        spec = spec_in(folder, metadata)
        return {
            **row,
            "converged_epoch": status.converged_epoch,
            "diverged_epoch": status.diverged_epoch,
            "epochs": spec.training.epochs,
            "convergence": spec.training.convergence,
            "parameters": spec.model.parameters,
            "layers": spec.model.layers,
            "shape": spec.model.shape,
        }


def _repeated(labels: pd.DataFrame, rows: npt.NDArray[np.intp]) -> pd.DataFrame:
    """A run's labels on each row of its table: text as categories, of which a row takes a byte or two, not a copy."""
    text = [str(name) for name, column in labels.items() if pd.api.types.is_string_dtype(column)]
    categories = labels.assign(**{name: pd.Categorical(labels[name]) for name in text})
    return categories.take(rows).reset_index(drop=True)


def read(directory: Path, study: str, schemas: Schemas = ANY) -> Records[BaseModel] | None:
    """The records of a study by its name, as they were written; None where no survey in this folder planned it."""
    check_folder(directory)
    plan = read_plan(directory, study)
    return Records(directory, plan, BaseModel, schemas=schemas) if plan else None
