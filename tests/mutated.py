"""Tables of a results folder changed in cells, columns and rows, under checksums that fit: as their author could.

Run as ``python mutated.py FOLDER SEED COUNT``: prints every mutation that ends in neither findings nor a clear error.
"""

import io
import random
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from theodolite.errors import RecordCorrupt
from theodolite.store import files, records
from theodolite.survey import reading

CELLS = (
    float("nan"), None, -1.0, -1, 0, 0.0, 1e308, float("inf"), -float("inf"), 2**62, -(2**62), 0.5, 1.5, 1e-320, "",
    "no such word", "=1+1", "\0", "training", True, Decimal("1.5"), pd.Timestamp(0), b"\xff",
)  # fmt: skip


def _cell(table: pd.DataFrame, draw: random.Random) -> pd.DataFrame:
    """One cell another, of its kind where it can be."""
    name, row, value = draw.choice(list(table)), draw.randrange(len(table)), draw.choice(CELLS)
    column = table[name]
    if column.dtype == bool or isinstance(value, bool | Decimal | pd.Timestamp | bytes):
        return _column(table, draw)
    try:
        changed = column.copy()
        changed.iloc[row] = value
    except (TypeError, ValueError, OverflowError):
        changed = column.astype("float64" if isinstance(value, float) and column.dtype.kind in "iuf" else "object")
        changed.iloc[row] = value
        changed = changed.map(str) if changed.dtype == "object" and column.dtype.kind != "f" else changed
    return table.assign(**{name: changed})


def _column(table: pd.DataFrame, draw: random.Random) -> pd.DataFrame:
    """A whole column of one value."""
    return table.assign(**{draw.choice(list(table)): [draw.choice(CELLS)] * len(table)})


def _without(table: pd.DataFrame, draw: random.Random) -> pd.DataFrame:
    return table.drop(columns=draw.choice(list(table)))


def _renamed(table: pd.DataFrame, draw: random.Random) -> pd.DataFrame:
    names = ("", "seed", "fingerprint", "epoch", "task", "model", "x", "loss", "a[0]", *table)
    return table.rename(columns={draw.choice(list(table)): draw.choice(names)})


def _swapped(table: pd.DataFrame, draw: random.Random) -> pd.DataFrame:
    one, other = draw.choice(list(table)), draw.choice(list(table))
    return table.rename(columns={one: other, other: one})


def _more(table: pd.DataFrame, draw: random.Random) -> pd.DataFrame:
    return table.assign(**{draw.choice(("seed", "fingerprint", "a\nb", "task", "model", "status")): 1})


def _typed(table: pd.DataFrame, draw: random.Random) -> pd.DataFrame:
    kinds = ("str", "float32", "float16", "int8", "uint64", "bool", "category")
    name, kind = draw.choice(list(table)), draw.choice(kinds)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return table.assign(**{name: table[name].astype(kind)})
    except (TypeError, ValueError):
        return table.assign(**{name: table[name].astype("str")})


def _fewer(table: pd.DataFrame, draw: random.Random) -> pd.DataFrame:
    return table.drop(index=draw.sample(range(len(table)), draw.randint(1, len(table))))


def _twice(table: pd.DataFrame, draw: random.Random) -> pd.DataFrame:
    rows = [draw.randrange(len(table))] * draw.choice((1, 2, 300))
    return pd.concat([table, table.iloc[rows]])


def _shuffled(table: pd.DataFrame, draw: random.Random) -> pd.DataFrame:
    return table.iloc[draw.sample(range(len(table)), len(table))]


def _first(table: pd.DataFrame, draw: random.Random) -> pd.DataFrame:
    return table.head(draw.choice((0, 1, 2)))


def _scaled(table: pd.DataFrame, draw: random.Random) -> pd.DataFrame:
    numbers = [name for name, kind in table.dtypes.items() if kind.kind in "iuf"]
    name = draw.choice(numbers or list(table))
    return table.assign(**{name: table[name] * draw.choice((-1, 0, 2, 1000))}) if numbers else _without(table, draw)


Mutation = Callable[[pd.DataFrame, random.Random], pd.DataFrame]
MUTATIONS: tuple[Mutation, ...] = (
    _cell, _cell, _cell, _column, _without, _renamed, _swapped, _more, _typed, _fewer, _twice, _shuffled, _first,
    _scaled,
)  # fmt: skip


def tables_of(directory: Path, study: str) -> list[Path]:
    """All of its tables."""
    return sorted((directory / study).glob("*/*/*.parquet"))


def as_parquet(table: pd.DataFrame) -> bytes:
    """As a file; what no Parquet file holds as text."""
    buffer = io.BytesIO()
    try:
        table.to_parquet(buffer, index=False)
    except (ValueError, TypeError, OverflowError):
        table = table.astype("str") if table.columns.is_unique else table.iloc[:, :1].astype("str")
        table.to_parquet(buffer, index=False)
    return buffer.getvalue()


@contextmanager
def mutated(path: Path, draw: random.Random, mutation: Mutation | None = None) -> Iterator[str]:
    """That table changed while the block runs, under a seal that fits; gives what was done."""
    status, before = path.parent / records.STATUS, path.read_bytes()
    sealed = status.read_bytes()
    mutation = mutation or draw.choice(MUTATIONS)
    path.write_bytes(as_parquet(mutation(pd.read_parquet(path), draw)))
    found = records.read_status(path.parent)
    sums = {**found.files, path.name: files.checksum(path.read_bytes())}
    status.write_bytes(found.model_copy(update={"files": sums}).sealed())
    try:
        yield f"{mutation.__name__} in {path}"
    finally:
        path.write_bytes(before)
        status.write_bytes(sealed)


def outcome(read: Callable[[], object], path: Path) -> str:
    """What a reader is told of that table: ``read`` or ``said``; any other exception is a fault of ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            read()
    except RecordCorrupt as error:
        return "said" if str(path) in str(error) else f"said of another file: {error}"
    return "read"


def main(directory: Path, seed: int, count: int) -> None:
    from theodolite import studies

    draw, ends, slow = random.Random(seed), Counter(), 0.0
    present = [s for s in studies.INDEX.values() if tables_of(directory, s.name)]
    for number in range(count):
        study = present[number % len(present)]
        by_name: dict[str, list[Path]] = {}
        for path in tables_of(directory, study.name):
            by_name.setdefault(path.name, []).append(path)
        path = draw.choice(by_name[draw.choice(sorted(by_name))])
        with mutated(path, draw) as what:
            began = time.perf_counter()
            try:
                ends[outcome(partial(reading.found, directory, study), path)] += 1
            except Exception as error:
                ends["fault"] += 1
                last = [f for f in traceback.extract_tb(error.__traceback__) if "theodolite" in f.filename][-1]
                where = f"{last.filename.split('theodolite/')[-1]}:{last.lineno}"
                print(f"{what}: {type(error).__name__}: {str(error)[:150]!r} at {where}", flush=True)
            slow = max(slow, time.perf_counter() - began)
    print(dict(ends), f"slowest {slow:.2f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
