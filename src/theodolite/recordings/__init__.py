"""Tables and figures of the user's own trainings, from what a recorder wrote down. Imports no torch.

``th.recordings(DIR)`` is what a user calls: the room is called by its own name, which the import system gives to it.
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from theodolite.recordings.frames import Recordings


class _Room(ModuleType):
    """This module, which can be called."""

    def __call__(self, directory: str | Path) -> "Recordings":
        """Everything that recorders wrote into a results folder; see :func:`theodolite.recordings.frames.read`."""
        from theodolite.recordings.frames import read  # with pandas, which importing the package must not wait for

        return read(directory)


sys.modules[__name__].__class__ = _Room
