"""One record, what a run or an analysis leaves behind: written whole, and read back checked. Imports no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from theodolite.errors import RecordCorrupt, SettingError
from theodolite.specs import RecordingSpec, RunSpec
from theodolite.store import content as contents
from theodolite.store import files
from theodolite.store import tables as parquet
from theodolite.store.schema import LARGEST, LONGEST, RecordMetadata, Spec, Status, as_json, first_line
from theodolite.wording import shown

STATUS = "status.json"
STATE = "resume.safetensors"  # of a run under way, in its folder until it ends (:mod:`theodolite.store.states`)
REDO = "Run the same command again: that run is redone."
MADE = "It is not recorded: another setting may keep its numbers within bounds; if none does, report it."

Schemas = Mapping[str, contents.TableSchema]  # by name of the table; what has none is taken as it is
ANY: Schemas = {}


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
    schemas: Schemas = ANY,
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
        schemas: what its tables are.

    Raises:
        RecordCorrupt: a table is not what its schema says; nothing is written.
    """
    _check(folder_of(directory, spec), tables, schemas)
    sums = {**(written or {}), **_write_content(directory, spec, tables, environment, blobs or {})}
    ordered = dict(sorted(sums.items()))
    _write_status(
        directory, spec, state="done", converged_epoch=converged_epoch, diverged_epoch=diverged_epoch, files=ordered
    )


def _check(folder: Path, tables: Mapping[str, pd.DataFrame], schemas: Schemas) -> None:
    for name, table in tables.items():
        schema = contents.schema_of(schemas, name)
        if schema is not None and not name.endswith(".csv"):
            contents.checked(contents.of_frame(table), schema, folder / f"{name}.parquet", MADE)


def write_part(
    directory: Path,
    spec: RecordingSpec,
    *,
    tables: Mapping[str, pd.DataFrame],
    environment: Mapping[str, Any],
    schemas: Schemas = ANY,
) -> None:
    """Record what a recording has so far; each time in place of the last.

    Every file is whole whenever the writer is killed. Two of them may then be of different moments, which harms
    nobody: their rows say of which step they are. So there are no checksums, which would have to change with them.

    Raises:
        RecordCorrupt: as :func:`write` does.
    """
    _check(folder_of(directory, spec), tables, schemas)
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
        taken = sorted({*map(str, table.columns)} & {*spec.labels, "fingerprint", "seed"})
        if taken and not name.endswith(".csv"):  # read back, both would be columns of one table
            raise SettingError(f"expected table '{name}' without the columns of its run, got '{taken[0]}'. Rename it.")
        if name.endswith(".csv"):
            content[name] = parquet.to_csv(table)
            continue
        content[f"{name}.parquet"] = parquet.to_bytes(table)
    folder = folder_of(directory, spec)
    for name, data in content.items():
        files.write(folder / name, data)
    return {name: files.checksum(data) for name, data in content.items()}


def write_start(directory: Path, spec: Spec, *, partial: bool = False) -> None:
    """Record that a run or an analysis is under way; ``partial``: one that goes on, so that what is there is read."""
    _write_status(directory, spec, state="running", partial=partial)


def write_failure(directory: Path, spec: Spec, error: str) -> None:
    """Record that a run or an analysis failed, and why; the next survey tries it again."""
    _write_status(directory, spec, state="failed", error=shown(error)[:LONGEST])


def folder_of(directory: Path, spec: Spec) -> Path:
    """Where its record lies."""
    return directory / spec.study / spec.FOLDER / spec.fingerprint()


def _write_status(directory: Path, spec: Spec, **fields: Any) -> None:
    status = Status(fingerprint=spec.fingerprint(), **fields)
    files.write(folder_of(directory, spec) / STATUS, status.sealed())


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


def finished(directory: Path, spec: Spec, schemas: Schemas = ANY) -> bool:
    """Whether it is done, every file of its record is whole, and its tables are what their schemas say."""
    folder = folder_of(directory, spec)
    status = read_status(folder)
    if status is None or status.state != "done":
        return False
    try:
        if isinstance(spec, RunSpec):
            for name in schemas:
                check_there(folder / f"{name}.parquet", status, schemas)
        return all(_whole(folder / name, total, schemas) for name, total in status.files.items())
    except (OSError, RecordCorrupt):
        return False


def _whole(path: Path, total: str, schemas: Schemas) -> bool:
    content = files.read(path)
    if files.checksum(content) != total:
        return False
    schema = contents.schema_of(schemas, path.stem) if path.suffix == ".parquet" else None
    if schema is not None:
        contents.checked(parquet.from_bytes(content, path, REDO), schema, path, REDO)
    return True


def check_there(path: Path, status: Status, schemas: Schemas) -> None:
    """Raise RecordCorrupt where a finished run lacks a table that every one has."""
    schema = schemas.get(path.stem)  # that of all others never is
    if schema is not None and schema.always and status.state == "done" and path.name not in status.files:
        raise RecordCorrupt(f"{path.parent / STATUS} names no {path.name}, which every finished run has. {REDO}")


def read_file(path: Path) -> bytes:
    """One file of a record, checked.

    Raises:
        RecordCorrupt: it is missing or is not what was written; the message names it.
    """
    return read_checked(path, read_status(path.parent))


def read_checked(path: Path, status: Status | None) -> bytes:
    """The same, where the status of its record is known; raises alike."""
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
    return spec_in(folder, read_metadata(folder, read_status(folder)))


def read_metadata(folder: Path, status: Status | None) -> RecordMetadata:
    """The spec and what is recorded beside it; raises as :func:`read_file`."""
    path = folder / "spec.json"
    try:
        return RecordMetadata.model_validate_json(read_checked(path, status))
    except ValidationError as error:
        raise RecordCorrupt(f"{path} is not what a survey writes ({first_line(error)}). {REDO}") from None


def spec_in(folder: Path, metadata: RecordMetadata) -> RunSpec:
    """What was run, from what the record in this folder holds beside it."""
    try:
        return RunSpec.model_validate(metadata.spec)
    except ValidationError as error:
        path = folder / "spec.json"
        raise RecordCorrupt(f"{path} holds no spec of a run ({first_line(error)}). {REDO}") from None


def holds(path: Path, status: Status | None) -> bool:
    """Whether a record has this file, and may be read."""
    if status is None or not status.readable:
        return False
    return path.name in status.files or (status.partial and path.exists())
