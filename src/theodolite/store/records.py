"""Records: what a run or an analysis leaves behind, and all of a study as tables. Imports no torch.

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
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pydantic import ValidationError

from theodolite.errors import RecordCorrupt
from theodolite.specs import AnalysisSpec, RecordingSpec, RunSpec
from theodolite.store import files, lock
from theodolite.store import tables as parquet
from theodolite.store.folder import check_folder, claim_folder
from theodolite.store.forms import LARGEST, Facts, Plan, Planned, Spec, Status, as_json, first_line

__all__ = [
    "Plan", "Planned", "Records", "Spec", "Status", "add_to_plan", "check_folder", "claim_folder", "finished",
    "folder_of", "parse_status", "read", "read_file", "read_plan", "read_spec", "read_status", "write", "write_failure",
    "write_part", "write_plan", "write_start",
]  # fmt: skip

PLAN = "plan.json"
STATUS = "status.json"
REDO = "Run the same command again: that run is redone."


def write_plan(directory: Path, plan: Plan) -> None:
    """Record what the survey sets out to do."""
    files.write(directory / plan.study / PLAN, plan.sealed())


def read_plan(directory: Path, study: str) -> Plan | None:
    """What the last survey in this folder set out to do in a study; None where it never ran.

    Raises:
        RecordCorrupt: it is not what was written, or is missing where there are records.
    """
    path = directory / study / PLAN
    again = "Run the study again: finished runs are kept."
    try:
        plan = Plan.unsealed(files.read(path, LARGEST))
    except (FileNotFoundError, NotADirectoryError):
        if any((directory / study / kind.FOLDER).is_dir() for kind in (RunSpec, AnalysisSpec)):
            raise RecordCorrupt(f"{path} is missing, which says what the records beside it are. {again}") from None
        return None
    except (OSError, ValueError) as error:
        raise RecordCorrupt(f"{path} cannot be read ({first_line(error)}). {again}") from None
    if plan.study != study:
        raise RecordCorrupt(f"{path} is the plan of another study, '{plan.study}'. {again}")
    return plan


def add_to_plan(directory: Path, spec: RecordingSpec, *, command: str, settings: Mapping[str, Any]) -> None:
    """Put a recording into its study's plan, which grows by one with every recording. The caller holds a lock."""
    known = read_plan(directory, spec.study)
    others = [item for item in known.runs if item.fingerprint != spec.fingerprint()] if known else []
    runs = (*others, Planned.of(spec))
    write_plan(directory, Plan(study=spec.study, preset="none", settings=dict(settings), command=command, runs=runs))


def write(
    directory: Path,
    spec: Spec,
    *,
    tables: Mapping[str, pd.DataFrame],
    environment: Mapping[str, Any],
    blobs: Mapping[str, bytes] | None = None,
    written: Mapping[str, str] | None = None,
    converged_epoch: int | None = None,
    diverged_epoch: int | None = None,
) -> None:
    """Record a finished run or analysis; its status is written last, so a killed writer leaves none that counts.

    Args:
        directory: the results folder.
        spec: what was done.
        tables: by name; each becomes ``<name>.parquet``, or a CSV file where the name ends in ``.csv``.
        environment: versions, device, wall seconds, peak memory: kept beside the spec.
        blobs: other files by name, as bytes (weights).
        written: checksums of files that are there already, by name.
        converged_epoch: see :class:`Status`.
        diverged_epoch: see :class:`Status`.
    """
    sums = {**(written or {}), **_write_content(directory, spec, tables, environment, blobs or {})}
    ordered = dict(sorted(sums.items()))
    _write_status(
        directory, spec, state="done", converged_epoch=converged_epoch, diverged_epoch=diverged_epoch, files=ordered
    )


def write_part(
    directory: Path, spec: RecordingSpec, *, tables: Mapping[str, pd.DataFrame], environment: Mapping[str, Any]
) -> None:
    """Record what a recording has so far; each time in place of the last.

    Every file is whole whenever the writer is killed. Two of them may then be of different moments, which harms
    nobody: their rows say of which step they are. So there are no checksums, which would have to change with them.
    """
    _write_content(directory, spec, tables, environment, {})
    _write_status(directory, spec, state="running", partial=True)


def _write_content(
    directory: Path,
    spec: Spec,
    tables: Mapping[str, pd.DataFrame],
    environment: Mapping[str, Any],
    blobs: Mapping[str, bytes],
) -> dict[str, str]:
    """Write all of a record but its status; the checksum of each file by its name."""
    content = dict(blobs)
    content["spec.json"] = as_json({"spec": spec.model_dump(mode="json"), "seed": spec.seed, **environment})
    for name, table in tables.items():
        if name.endswith(".csv"):
            content[name] = table.to_csv(index=False, lineterminator="\n").encode()
            continue
        content[f"{name}.parquet"] = parquet.to_bytes(table)
    folder = folder_of(directory, spec)
    for name, data in content.items():
        files.write(folder / name, data)
    return {name: files.checksum(data) for name, data in content.items()}


def write_start(directory: Path, spec: Spec) -> None:
    """Record that a run or an analysis is under way."""
    _write_status(directory, spec, state="running")


def write_failure(directory: Path, spec: Spec, error: str) -> None:
    """Record that a run or an analysis failed, and why; the next survey tries it again."""
    _write_status(directory, spec, state="failed", error=error)


def folder_of(directory: Path, spec: Spec) -> Path:
    """Where its record lies."""
    return directory / spec.study / spec.FOLDER / spec.fingerprint()


def read_status(folder: Path) -> Status | None:
    """How far it is; None where it never started or its status cannot be read (it is then redone)."""
    try:
        return parse_status(files.read(folder / STATUS, LARGEST), folder)
    except OSError:
        return None


def parse_status(content: bytes, folder: Path) -> Status | None:
    """From the content of a status file, of the record in this folder; None where it is not what was written."""
    try:
        status = Status.unsealed(content)
    except ValueError:
        return None
    return status if status.fingerprint == folder.name else None


def finished(directory: Path, spec: Spec) -> bool:
    """Whether it is done and every file of its record is whole."""
    folder = folder_of(directory, spec)
    status = read_status(folder)
    if status is None or status.state != "done":
        return False
    try:
        return all(files.checksum(files.read(folder / name)) == total for name, total in status.files.items())
    except OSError:
        return False


def read_file(path: Path) -> bytes:
    """One file of a record, checked.

    Raises:
        RecordCorrupt: it is missing or is not what was written; the message names it.
    """
    return _read_checked(path, read_status(path.parent))


def _read_checked(path: Path, status: Status | None) -> bytes:
    try:
        content = files.read(path)
    except OSError as error:
        raise RecordCorrupt(f"{path} cannot be read ({first_line(error)}). {REDO}") from None
    if status is not None and status.partial:
        return content
    if status is None or status.files.get(path.name) != files.checksum(content):
        raise RecordCorrupt(f"{path} is not what was written (its checksum differs). {REDO}")
    return content


def read_spec(folder: Path) -> RunSpec:
    """What was run, from its record's folder."""
    return _spec(folder, _facts(folder, read_status(folder)))


def read(directory: Path, study: str) -> "Records | None":
    """The records of a study; None where no survey in this folder planned it."""
    check_folder(directory)
    plan = read_plan(directory, study)
    return Records(directory, plan) if plan else None


_RUN_COLUMNS = (
    "converged_epoch", "diverged_epoch", "epochs", "convergence", "parameters", "layers", "shape", "wall_seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Records:
    """All that a survey planned in one study: runs and analyses with a row each, and their tables joined."""

    directory: Path  # the results folder
    plan: Plan
    _tables: dict[tuple[str, str], pd.DataFrame] = field(default_factory=dict, repr=False, compare=False)  # read once
    _statuses: dict[Path, Status | None] = field(default_factory=dict, repr=False, compare=False)  # likewise

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row a run: fingerprint, seed, a column for each label, status, epochs, size and cost.

        ``status`` is ``done``, ``running``, ``failed`` or ``missing``; ``converged_epoch`` is NaN where the convergence
        was not reached within ``epochs`` (censored), ``diverged_epoch`` is NaN where the run did not diverge.
        """
        return self._rows("runs", self.plan.runs, _RUN_COLUMNS)

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
            RecordCorrupt: a file is missing or is not what was written; it names the file.
        """
        if only is not None:
            return self._read("runs", [item for item in self.plan.runs if only(item.labels)], name)
        return self._joined("runs", self.plan.runs, name)

    def analysis(self, name: str) -> pd.DataFrame:
        """One table of all done analyses, as :meth:`table` gives those of the runs."""
        return self._joined("analyses", self.plan.analyses, name)

    def derived(self, make: Callable[["Records"], pd.DataFrame]) -> pd.DataFrame:
        """What ``make(records)`` gives, made once: claims, tables and figures all start from the same summary."""
        key = (make.__module__, make.__qualname__)
        if key not in self._tables:
            self._tables[key] = make(self)
        return self._tables[key].copy(deep=False)

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
                    return _facts(folder, status).model_dump()
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
        return self._tables[kind, name].copy(deep=False)

    def _read(self, kind: str, planned: Sequence[Planned], name: str) -> pd.DataFrame:
        parts: list[pa.Table] = []
        labels = []
        for item in planned:
            folder = self._folder(kind, item.fingerprint)
            path = folder / f"{name}.parquet"
            status = self._status(folder)
            if _holds(path, status):
                like = parquet.text_columns(parts[-1]) if parts else ()
                parts.append(parquet.from_bytes(_read_checked(path, status), path, REDO, text=like))
                labels.append({"fingerprint": item.fingerprint, "seed": item.seed, **item.labels})
        if not parts:
            return pd.DataFrame()
        try:
            joined: pd.DataFrame = pa.concat_tables(parts, promote_options="default").to_pandas(ignore_metadata=True)
        except pa.ArrowException as error:
            where = self._home / kind
            raise RecordCorrupt(
                f"the files {name}.parquet below {where} hold columns of different kinds ({first_line(error)}). "
                "Remove what does not belong there, and run the same command again."
            ) from None
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
        facts = _facts(folder, status)
        row |= {"status": "done", "wall_seconds": facts.wall_seconds}
        if folder.parent.name == AnalysisSpec.FOLDER:
            return row
        if "training" not in facts.spec:  # a recording: what it watched is described by its facts alone
            return {**row, "parameters": facts.parameters}
        spec = _spec(folder, facts)
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


def _holds(path: Path, status: Status | None) -> bool:
    """Whether a record has this file, and may be read."""
    if status is None or not status.readable:
        return False
    return path.name in status.files or (status.partial and path.exists())


def _write_status(directory: Path, spec: Spec, **fields: Any) -> None:
    status = Status(fingerprint=spec.fingerprint(), **fields)
    files.write(folder_of(directory, spec) / STATUS, status.sealed())


def _facts(folder: Path, status: Status | None) -> Facts:
    path = folder / "spec.json"
    try:
        return Facts.model_validate_json(_read_checked(path, status))
    except ValidationError as error:
        raise RecordCorrupt(f"{path} is not what a survey writes ({_first_fault(error)}). {REDO}") from None


def _spec(folder: Path, facts: Facts) -> RunSpec:
    try:
        return RunSpec.model_validate(facts.spec)
    except ValidationError as error:
        path = folder / "spec.json"
        raise RecordCorrupt(f"{path} holds no spec of a run ({_first_fault(error)}). {REDO}") from None


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'JSON'}: {first['msg']}"[:200]
