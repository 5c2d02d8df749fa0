"""A job: one run of the user's own code, done and written in a worker."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from theodolite import machine
from theodolite.errors import CodeFailed
from theodolite.specs import CodeSpec
from theodolite.store import records, tables
from theodolite.store.remote import workspace as remote
from theodolite.study import Produced


@dataclass(frozen=True)
class CodeJob:
    """One run; nothing is known beforehand of what it takes."""

    directory: Path  # the results folder
    specs: tuple[CodeSpec]
    carry_out: Callable[[CodeSpec], Produced]
    device: str
    machine: Mapping[str, Any]
    address: str | None = None  # of the results, where the folder is a copy of them
    epochs: int = 1
    cost: float = 1.0


def plan(
    directory: Path,
    specs: list[CodeSpec],
    carry_out: Callable[[CodeSpec], Produced],
    *,
    device: str,
    address: str | None = None,
) -> list[CodeJob]:
    """Jobs for the runs that are not finished yet."""
    described = machine.describe()
    left = [spec for spec in specs if not records.finished(directory, spec)]
    return [CodeJob(directory, (spec,), carry_out, device, described, address) for spec in left]


@machine.one_thread()
def execute(job: CodeJob) -> list[tuple[str, str]]:
    """Do a job in a worker; gives the run's fingerprint, and ``done``.

    Raises:
        CodeFailed: see :class:`theodolite.own.worker.Trainer`; or its tables do not fit those of other runs.
    """
    machine.forget_peak_memory()
    with remote.local_folder(job.directory, job.address) as directory:
        return [_execute(replace(job, directory=directory))]


def _execute(job: CodeJob) -> tuple[str, str]:
    (spec,) = job.specs
    folder = records.folder_of(job.directory, spec)
    records.write_start(job.directory, spec)
    remote.upload(job.address, folder)
    started = time.perf_counter()
    produced = job.carry_out(spec)
    _check_alike(folder, produced.tables)
    environment = {
        **job.machine,
        **machine.arithmetic(),
        **produced.facts,
        "device": job.device,
        "wall_seconds": time.perf_counter() - started,
        "peak_memory_bytes": machine.peak_memory(),
    }
    records.write(job.directory, spec, tables=produced.tables, environment=environment, blobs=produced.blobs)
    remote.upload(job.address, folder)
    return spec.fingerprint(), "done"


def _check_alike(folder: Path, made: Mapping[str, pd.DataFrame]) -> None:
    """Refuse columns of another kind than a finished run has: all runs together could not be read."""
    for other in folder.parent.glob("*/status.json"):
        status = records.read_status(other.parent)
        if status is None or status.state != "done":
            continue
        for name, table in made.items():
            path = other.parent / f"{name}.parquet"
            if path.name not in status.files:
                continue
            known = tables.from_bytes(records.read_file(path), path, records.REDO).to_pandas()
            for column in set(table) & set(known):
                kinds = [pd.api.types.is_numeric_dtype(frame[column]) for frame in (table, known)]
                if kinds[0] != kinds[1] and not known[column].isna().all():
                    words = ["numbers" if kind else "text" for kind in kinds]
                    raise CodeFailed(
                        f"expected '{column}' of '{name}' as {words[1]}, as another run gave it, got {words[0]}. "
                        "Return the "
                        "same kinds from each."
                    )
        return
