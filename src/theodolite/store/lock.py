"""One survey at a time writes into a results folder, one recorder into a record; the kernel lets go when it dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from theodolite.errors import NotWritable, StoreError

LOCK = ".lock"
PATIENCE = 1.0  # seconds: whoever asks whether the folder is held (`is_held`) holds it for a moment


@contextmanager
def hold(directory: Path, *, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the folder while the block runs; wait for it so many seconds.

    Raises:
        StoreError: another survey holds it.
        NotWritable: it may not be written.
    """
    lock = filelock.FileLock(directory / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=patience, poll_interval=0.02)
    except filelock.Timeout:
        raise StoreError(
            f"another survey is writing into {directory}. Wait for it, stop it, or choose another folder with --out."
        ) from None
    except OSError as error:
        raise NotWritable(
            f"cannot write {directory / LOCK}: {error.strerror or error}. "
            "Choose another folder with --out, or change its permissions."
        ) from None
    try:
        yield
    finally:
        lock.release()


def is_held(directory: Path) -> bool:
    """Whether a survey holds the folder; writes nothing, so that it answers for a read-only folder too."""
    try:
        descriptor = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks, on which none can be held
        return False
    finally:
        os.close(descriptor)
    return False
