"""Paths through weight space from the snapshots of recordings: in their common plane, and in full. Needs no torch.

Beside :mod:`theodolite.recordings.findings`. All comes from the inner products of the snapshots, which are summed
tensor by tensor, so that no more than one tensor of all snapshots is in memory.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from safetensors import SafetensorError, safe_open

from theodolite.errors import RecordCorrupt
from theodolite.measure.linalg import principal
from theodolite.store import records
from theodolite.store.recorded import snapshots
from theodolite.store.records import Records

NUMBERS = 10**8  # of one tensor in all snapshots, at most: 400 MB in float32
MOST = 400  # snapshots, at most
COLUMNS = ["step", "component_1", "component_2", "distance_from_start", "step_length"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Paths:
    """Recordings of one architecture in the plane of their first two principal components."""

    walks: pd.DataFrame  # a row a snapshot: fingerprint, step, components, distances in the full space
    shares: tuple[float, float]  # of the variance of all snapshots together, along each component
    parameters: int  # dimensions of the full space


def read(record: Records[Any]) -> list[Paths]:
    """Paths of all recordings that kept weights, those of one architecture together.

    Raises:
        RecordCorrupt: a snapshot is missing or is not what was written.
    """
    groups: dict[str, list[tuple[str, Path]]] = {}
    for item, folder in record.readable():
        found = list(snapshots(folder).values())
        for path in found:
            records.read_file(path)  # checks it
        if len(found) > 1:
            groups.setdefault(_signature(found[0]), []).extend((item.fingerprint, path) for path in found)
    paths = [_paths(_thin(group)) for group in groups.values()]
    return [path for path in paths if path is not None]


def _paths(group: Sequence[tuple[str, Path]]) -> Paths | None:
    products, size = _inner_products([path for _, path in group])
    spread = float(np.trace(products) - products.sum() / len(products))
    if not spread > 0:  # weights that never moved, or hold NaN
        return None
    components, squares = principal.of_inner_products(products, 2)
    rows = []
    for name in dict.fromkeys(name for name, _ in group):
        own = [n for n, (owner, _) in enumerate(group) if owner == name]
        for place, n in enumerate(own):
            step = int(group[n][1].stem.rpartition("-")[2])
            last = _distance(products, n, own[place - 1]) if place else np.nan
            rows.append((name, step, *components[n], _distance(products, n, own[0]), last))
    walks = pd.DataFrame(rows, columns=["fingerprint", *COLUMNS])
    first, second = (float(value) / spread for value in squares)
    return Paths(walks, (first, second), size)


def _inner_products(paths: Sequence[Path]) -> tuple[Array, int]:
    """Of all pairs of snapshots, each taken from the first one (which keeps digits); and their dimensions."""
    total = np.zeros((len(paths), len(paths)))
    size = 0
    for name, shape in _shapes(paths[0]).items():
        rows = np.stack([_tensor(path, name, shape) for path in paths]).astype(np.float64)
        rows -= rows[0].copy()
        total += rows @ rows.T
        size += rows.shape[1]
    return total, size


def _distance(products: Array, a: int, b: int) -> float:
    return float(np.sqrt(max(products[a, a] + products[b, b] - 2 * products[a, b], 0.0)))


def _thin(group: Sequence[tuple[str, Path]]) -> Sequence[tuple[str, Path]]:
    """So many snapshots as fit, evenly spaced; the first and last of each recording among them."""
    largest = max(int(np.prod(shape)) for shape in _shapes(group[0][1]).values())
    room = max(min(MOST, NUMBERS // max(largest, 1)), 2)
    if len(group) <= room:
        return group
    names = list(dict.fromkeys(name for name, _ in group))
    each = max(room // len(names), 2)
    kept: list[tuple[str, Path]] = []
    for name in names:
        own = [item for item in group if item[0] == name]
        kept += [own[n] for n in np.unique(np.linspace(0, len(own) - 1, each).round().astype(int))]
    return kept


def _signature(path: Path) -> str:
    return str(sorted(_shapes(path).items()))


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    with _opened(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 — no mapping


def _tensor(path: Path, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.floating]:
    with _opened(path) as file:
        found = np.asarray(file.get_tensor(name))
        if found.shape != shape:
            raise ValueError(f"expected '{name}' of shape {shape}, as in the first snapshot, got {found.shape}")
        return found.ravel()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="np") as file:
            yield file
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise RecordCorrupt(f"{path} cannot be read as weights ({error}). Remove it, or record again.") from None
