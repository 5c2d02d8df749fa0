"""Theodolite surveys how neural networks learn.

Studies that redo a classic set of experiments over many seeds and test their claims; instruments that measure any
PyTorch model; an engine that trains many small networks at once. The submodules load when first asked for, so that
importing the package takes no time and no torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from theodolite import claims, data, errors, measure, models, studies, survey
    from theodolite.claims import Claim, Evidence
    from theodolite.measure.catalogue import instrument
    from theodolite.measure.results.base import Result
    from theodolite.own import Trained, study
    from theodolite.recipes import Loss, Optimizer
    from theodolite.record import Recorder
    from theodolite.recordings.frames import recordings
    from theodolite.specs import RunSpec
    from theodolite.study import Settings, Study

    __version__: str

__all__ = [
    "Claim", "Evidence", "Loss", "Optimizer", "Recorder", "Result", "RunSpec", "Settings", "Study", "Trained", "claims",
    "data", "errors", "instrument", "measure", "models", "recordings", "studies", "study", "survey",
]  # fmt: skip

ELSEWHERE = {  # name -> module that has it
    "Claim": "claims",
    "Evidence": "claims",
    "Loss": "recipes",
    "Optimizer": "recipes",
    "Recorder": "record",
    "Result": "measure.results.base",
    "RunSpec": "specs",
    "Settings": "study",
    "Study": "study",
    "Trained": "own",
    "instrument": "measure.catalogue",
    "study": "own",
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


class _Package(ModuleType):
    """The package, of which ``study`` is the function, although a module in it has that name too."""

    @property
    def study(self) -> Any:
        return import_module("theodolite.own").study

    @study.setter
    def study(self, module: ModuleType) -> None:
        """Python puts each module that is imported here."""


if not TYPE_CHECKING:
    sys.modules[__name__].__class__ = _Package
