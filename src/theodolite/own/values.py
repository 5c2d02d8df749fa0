"""From the records to one number a run: what a claim's ``value`` names. Imports no torch.

``metrics.NAME`` is a number that a run returned, ``MEASURE.FIELD[.INDEX]`` of what was measured of its network, and
``TABLE.COLUMN[.INDEX]`` of a DataFrame that it returned, by row; an index may count from the end.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd

from theodolite.errors import RecordCorrupt
from theodolite.own.factors import together
from theodolite.store.plan import PLAN
from theodolite.store.record import read_status
from theodolite.store.records import Records

METRICS = "metrics"  # the table of numbers that a run returned
ENDING = ".parquet"


@dataclass(frozen=True, slots=True)
class Value:
    """A number a run, or why there is none."""

    rows: pd.DataFrame  # a row a run that is done or failed: fingerprint, seed, factors and ``number``, NaN for none
    levels: Mapping[str, Sequence[Any]]  # of each factor, as they are planned
    problem: str = ""


def value(records: Records[Any], name: str, measures: Collection[str]) -> Value:
    """The number of each run that a name stands for.

    A run that failed has NaN, as one whose number is NaN or infinite: claims take it at its worst. One that is not
    finished is left out.
    """
    runs = records.runs
    runs = runs[runs["status"].isin(["done", "failed"])]
    levels = together(item.labels for item in records.plan.runs)
    factors = [column for column in levels if column in runs]
    rows = runs[["fingerprint", "seed", *factors]].reset_index(drop=True)
    table, _, field = name.partition(".")
    if rows.duplicated(["seed", *factors]).any():
        again = rows[rows.duplicated(["seed", *factors])].iloc[0]
        raise RecordCorrupt(
            f"{records.directory / records.plan.study / PLAN} holds two runs of seed {again['seed']} with the same "
            "factors. Run the study's file again: finished runs are kept."
        )
    numbers, problem = _numbers(records, table, field, measured=table in measures)
    known = numbers.replace([np.inf, -np.inf], np.nan)
    return Value(rows.assign(number=rows["fingerprint"].astype(str).map(known).astype("float64")), levels, problem)


def _numbers(records: Records[Any], name: str, field: str, *, measured: bool) -> tuple[pd.Series, str]:
    """By fingerprint; and why there are none."""
    nothing = pd.Series(dtype="float64")
    table = records.table(name)
    if table.empty:
        return nothing, f"No run has a '{name}'.{_closest(name, written(records))}"
    if measured:
        known = list(dict.fromkeys(table["quantity"].astype(str)))
    else:
        known = [
            str(column)
            for column in table.columns
            if column not in ("fingerprint", "seed", *together(item.labels for item in records.plan.runs))
        ]
    column, index = _parsed(field, known)
    if column is None:
        return nothing, f"There is no '{field}' in '{name}'.{_closest(field, known)}"
    if measured:
        table, column = table[table["quantity"] == column], "number"
    if not pd.api.types.is_numeric_dtype(table[column]):
        return nothing, f"'{name}.{field}' is text."
    table = table[["fingerprint", column]].assign(fingerprint=table["fingerprint"].astype(str))
    groups = table.groupby("fingerprint", sort=False)
    if index is None and (most := int(groups.size().max())) > 1:
        return (
            nothing,
            f"'{name}.{field}' has {most} numbers a run. Say which: '{name}.{field}.0', or .-1 for the last.",
        )
    picked: pd.Series = groups.nth(index or 0).set_index("fingerprint")[column].astype("float64")
    return picked, ""


def written(records: Records[Any]) -> list[str]:
    """Names of all tables that finished runs have."""
    found: dict[str, None] = {}
    for _, folder in records.readable():
        status = read_status(folder)
        if status is not None:
            found |= dict.fromkeys(name.removesuffix(ENDING) for name in status.files if name.endswith(ENDING))
    return sorted(found)


def _closest(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=1, cutoff=0.4)
    return f" Did you mean '{close[0]}'?" if close else f" Known: {', '.join(known) or 'none'}."


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
