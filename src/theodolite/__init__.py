"""Theodolite surveys how neural networks learn.

Studies that redo a classic set of experiments over many seeds and test their claims; instruments that measure any
PyTorch model; an engine that trains many small networks at once. The submodules load when first asked for, so that
importing the package takes no time and no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from theodolite import claims, data, errors, measure, models, studies, survey
    from theodolite.measure.catalogue import instrument
    from theodolite.measure.results.base import Result
    from theodolite.record import Recorder
    from theodolite.recordings.frames import recordings

    __version__: str

__all__ = [
    "Recorder", "Result", "claims", "data", "errors", "instrument", "measure", "models", "recordings", "studies",
    "survey",
]  # fmt: skip

ELSEWHERE = {  # name -> module that has it
    "Recorder": "record",
    "Result": "measure.results.base",
    "instrument": "measure.catalogue",
}


def __getattr__(name: str) -> Any:
    if name in ELSEWHERE:
        return getattr(import_module(f"theodolite.{ELSEWHERE[name]}"), name)
    if name in __all__:
        return import_module(f"theodolite.{name}")
    if name == "__version__":  # only when asked for: reading what is installed takes as long as the import
        return import_module("importlib.metadata").version("theodolite")
    raise AttributeError(f"module 'theodolite' has no attribute '{name}'; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
