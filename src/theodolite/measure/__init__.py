"""Instruments: pure functions (model, loss, data) -> frozen result, one file each.

A name is loaded with its file when it is first asked for.
"""

import random
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from theodolite.measure.catalogue import BUILT_IN

if TYPE_CHECKING:  # for type checkers, which do not see what __getattr__ finds
    from theodolite.measure.align import align as align
    from theodolite.measure.connect import connect as connect
    from theodolite.measure.curvature.jacobian import Jacobian as Jacobian
    from theodolite.measure.curvature.operator import HessianOperator as HessianOperator
    from theodolite.measure.curvature.tangent_kernel import TangentKernel as TangentKernel
    from theodolite.measure.edge_of_stability import edge_of_stability as edge_of_stability
    from theodolite.measure.find_critical_points import find_critical_points as find_critical_points
    from theodolite.measure.gradient_noise_scale import gradient_noise_scale as gradient_noise_scale
    from theodolite.measure.gradient_norm import gradient_norm as gradient_norm
    from theodolite.measure.hessian_blocks import hessian_blocks as hessian_blocks
    from theodolite.measure.hessian_density import hessian_density as hessian_density
    from theodolite.measure.hessian_diagonal import hessian_diagonal as hessian_diagonal
    from theodolite.measure.hessian_eigenvalues import hessian_eigenvalues as hessian_eigenvalues
    from theodolite.measure.hessian_spectrum import hessian_spectrum as hessian_spectrum
    from theodolite.measure.hessian_trace import hessian_trace as hessian_trace
    from theodolite.measure.interpolate import interpolate as interpolate
    from theodolite.measure.minimal_ratio import minimal_ratio as minimal_ratio
    from theodolite.measure.planes import path_plane as path_plane
    from theodolite.measure.planes import random_plane as random_plane
    from theodolite.measure.planes import three_point_plane as three_point_plane
    from theodolite.measure.results.reader import load as load
    from theodolite.measure.sensitivity import sensitivity as sensitivity
    from theodolite.measure.sharpness import sharpness as sharpness
    from theodolite.measure.surface import surface as surface
    from theodolite.measure.trajectory import trajectory as trajectory

_state = random.getstate()
import_module("rich.style")  # draws a number while it is imported; later, that would be within the user's training
random.setstate(_state)

FILES = {one.name: one.name for one in BUILT_IN} | {  # public name -> file
    "HessianOperator": "curvature.operator",
    "Jacobian": "curvature.jacobian",
    "TangentKernel": "curvature.tangent_kernel",
    "load": "results.reader",
    "path_plane": "planes",
    "random_plane": "planes",
    "three_point_plane": "planes",
}

__all__ = sorted(FILES)


if not TYPE_CHECKING:  # or checkers would take every name for one of ours

    def __getattr__(name: str) -> Any:
        if name in FILES:
            return getattr(import_module(f"theodolite.measure.{FILES[name]}"), name)
        raise AttributeError(f"module 'theodolite.measure' has no attribute '{name}'; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__


class _Index(ModuleType):
    """A package whose instruments stay what they are when the files of the same names are loaded."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in FILES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Index
