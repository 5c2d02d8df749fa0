"""A data set in a folder of the user's: Parquet files or images. Read without a network; nothing is written there."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from theodolite.data import cache, table
from theodolite.data.arrays import Arrays, Progress
from theodolite.data.hub import quiet
from theodolite.errors import DataCorrupt, DataUnavailable, require

PREFIX = "dir:"
LAYOUT = (
    "train.parquet and test.parquet (or several: train/*.parquet), or images as train/CLASS/*.png and test/CLASS/*.png"
)


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
        with cache.scratch() as scratch:
            return table.arrays(_read(files, scratch), str(folder)), f"the folder {folder}"

    place = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    name = f"dir--{re.sub(r'[^A-Za-z0-9.-]', '-', folder.name)[:40]}--{place}"
    return cache.keep(name, make, stamp=stamp([*files["train"], *files["test"]]), progress=progress)


def stamp(files: Sequence[Path]) -> str:
    """Names the state of files: their paths, sizes and times of change."""
    digest = hashlib.sha256()
    for file in sorted(files):
        status = file.stat()
        digest.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _files(folder: Path, names: Sequence[str]) -> list[Path]:
    for name in names:
        parquet = sorted(
            [*folder.glob(f"{name}.parquet"), *folder.glob(f"{name}-*.parquet"), *folder.glob(f"{name}/*.parquet")]
        )
        found = parquet or sorted(path for path in folder.glob(f"{name}/*/*") if path.is_file() and path.name[0] != ".")
        if found:
            return found
    return []


def _read(files: dict[str, list[Path]], scratch: Path) -> Any:
    from datasets import load_dataset

    tables = all(path.suffix == ".parquet" for found in files.values() for path in found)
    named = {part: [str(path) for path in found] for part, found in files.items()}
    options = {} if tables else {"drop_labels": False}
    try:
        with quiet():
            return load_dataset(
                "parquet" if tables else "imagefolder", data_files=named, cache_dir=str(scratch), **options
            )
    except Exception as error:  # of pyarrow, of the library, of the disk
        words = " ".join(str(error.__cause__ or error).split())[:300]
        raise DataCorrupt(f"expected {LAYOUT}, but these files cannot be read: {words}. Check them.") from error
