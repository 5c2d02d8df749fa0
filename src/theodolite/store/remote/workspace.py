"""Results at an address: a survey works in a folder of this machine, and every record goes up when it is finished.

The address is the truth. The folder is a working copy with all that a results folder promises; it lives until
everything in it has reached the address (:mod:`~theodolite.store.remote.sync`).
"""

import hashlib
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from theodolite.data.cache import root
from theodolite.errors import NotWritable, StoreError
from theodolite.store import files, lock
from theodolite.store.folder import MARK, claim_folder
from theodolite.store.plan import HEADS
from theodolite.store.remote import lease
from theodolite.store.remote.objects import Objects, Patient, connect, is_address
from theodolite.store.remote.sync import (
    NAME,
    Wanted,
    download,
    everything,
    key_of,
    merge,
    states,
    tables,
    upload,
    upload_files,
)

__all__ = [
    "FRESH", "PAGES", "Copy", "download", "everything", "local_folder", "reading", "refreshing", "states", "tables",
    "upload", "working",
]  # fmt: skip

FRESH = 10.0  # seconds between two looks of a page at an address
PAGES = re.compile(rf"report\.(?:html|md)|summary\.(?:png|svg)|{NAME}/claims\.json|{NAME}/(?:tables|figures)/{NAME}")


@dataclass(frozen=True)
class Copy:
    """Results in a folder of this machine, and the address that they are a copy of."""

    directory: Path
    address: str | None = None  # None: the folder itself is the place
    held: lease.Lease | None = None

    @property
    def place(self) -> str:
        """As a person named it."""
        return self.address or str(self.directory)

    def check(self) -> None:
        """Raise StoreError where another survey took the address over."""
        if self.held is not None:
            self.held.check()

    def send_plans(self) -> None:
        """Bring up what the survey sets out to do."""
        self._send([self.directory / MARK, *(path for name in HEADS for path in self.directory.glob(f"*/{name}"))])

    def send_pages(self) -> None:
        """Bring up the report."""
        self._send(p for p in sorted(self.directory.rglob("*")) if PAGES.fullmatch(key_of(self.directory, p)))

    def _send(self, paths: Iterable[Path]) -> None:
        if self.address is not None:
            upload_files(
                Patient(connect(self.address)), self.directory, [key_of(self.directory, path) for path in paths]
            )


@contextmanager
def local_folder(directory: Path, address: str | None) -> Iterator[Path]:
    """The folder; or, on a machine that does not see it, one for this job alone, whose records go to the address."""
    if address is None or directory.is_dir():
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="theodolite-") as own:
        yield Path(own)


@contextmanager
def working(place: str | Path, said: Callable[[str], None] = lambda words: None) -> Iterator[Copy]:
    """Where a survey works whose results go to a place, held until the block ends; of an address, with what is there.

    The folder of an address is below the cache's. It is removed when the block ends, unless by an exception: then the
    next survey on this machine brings up what did not get there.

    Args:
        place: a folder, or an address.
        said: told in words what is waited for.

    Raises:
        StoreError: the place may not be written, holds other things, or is held by another survey; or an address does
            not answer.
        UsageError: see :func:`theodolite.store.remote.objects.connect`.
    """
    if not is_address(str(place)):
        with _held(Path(place)):
            yield Copy(Path(place))
        return
    found = connect(str(place))
    home = root() / "remote" / hashlib.sha256(found.address.encode()).hexdigest()[:16]
    directory = home / "results"
    with _named(found.address, directory, home), _alone(home):
        _claim(found)
        with lease.hold(found, _machine(home), said) as held:
            merge(found, directory, everything, survey=True)
            with _held(directory):
                copy = Copy(directory, found.address, held)
                copy.send_plans()
                yield copy
            held.check()
            merge(Patient(found), directory, states, survey=True)  # nothing is dropped that is not there
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Claim the folder and hold it: one survey at a time writes into it."""
    claim_folder(directory)
    with lock.hold(directory):
        yield


@contextmanager
def reading(place: str | Path, wanted: Wanted) -> Iterator[Copy]:
    """A results folder with what is at a place, as far as it is wanted; held while a survey holds the address.

    Args:
        place: a folder, which is taken as it is, or an address.
        wanted: files of records to bring down.

    Raises:
        StoreError: the address does not answer or may not be read.
        UsageError: see :func:`theodolite.store.remote.objects.connect`.
    """
    with _brought(place, wanted) as (copy, alive), lock.hold(copy.directory) if alive else nullcontext():
        yield copy


@contextmanager
def refreshing(place: str | Path) -> Iterator[Copy]:
    """As :func:`reading` of all tables, and brought up to date every ten seconds while the block runs."""
    with _brought(place, tables) as (copy, alive):
        stop = threading.Event()
        thread = threading.Thread(target=_refresh, args=(copy, stop, alive), daemon=True)
        if copy.address is not None:
            thread.start()
        try:
            yield copy
        finally:
            stop.set()
            if copy.address is not None:
                thread.join()


@contextmanager
def _brought(place: str | Path, wanted: Wanted) -> Iterator[tuple[Copy, bool]]:
    """The copy, and whether a survey holds its address."""
    if not is_address(str(place)):
        yield Copy(Path(place)), False
        return
    found = connect(str(place))
    with tempfile.TemporaryDirectory(prefix="theodolite-") as own, _named(found.address, Path(own)):
        since, before = time.monotonic(), lease.beats(found)
        merge(found, Path(own), wanted, survey=False)
        yield Copy(Path(own), found.address), lease.lives(found, before, since)


def _refresh(copy: Copy, stop: threading.Event, alive: bool) -> None:
    found = connect(copy.place)
    before = {} if alive else lease.beats(found)
    with ExitStack() as held:
        while True:
            if alive and not lock.is_held(copy.directory):
                held.enter_context(lock.hold(copy.directory))
            elif not alive:
                held.close()
            if stop.wait(FRESH):
                return
            with suppress(StoreError):  # what was there last is shown until it answers again
                now = lease.beats(found)
                alive = any(beat != before.get(name) for name, beat in now.items())
                before = now
                merge(found, copy.directory, tables, survey=False)


def _claim(found: Objects) -> None:
    """Refuse an address with other things, before anything is written there."""
    listed = found.list()
    if MARK not in listed and any(not key.startswith(lease.FOLDER) for key in listed):
        raise StoreError(
            f"expected an empty address or one with results, but {found.address} holds other objects and no {MARK}. "
            "Choose another address with --out."
        )


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritable(
            f"cannot write {home}: {error.strerror or error}. Name another folder for it in THEODOLITE_CACHE."
        ) from None
    with lock.hold(home):
        yield


def _machine(home: Path) -> str:
    """A random name of this machine's copy of an address. The caller holds its lock."""
    path = home / "machine"
    with suppress(OSError):
        return path.read_text()
    files.write(path, secrets.token_hex(8).encode())
    return path.read_text()


@contextmanager
def _named(address: str, *folders: Path) -> Iterator[None]:
    """Errors speak of the address, not of the folder that is its copy; but a disk that is full is this machine's."""
    try:
        yield
    except NotWritable:
        raise
    except StoreError as error:
        said = str(error)
        for folder in folders:
            said = said.replace(str(folder), address)
        raise type(error)(said) from None
