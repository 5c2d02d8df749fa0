"""Decoded arrays kept on disk: written whole, checked when opened, memory-mapped so that processes share their pages.

A source is a folder of four ``.npy`` files and a ``manifest.json``, which is written last and holds their checksums.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from theodolite.data.arrays import Array, Arrays, Progress, pixel_statistics, silent
from theodolite.errors import DataCorrupt, DataError

FORMAT = 1  # raised when the files of an entry change their meaning; older entries are made again
SCRATCH = ".fetch-"  # beginning of a folder for what is only needed while a set is fetched
PART = ".part"  # ending of a file not yet whole
NAMES = ("train_inputs", "train_targets", "test_inputs", "test_targets")


class CorruptCache(UserWarning):
    """A file of the cache was cut or altered; it is named, and made again."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A source in the cache."""

    arrays: Arrays  # memory-mapped, read-only
    mean: list[float] | None  # images: of each channel of the whole training set, in pixel values
    deviation: list[float] | None
    origin: str  # where it came from, in words
    folder: Path
    bytes: int  # on disk
    fresh: bool  # made by this call


def root() -> Path:
    """The cache's folder: ``THEODOLITE_CACHE``, or the user's cache folder of this system.

    Raises:
        DataError: neither is there: a user without a home folder.
    """
    chosen = os.environ.get("THEODOLITE_CACHE")
    try:
        folder = Path(chosen).expanduser().absolute() if chosen else user_cache_path("theodolite")
    except RuntimeError:  # as pathlib says that there is no home folder
        folder = Path("~")
    if folder.parts[0] == "~":  # as platformdirs does: a folder of that name, wherever one stands
        raise DataError("expected a home folder to keep data sets in, got none. Set THEODOLITE_CACHE to a folder.")
    return folder


def keep(name: str, make: Callable[[], tuple[Arrays, str]], *, stamp: str = "", progress: Progress = silent) -> Entry:
    """Open an entry, or make it, in one process at a time.

    Args:
        name: of the entry, fit for a folder name.
        make: gives the arrays and where they came from; called if the entry is absent, corrupt or of another stamp.
        stamp: names the state of the files it is made from; empty: whatever is there will do.
        progress: told when another process is waited for.

    Raises:
        DataError: the cache cannot be written; and whatever ``make`` raises.
    """
    try:
        entry = read(name, stamp)
    except DataCorrupt:
        entry = None  # judged again below: another process may be writing it just now
    if entry is not None:
        return entry
    with _lock(name, progress):
        try:
            entry = read(name, stamp)
        except DataCorrupt as error:
            warnings.warn(f"{error} It is made again now.", CorruptCache, stacklevel=2)
        if entry is not None:
            return entry
        arrays, origin = make()
        with _disk(name):
            _write(name, arrays, origin, stamp)
        made = read(name, stamp, fresh=True)
    if made is None:
        raise DataError(f"expected '{name}' in {root()} right after writing it, but it is gone. Run the command again.")
    return made


def read(name: str, stamp: str = "", *, fresh: bool = False) -> Entry | None:
    """Open an entry; None if there is none of this format and stamp.

    Sizes are checked each time. The checksum of a file is computed once in a process as long as the file is the same
    (size, time of change, inode): 0.1 s for the 184 MB of CIFAR-10, at the 1.8 GB/s of SHA-256 in hardware.

    Raises:
        DataCorrupt: a file is cut, altered or missing; the message names it.
    """
    folder = root() / name
    with _disk(name):
        manifest = _manifest(folder / "manifest.json")
        if manifest is None or manifest["format"] != FORMAT or (stamp and manifest["stamp"] != stamp):
            return None
        arrays = {key: _array(folder / f"{key}.npy", **manifest["files"][key]) for key in NAMES}
    return Entry(
        Arrays(**arrays, classes=manifest["classes"], peak=manifest["peak"]),
        manifest["mean"],
        manifest["deviation"],
        manifest["origin"],
        folder,
        sum(manifest["files"][key]["size"] for key in NAMES),
        fresh,
    )


def holds(name: str) -> bool:
    """Whether an entry of this format is there, by its manifest alone."""
    try:
        manifest = _manifest(root() / name / "manifest.json")
    except (DataCorrupt, OSError):  # of somebody else, perhaps
        return False
    return manifest is not None and manifest["format"] == FORMAT


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for what is only needed while a set is fetched, on the cache's own disk; removed afterwards."""
    with _disk("what is being fetched"):
        root().mkdir(parents=True, exist_ok=True)
        for left in root().glob(f"{SCRATCH}*"):  # by a process that was killed
            if time.time() - left.stat().st_mtime > 86_400:
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=root(), prefix=SCRATCH, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def _disk(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"expected to keep '{name}' in the cache {root()}, but: {error.strerror or error}. "
            "Free some space, or set THEODOLITE_CACHE to a folder that may be read and written."
        ) from error


@contextmanager
def _lock(name: str, progress: Progress) -> Iterator[None]:
    with _disk(name):
        root().mkdir(parents=True, exist_ok=True)
        lock = FileLock(root() / f".{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress(0, None, f"{name}: another process is fetching it; waiting for that")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _write(name: str, arrays: Arrays, origin: str, stamp: str) -> None:
    folder = root() / name
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f".*{PART}"):  # by a process that was killed; the lock is ours
        left.unlink()
    (folder / "manifest.json").unlink(missing_ok=True)
    files = {}
    for key in NAMES:
        path = folder / f"{key}.npy"
        with _whole(path) as file:
            np.save(file, np.ascontiguousarray(getattr(arrays, key)), allow_pickle=False)
        files[key] = {"size": path.stat().st_size, "sha256": _sha256(path)}
    mean, deviation = pixel_statistics(arrays.train_inputs) if arrays.peak is not None else (None, None)
    content: dict[str, Any] = {"format": FORMAT, "origin": origin, "stamp": stamp, "files": files}
    content |= {"classes": arrays.classes, "peak": arrays.peak, "mean": mean, "deviation": deviation}
    with _whole(folder / "manifest.json") as file:
        file.write(json.dumps({"content": content, "sha256": _seal(content)}, indent=1).encode())


@contextmanager
def _whole(path: Path) -> Iterator[Any]:
    """A file that appears under its name only once it is whole and on the disk."""
    part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _manifest(path: Path) -> dict[str, Any] | None:
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        whole = json.loads(text)
        content: dict[str, Any] = whole["content"]
        sound = whole["sha256"] == _seal(content)
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise DataCorrupt(f"expected the manifest that was written, but the cache file {path} was cut or altered.")
    return content


def _array(path: Path, size: int, sha256: str) -> Array:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise DataCorrupt(f"expected {size} bytes, but the cache file {path} is missing.") from None
    if status.st_size != size:
        raise DataCorrupt(f"expected {size} bytes, but the cache file {path} has {status.st_size}.")
    if _sha256_once(path, size, status.st_mtime_ns, status.st_ino) != sha256:
        raise DataCorrupt(f"expected the bytes that were written, but the cache file {path} was altered.")
    array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _seal(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=1024)
def _sha256_once(path: Path, size: int, changed: int, inode: int) -> str:
    return _sha256(path)
