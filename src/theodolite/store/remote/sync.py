"""Records and plans between a folder of this machine and an address, so that both hold the same.

A record goes up file by file, each in one request, ``status.json`` last: that seals it, so a record that is cut off
counts no more than one on a disk. What comes down is checked by the same sums.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import Enum, auto
from functools import partial
from pathlib import Path

from theodolite.errors import StoreError
from theodolite.store import files
from theodolite.store.folder import MARK, check_folder
from theodolite.store.plan import HEADS
from theodolite.store.record import STATUS, parse_status, read_status
from theodolite.store.remote.objects import Objects, Patient, connect
from theodolite.store.schema import Status

TRANSFERS = 16  # requests at a time: they wait for the network, not for the processor
NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"  # nothing that leads out of a folder
RECORD = re.compile(rf"({NAME}/(?:runs|analyses)/[0-9a-f]{{16}})/({NAME})")
HEAD = re.compile(rf"{re.escape(MARK)}|{NAME}/(?:{'|'.join(map(re.escape, HEADS))})")

Wanted = Callable[[str], bool]  # which files of a record, by name


class Side(Enum):
    """Where a record is as it should be everywhere."""

    LOCAL = auto()
    REMOTE = auto()
    NEITHER = auto()


def winner(local: Status | None, remote: Status | None, *, survey: bool) -> Side:
    """Which side of a record counts, read from the top.

    =========== =========== ============ ===========
    local       remote      in a survey  in a reader
    =========== =========== ============ ===========
    done        not done    local        remote
    done        none        local        neither
    anything    none        neither      neither
    anything    anything    remote       remote
    =========== =========== ============ ===========
    """
    if survey and _is_done(local) and not _is_done(remote):
        return Side.LOCAL
    return Side.NEITHER if remote is None else Side.REMOTE


def _is_done(status: Status | None) -> bool:
    return status is not None and status.state == "done"


def everything(name: str) -> bool:
    """All files of a record, as a survey needs them."""
    return True


def tables(name: str) -> bool:
    """What tables, claims and pages are made of: all but weights."""
    return not name.endswith(".safetensors")


def states(name: str) -> bool:
    """What tells how far runs are."""
    return name in (STATUS, "spec.json")


def upload(address: str | None, folder: Path) -> None:
    """Upload a record, its status last; for two minutes again and again where the address does not answer.

    Args:
        address: of the results; None where the folder itself is the place, and nothing is to be done.
        folder: of the record.

    Raises:
        StoreError: it cannot be brought up. It is kept where it is.
    """
    status = read_status(folder)
    if address is None or status is None:
        return
    found, directory = Patient(connect(address)), folder.parents[2]
    key = key_of(directory, folder)
    upload_files(found, directory, [f"{key}/{name}" for name in status.files])
    upload_files(found, directory, [f"{key}/{STATUS}"])  # by now all that it names is there


def download(address: str | None, folders: Iterable[Path], wanted: Wanted) -> None:
    """Download records that are not finished on this machine; as patient as :func:`upload`.

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
        _merge_record(found, directory, key_of(directory, folder), {STATUS: 0}, wanted, survey=False)

    _in_parallel(partial(one, folder) for folder in folders if not _is_done(read_status(folder)))


def merge(found: Objects, directory: Path, wanted: Wanted, *, survey: bool) -> None:
    """Merge an address into a folder, so that this is its copy.

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
        _download_file(found, directory, MARK)
        check_folder(directory)
    elif not survey:
        return
    for key in filter(HEAD.fullmatch, listed):
        _download_file(found, directory, key)
    there = _records(listed)
    here = {key_of(directory, path.parent) for path in directory.glob(f"*/*/*/{STATUS}")}
    _in_parallel(
        partial(_merge_record, found, directory, key, there.get(key, {}), wanted, survey=survey)
        for key in sorted(here | there.keys())
    )


def _merge_record(
    found: Objects, directory: Path, key: str, listed: Mapping[str, int], wanted: Wanted, *, survey: bool
) -> None:
    """Make one record the same on both sides: as it is on the side that :func:`winner` names."""
    folder, sealed = directory / key, f"{key}/{STATUS}"
    local, content = read_status(folder), found.get(sealed) if STATUS in listed else None
    remote = parse_status(content, folder) if content is not None else None
    side = winner(local, remote, survey=survey)
    if side is Side.LOCAL:
        upload(found.address, folder)
        return
    if local != remote or side is Side.NEITHER:
        (folder / STATUS).unlink(missing_ok=True)  # no status says of files what is not so
    if remote is None or content is None:
        return
    for name in remote.files or listed if remote.readable else ():  # it may be newer than the listing
        if name != STATUS and wanted(name) and not _whole(folder / name, remote):
            _download_file(found, directory, f"{key}/{name}")
    _write_if_changed(directory / sealed, content)
    if survey:
        whole = [name for name in remote.files if _whole(folder / name, remote)]
        upload_files(found, directory, [f"{key}/{n}" for n in whole if listed.get(n) != (folder / n).stat().st_size])


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


def _download_file(found: Objects, directory: Path, key: str) -> None:
    content = found.get(key)
    if content is not None:
        _write_if_changed(directory / key, content)


def _write_if_changed(path: Path, content: bytes) -> None:
    """Write it, unless it is there: onlookers read what changed."""
    with suppress(OSError):
        if files.read(path) == content:
            return
    files.write(path, content)


def _in_parallel(actions: Iterable[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(TRANSFERS) as threads:
        for job in [threads.submit(action) for action in actions]:
            job.result()


def upload_files(found: Objects, directory: Path, keys: Iterable[str]) -> None:
    """Upload files.

    Raises:
        StoreError: one cannot be read, or the address does not answer.
    """
    for key in keys:
        try:
            content = files.read(directory / key)
        except OSError as error:
            raise StoreError(f"cannot read {directory / key} to bring it up: {error.strerror or error}.") from None
        found.put(key, content)


def key_of(directory: Path, path: Path) -> str:
    """What a file of the folder is called at the address."""
    return path.relative_to(directory).as_posix()
