"""What can go wrong, as one tree.

    TheodoliteError
    ├── UsageError              the request itself cannot be met
    │   ├── UnknownName         no such study, setting, preset, data set, model (with the closest name)
    │   ├── SettingError        a value out of its range or of the wrong kind
    │   ├── BudgetError         no architecture has that parameter count
    │   ├── ExpressionError     a function of x that is not one
    │   ├── CodeFailed          a file of the user's own cannot be run, or what it defines raised an error
    │   ├── MissingExtra        an optional package is not installed
    │   └── OldPackage          a package is older than the oldest that was tested
    ├── DataError
    │   ├── DataUnavailable     found neither here nor anywhere it may be fetched from
    │   └── DataCorrupt         the bytes are not those that were published
    ├── StoreError              a results folder cannot be written or read
    │   ├── NotWritable         a file or folder of this machine cannot be written
    │   ├── RecordCorrupt       one file of one run is cut, altered or missing
    │   └── VersionMismatch     the folder was written by another format of Theodolite
    └── MeasurementError        an instrument cannot give a true number
        ├── BadModel            no module, parameters hold NaN, none is trainable, or two models do not match
        ├── BadData             empty, NaN, or of the wrong shape
        ├── BadLoss             no function, not a finite scalar, or constant
        ├── NotDeterministic    two passes over the same batch differ
        ├── NotDifferentiable   PyTorch cannot differentiate this model twice
        ├── CheckFailed         two ways to the same number disagree
        ├── WorkerDied          a process that held a part of the data ended, and again when started anew
        └── TooLarge            an exact method would not fit; names the one that does

A message has three parts: what was expected, what came, what to do.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from importlib import import_module


class TheodoliteError(Exception):
    """The root: catch this to catch everything Theodolite raises on purpose."""


class UsageError(TheodoliteError):
    """The request itself cannot be met."""


class UnknownName(UsageError):
    """A name that is not in its index; the message gives the closest one."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        close = get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        super().__init__(f"there is no {kind} '{name}'.{hint} Known: {', '.join(known)}.")


class SettingError(UsageError):
    """A value out of its range or of the wrong kind."""


class BudgetError(UsageError):
    """No architecture has that parameter count."""


class ExpressionError(UsageError):
    """A function of x that is not one."""


class CodeFailed(UsageError):
    """A file of the user's own cannot be run, or what it defines raised an error."""


class MissingExtra(UsageError):
    """An optional package is not installed; the message holds the pip command."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed. "
            f"Install it with: pip install 'theodolite[{extra}]'"
        )


class OldPackage(UsageError):
    """A package is older than the oldest that was tested; the message holds the pip command."""

    def __init__(self, package: str, version: str, lowest: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}' from version {lowest} on, and {version} is installed. "
            f"Upgrade it with: pip install '{package}>={lowest}'"
        )


def require(purpose: str, *packages: str, extra: str = "studies") -> None:
    """Raise unless these packages can be imported, and are new enough. For what is imported next.

    Raises:
        MissingExtra: one is not installed, or lacks a package that it needs itself.
        OldPackage: one is older than the lowest version that Theodolite declares.
    """
    for package in packages:
        try:
            version = str(getattr(import_module(package), "__version__", ""))
        except ModuleNotFoundError as missing:
            raise MissingExtra(missing.name or package, extra, purpose) from None
        lowest = _lowest().get(package.replace("_", "-"), "")
        if version and _numbers(version) < _numbers(lowest):
            raise OldPackage(package, version, lowest, purpose)


@cache
def _lowest() -> dict[str, str]:
    """The lowest version of each package that is declared with one."""
    from importlib import metadata  # which takes as long to import as all of this file

    try:
        lines = metadata.requires("theodolite") or []
    except metadata.PackageNotFoundError:  # run from its source
        return {}
    found = (re.match(r"([\w.-]+) ?>=([\d.]+)", line) for line in lines)
    return {one[1].lower(): one[2] for one in found if one}


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)[:2]]


class DataError(TheodoliteError):
    """Something is wrong with a data set."""


class DataUnavailable(DataError):
    """Found neither here nor anywhere it may be fetched from."""


class DataCorrupt(DataError):
    """The bytes are not those that were published."""


class StoreError(TheodoliteError):
    """A results folder cannot be written or read."""


class NotWritable(StoreError):
    """A file or folder of this machine cannot be written."""


class RecordCorrupt(StoreError):
    """One file of one run is cut, altered or missing."""


class VersionMismatch(StoreError):
    """The folder was written by another format of Theodolite."""


class MeasurementError(TheodoliteError):
    """An instrument cannot give a true number."""


class BadModel(MeasurementError):
    """No module, parameters hold NaN, none is trainable, or two models do not match."""


class BadData(MeasurementError):
    """Empty, NaN, or of the wrong shape."""


class BadLoss(MeasurementError):
    """No function, not a finite scalar, or constant."""


class NotDeterministic(MeasurementError):
    """Two passes over the same batch differ."""


class NotDifferentiable(MeasurementError):
    """PyTorch cannot differentiate this model twice."""


class CheckFailed(MeasurementError):
    """Two ways to the same number disagree."""


class WorkerDied(MeasurementError):
    """A process that held a part of the data ended, and again when started anew."""


class TooLarge(MeasurementError):
    """An exact method would not fit; the message names the one that does."""
