"""Files written whole: a reader sees the old file or the new one, never a part; and read only as far as is sane."""

import errno
import hashlib
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from theodolite.errors import NotWritable

PART = ".part"  # ending of a file not yet whole; whatever bears it was left by a killed process
# Without waiting for a pipe, kept from child processes, and on Windows as bytes.
OPENED = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
LARGEST = 8 << 30  # bytes of a file that is read whole: more is no record


def write(path: Path, content: bytes) -> None:
    """Write a file whole: a temporary name in the same folder, then ``os.replace``.

    No fsync: what a power cut may tear is found by the checksums in ``status.json``, and that run is redone.

    Raises:
        NotWritable: it cannot be written; what was there before is still there.
    """
    try:
        try:
            _replace(path, content)
        except FileNotFoundError:  # a survey that started just now swept our part away: once more
            _replace(path, content)
    except OSError as error:
        raise NotWritable(_advice(path, error)) from error


def read(path: Path, largest: int = LARGEST) -> bytes:
    """The bytes of a regular file; of a pipe or device, which may have no end, or of a huge file: an OSError."""
    descriptor = os.open(path, OPENED)
    try:  # without a file object, which takes as long to make as a small file to read
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        if status.st_size > largest:
            raise OSError(errno.EFBIG, f"it has {status.st_size} bytes, and at most {largest} are expected")
        parts, left = [b""], status.st_size
        while left and (part := os.read(descriptor, left)):  # gives 2 GB at most
            parts.append(part)
            left -= len(part)
        return b"".join(parts) if len(parts) > 2 else parts[-1]
    finally:
        os.close(descriptor)


def checksum(content: bytes) -> str:
    """SHA-256 of the content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sweep(folder: Path) -> None:
    """Remove what killed processes left half written. The caller holds the folder's lock."""
    for part in folder.rglob(f".*{PART}"):
        try:
            part.unlink(missing_ok=True)
        except OSError as error:
            raise NotWritable(_advice(part, error)) from error


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(f".{secrets.token_hex(8)}{PART}")  # as short as it can be: the name itself may be 255 bytes
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except BaseException:  # Ctrl-C, too
        with suppress(OSError):
            part.unlink()
        raise


def _advice(path: Path, error: OSError) -> str:
    full = "Free some space and run the same command again: finished runs are kept."
    denied = "it may not be written. Choose another folder with --out, or change its permissions."
    blocked = "a part of its path is a file, or a link to nothing. Choose another folder with --out."
    what = {
        errno.ENOSPC: f"the disk is full. {full}",
        errno.EDQUOT: f"the disk quota is used up. {full}",
        errno.EFBIG: "it would be larger than files may be here (ulimit -f). Raise that limit.",
        errno.EACCES: denied,
        errno.EPERM: denied,
        errno.EROFS: "its file system is read-only. Choose another folder with --out.",
        errno.ENOTDIR: blocked,
        errno.EEXIST: blocked,
        errno.EISDIR: "a folder has its name. Move that folder away.",
    }.get(error.errno or 0, f"{error.strerror or error}.")
    return f"cannot write {path}: {what}"
