"""What a recorder has measured so far: rows in memory, and a record on disk that is whole whenever it is killed."""

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from weakref import WeakValueDictionary

import pandas as pd
from torch import Tensor

from theodolite import machine, wording
from theodolite.errors import SettingError, StoreError
from theodolite.record.flatten import Numbers, Vectors
from theodolite.record.former import RUNNING, Former, Kept, read
from theodolite.record.place import Asked, Place, choose
from theodolite.record.schedule import Ledger
from theodolite.specs import COLUMNS, RecordingSpec
from theodolite.store import files, lock, records, weights
from theodolite.store.recorded import SCHEMAS, SNAPSHOT, WHEN, snapshots
from theodolite.store.tables import CELLS

STUDY = "recorder"  # the folder, below the results folder, that all recordings lie in
LEDGER = "ledger"
TABLES = {name: list(schema.columns) for name, schema in SCHEMAS.items() if name != LEDGER}  # columns of each table
MAX_VECTOR_ENTRIES = CELLS // len(TABLES["vectors"])  # entries of all vectors of a recording
# Columns of a recording's tables and of its page, which no label may be called by.
RESERVED = {*COLUMNS, *(name for schema in SCHEMAS.values() for name in schema.columns), "training"}


@dataclass(frozen=True, slots=True)
class Measurement:
    """One result of one instrument, as sinks get it."""

    step: int
    epoch: int  # finished by then
    instrument: str
    numbers: Numbers
    vectors: Vectors
    result: Any  # as the instrument returned it
    seconds: float  # 0: a number of the user's own


@runtime_checkable
class Sink(Protocol):
    """Somewhere else that measurements go: a tracker of experiments."""

    def write(self, measurement: Measurement) -> None:
        """Take one measurement."""

    def close(self, tables: Mapping[str, pd.DataFrame]) -> None:
        """Take leave; gets all that was recorded, by table, to draw figures from."""


OPEN: WeakValueDictionary[Path, "Log"] = WeakValueDictionary()  # of this program, by the folder of the record


class Log:
    """Rows of all tables, snapshots, and the folder they are written to, if any."""

    def __init__(self, directory: Path | None, asked: Asked) -> None:
        taken = sorted({*asked.labels} & RESERVED)
        if taken:
            raise SettingError(
                f"expected labels of other names than the columns of recordings, got '{taken[0]}'. "
                f"Call it, for example, 'my_{taken[0]}'."
            )
        texts = [text for pair in asked.labels.items() for text in pair if isinstance(text, str)]
        if unfit := [text for text in texts if wording.shown(text) != text]:
            raise SettingError(f"expected labels of plain text, got {unfit[0]!a:.80}. Rename it.")
        self.place, self.asked = directory, asked
        self.directory = directory and directory.absolute()  # the training may go into another one
        self.spec: RecordingSpec | None = None
        self.ledgers: dict[str, Ledger] = {}
        self.facts: dict[str, Any] = {"parameters": 0, "device": "", "wall_seconds": 0.0, "ended_by": RUNNING}
        self.finished = False
        self._frames: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
        self._new: dict[str, list[tuple[Any, ...]]] = {name: [] for name in TABLES}
        self._entries = 0  # of all vectors
        self._kept: dict[int, dict[str, Tensor]] = {}  # snapshots, where there is no folder
        self._sums: dict[str, str] = {}  # checksums of snapshots on disk
        self._held = ExitStack()  # the lock of the record's folder
        self._plan: Callable[[], None] = lambda: None  # puts the recording into the plan
        self._process = os.getpid()

    def open(self, settings: Mapping[str, Any], number: int | None, epoch: int | None) -> tuple[Place, Kept | None]:
        """Take a place in the folder, and up what goes on there.

        Args:
            settings: of the recorder, for the plan.
            number: of the first step, where the user counts.
            epoch: of the first epoch that ends, likewise.

        Raises:
            StoreError: not a results folder, not writable, or the training would mix with what is there.
            SettingError: nothing says which recording goes on.
        """
        if self.directory is None:
            return Place(RecordingSpec(study=STUDY, labels=dict(self.asked.labels), seed=self.asked.seed or 0)), None
        records.claim_folder(self.directory)
        study = self.directory / STUDY
        study.mkdir(exist_ok=True)
        command = wording.command(["python", *sys.argv])
        self._end_what_was_left_open()
        with lock.hold(study, patience=60):
            place = choose(self.directory, STUDY, self.asked, self.facts, number)
            kept = self._take_up(place.former, place.step, epoch) if place.former else None
            spec = place.spec
            self._plan = partial(records.add_to_plan, self.directory, spec, command=command, settings=settings)
            self._plan()  # before any record
            folder = records.folder_of(self.directory, spec)
            folder.mkdir(parents=True, exist_ok=True)
            self._held.enter_context(lock.hold(folder))
            OPEN[folder] = self
            # From here on, what an earlier recording left does not count, or may be read while it goes on.
            records.write_start(self.directory, spec, partial=kept is not None)
            self.spec = spec
            self.flush()  # so that others see what this one is of
            mine = {f"{name}.parquet" for name in self.tables()} | self._sums.keys()
            for old in folder.iterdir():
                if old.name not in {lock.LOCK, records.STATUS, "spec.json", *mine}:
                    old.unlink()
        return place, kept

    def _end_what_was_left_open(self) -> None:
        """Finish the recording of this program that goes on now, or is replaced.

        Where an error ended its training in a notebook nobody closed it, and what the notebook keeps of the error holds
        it. Its own recorder then says that it is closed.
        """
        asked = self.asked
        if asked.resume is False and not asked.replace:
            return
        left = [
            log
            for log in list(OPEN.values())
            if log.directory == self.directory and dict(log.asked.labels) == dict(asked.labels) and not log.finished
            if (log.spec and log.spec.seed == asked.seed)
            or (asked.seed is None and (not asked.replace or self._as(log)))
        ]
        if len(left) == 1:
            left[0].finish()

    def _as(self, other: "Log") -> bool:
        """Whether both began with the same random state."""
        chance = self.facts.get("chance_at_start")
        return chance is not None and chance == other.facts.get("chance_at_start")

    def _take_up(self, former: Former, step: int, epoch: int | None) -> Kept:
        """All that an earlier recording has up to a step."""
        epoch = former.epochs(step) if epoch is None else epoch - 1
        kept = read(former, dict.fromkeys([*TABLES, LEDGER]), step, epoch)
        for name in TABLES:
            if name in kept.tables:
                self._frames[name].insert(0, kept.tables[name])
        self._entries += len(kept.tables.get("vectors", ()))
        self._sums |= kept.snapshots
        for row in kept.tables.get(LEDGER, pd.DataFrame()).to_dict("records"):
            values = {str(key): value for key, value in row.items()}
            if (name := values.pop("instrument")) in self.ledgers:
                ledger = Ledger(**{**values, "last": None if pd.isna(values["last"]) else values["last"]})
                self.ledgers[name] = ledger if step >= former.steps else self._cut(name, ledger)
        again = {"weights_at_start", "chance_at_start"} & former.facts.keys()
        self.facts |= {name: former.facts[name] for name in again}
        self.facts["epoch_ends"] = [
            [end, number] for end, number in former.facts.get("epoch_ends", ()) if end <= step and number <= epoch
        ]
        self.facts["resumed_at"] = [*former.facts.get("resumed_at", ()), step]
        return kept

    def _cut(self, name: str, ledger: Ledger) -> Ledger:
        """How often an instrument measured and failed, by the rows that were kept."""
        counts = [int((frame["instrument"] == name).sum()) for frame in map(self.table, ("costs", "failures"))]
        return replace(ledger, measured=counts[0], failed=counts[1], asked=sum(counts) + ledger.skipped)

    def add(self, table: str, *row: Any) -> None:
        """One row, in the order of the table's columns."""
        self._new[table].append(row)

    def take(self, measurement: Measurement, trained: float | None) -> None:
        """The rows of one measurement, after so many seconds of training; None: a number of the user's own.

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
        if trained is not None:
            self.add("costs", *when, measurement.seconds, trained)

    def keep(self, step: int, state: Mapping[str, Tensor]) -> None:
        """A snapshot of parameters: a file of its own, written once."""
        if self.spec is None or self.directory is None:
            self._kept[step] = dict(state)
            return
        self._mend(self.directory, self.spec)
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
            self._mend(self.directory, self.spec)
            written = {"tables": self.tables(), "environment": self._environment(), "schemas": SCHEMAS}
            records.write_part(self.directory, self.spec, **written)

    def finish(self) -> None:
        """Write all, as done, and let go of the folder; a second call does nothing, nor does one in a forked worker."""
        if self.finished or os.getpid() != self._process:
            return
        self.finished = True
        if self.spec is None or self.directory is None:
            return
        with self._held:
            self._mend(self.directory, self.spec)
            records.write(
                self.directory,
                self.spec,
                tables=self.tables(),
                environment=self._environment(),
                written=self._sums,
                schemas=SCHEMAS,
            )

    def _mend(self, directory: Path, spec: RecordingSpec) -> None:
        """Where somebody removed the folder under the training, what makes it one again; its snapshots are gone."""
        if (directory / records.MARK).exists() and (directory / STUDY / records.PLAN).exists():
            return
        records.claim_folder(directory)
        self._plan()
        folder = records.folder_of(directory, spec)
        self._sums = {name: total for name, total in self._sums.items() if (folder / name).exists()}

    def _environment(self) -> dict[str, Any]:
        return {**machine.describe(), **machine.arithmetic(), **self.facts, "peak_memory_bytes": machine.peak_memory()}


def read_snapshots(folder: Path) -> dict[int, dict[str, Tensor]]:
    """Parameters by step, from the folder of one recording (``DIR/recorder/runs/FINGERPRINT``)."""
    return {step: weights.from_bytes(records.read_file(path), path) for step, path in snapshots(folder).items()}
