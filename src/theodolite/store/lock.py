"""One survey at a time writes into a results folder, one recorder into a record; the kernel lets go when it dies."""

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
    """Whether a survey holds the folder; on POSIX this writes nothing, and answers for a read-only folder too.

    A survey that is killed while it starts a program seems to hold it for some 0.1 s more: the new process has all that
    its parent had open, until it becomes that program.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return _is_held_elsewhere(directory / LOCK)
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


def _is_held_elsewhere(path: Path) -> bool:
    """Takes the lock for a moment, which is the one way of asking that every system has."""
    if not path.exists():
        return False
    lock = filelock.FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False
