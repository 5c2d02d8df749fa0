"""What a recorder has measured so far: rows in memory, and a record on disk that is whole whenever it is killed."""

import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from itertools import chain, count
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pandas as pd
from torch import Tensor

from theodolite import machine
from theodolite.errors import SettingError, StoreError
from theodolite.record.flatten import Numbers, Vectors
from theodolite.record.schedule import Ledger
from theodolite.specs import COLUMNS, RecordingSpec
from theodolite.store import files, lock, records, weights
from theodolite.store.tables import CELLS

STUDY = "recorder"  # the folder, below the results folder, that all recordings lie in
WHEN = ["step", "epoch", "instrument"]
TABLES = {  # columns of each table of a recording
    "numbers": [*WHEN, "quantity", "value"],
    "vectors": [*WHEN, "quantity", "place", "value"],  # a row an entry
    "costs": [*WHEN, "seconds", "training_seconds"],  # what it took; of training, without any measuring, until then
    "failures": [*WHEN, "error", "message"],
}
MAX_VECTOR_ENTRIES = CELLS // len(TABLES["vectors"])  # entries of all vectors of a recording
LEDGER = "ledger"  # a row an instrument: how often it was asked, did and failed
# Columns of a recording's tables and of its page, which no label may be called by.
RESERVED = {*COLUMNS, *chain.from_iterable(TABLES.values()), *(field.name for field in fields(Ledger)), "training"}
SNAPSHOT = "snapshot-{:010d}.safetensors"  # by step


@dataclass(frozen=True, slots=True)
class Measurement:
    """One result of one instrument, as sinks get it."""

    step: int
    epoch: int  # finished by then
    instrument: str
    numbers: Numbers
    vectors: Vectors
    result: Any  # as the instrument returned it
    seconds: float


@runtime_checkable
class Sink(Protocol):
    """Somewhere else that measurements go: a tracker of experiments."""

    def write(self, measurement: Measurement) -> None:
        """Take one measurement."""

    def close(self, tables: Mapping[str, pd.DataFrame]) -> None:
        """Take leave; gets all that was recorded, by table, to draw figures from."""


class Log:
    """Rows of all tables, snapshots, and the folder they are written to, if any."""

    def __init__(self, directory: Path | None, seed: int | None, labels: Mapping[str, str | int | float]) -> None:
        taken = sorted({*labels} & RESERVED)
        if taken:
            raise SettingError(
                f"expected labels of other names than the columns of recordings, got '{taken[0]}'. "
                f"Call it, for example, 'my_{taken[0]}'."
            )
        self.directory = directory
        self.seed, self.labels = seed, dict(labels)
        self.spec: RecordingSpec | None = None
        self.ledgers: dict[str, Ledger] = {}
        self.facts: dict[str, Any] = {"parameters": 0, "device": "", "wall_seconds": 0.0}
        self.finished = False
        self._frames: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
        self._new: dict[str, list[tuple[Any, ...]]] = {name: [] for name in TABLES}
        self._entries = 0  # of all vectors
        self._kept: dict[int, dict[str, Tensor]] = {}  # snapshots, where there is no folder
        self._sums: dict[str, str] = {}  # checksums of snapshots on disk
        self._held = ExitStack()  # the lock of the record's folder
        self._process = os.getpid()

    def open(self, settings: Mapping[str, Any]) -> None:
        """Take a place in the folder: that of the seed given, or of the first that is free.

        Raises:
            StoreError: not a results folder, not writable, or another recorder is writing this very seed and labels.
        """
        if self.directory is None:
            return
        records.claim_folder(self.directory)
        study = self.directory / STUDY
        study.mkdir(exist_ok=True)
        command = shlex.join(["python", *sys.argv])
        with lock.hold(study, patience=60):
            spec = _free(self.directory, self.seed, self.labels)
            records.add_to_plan(self.directory, spec, command=command, settings=settings)  # a plan before any record
            folder = records.folder_of(self.directory, spec)
            folder.mkdir(parents=True, exist_ok=True)
            self._held.enter_context(lock.hold(folder))
        records.write_start(self.directory, spec)  # from here on, what an earlier recording left does not count
        for old in folder.iterdir():
            if old.name not in (lock.LOCK, records.STATUS):
                old.unlink()
        self.spec = spec

    def add(self, table: str, *row: Any) -> None:
        """One row, in the order of the table's columns."""
        self._new[table].append(row)

    def take(self, measurement: Measurement, trained: float) -> None:
        """The rows of one measurement.

        Raises:
            StoreError: with its vectors the record would be larger than one that can be read back.
        """
        self._entries += sum(map(len, measurement.vectors.values()))
        if self._entries > MAX_VECTOR_ENTRIES:
            raise StoreError(
                f"expected vectors of at most {MAX_VECTOR_ENTRIES} entries in one recording, got more. "
                "Measure less often, or give the instrument options by which it returns less."
            )
        when = (measurement.step, measurement.epoch, measurement.instrument)
        for quantity, value in measurement.numbers.items():
            self.add("numbers", *when, quantity, value)
        for quantity, values in measurement.vectors.items():
            columns = dict(zip(WHEN, when, strict=True)) | {"quantity": quantity}
            self._frames["vectors"].append(pd.DataFrame(columns | {"place": range(len(values)), "value": values}))
        self.add("costs", *when, measurement.seconds, trained)

    def keep(self, step: int, state: Mapping[str, Tensor]) -> None:
        """A snapshot of parameters: a file of its own, written once."""
        if self.spec is None or self.directory is None:
            self._kept[step] = dict(state)
            return
        content = weights.to_bytes(state)
        name = SNAPSHOT.format(step)
        files.write(records.folder_of(self.directory, self.spec) / name, content)
        self._sums[name] = files.checksum(content)

    def snapshots(self) -> dict[int, dict[str, Tensor]]:
        """All snapshots by step."""
        if self.spec is None or self.directory is None:
            return dict(self._kept)
        return read_snapshots(records.folder_of(self.directory, self.spec))

    def table(self, name: str) -> pd.DataFrame:
        """All rows so far."""
        if name == LEDGER:
            return pd.DataFrame([{"instrument": k, **asdict(ledger)} for k, ledger in self.ledgers.items()])
        if self._new[name] or len(self._frames[name]) != 1:  # rows become columns once: a tenth of the memory
            new = pd.DataFrame(self._new[name], columns=TABLES[name])
            parts = [frame for frame in (*self._frames[name], new) if len(frame)]
            self._frames[name] = [pd.concat(parts, ignore_index=True) if parts else new]
            self._new[name] = []
        return self._frames[name][0].copy(deep=False)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table that has a row."""
        found = {name: self.table(name) for name in (*TABLES, LEDGER)}
        return {name: table for name, table in found.items() if len(table)}

    def flush(self) -> None:
        """Write what there is so far."""
        if self.spec is not None and self.directory is not None:
            records.write_part(self.directory, self.spec, tables=self.tables(), environment=self._environment())

    def finish(self) -> None:
        """Write all, as done, and let go of the folder; a second call does nothing, nor does one in a forked worker."""
        if self.finished or os.getpid() != self._process:
            return
        self.finished = True
        if self.spec is None or self.directory is None:
            return
        with self._held:
            records.write(
                self.directory,
                self.spec,
                tables=self.tables(),
                environment=self._environment(),
                written=self._sums,
            )

    def _environment(self) -> dict[str, Any]:
        return {**machine.describe(), **self.facts, "peak_memory_bytes": machine.peak_memory()}


def read_snapshots(folder: Path) -> dict[int, dict[str, Tensor]]:
    """Parameters by step, from the folder of one recording (``DIR/recorder/runs/FINGERPRINT``)."""
    return {
        int(path.stem.rpartition("-")[2]): weights.from_bytes(records.read_file(path), path)
        for path in sorted(folder.glob(SNAPSHOT.replace("{:010d}", "*")))
    }


def _free(directory: Path, seed: int | None, labels: Mapping[str, str | int | float]) -> RecordingSpec:
    """The seed asked for, unless somebody is writing it just now, or the first that nobody has."""
    tried: Iterable[int] = count() if seed is None else (seed,)
    for number in tried:
        spec = RecordingSpec(study=STUDY, labels=dict(labels), seed=number)
        folder = records.folder_of(directory, spec)
        if (seed is None and not folder.exists()) or (seed is not None and not lock.is_held(folder)):
            return spec
    raise StoreError(
        f"another recorder is writing seed {seed} with these labels into {directory}. Pass another seed, other labels, "
        "or none: then the next free seed is taken."
    )
