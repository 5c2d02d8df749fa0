"""Charts one above another or beside each other, and many made quickly: what others than this room need of Altair."""

from contextlib import AbstractContextManager
from typing import Any

import altair as alt
from altair.utils.schemapi import debug_mode


def above(*charts: Any, **options: Any) -> Any:
    """The charts one above another, as one; of one, itself. Options are Altair's, such as ``spacing``."""
    return charts[0] if len(charts) == 1 else alt.vconcat(*charts, **options)


def beside(*charts: Any, **options: Any) -> Any:
    """The charts side by side, likewise."""
    return charts[0] if len(charts) == 1 else alt.hconcat(*charts, **options)


def unchecked() -> AbstractContextManager[None]:
    """Within, no schema is asked for every part of a chart as it is made: tests ask it, for each family."""
    quick: AbstractContextManager[None] = debug_mode(False)
    return quick
