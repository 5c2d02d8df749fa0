"""Data sets: named sources as arrays in memory-mapped files, checked against what was published.

``load(DataSpec(source="mnist"))`` gives arrays, ``fetch(["mnist"])`` brings them here, ``known()`` lists the names.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from theodolite.data.dataset import Dataset, load
    from theodolite.data.function import evaluate
    from theodolite.data.own import code
    from theodolite.data.sources import SOURCES, Fetched, Known, fetch, known
    from theodolite.data.spec import DataSpec

__all__ = ["SOURCES", "DataSpec", "Dataset", "Fetched", "Known", "code", "evaluate", "fetch", "known", "load"]

_HOME = {
    "SOURCES": "sources",
    "DataSpec": "spec",
    "Dataset": "dataset",
    "Fetched": "sources",
    "Known": "sources",
    "code": "own",
    "evaluate": "function",
    "fetch": "sources",
    "known": "sources",
    "load": "dataset",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: a description of data needs neither numpy nor the sources."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
