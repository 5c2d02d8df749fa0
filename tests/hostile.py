"""Ten thousand hostile files, read in a process of their own: prints what was refused, and the memory.

Each begins as a file of a real record, of which bytes are altered, cut, doubled or set to a large number; JSON is also
changed value by value and then sealed again, as its author could. Run as ``python hostile.py FOLDER SEED COUNT``.
"""

import io
import json
import random
import sys
from collections import Counter
from pathlib import Path

import pandas as pd

from theodolite import machine
from theodolite.errors import StoreError
from theodolite.store import files, records, tables, weights
from theodolite.store import schema as forms

NASTY = (
    None, True, -1, 0, 1e308, float("nan"), 2**63, 10**400, "", "\0", "../../etc/passwd", "\ud800", "9" * 5000, [], {},
    [[]], {"spec": {}}, "<script>", "é" * 999,
)  # fmt: skip
LARGE = (b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\x00" * 8, b"\xff\xff\xff\xff\x0f", b"\x80" * 10)


def altered(content: bytes, draw: random.Random) -> bytes:
    """Bytes changed in one to three places."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(changed)) if changed else 0
        kind = draw.randrange(5)
        if kind == 0 and changed:
            changed[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del changed[at:]
        elif kind == 2:
            large = draw.choice(LARGE)
            changed[at : at + len(large)] = large
        elif kind == 3:
            changed[at:at] = changed[at : at + draw.randrange(64)]
        else:
            changed[at : at + 1] = draw.randbytes(draw.randrange(1, 9))
    return bytes(changed)


def revalued(value: object, draw: random.Random) -> object:
    """JSON with one value somewhere replaced."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(sorted(value))
        return {**value, key: revalued(value[key], draw)} if draw.random() < 0.9 else {**value, draw.choice("ab"): 1}
    if isinstance(value, list) and value and draw.random() < 0.9:
        at = draw.randrange(len(value))
        return [*value[:at], revalued(value[at], draw), *value[at + 1 :]]
    return draw.choice(NASTY)


def changed_json(content: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.3:
        return altered(content, draw)
    return json.dumps(revalued(json.loads(content), draw)).encode("utf-8", "surrogatepass")


def resealed(content: bytes, model: type[forms.Sealed]) -> bytes:
    """As its author would seal it, where it has the form at all."""
    try:
        return model.model_validate_json(content).sealed()
    except (ValueError, TypeError):
        return content


def sealed(form: forms.Sealed) -> bytes:
    """A form whose fields need not be valid, with the seal that its author would give it."""
    return forms.as_json({**form.model_dump(mode="json"), "seal": form._sum()})


def forge(folder: Path, name: str, content: bytes) -> None:
    """Put a file into a record with the right checksum: its author could."""
    status = records.read_status(folder)
    (folder / name).write_bytes(content)
    sums = {**status.files, name: files.checksum(content)}
    (folder / "status.json").write_bytes(sealed(status.model_copy(update={"files": sums})))


def main(directory: Path, seed: int, count: int) -> None:
    draw = random.Random(seed)
    plan_file = directory / "tiny" / "plan.json"
    plan_bytes = plan_file.read_bytes()
    plan = records.read_plan(directory, "tiny")
    folder = directory / "tiny" / "runs" / plan.runs[0].fingerprint
    originals = {path.name: path.read_bytes() for path in folder.iterdir()}
    reader = records.Records(directory, plan)

    def spec() -> None:
        (folder / "status.json").write_bytes(originals["status.json"])
        forge(folder, "spec.json", changed_json(originals["spec.json"], draw))
        try:
            reader._row(folder, plan.runs[0])
            records.read_spec(folder)
        finally:
            (folder / "spec.json").write_bytes(originals["spec.json"])
            (folder / "status.json").write_bytes(originals["status.json"])

    def status() -> None:
        content = resealed(changed_json(originals["status.json"], draw), forms.Status)
        (folder / "status.json").write_bytes(content)
        try:
            if reader._row(folder, plan.runs[0])["status"] != "done":
                raise StoreError("it is redone")
            reader._read("runs", plan.runs[:1], "metrics")
        finally:
            (folder / "status.json").write_bytes(originals["status.json"])

    def planned() -> None:
        plan_file.write_bytes(resealed(changed_json(plan_bytes, draw), forms.Plan))
        try:
            _ = records.Records(directory, records.read_plan(directory, "tiny")).runs
        finally:
            plan_file.write_bytes(plan_bytes)

    def parquet() -> None:
        tables.from_bytes(
            altered(originals["metrics.parquet"], draw), folder / "metrics.parquet", "Redo it."
        ).to_pandas(ignore_metadata=True)

    def safetensors() -> None:
        content = originals["weights.safetensors"]
        if draw.random() < 0.5:  # the header alone, its length right again
            size = int.from_bytes(content[:8], "little")
            header = changed_json(content[8 : 8 + size], draw)
            content = len(header).to_bytes(8, "little") + header + content[8 + size :]
        else:
            content = altered(content, draw)
        weights.from_bytes(content, folder / "weights.safetensors")

    parts = {spec: 0.15, status: 0.15, planned: 0.1, parquet: 0.3, safetensors: 0.3}
    machine.forget_peak_memory()
    before = machine.peak_memory()
    seen: Counter[str] = Counter()
    for read in draw.choices(list(parts), list(parts.values()), k=count):
        try:
            read()
        except StoreError as error:
            words = str(error)
            seen[f"{read.__name__} refused"] += 1
            if words != "it is redone" and str(directory) not in words:
                raise AssertionError(f"names no file: {words}") from None
        else:
            seen[f"{read.__name__} read"] += 1
    print(json.dumps({**seen, "grown": machine.peak_memory() - before}))


def bomb(rows: int) -> bytes:
    """A Parquet file of a few hundred bytes that claims so many rows."""
    buffer = io.BytesIO()
    pd.DataFrame({"zero": pd.Series(0, index=range(rows), dtype="int8")}).to_parquet(buffer, index=False)
    return buffer.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
