"""Files written whole: a reader sees the old file or the new one, never a part."""

import errno
import hashlib
import os
from contextlib import suppress
from pathlib import Path

from theodolite.errors import StoreError

PART = ".part"  # ending of a file not yet whole; whatever bears it was left by a killed process


def write(path: Path, content: bytes) -> None:
    """Write a file whole: a temporary name in the same folder, then ``os.replace``.

    No fsync: what a power cut may tear is found by the checksums in ``status.json``, and that run is redone.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise StoreError(_advice(path, error)) from error


def checksum(content: bytes) -> str:
    """SHA-256 of the content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sweep(folder: Path) -> None:
    """Remove what killed processes left half written. The caller holds the folder's lock."""
    for part in folder.rglob(f".*{PART}"):
        part.unlink(missing_ok=True)


def _advice(path: Path, error: OSError) -> str:
    full = "Free some space and run the same command again: finished runs are kept."
    denied = "it may not be written. Choose another folder with --out, or change its permissions."
    blocked = "a part of its path is a file. Choose another folder with --out."
    what = {
        errno.ENOSPC: f"the disk is full. {full}",
        errno.EDQUOT: f"the disk quota is used up. {full}",
        errno.EACCES: denied,
        errno.EPERM: denied,
        errno.EROFS: "its file system is read-only. Choose another folder with --out.",
        errno.ENOTDIR: blocked,
        errno.EEXIST: blocked,
    }.get(error.errno or 0, f"{error.strerror or error}.")
    return f"cannot write {path}: {what}"
