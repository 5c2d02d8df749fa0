"""Charts one above another, and many of them made quickly: what others than this room need of Altair."""

from contextlib import AbstractContextManager
from typing import Any

import altair as alt
from altair.utils.schemapi import debug_mode


def above(*charts: Any) -> Any:
    """The charts one above another, as one; of one, itself."""
    return charts[0] if len(charts) == 1 else alt.vconcat(*charts)


def unchecked() -> AbstractContextManager[None]:
    """Within, no schema is asked for every part of a chart as it is made: tests ask it, for each family."""
    quick: AbstractContextManager[None] = debug_mode(False)
    return quick
