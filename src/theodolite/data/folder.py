"""A data set in a folder of the user's: Parquet files or images. Read without a network; nothing is written there."""

import functools
import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from theodolite.data import cache, table
from theodolite.data.arrays import Arrays, Progress
from theodolite.errors import DataCorrupt, DataUnavailable, require

PREFIX = "dir:"
LAYOUT = (
    "train.parquet and test.parquet (or several: train/*.parquet), or images as train/CLASS/*.png and test/CLASS/*.png"
)
VALUES = 200_000_000  # of one file: all pixels of CIFAR-10 as lists
LITTER = ("thumbs.db", "desktop.ini")  # that systems leave behind


def open_folder(source: str, progress: Progress) -> cache.Entry:
    """A folder with ``train`` and ``test`` as Parquet files or image folders, by ``dir:FOLDER``.

    What is decoded is kept until a file's name, size or time of change differs.

    Raises:
        DataUnavailable: no such folder, or not in a layout that is known.
        DataCorrupt: a file in it cannot be read.
        MissingExtra: the ``datasets`` library is not installed.
    """
    require("A data set in a folder", "datasets", "PIL")
    folder = Path(source.removeprefix(PREFIX)).expanduser().absolute()
    if not folder.is_dir():
        raise DataUnavailable(f"expected a folder, but there is none at {folder}. It should hold {LAYOUT}.")
    files = {part: _files(folder, names) for part, names in (("train", table.TRAIN), ("test", table.TEST))}
    missing = [part for part, found in files.items() if not found]
    if missing:
        raise DataUnavailable(f"expected {LAYOUT}; {folder} holds no {missing[0]} files. Rename them so.")

    def make() -> tuple[Arrays, str]:
        progress(0, None, f"decoding {folder}")
        # A table that came with pictures of its own names none elsewhere.
        return table.arrays(_read(files), str(folder), paths=not _are_tables(files)), f"the folder {folder}"

    place = hashlib.sha256(str(folder).encode(errors="surrogateescape")).hexdigest()[:12]
    name = f"dir--{re.sub(r'[^A-Za-z0-9.-]', '-', folder.name)[:40]}--{place}"
    return cache.keep(name, make, stamp=stamp([*files["train"], *files["test"]]), progress=progress)


def stamp(files: Sequence[Path]) -> str:
    """Names the state of files: their paths, sizes and times of change."""
    digest = hashlib.sha256()
    for file in sorted(files):
        status = file.stat()
        digest.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _files(folder: Path, names: Sequence[str]) -> list[Path]:
    for name in names:
        tables = [*folder.glob(f"{name}.parquet"), *folder.glob(f"{name}-*.parquet"), *folder.glob(f"{name}/*.parquet")]
        found = sorted(tables) or _pictures(folder / name)
        if found:
            return found
    return []


def _pictures(part: Path) -> list[Path]:
    """All that lies in the folders of the classes: what is no picture is not left out without a word."""
    if not part.is_dir():
        return []
    found = []
    for kind in _entries(part):
        if not kind.is_dir():
            raise DataUnavailable(f"expected {LAYOUT}, got {_shown(kind)}, which is in no folder of a class. Move it.")
        for path in _entries(kind):
            if path.suffix.lower() not in _suffixes() or not path.is_file():
                raise DataUnavailable(f"expected pictures alone in {_shown(kind)}, got {_shown(path)}. Move it.")
            found.append(path)
    return found


@functools.cache
def _suffixes() -> frozenset[str]:
    """Of the pictures that are opened."""
    from PIL import Image

    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in table.FORMATS)


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name[0] != "." and path.name.lower() not in LITTER)


def _shown(path: Path) -> str:
    """A path in one line of text, whatever bytes its name has."""
    text = repr(str(path))[1:-1]
    return text.encode(errors="backslashreplace").decode()


def _read(files: Mapping[str, Sequence[Path]]) -> Mapping[str, Any]:
    """Each part as a data set, of files given by name: to the library's own loaders a name is a pattern."""
    for path in itertools.chain(*files.values()):
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise DataUnavailable(f"expected names of files in UTF-8, got {_shown(path)}. Rename it.") from None
    try:
        return _tables(files) if _are_tables(files) else _classes(files)
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        words = " ".join(str(error).split())[:300]
        raise DataCorrupt(f"expected {LAYOUT}, but these files cannot be read: {words}. Check them.") from error


def _are_tables(files: Mapping[str, Sequence[Path]]) -> bool:
    return all(path.suffix == ".parquet" for found in files.values() for path in found)


def _tables(files: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    from datasets import Dataset

    return {part: Dataset(pa.concat_tables([_table(path) for path in found])) for part, found in files.items()}


def _table(path: Path) -> pa.Table:
    with path.open("rb") as file:
        found = pq.ParquetFile(file)
        groups = [found.metadata.row_group(number) for number in range(found.metadata.num_row_groups)]
        claimed = sum(group.column(n).num_values for group in groups for n in range(group.num_columns))
        if claimed > VALUES:  # of a few hundred bytes, where they are all alike
            raise DataCorrupt(f"expected at most {VALUES:,} numbers in {_shown(path)}, and it claims {claimed:,}.")
        return found.read()


def _classes(files: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    from datasets import ClassLabel, Dataset, Features, Image

    names = sorted({path.parent.name for found in files.values() for path in found})
    features = Features({"image": Image(), "label": ClassLabel(names=names)})
    return {
        part: Dataset.from_dict(
            {"image": [str(path) for path in found], "label": [path.parent.name for path in found]}, features=features
        )
        for part, found in files.items()
    }
