"""Curves of runs under way, for whoever looks on; never a part of a record, and gone when the run is. Imports no torch.

A job keeps one small file, ``STUDY/live/FINGERPRINT.json``, with the curves of its first runs.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from theodolite.errors import StoreError
from theodolite.store import files
from theodolite.store.schema import LARGEST, Fingerprint

FOLDER = "live"
EVERY = 2.0  # seconds between two writes, and a person sees no more
POINTS = 120  # of a curve
DRAWN = 24  # curves of one study: a job on a GPU has a thousand, and nobody tells more apart

Row = tuple[int, int, float, float, float, float]  # epoch, step, training loss, test loss, their accuracies
Curve = tuple[list[float], list[float | None], list[float | None]]  # epoch, training loss, test loss


class Curves(BaseModel):
    """What such a file holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    curves: dict[Fingerprint, Curve]


class Live:
    """Writes the curves of one job's runs, every other second and not oftener."""

    def __init__(self, directory: Path, study: str, fingerprints: Sequence[str]) -> None:
        self.path = directory / study / FOLDER / f"{fingerprints[0]}.json"
        self.fingerprints = fingerprints
        self.curves: dict[str, Curve] = {}
        self.next = time.monotonic() + EVERY  # what takes less is over before anyone could look

    def __call__(self, rows: Mapping[int, Sequence[Row]], first: int = 0) -> None:
        """Take the evaluations so far of each run, by its number from ``first`` on."""
        if time.monotonic() < self.next:
            return
        for number, part in rows.items():
            if first + number < DRAWN:
                self.curves[self.fingerprints[first + number]] = _curve(part)
        with suppress(StoreError):  # nobody's result depends on it; what cannot be written stops the record
            files.write(self.path, json.dumps({"curves": self.curves}).encode())
        self.next = time.monotonic() + EVERY

    def close(self) -> None:
        """The job has ended, whichever way: its records say the rest."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def read(directory: Path, study: str) -> dict[str, Curve]:
    """Curves by fingerprint; whatever cannot be read is left out."""
    found: dict[str, Curve] = {}
    for path in sorted((directory / study / FOLDER).glob("*.json")):
        with suppress(OSError, ValueError):
            found |= Curves.model_validate_json(files.read(path, LARGEST >> 6)).curves
    return found


def clear(directory: Path) -> None:
    """Remove what killed processes left. The caller holds the folder's lock."""
    for path in directory.glob(f"*/{FOLDER}/*.json"):
        with suppress(OSError):
            path.unlink()


def _curve(rows: Sequence[Row]) -> Curve:
    step = max(1, -(-len(rows) // POINTS))
    kept = [*rows[:-1:step], rows[-1]]
    return [row[0] for row in kept], [_finite(row[2]) for row in kept], [_finite(row[3]) for row in kept]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
