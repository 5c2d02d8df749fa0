"""Results folders changed anywhere, under checksums and seals that fit, read by every command in one process.

A folder is changed in one place: a cell, column or row of a table, a value of its JSON, a file, a name, a record. What
reads it must end well: with an answer, or with one sentence that names a file of the folder, and of a table the column
or the row. Nothing may take long, or fill the memory.
"""

import io
import json
import random
import resource
import shutil
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import hostile
import mutated
import theodolite as th
from theodolite import cli
from theodolite.errors import StoreError, TheodoliteError
from theodolite.figures import render
from theodolite.report import picture
from theodolite.serve.live_page import LivePage
from theodolite.store import files, records
from theodolite.store import schema as forms
from theodolite.store.plan import DESCRIPTION, DRAWN, EVIDENCE
from theodolite.survey import reading

SLOW = 20.0  # seconds of a processor that one command takes, at most
PASSED, REFUSED = 0.1, 0.01  # shares that a further command reads, of what tables pass and of what they refuse already
SAID = 250  # folders between two lines on how far it is
FORMS: dict[str, type[forms.Sealed]] = {"plan.json": forms.Plan, "status.json": forms.Status}
NAMES = (
    "seed", "fingerprint", "status", "error", "epoch", "step", "labels", "quantity", "value", "number", "training", "",
    "a\nb", "\x1b[2J", "<b>", "é😀", "wall_seconds", "ended_by", "epochs", "files",
)  # fmt: skip
VALUES = (
    *hostile.NASTY, False, 1, 0.5, -0.0, 1e-320, float("inf"), -float("inf"), 2**31, 10**18, "NaN", "=1+1",
    "\x1b[2J", "a\nb", "\u202e", "done", "running", "failed", {"a": {"b": []}}, [0], [None], [[0, 1]], {"": 0},
    "0" * 16, "x.parquet",
)  # fmt: skip


def reads(folder: Path, other: Path, out: Path) -> dict[str, Callable[[], object]]:
    """Every way in which a results folder is read."""

    def command(*words: str) -> Callable[[], object]:
        return lambda: cli.app([*words], standalone_mode=False)

    def tables() -> None:
        """All tables, as every command reads them."""
        for study in reading.readable(folder):
            found = study.read(folder)
            if found is not None:
                held = {p.stem for p in folder.glob("*/*/*/*.parquet")}
                for name in sorted(held):
                    found.table(name), found.analysis(name)
                str(found.runs), found.complete, found.environment()

    def recorded() -> None:
        found = th.recordings(folder)
        str(found)
        for name in ("numbers", "vectors", "costs", "failures", "ledger"):
            found.table(name)
        with suppress(TheodoliteError):
            found.over_seeds("gradient_norm")
        found.plot()

    return {
        "tables": tables,
        "report": command("report", str(folder), "--out", str(out)),
        "claims": command("claims", str(folder)),
        "status": command("status", str(folder)),
        "compare": command("report", "--compare", str(folder), str(other), "--out", str(out)),
        "serve": lambda: LivePage(folder, []).state(),
        **({"recordings": recorded} if (folder / "recorder").exists() else {}),
    }


def revalued(value: Any, draw: random.Random) -> Any:
    """JSON with one thing in it another: a value, a name, an item left out, doubled or moved."""
    if isinstance(value, dict) and value and draw.random() < 0.93:
        key = draw.choice(sorted(value))
        kind = draw.random()
        if kind < 0.06:
            return {k: v for k, v in value.items() if k != key}
        if kind < 0.14:
            return {draw.choice(NAMES) if k == key else k: v for k, v in value.items()}
        if kind < 0.18:
            return {**value, draw.choice(NAMES): draw.choice(VALUES)}
        return {**value, key: revalued(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.93:
        at, kind = draw.randrange(len(value)), draw.random()
        if kind < 0.06:
            return [*value[:at], *value[at + 1 :]]
        if kind < 0.12:
            return [*value, value[at]]
        if kind < 0.18:
            return draw.sample(value, len(value))
        return [*value[:at], revalued(value[at], draw), *value[at + 1 :]]
    return draw.choice(VALUES)


def _json(folder: Path, path: Path, draw: random.Random) -> bytes:
    """A file of JSON, changed, and sealed again where it has the form at all."""
    content = json.loads(path.read_bytes())
    if isinstance(content, dict):
        content.pop("seal", None)
    changed = json.dumps(revalued(content, draw)).encode("utf-8", "surrogatepass")
    form = FORMS.get(path.name) or _own_forms().get(path.name)
    return changed if form is None else hostile.resealed(changed, form)


def _own_forms() -> dict[str, type[forms.Sealed]]:
    from theodolite.own.described import Description, StoredEvidence, StoredTables

    return {DESCRIPTION: Description, EVIDENCE: StoredEvidence, DRAWN: StoredTables}


def _odd_table(folder: Path, path: Path, draw: random.Random) -> bytes:
    """A table of columns that no table has: lists, structures, decimals, dates, bytes, one name twice, none at all."""
    table = pq.read_table(path)
    rows = table.num_rows
    cells = draw.choice(
        [
            pa.array([[1, 2]] * rows), pa.array([{"a": 1}] * rows), pa.array([None] * rows), pa.array([b"\xff"] * rows),
            pa.array([0] * rows, pa.timestamp("ns")), pa.array([1] * rows, pa.uint64()), pa.array([True] * rows),
            pa.array([1.5] * rows, pa.float16()), pa.array(["é😀\x00"] * rows), pa.array(["x" * 10_000] * rows),
            pa.array([2**63 - 1] * rows), pa.array([0] * rows, pa.date32()), pa.array(["a"] * rows).dictionary_encode(),
            pa.array([float("nan")] * rows), pa.array([1e308] * rows), pa.array([-1e308] * rows),
        ]
    )  # fmt: skip
    kind, at = draw.random(), draw.randrange(max(table.num_columns, 1))
    if kind < 0.6 and table.num_columns:
        table = table.set_column(at, table.column_names[at], cells)
    elif kind < 0.8:
        table = table.append_column(draw.choice([*NAMES, *table.column_names]), cells)
    elif kind < 0.9:
        table = pa.table({})
    else:
        table = pa.concat_tables([table] * draw.choice((2, 300)))
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _frame(folder: Path, path: Path, draw: random.Random) -> bytes:
    """A table, changed as `mutated.py` does."""
    frame = pd.read_parquet(path)
    if not len(frame) or not len(frame.columns):
        return _odd_table(folder, path, draw)
    return mutated.as_parquet(draw.choice(mutated.MUTATIONS)(frame, draw))


def _other(folder: Path, path: Path, draw: random.Random) -> bytes:
    """Another file of the folder in its place, of its kind or not."""
    return draw.choice(sorted(p for p in folder.rglob("*") if p.is_file())).read_bytes()


def _bytes(folder: Path, path: Path, draw: random.Random) -> bytes:
    """A few bytes changed, or nothing left."""
    return b"" if draw.random() < 0.1 else hostile.altered(path.read_bytes(), draw)


def _files(folder: Path, draw: random.Random) -> tuple[str, Path, bytes | None]:
    """Which file is changed, how, and to what; None: it goes."""
    by_name: dict[str, list[Path]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size):
        by_name.setdefault(path.name.split("-00")[0], []).append(path)
    path = draw.choice(by_name[draw.choice(sorted(by_name))])
    if draw.random() < 0.03:
        return "gone", path, None
    odd = draw.random()
    if odd < 0.05:
        change = draw.choice((_other, _bytes))
    elif path.suffix == ".parquet":
        change = _frame if draw.random() < 0.7 else _odd_table
    else:
        change = _json if path.suffix == ".json" else draw.choice((_other, _bytes))
    try:
        return change.__name__, path, change(folder, path, draw)
    except (pa.ArrowException, ValueError, KeyError, OverflowError):  # no file holds it
        return "_bytes", path, _bytes(folder, path, draw)


@contextmanager
def changed(folder: Path, draw: random.Random) -> Iterator[str]:
    """The folder with one file changed while the block runs, under a status that fits; gives what was done."""
    what, path, content = _files(folder, draw)
    before, status = path.read_bytes(), path.parent / records.STATUS
    sealed = status.read_bytes() if status.exists() and path != status else None
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    if sealed is not None and (found := records.read_status(path.parent)) is not None and path.name in found.files:
        sums = {name: total for name, total in found.files.items() if name != path.name}
        sums |= {} if content is None else {path.name: files.checksum(content)}
        status.write_bytes(found.model_copy(update={"files": sums}).sealed())
    try:
        yield f"{what.strip('_')} {path.relative_to(folder)}"
    finally:
        path.write_bytes(before)
        if sealed is not None:
            status.write_bytes(sealed)


@dataclass
class Seen:
    """How commands ended."""

    ends: Counter[str] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)  # by place in the source: what was done
    slowest: float = 0.0

    def words(self) -> str:
        """All counts, in a line."""
        ends = ", ".join(f"{name} {count}" for name, count in sorted(self.ends.items()))
        return f"{ends}, slowest {self.slowest:.1f} s"

    def fault(self, where: str, what: str) -> None:
        """Something that may not be."""
        self.ends["fault"] += 1
        if where not in self.faults:
            self.faults[where] = what
            print(f"{where}\n    {what}", file=sys.__stderr__, flush=True)


def look(folder: Path, other: Path, out: Path, names: tuple[str, ...], what: str, seen: Seen) -> bool:
    """Read a folder in these ways, and count how each ends; whether all could read it."""
    ends = []
    for name, read in reads(folder, other, out).items():
        if name not in names:
            continue
        began, shown = time.process_time(), io.StringIO()
        try:
            with redirect_stdout(shown), redirect_stderr(shown), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read()
            end = "read"
        except TheodoliteError as error:
            end = "said"
            if isinstance(error, StoreError) and folder.name not in str(error) and other.name not in str(error):
                seen.fault(f"names no file: {str(error)[:150]}", f"{name}: {what}")
            if "\x1b" in str(error):
                seen.fault(f"an escape: {str(error)[:150]!r}", f"{name}: {what}")
        except (Exception, SystemExit) as error:
            frames = [f for f in traceback.extract_tb(error.__traceback__) if "/src/theodolite/" in f.filename]
            place = [f"{f.filename.split('/theodolite/')[-1]}:{f.lineno}" for f in frames[-3:]]
            seen.fault(f"{type(error).__name__} {str(error)[:120]!r} at {' > '.join(place)}", f"{name}: {what}")
            end = "fault"
        taken = time.process_time() - began
        if "\x1b[2J" in shown.getvalue():
            seen.fault("an escape sequence on the terminal", f"{name}: {what}")
        if taken > SLOW:
            seen.fault(f"slow: {taken:.0f} s", f"{name}: {what}")
        seen.slowest = max(seen.slowest, taken)
        seen.ends[f"{name} {end}"] += 1
        ends.append(end)
    return set(ends) == {"read"}


@contextmanager
def undrawn() -> Iterator[None]:
    """Figures are made and not drawn as pictures, which takes longest and reads nothing."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(render, "save", lambda *_, **__: None))
        stack.enter_context(patch.object(picture, "png", lambda *_: b""))
        yield


def run(sources: list[Path], scratch: Path, seed: int, count: int, seconds: float = float("inf")) -> Seen:
    """Change each of these folders in turn, so often, or for so many seconds of a processor in all.

    Every change is read by what all commands read tables with, which takes a twentieth of what they take; a share by
    one command more, drawn anew each time: larger of what tables let pass, which is where faults are.
    """
    seen, until = Seen(), time.process_time() + seconds
    folders, others = [], []
    for source in sources:
        folders.append(Path(shutil.copytree(source, scratch / f"folder-{source.name}")))
        others.append(Path(shutil.copytree(source, scratch / f"other-{source.name}")))
    with undrawn():
        for number in range(count):
            if time.process_time() > until:
                break
            at, draw = number % len(folders), random.Random(f"{seed} {number}")
            place = folders[at], others[at], scratch / "out"
            ways = sorted(reads(*place).keys() - {"tables"})
            with changed(folders[at], draw) as done:
                what = f"{seed} {number} {folders[at].name}: {done}"
                passed = look(*place, ("tables",), what, seen)
                if draw.random() < (PASSED if passed else REFUSED):
                    look(*place, (draw.choice(ways),), what, seen)
            seen.ends["folders"] += 1
            if seen.ends["folders"] % SAID == 0:
                print(seen.words(), file=sys.__stdout__, flush=True)
    seen.ends["MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return seen
