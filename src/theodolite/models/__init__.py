"""Architectures: descriptions, the modules built from them, and budgets.

Descriptions import no torch; ``mlp``, ``cnn``, ``code`` and ``build`` do, when first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from theodolite.models.budget import architectures
from theodolite.models.description import CNN, MLP, Activation, Architecture, CodeModel

if TYPE_CHECKING:
    from theodolite.models.modules import build, cnn, mlp
    from theodolite.models.own import code

__all__ = ["CNN", "MLP", "Activation", "Architecture", "CodeModel", "architectures", "build", "cnn", "code", "mlp"]


def __getattr__(name: str) -> Any:
    if name in {"build", "cnn", "code", "mlp"}:
        return getattr(import_module(f"{__name__}.{'own' if name == 'code' else 'modules'}"), name)
    raise AttributeError(f"module 'theodolite.models' has no attribute '{name}'; it has {', '.join(__all__)}")
