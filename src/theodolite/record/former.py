"""What an earlier recording left in a folder: what it was of, how far it came, and all of it up to a step."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from theodolite.errors import StoreError
from theodolite.specs import RecordingSpec
from theodolite.store import content, files, lock, records
from theodolite.store import tables as parquet
from theodolite.store.record import read_metadata
from theodolite.store.recorded import SCHEMAS, snapshots

AGAIN = "Pass replace=True to record this training anew."
RUNNING = "the end of the program"  # what ended a recording that nobody closed

Labels = Mapping[str, str | int | float]


@dataclass(frozen=True, slots=True)
class Former:
    """One earlier recording."""

    spec: RecordingSpec
    folder: Path
    facts: Mapping[str, Any]  # as its spec.json has them; empty where it was killed before it wrote any
    done: bool  # written whole: closed, or ended with its program
    held: bool  # somebody records into it just now

    @property
    def seed(self) -> int:
        """By which it is called."""
        return self.spec.seed

    @property
    def steps(self) -> int:
        """That it took, as far as it is known: up to the last writing."""
        return int(self.facts.get("steps", 0))

    @property
    def interrupted(self) -> bool:
        """Whether its training may not have ended: it was killed, or ended by an error or with its program."""
        return not self.held and (not self.done or bool(self.facts.get("ended_by", "")))

    def epochs(self, step: int) -> int:
        """Finished after so many steps."""
        if step >= self.steps:
            return int(self.facts.get("epochs", 0))
        return max((epoch for end, epoch in self.facts.get("epoch_ends", ()) if end <= step), default=0)


def find(directory: Path, study: str, labels: Labels) -> list[Former]:
    """All recordings in a folder with these labels, in the order in which they were begun.

    Raises:
        RecordCorrupt: the folder's plan, or what says of a recording what it is of, is not what was written.
    """
    plan = records.read_plan(directory, study)
    found = []
    for item in plan.runs if plan else ():
        if item.labels != dict(labels):
            continue
        spec = RecordingSpec(study=study, labels=item.labels, seed=item.seed)
        folder = records.folder_of(directory, spec)
        status = records.read_status(folder)
        if status is None:  # its folder was removed
            continue
        known = status.readable and (folder / "spec.json").exists()
        facts = read_metadata(folder, status).model_dump(exclude_none=True) if known else {}
        found.append(Former(spec, folder, facts, status.state == "done", lock.is_held(folder)))
    return found


@dataclass(frozen=True, slots=True)
class Kept:
    """What of an earlier recording goes on."""

    tables: Mapping[str, pd.DataFrame]
    snapshots: Mapping[str, str]  # names of files -> checksums
    step: int  # that training goes on from
    epoch: int
    trained: float  # seconds, without any measuring
    wall: float  # seconds


def read(former: Former, names: Mapping[str, Any], step: int, epoch: int) -> Kept:
    """All of a recording up to a step and an epoch.

    Args:
        former: the recording.
        names: of its tables; those with a row per measurement are cut at the step.
        step: that the training goes on from.
        epoch: likewise.

    Raises:
        StoreError: it cannot be read.
    """
    tables, sums = {}, {}
    try:
        for name in names:
            path = former.folder / f"{name}.parquet"
            if path.exists():
                found = parquet.from_bytes(records.read_file(path), path, AGAIN)
                table = content.checked(found, SCHEMAS[name], path, AGAIN).to_pandas(ignore_metadata=True)
                kept = table[(table["step"] <= step) & (table["epoch"] <= epoch)] if "step" in table else table
                tables[name] = kept.reset_index(drop=True)
        for taken, path in snapshots(former.folder).items():
            if taken <= step:
                sums[path.name] = files.checksum(records.read_file(path))
    except StoreError as error:
        raise StoreError(f"the recording of seed {former.seed} cannot go on: {error} {AGAIN}") from error
    costs = tables.get("costs", pd.DataFrame())
    whole = step >= former.steps
    trained = former.facts.get("training_seconds") if whole else None
    if trained is None:
        trained = costs["training_seconds"].max() if len(costs) else 0.0
    wall = former.facts.get("wall_seconds", 0.0) if whole else trained
    return Kept(tables, sums, step, epoch, float(trained), float(wall))
