"""Recordings of two folders side by side: where each series ended, and whether that differs by more than chance."""

import math
from typing import Any

import numpy as np
import pandas as pd

from theodolite.claims.changes import change
from theodolite.claims.evidence import Evidence
from theodolite.claims.needed import FEWEST
from theodolite.findings import Table
from theodolite.recordings.findings import series
from theodolite.store.records import Records

KEYS = ["training", "instrument", "quantity"]
UNKNOWN = {"B − A": math.nan, "B − A low": math.nan, "B − A high": math.nan, "differs by": "cannot say"}


def compared(a: Records[Any], b: Records[Any]) -> Table:
    """A row for each series that both folders hold: the mean over seeds of its last number, and the difference.

    Whether that is more than chance follows from both intervals (:func:`theodolite.claims.changes.change`); with fewer
    than three seeds on a side nothing is said.
    """
    ends = [_ends(records) for records in (a, b)]
    rows = []
    for key in filter(ends[1].__contains__, ends[0]):
        one, two = ends[0][key], ends[1][key]
        row = dict(zip(KEYS, key, strict=True)) | {"seeds in A": len(one), "seeds in B": len(two)}
        rows.append(row | {"A": one.mean(), "B": two.mean()} | _difference(one, two))
    frame = pd.DataFrame(rows)
    if len(frame) and (frame["training"] == "").all():
        frame = frame.drop(columns="training")
    return Table(
        "recorded",
        "What was recorded, at the end of the trainings",
        frame,
        "Means over seeds of the last number of each training. The difference has the 95 % interval that follows from "
        "both intervals (Zou and Donner 2008); it is more than chance where 0 lies outside, as it does by chance alone "
        "in one row of twenty.",
    )


def _ends(records: Records[Any]) -> dict[tuple[str, str, str], pd.Series]:
    """By training, instrument and quantity: the last number of each seed."""
    told = series(records)
    if not len(told):
        return {}
    last = told.sort_values(["step", "epoch"], kind="stable").drop_duplicates([*KEYS, "seed"], keep="last")
    found = {}
    for (training, instrument, quantity), own in last.groupby(KEYS, sort=False):
        found[str(training), str(instrument), str(quantity)] = own.set_index("seed")["value"]
    return found


def _difference(a: pd.Series, b: pd.Series) -> dict[str, Any]:
    both = np.concatenate([a, b])
    if min(len(a), len(b)) < FEWEST or not np.isfinite(both).all():
        return UNKNOWN | ({"B − A": b.mean() - a.mean()} if np.isfinite(both).all() else {})
    found = change(Evidence.exact(a), Evidence.exact(b), "mean")
    beyond = found.low > 0 or found.high < 0
    return {
        "B − A": found.estimate, "B − A low": found.low, "B − A high": found.high,
        "differs by": "more than chance" if beyond else "within chance",
    }  # fmt: skip
