"""Instruments: pure functions (model, loss, data) -> frozen result, one file each.

A name is loaded with its file when it is first asked for.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

INDEX = {  # public name -> file
    "HessianOperator": "operator",
    "align": "alignment",
    "connect": "curve",
    "find_critical_points": "critical.find",
    "gradient_norm": "gradient_norm",
    "hessian_density": "hessian_density",
    "hessian_eigenvalues": "hessian_eigenvalues",
    "hessian_spectrum": "hessian_spectrum",
    "hessian_trace": "hessian_trace",
    "interpolate": "interpolate",
    "minimal_ratio": "minimal_ratio",
    "path_plane": "directions",
    "random_plane": "directions",
    "sensitivity": "sensitivity",
    "sharpness": "sharpness",
    "surface": "surface",
    "three_point_plane": "directions",
    "trajectory": "trajectory",
}

__all__ = sorted(INDEX)


def __getattr__(name: str) -> Any:
    if name in INDEX:
        return getattr(import_module(f"theodolite.measure.{INDEX[name]}"), name)
    raise AttributeError(f"module 'theodolite.measure' has no attribute '{name}'; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__


class _Index(ModuleType):
    """A package whose instruments stay what they are when the files of the same names are loaded."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in INDEX and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Index
