"""Studies of one's own: any function of a seed, with factors, measurements and claims, in any file.

``declared.py`` is what a user writes with, ``worker.py`` runs it; all that a reader needs is in the results folder as
data (``described.py``), so that no page, verdict or status ever runs the file (docs/decisions/0050).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from theodolite.own.declared import OwnStudy, study
    from theodolite.own.trained import Trained

__all__ = ["OwnStudy", "Trained", "study"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from theodolite.own import declared, trained

        return getattr(trained if name == "Trained" else declared, name)
    raise AttributeError(f"module 'theodolite.own' has no attribute '{name}'; it has {', '.join(__all__)}")
