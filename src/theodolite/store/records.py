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

import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from theodolite.errors import RecordCorrupt, StoreError, VersionMismatch
from theodolite.store import files
from theodolite.study import FORMAT, AnalysisSpec, RunSpec

MARK = "theodolite.json"
PLAN = "plan.json"
STATUS = "status.json"

Spec = RunSpec | AnalysisSpec


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Status(_Frozen):
    """How far a run or an analysis is; ``running`` in a folder that no survey holds: it was interrupted."""

    state: Literal["running", "done", "failed"]
    error: str = ""  # why it failed
    converged_epoch: int | None = None  # first epoch at the convergence; None: not within its epochs
    diverged_epoch: int | None = None  # epoch at which the loss became NaN or infinite
    files: dict[str, str] = {}  # checksum of every other file of the record


class Planned(_Frozen):
    """One run or analysis of a plan, known before it is done."""

    fingerprint: str
    seed: int
    labels: dict[str, str | int | float]

    @classmethod
    def of(cls, spec: Spec) -> "Planned":
        """What a plan holds of a spec."""
        return cls(fingerprint=spec.fingerprint(), seed=spec.seed, labels=spec.labels)


class Plan(_Frozen):
    """What a survey set out to do in one study: what its tables are made of, in the study's order."""

    study: str
    preset: str
    settings: dict[str, Any]
    command: str
    runs: tuple[Planned, ...]
    analyses: tuple[Planned, ...] = ()


def claim_folder(directory: Path) -> None:
    """Mark a folder as a results folder of this format, or refuse it.

    Raises:
        VersionMismatch: another format of Theodolite wrote it.
        StoreError: it holds something else, or cannot be written.
    """
    mark = directory / MARK
    if not mark.exists():
        if directory.is_dir() and any(directory.iterdir()):
            raise StoreError(
                f"expected an empty folder or one with results, but {directory} holds other files. "
                "Choose another folder with --out."
            )
        files.write(mark, _json({"format": FORMAT}))
    check_folder(directory)


def check_folder(directory: Path) -> None:
    """Raise unless the folder holds results of this format."""
    try:
        found = json.loads((directory / MARK).read_bytes())["format"]
    except FileNotFoundError:
        raise StoreError(
            f"expected a results folder, but {directory} has no {MARK}. "
            "Give the folder that `theodolite run` or `theodolite survey` wrote."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordCorrupt(
            f"{directory / MARK} cannot be read ({_first_line(error)}). "
            f'If the folder holds results of this Theodolite, write {{"format": {FORMAT}}} into that file.'
        ) from None
    if found != FORMAT:
        raise VersionMismatch(
            f"expected a results folder of format {FORMAT}, but {directory} has format {found}. "
            "Use the Theodolite that wrote it, or another folder with --out."
        )


def write_plan(directory: Path, plan: Plan) -> None:
    """Record what the survey sets out to do."""
    files.write(directory / plan.study / PLAN, _json(plan.model_dump(mode="json")))


def read_plan(directory: Path, study: str) -> Plan | None:
    """What the last survey in this folder set out to do in a study; None where it never ran."""
    path = directory / study / PLAN
    try:
        return Plan.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise RecordCorrupt(
            f"{path} cannot be read ({_first_line(error)}). Run the study again: finished runs are kept."
        ) from None


def write(
    directory: Path,
    spec: Spec,
    *,
    tables: Mapping[str, pd.DataFrame],
    environment: Mapping[str, Any],
    blobs: Mapping[str, bytes] | None = None,
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
        converged_epoch: see :class:`Status`.
        diverged_epoch: see :class:`Status`.
    """
    content = dict(blobs or {})
    content["spec.json"] = _json({"spec": spec.model_dump(mode="json"), "seed": spec.seed, **environment})
    for name, table in tables.items():
        if name.endswith(".csv"):
            content[name] = table.to_csv(index=False, lineterminator="\n").encode()
            continue
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        content[f"{name}.parquet"] = buffer.getvalue()
    folder = folder_of(directory, spec)
    for name, data in content.items():
        files.write(folder / name, data)
    sums = {name: files.checksum(data) for name, data in sorted(content.items())}
    status = Status(state="done", converged_epoch=converged_epoch, diverged_epoch=diverged_epoch, files=sums)
    _write_status(directory, spec, status)


def write_start(directory: Path, spec: Spec) -> None:
    """Record that a run or an analysis is under way."""
    _write_status(directory, spec, Status(state="running"))


def write_failure(directory: Path, spec: Spec, error: str) -> None:
    """Record that a run or an analysis failed, and why; the next survey tries it again."""
    _write_status(directory, spec, Status(state="failed", error=error))


def folder_of(directory: Path, spec: Spec) -> Path:
    """Where its record lies."""
    return directory / spec.study / spec.FOLDER / spec.fingerprint()


def read_status(folder: Path) -> Status | None:
    """How far it is; None where it never started or its status cannot be read (it is then redone)."""
    try:
        return Status.model_validate_json((folder / STATUS).read_bytes())
    except (OSError, ValidationError):
        return None


def finished(directory: Path, spec: Spec) -> bool:
    """Whether it is done and every file of its record is whole."""
    folder = folder_of(directory, spec)
    status = read_status(folder)
    if status is None or status.state != "done":
        return False
    try:
        return all(files.checksum((folder / name).read_bytes()) == total for name, total in status.files.items())
    except OSError:
        return False


def read_file(path: Path) -> bytes:
    """One file of a record, checked.

    Raises:
        RecordCorrupt: it is missing or is not what was written; the message names it.
    """
    redo = "Run the same command again: that run is redone."
    status = read_status(path.parent)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordCorrupt(f"{path} cannot be read ({_first_line(error)}). {redo}") from None
    if status is None or status.files.get(path.name) != files.checksum(content):
        raise RecordCorrupt(f"{path} is not what was written (its checksum differs). {redo}")
    return content


def read_spec(folder: Path) -> RunSpec:
    """What was run, from its record's folder."""
    return RunSpec.model_validate(_read_json(folder / "spec.json")["spec"])


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

    def table(self, name: str) -> pd.DataFrame:
        """One table of all done runs, with fingerprint, seed and label columns in front.

        Raises:
            RecordCorrupt: a file is missing or is not what was written; it names the file.
        """
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
        """Versions, device and machine of the first finished run or analysis, as its ``spec.json`` holds them."""
        for kind, planned in (("runs", self.plan.runs), ("analyses", self.plan.analyses)):
            for item in planned:
                status = read_status(self._folder(kind, item.fingerprint))
                if status is not None and status.state == "done":
                    return _read_json(self._folder(kind, item.fingerprint) / "spec.json")
        return {}

    def _folder(self, kind: str, fingerprint: str) -> Path:
        return self.directory / self.plan.study / kind / fingerprint

    def _joined(self, kind: str, planned: Sequence[Planned], name: str) -> pd.DataFrame:
        if (kind, name) not in self._tables:
            self._tables[kind, name] = self._read(kind, planned, name)
        return self._tables[kind, name].copy(deep=False)

    def _read(self, kind: str, planned: Sequence[Planned], name: str) -> pd.DataFrame:
        parts, labels = [], []
        for item in planned:
            folder = self._folder(kind, item.fingerprint)
            status = read_status(folder)
            if status is not None and status.state == "done" and f"{name}.parquet" in status.files:
                part = pq.read_table(pa.BufferReader(read_file(folder / f"{name}.parquet")))
                parts.append(part)
                labels += [{"fingerprint": item.fingerprint, "seed": item.seed, **item.labels}] * part.num_rows
        if not parts:
            return pd.DataFrame()
        joined: pd.DataFrame = pa.concat_tables(parts, promote_options="default").to_pandas()
        return pd.concat([pd.DataFrame(labels), joined], axis=1)

    def _rows(self, kind: str, planned: Sequence[Planned], columns: Sequence[str]) -> pd.DataFrame:
        table = pd.DataFrame([self._row(self._folder(kind, item.fingerprint), item) for item in planned])
        return table.assign(**{name: math.nan for name in (*columns, "error", "status") if name not in table})

    def _row(self, folder: Path, item: Planned) -> dict[str, Any]:
        status = read_status(folder)
        row = {"fingerprint": item.fingerprint, "seed": item.seed, **item.labels}
        if status is None:
            return {**row, "status": "missing"}
        if status.state != "done":
            return {**row, "status": status.state, "error": status.error}
        record = _read_json(folder / "spec.json")
        row |= {"status": "done", "wall_seconds": record["wall_seconds"]}
        if folder.parent.name == AnalysisSpec.FOLDER:
            return row
        spec = RunSpec.model_validate(record["spec"])
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


def _write_status(directory: Path, spec: Spec, status: Status) -> None:
    files.write(folder_of(directory, spec) / STATUS, _json(status.model_dump(mode="json")))


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(read_file(path))
    return content


def _json(content: Any) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
