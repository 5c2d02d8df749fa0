"""From the records to one number a run: what a claim's ``value`` names. Imports no torch.

``metrics.NAME`` is a number that a run returned, ``MEASURE.FIELD[.INDEX]`` of what was measured of its network, and
``TABLE.COLUMN[.INDEX]`` of a DataFrame that it returned, by row; an index may count from the end.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd

from theodolite.store.records import Records

METRICS = "metrics"  # the table of numbers that a run returned


@dataclass(frozen=True, slots=True)
class Value:
    """A number a run, or why there is none."""

    rows: (
        pd.DataFrame
    )  # a row a run that is done or failed: fingerprint, seed, its factors and ``number``, NaN for none
    problem: str = ""


def value(records: Records[Any], name: str, measures: Iterable[str]) -> Value:
    """The number of each run that a name stands for.

    A run that failed has NaN, as one whose number is NaN or infinite: claims take it at its worst. One that is not
    finished is left out.
    """
    runs = records.runs
    runs = runs[runs["status"].isin(["done", "failed"])]
    factors = [column for column in _factors(records) if column in runs]
    rows = runs[["fingerprint", "seed", *factors]].reset_index(drop=True)
    table, _, field = name.partition(".")
    numbers, problem = _numbers(records, table, field, measured=table in measures)
    known = numbers.replace([np.inf, -np.inf], np.nan)
    return Value(rows.assign(number=rows["fingerprint"].astype(str).map(known).astype("float64")), problem)


def _factors(records: Records[Any]) -> list[str]:
    return list(dict.fromkeys(name for item in records.plan.runs for name in item.labels))


def _numbers(records: Records[Any], name: str, field: str, *, measured: bool) -> tuple[pd.Series, str]:
    """By fingerprint; and why there are none."""
    table = records.table(name)
    nothing = pd.Series(dtype="float64")
    if table.empty:
        return nothing, f"No run has a table '{name}'."
    table = table.assign(fingerprint=table["fingerprint"].astype(str))
    if measured:
        table = table.pivot_table(
            index=["fingerprint", "entry"],
            columns="quantity",
            values="number",
            aggfunc="first",
            sort=False,
            dropna=False,
        ).reset_index()
    own = [column for column in table.columns if column not in ("fingerprint", "seed", "entry", *_factors(records))]
    column, index = _parsed(field, own)
    if column is None:
        close = get_close_matches(field, [str(one) for one in own], n=1, cutoff=0.4)
        hint = f" Did you mean '{name}.{close[0]}'?" if close else ""
        return nothing, f"There is no '{field}' in '{name}'.{hint} Known: {', '.join(map(str, own))}."
    if not pd.api.types.is_numeric_dtype(table[column]):
        return nothing, f"'{name}.{column}' is text."
    groups = table.groupby("fingerprint", sort=False)
    if index is None:
        # What was measured is as long as its longest vector: a number beside it stands in the first row.
        counts = groups[column].count() if measured else groups.size()
        if (counts > 1).any():
            return (
                nothing,
                f"'{name}.{column}' has {counts.max()} numbers a run. Say which: '{name}.{column}.0', or .-1.",
            )
        index = 0
    return groups[column].nth(index).set_axis(groups["fingerprint"].nth(index)).astype("float64"), ""


def _parsed(field: str, known: Iterable[str]) -> tuple[str | None, int | None]:
    """Column and index; field names may hold points themselves.

    >>> _parsed("eigenvalues.0", ["eigenvalues"]), _parsed("norms.a", ["norms.a"]), _parsed("x", ["y"])
    (('eigenvalues', 0), ('norms.a', None), (None, None))
    """
    known = set(known)
    if field in known:
        return field, None
    column, _, index = field.rpartition(".")
    digits = index.removeprefix("-")
    return (column, int(index)) if column in known and digits.isascii() and digits.isdigit() else (None, None)
