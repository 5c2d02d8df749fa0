"""The index of sources: a name, what it is, and the function that opens it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from theodolite.data import cache
from theodolite.data.arrays import Progress, silent
from theodolite.data.cifar10 import CIFAR10
from theodolite.data.digits import digits
from theodolite.data.folder import PREFIX as FOLDER
from theodolite.data.folder import open_folder
from theodolite.data.function import NAMED, POINTS, function_arrays
from theodolite.data.hub import PREFIX as HUB
from theodolite.data.hub import open_hub
from theodolite.data.mnist import MNIST
from theodolite.data.mnist1d import mnist1d
from theodolite.data.published import open_published
from theodolite.data.spec import FUNCTION, DataSpec
from theodolite.errors import UnknownName

Open = Callable[[Path | str | None, Progress], cache.Entry]


@dataclass(frozen=True, slots=True)
class Source:
    """A data set with a name of its own."""

    title: str
    train: int
    test: int
    inputs: str  # shape of one sample
    bundled: bool  # there without any fetching
    open: Open


SOURCES = {
    "digits": Source(
        "scikit-learn's handwritten digits, 17 grey levels", 1437, 360, "1x8x8", True,
        lambda data_dir, progress: cache.keep("digits", lambda: digits(progress), progress=progress),
    ),
    "mnist1d": Source(
        "MNIST-1D, ten shapes as noisy signals, generated", 4000, 1000, "40", True,
        lambda data_dir, progress: cache.keep("mnist1d", lambda: mnist1d(progress), progress=progress),
    ),
    "mnist": Source(
        "MNIST, handwritten digits", 60_000, 10_000, "1x28x28", False,
        lambda data_dir, progress: open_published(MNIST, data_dir, progress),
    ),
    "cifar10": Source(
        "CIFAR-10, colour images of ten things", 50_000, 10_000, "3x32x32", False,
        lambda data_dir, progress: open_published(CIFAR10, data_dir, progress),
    ),
}  # fmt: skip

PREFIXES: dict[str, Callable[[str, Progress], cache.Entry]] = {HUB: open_hub, FOLDER: open_folder}


@dataclass(frozen=True, slots=True)
class Known:
    """A name that ``load`` takes, for a list."""

    name: str
    title: str
    train: int | None  # samples; None: as many as are found
    test: int | None
    inputs: str  # shape of one sample: "1x28x28"
    present: bool  # nothing is left to fetch


@dataclass(frozen=True, slots=True)
class Fetched:
    """A data set that is here and was checked."""

    name: str
    origin: str  # where it came from: "the Hub", "npm", "the local folder …"
    fresh: bool  # fetched or decoded by this call; False: it was in the cache
    train: int  # samples
    test: int
    inputs: tuple[int, ...]  # shape of one sample
    classes: int | None
    bytes: int  # in the cache; 0: made when it is needed
    folder: Path | None  # in the cache


def open_source(name: str, *, data_dir: Path | str | None = None, progress: Progress = silent) -> cache.Entry:
    """Open a source that is stored, and fetch or make it first where it is not yet.

    Raises:
        UnknownName: there is no such source; the message gives the closest.
        DataUnavailable, DataCorrupt: it is nowhere, or not as it was published.
    """
    check(name)
    if name in SOURCES:
        return SOURCES[name].open(data_dir, progress)
    return next(opener for prefix, opener in PREFIXES.items() if name.startswith(prefix))(name, progress)


def check(name: str) -> None:
    """Refuse a name that is no source's, before anything is fetched.

    Raises:
        UnknownName: the message gives the closest.

    Example:
        >>> check("minst")
        Traceback (most recent call last):
        theodolite.errors.UnknownName: there is no data set 'minst'. Did you mean 'mnist'? Known: ...
    """
    if name not in SOURCES and not name.startswith((FUNCTION, *PREFIXES)):
        functions = [f"{FUNCTION}{short}" for short in NAMED]
        raise UnknownName("data set", name, [*SOURCES, *functions, f"{HUB}OWNER/NAME", f"{FOLDER}FOLDER"])


def known() -> list[Known]:
    """Every name that ``load`` takes, and whether something is left to fetch for it. Asks no network."""
    functions = [
        Known(f"{FUNCTION}{short}", f"{title}, points inside a domain and outside it", POINTS, POINTS, "1", True)
        for short, (title, _) in NAMED.items()
    ]
    stored = [
        Known(name, source.title, source.train, source.test, source.inputs, source.bundled or cache.holds(name))
        for name, source in SOURCES.items()
    ]
    patterns = [
        Known(f"{FUNCTION}EXPRESSION", "any function of x, such as sin(3*x)/x", POINTS, POINTS, "1", True),
        Known(f"{HUB}OWNER/NAME", "a data set of the Hugging Face Hub", None, None, "", False),
        Known(f"{FOLDER}FOLDER", "a folder with train and test, Parquet files or images", None, None, "", True),
    ]
    return [*stored, *functions, *patterns]


def fetch(
    names: Iterable[str], *, data_dir: Path | str | None = None, progress: Progress | None = None
) -> list[Fetched]:
    """Bring data sets here, check them against what was published, and decode them into the cache.

    Args:
        names: of sources, as ``load`` takes them.
        data_dir: a folder with the published files, asked first; by default ``THEODOLITE_DATA``.
        progress: called with bytes done, bytes in all (None where unknown) and what is being done.

    Raises:
        UnknownName: one of the names is no source's; nothing is fetched then.
        DataUnavailable, DataCorrupt: one is nowhere, or not as it was published; those before it are kept.

    Example:
        >>> fetch(["digits"])[0].train
        1437
    """
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        check(name)
    return [_fetch(name, data_dir, progress or silent) for name in wanted]


def _fetch(name: str, data_dir: Path | str | None, progress: Progress) -> Fetched:
    if name.startswith(FUNCTION):
        arrays = function_arrays(DataSpec(source=name))
        return Fetched(name, "computed", False, POINTS, POINTS, arrays.train_inputs.shape[1:], None, 0, None)
    entry = open_source(name, data_dir=data_dir, progress=progress)
    progress(entry.bytes, entry.bytes, f"{name} is here")
    arrays = entry.arrays
    sample = arrays.train_inputs.shape[1:]
    samples = len(arrays.train_inputs), len(arrays.test_inputs)
    return Fetched(name, entry.origin, entry.fresh, *samples, sample, arrays.classes, entry.bytes, entry.folder)
