"""Records: what a run leaves behind, and all runs of a study as tables. Imports no torch.

DIR/theodolite.json                          format of the folder
DIR/<study>/plan.json                        preset, settings and the fingerprints of the survey's runs
DIR/<study>/runs/<fingerprint>/spec.json     the spec, versions, device, wall seconds, peak memory
                              /*.parquet     metrics, and whatever the study measured
                              /*.safetensors weights
                              /status.json   written last; names every other file with its checksum
"""

import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from theodolite.errors import RecordCorrupt, StoreError, VersionMismatch
from theodolite.store import files
from theodolite.study import FORMAT, RunSpec

MARK = "theodolite.json"
PLAN = "plan.json"
STATUS = "status.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Status(_Frozen):
    """How far a run is. ``running`` in a folder that no survey holds means that it was interrupted."""

    state: Literal["running", "done", "failed"]
    error: str = ""  # why it failed
    converged_epoch: int | None = None  # first epoch at the convergence; None: not within its epochs
    diverged_epoch: int | None = None  # epoch at which the loss became NaN or infinite
    files: dict[str, str] = {}  # checksum of every other file of the run


class PlannedRun(_Frozen):
    """One run of a plan, known before it is trained."""

    fingerprint: str
    seed: int
    labels: dict[str, str | int | float]


class Plan(_Frozen):
    """What a survey set out to do in one study: the runs that its tables are made of, in the study's order."""

    study: str
    preset: str
    settings: dict[str, Any]
    command: str
    runs: tuple[PlannedRun, ...]


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


def write_run(
    directory: Path,
    spec: RunSpec,
    *,
    tables: Mapping[str, pd.DataFrame],
    blobs: Mapping[str, bytes],
    environment: Mapping[str, Any],
    converged_epoch: int | None,
    diverged_epoch: int | None,
) -> None:
    """Record a finished run; its status is written last, so a killed writer leaves no finished run.

    Args:
        directory: the results folder.
        spec: what was run.
        tables: by name; each becomes ``<name>.parquet``.
        blobs: other files by name, as bytes (weights).
        environment: versions, device, wall seconds, peak memory: kept beside the spec.
        converged_epoch: see :class:`Status`.
        diverged_epoch: see :class:`Status`.
    """
    content = dict(blobs)
    content["spec.json"] = _json({"spec": spec.model_dump(mode="json"), "seed": spec.seed, **environment})
    for name, table in tables.items():
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        content[f"{name}.parquet"] = buffer.getvalue()
    folder = run_folder(directory, spec)
    for name, data in content.items():
        files.write(folder / name, data)
    sums = {name: files.checksum(data) for name, data in sorted(content.items())}
    status = Status(state="done", converged_epoch=converged_epoch, diverged_epoch=diverged_epoch, files=sums)
    _write_status(directory, spec, status)


def write_start(directory: Path, spec: RunSpec) -> None:
    """Record that a run is under way."""
    _write_status(directory, spec, Status(state="running"))


def write_failure(directory: Path, spec: RunSpec, error: str) -> None:
    """Record that a run failed, and why; the next survey tries it again."""
    _write_status(directory, spec, Status(state="failed", error=error))


def run_folder(directory: Path, spec: RunSpec) -> Path:
    """Where a run's record lies."""
    return directory / spec.study / "runs" / spec.fingerprint()


def read_status(folder: Path) -> Status | None:
    """How a run ended; None where it is unfinished or its status cannot be read (it is then redone)."""
    try:
        return Status.model_validate_json((folder / STATUS).read_bytes())
    except (OSError, ValidationError):
        return None


def finished(directory: Path, spec: RunSpec) -> bool:
    """Whether a run is done and every file of its record is whole."""
    return _finished(run_folder(directory, spec))


def _write_status(directory: Path, spec: RunSpec, status: Status) -> None:
    files.write(run_folder(directory, spec) / STATUS, _json(status.model_dump(mode="json")))


def _finished(folder: Path) -> bool:
    status = read_status(folder)
    if status is None or status.state != "done":
        return False
    try:
        return all(files.checksum((folder / name).read_bytes()) == total for name, total in status.files.items())
    except OSError:
        return False


@dataclass(frozen=True)
class Records:
    """All runs of one study that a survey planned: one row each in ``runs``, their tables joined by ``table``."""

    directory: Path  # the results folder
    plan: Plan

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row a run: fingerprint, seed, a column for each label, status, epochs, size and cost.

        ``status`` is ``done``, ``running``, ``failed`` or ``missing``; ``converged_epoch`` is NaN where the convergence
        was not reached within ``epochs`` (censored), ``diverged_epoch`` is NaN where the run did not diverge.
        """
        table = pd.DataFrame([self._row(run) for run in self.plan.runs])
        return table.assign(**{name: math.nan for name in (*_COLUMNS, "error") if name not in table})

    @cached_property
    def done(self) -> pd.DataFrame:
        """The rows of ``runs`` that are done, diverged ones included."""
        return self.runs[self.runs["status"] == "done"].reset_index(drop=True)

    @cached_property
    def labels(self) -> list[str]:
        """Names of the label columns."""
        return list(dict.fromkeys(label for run in self.plan.runs for label in run.labels))

    def table(self, name: str) -> pd.DataFrame:
        """One table of all done runs, with fingerprint, seed and label columns in front.

        Raises:
            RecordCorrupt: a file is missing or is not what was written; it names the file.
        """
        parts = []
        for row in self.done.to_dict("records"):
            path = self._folder(row["fingerprint"]) / f"{name}.parquet"
            part = _read_checked(path)
            for position, column in enumerate(["fingerprint", "seed", *self.labels]):
                part.insert(position, column, row[column])
            parts.append(part)
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def specs(self) -> Iterable[RunSpec]:
        """The specs of all done runs."""
        for name in self.done["fingerprint"]:
            yield RunSpec.model_validate(_read_spec(self._folder(name))["spec"])

    def blob(self, fingerprint: str, name: str) -> bytes:
        """One other file of a run (weights), checked."""
        return _checked(self._folder(fingerprint) / name)

    def _folder(self, name: str) -> Path:
        return self.directory / self.plan.study / "runs" / name

    def _row(self, run: PlannedRun) -> dict[str, Any]:
        folder = self._folder(run.fingerprint)
        status = read_status(folder)
        row = {"fingerprint": run.fingerprint, "seed": run.seed, **run.labels}
        if status is None:
            return {**row, "status": "missing"}
        if status.state != "done":
            return {**row, "status": status.state, "error": status.error}
        record = _read_spec(folder)
        spec = RunSpec.model_validate(record["spec"])
        return {
            **row,
            "status": "done",
            "converged_epoch": status.converged_epoch,
            "diverged_epoch": status.diverged_epoch,
            "epochs": spec.training.epochs,
            "convergence": spec.training.convergence,
            "parameters": spec.model.parameters,
            "layers": spec.model.layers,
            "shape": spec.model.shape,
            "wall_seconds": record["wall_seconds"],
        }


_COLUMNS = (
    "converged_epoch",
    "diverged_epoch",
    "epochs",
    "convergence",
    "parameters",
    "layers",
    "shape",
    "wall_seconds",
)


def read(directory: Path, study: str) -> Records | None:
    """The records of a study; None where no survey in this folder planned it."""
    check_folder(directory)
    plan = read_plan(directory, study)
    return Records(directory, plan) if plan else None


def environment(directory: Path, study: str, fingerprint: str) -> dict[str, Any]:
    """Versions, device and cost of one run, as ``spec.json`` holds them."""
    record = _read_spec(directory / study / "runs" / fingerprint)
    return {key: value for key, value in record.items() if key not in ("spec", "seed")}


def _checked(path: Path) -> bytes:
    status = read_status(path.parent)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordCorrupt(
            f"{path} cannot be read ({_first_line(error)}). Run the same command again: that run is redone."
        ) from None
    if status is None or status.files.get(path.name) != files.checksum(content):
        raise RecordCorrupt(
            f"{path} is not what was written (its checksum differs). Run the same command again: that run is redone."
        )
    return content


def _read_checked(path: Path) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(_checked(path)))


def _read_spec(folder: Path) -> dict[str, Any]:
    content = json.loads(_checked(folder / "spec.json"))
    assert isinstance(content, dict)  # noqa: S101 — the checksum says that this is what was written
    return content


def _json(content: Any) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
