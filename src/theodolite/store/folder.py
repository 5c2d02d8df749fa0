"""The mark of a results folder: whose it is, and of which format. Imports no torch."""

from pathlib import Path

from theodolite.errors import RecordCorrupt, StoreError, VersionMismatch
from theodolite.store import files, lock
from theodolite.store.schema import LARGEST, as_json, first_line, parsed

FORMAT = 2  # raised when records are laid out in another way (2: status and plan are sealed)
MARK = "theodolite.json"


def claim_folder(directory: Path) -> None:
    """Mark a folder as a results folder of this format, or refuse it.

    Raises:
        VersionMismatch: another format of Theodolite wrote it.
        StoreError: it holds something else, or cannot be written.
    """
    mark = directory / MARK
    others = directory.is_dir() and not all(map(_ours, directory.iterdir()))
    if not mark.exists():  # looked for after the others: a survey that starts at this moment marks before it writes
        if others:
            raise StoreError(
                f"expected an empty folder or one with results, but {directory} holds other files and no {MARK}. "
                "Choose another folder with --out."
            )
        files.write(mark, as_json({"format": FORMAT}))
    check_folder(directory)


def check_folder(directory: Path) -> None:
    """Raise unless the folder holds results of this format."""
    try:
        found = parsed(files.read(directory / MARK, LARGEST))["format"]
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(
            f"expected a results folder, but {directory} has no {MARK}. "
            "Give the folder that `theodolite run` or `theodolite survey` wrote."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordCorrupt(
            f"{directory / MARK} cannot be read ({first_line(error)}). "
            f'If the folder holds results of this Theodolite, write {{"format": {FORMAT}}} into that file.'
        ) from None
    if found != FORMAT:
        raise VersionMismatch(
            f"expected a results folder of format {FORMAT}, but {directory} has format {found!r:.50} by its {MARK}. "
            "Use the Theodolite that wrote it, or another folder with --out."
        )


def _ours(path: Path) -> bool:
    """What a survey that starts at this moment may have put into an empty folder before its mark."""
    return path.name in (lock.LOCK, MARK) or path.name.endswith(files.PART)
