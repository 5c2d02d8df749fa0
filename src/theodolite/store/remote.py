"""Results at an address: a survey works in a folder of this machine, and every record goes up when it is finished.

The address is the truth. The folder is a working copy with all that a results folder promises; it lives until
everything in it has reached the address. A record goes up file by file, each in one request, ``status.json`` last: that
seals it, so a record that is cut off counts no more than one on a disk. What comes down is checked by the same sums.
"""

import hashlib
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from theodolite.data.cache import root
from theodolite.errors import StoreError
from theodolite.store import files, lease, lock, records
from theodolite.store.folder import MARK, check_folder, claim_folder
from theodolite.store.forms import Status
from theodolite.store.objects import Objects, Patient, connect, is_address

TRANSFERS = 16  # requests at a time: they wait for the network, not for the processor
FRESH = 10.0  # seconds between two looks of a page at an address
NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"  # nothing that leads out of a folder
RECORD = re.compile(rf"({NAME}/(?:runs|analyses)/[0-9a-f]{{16}})/({NAME})")
HEAD = re.compile(rf"{re.escape(MARK)}|{NAME}/{re.escape(records.PLAN)}")
PAGES = re.compile(rf"report\.(?:html|md)|{NAME}/claims\.json|{NAME}/(?:tables|figures)/{NAME}")

Wanted = Callable[[str], bool]  # which files of a record, by name


def everything(name: str) -> bool:
    """All files of a record, as a survey needs them."""
    return True


def tables(name: str) -> bool:
    """What tables, claims and pages are made of: all but weights."""
    return not name.endswith(".safetensors")


def states(name: str) -> bool:
    """What tells how far runs are."""
    return name in (records.STATUS, "spec.json")


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
        self._send([self.directory / MARK, *self.directory.glob(f"*/{records.PLAN}")])

    def send_pages(self) -> None:
        """Bring up the report."""
        self._send(p for p in sorted(self.directory.rglob("*")) if PAGES.fullmatch(_key(self.directory, p)))

    def _send(self, paths: Iterable[Path]) -> None:
        if self.address is not None:
            _put(Patient(connect(self.address)), self.directory, [_key(self.directory, path) for path in paths])


def send(address: str | None, folder: Path) -> None:
    """Bring a record up, its status last; for two minutes again and again where the address does not answer.

    Args:
        address: of the results; None where the folder itself is the place, and nothing is to be done.
        folder: of the record.

    Raises:
        StoreError: it cannot be brought up. It is kept where it is.
    """
    status = records.read_status(folder)
    if address is None or status is None:
        return
    found, directory = Patient(connect(address)), folder.parents[2]
    key = _key(directory, folder)
    _put(found, directory, [f"{key}/{name}" for name in status.files])
    _put(found, directory, [f"{key}/{records.STATUS}"])  # by now all that it names is there


def bring(address: str | None, folders: Iterable[Path], wanted: Wanted) -> None:
    """Bring records down that are not finished on this machine; as patient as :func:`send`.

    Args:
        address: as there.
        folders: of the records.
        wanted: files of them to bring down.
    """
    if address is None:
        return
    found = Patient(connect(address))

    def one(folder: Path) -> None:
        directory = folder.parents[2]
        _meet_record(found, directory, _key(directory, folder), {records.STATUS: 0}, wanted, survey=False)

    states = ((folder, records.read_status(folder)) for folder in folders)
    _at_once(partial(one, folder) for folder, state in states if state is None or state.state != "done")


@contextmanager
def near(directory: Path, address: str | None) -> Iterator[Path]:
    """The folder; or, on a machine that does not see it, one for this job alone, whose records go to the address."""
    if address is None or directory.is_dir():
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="theodolite-") as own:
        yield Path(own)


@contextmanager
def working(place: str | Path, said: Callable[[str], None] = lambda words: None) -> Iterator[Copy]:
    """Where a survey works whose results go to a place; of an address, with what is there already.

    The folder of an address is below the cache's. It is removed when the block ends, unless by an exception: then the
    next survey on this machine brings up what did not get there.

    Args:
        place: a folder, or an address.
        said: told in words what is waited for.

    Raises:
        StoreError: the address does not answer, may not be written, holds other things, or is held by another survey.
        UsageError: see :func:`theodolite.store.objects.connect`.
    """
    if not is_address(str(place)):
        yield Copy(Path(place))
        return
    found = connect(str(place))
    home = root() / "remote" / hashlib.sha256(found.address.encode()).hexdigest()[:16]
    directory = home / "results"
    with _named(found.address, directory, home), _alone(home):
        _claim(found)
        with lease.hold(found, _machine(home), said) as held:
            meet(found, directory, everything, survey=True)
            claim_folder(directory)
            copy = Copy(directory, found.address, held)
            copy.send_plans()
            yield copy
            held.check()
            meet(Patient(found), directory, states, survey=True)  # nothing is dropped that is not there
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def reading(place: str | Path, wanted: Wanted) -> Iterator[Copy]:
    """A results folder with what is at a place, as far as it is wanted; held while a survey holds the address.

    Args:
        place: a folder, which is taken as it is, or an address.
        wanted: files of records to bring down.

    Raises:
        StoreError: the address does not answer or may not be read.
        UsageError: see :func:`theodolite.store.objects.connect`.
    """
    with _brought(place, wanted) as (copy, alive), lock.hold(copy.directory) if alive else nullcontext():
        yield copy


@contextmanager
def following(place: str | Path) -> Iterator[Copy]:
    """As :func:`reading` of all tables, and brought up to date every ten seconds while the block runs."""
    with _brought(place, tables) as (copy, alive):
        stop = threading.Event()
        thread = threading.Thread(target=_follow, args=(copy, stop, alive), daemon=True)
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
        meet(found, Path(own), wanted, survey=False)
        yield Copy(Path(own), found.address), lease.lives(found, before, since)


def meet(found: Objects, directory: Path, wanted: Wanted, *, survey: bool) -> None:
    """Make a folder the copy of an address.

    Args:
        found: the address.
        directory: the folder.
        wanted: files of records to bring down.
        survey: also bring up what was finished here while the address was out of reach, or was cut there.

    Raises:
        VersionMismatch, RecordCorrupt: see :func:`theodolite.store.folder.check_folder`.
        StoreError: the address does not answer.
    """
    listed = found.list()
    if MARK in listed:
        _get(found, directory, MARK)
        check_folder(directory)
    elif not survey:
        return
    for key in filter(HEAD.fullmatch, listed):
        _get(found, directory, key)
    there = _records(listed)
    here = {_key(directory, path.parent) for path in directory.glob(f"*/*/*/{records.STATUS}")}
    _at_once(
        partial(_meet_record, found, directory, key, there.get(key, {}), wanted, survey=survey)
        for key in sorted(here | there.keys())
    )


def _meet_record(
    found: Objects, directory: Path, key: str, listed: Mapping[str, int], wanted: Wanted, *, survey: bool
) -> None:
    """Make one record the same on both sides: what is finished wins; of two that are, the one at the address."""
    folder, sealed = directory / key, f"{key}/{records.STATUS}"
    here, content = records.read_status(folder), found.get(sealed) if records.STATUS in listed else None
    there = records.parse_status(content, folder) if content is not None else None
    if survey and here is not None and here.state == "done" and (there is None or there.state != "done"):
        send(found.address, folder)
        return
    if here != there or there is None:
        (folder / records.STATUS).unlink(missing_ok=True)  # no status says of files what is not so
    if there is None or content is None:
        return
    for name in there.files or listed if there.readable else ():  # it may be newer than the listing
        if name != records.STATUS and wanted(name) and not _whole(folder / name, there):
            _get(found, directory, f"{key}/{name}")
    _keep(directory / sealed, content)
    if survey:
        whole = [name for name in there.files if _whole(folder / name, there)]
        _put(found, directory, [f"{key}/{n}" for n in whole if listed.get(n) != (folder / n).stat().st_size])


def _follow(copy: Copy, stop: threading.Event, alive: bool) -> None:
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
                meet(found, copy.directory, tables, survey=False)


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
        raise StoreError(
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
    except StoreError as error:
        said = str(error)
        if not said.startswith("cannot write"):
            for folder in folders:
                said = said.replace(str(folder), address)
        raise type(error)(said) from None


def _records(listed: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Bytes of each file, by record; whatever else lies at the address is left alone."""
    found: dict[str, dict[str, int]] = {}
    for key, size in listed.items():
        if match := RECORD.fullmatch(key):
            found.setdefault(match[1], {})[match[2]] = size
    return found


def _whole(path: Path, status: Status) -> bool:
    try:
        return files.checksum(files.read(path)) == status.files.get(path.name)
    except OSError:
        return False


def _get(found: Objects, directory: Path, key: str) -> None:
    content = found.get(key)
    if content is not None:
        _keep(directory / key, content)


def _keep(path: Path, content: bytes) -> None:
    """Write it, unless it is there: onlookers read what changed."""
    with suppress(OSError):
        if files.read(path) == content:
            return
    files.write(path, content)


def _at_once(actions: Iterable[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(TRANSFERS) as threads:
        for job in [threads.submit(action) for action in actions]:
            job.result()


def _put(found: Objects, directory: Path, keys: Iterable[str]) -> None:
    for key in keys:
        try:
            content = files.read(directory / key)
        except OSError as error:
            raise StoreError(f"cannot read {directory / key} to bring it up: {error.strerror or error}.") from None
        found.put(key, content)


def _key(directory: Path, path: Path) -> str:
    return path.relative_to(directory).as_posix()
