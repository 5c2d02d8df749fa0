"""From groups of runs to rows of a table: each number over seeds with the ends of its interval."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from theodolite.claims.evidence import Evidence
from theodolite.claims.intervals import Statistic, interval

Number = tuple[str | pd.Series | Evidence, Statistic]  # a column of the runs, or what has been made of them, by seed


def row(runs: pd.DataFrame, numbers: Mapping[str, Number]) -> dict[str, Any]:
    """Numbers over the seeds of a group, each as three columns: estimate, low and high end.

    Args:
        runs: one row a seed, with the column ``seed``.
        numbers: by the name of the column in the table, what is averaged and how.

    Example:
        >>> runs = pd.DataFrame({"seed": [0, 1, 2], "loss": [0.5, 0.5, 0.5]})
        >>> row(runs, {"training loss": ("loss", "median")})["training loss"]
        0.5
    """
    found: dict[str, Any] = {}
    for name, (what, kind) in numbers.items():
        values = runs.set_index("seed")[what] if isinstance(what, str) else what
        evidence = values if isinstance(values, Evidence) else Evidence.exact(values)
        found |= interval(evidence, kind).columns(name)
    return found


def groups(table: pd.DataFrame, by: str | list[str]) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Groups of rows in the order in which they appear; none of a table that is empty, whatever its columns."""
    return iter(table.groupby(by, sort=False)) if len(table) else iter(())
