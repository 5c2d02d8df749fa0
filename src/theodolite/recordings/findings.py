"""Trainings of the user's own, as ``th.Recorder`` wrote them down: tables and figures of whatever was recorded.

No study of the report, so not in the index: it trains nothing and claims nothing. Its figures are in
``figures.py``. Imports no torch.
"""

from typing import Any

import numpy as np
import pandas as pd

from theodolite.figures.recorded import ABOUT, draw, ranked, vectors_found
from theodolite.findings import Figure, Table
from theodolite.recordings import paths as recorded_paths
from theodolite.recordings.figures import path_figures
from theodolite.recordings.trainings import NAME, TABLES, trainings
from theodolite.store.recorded import SCHEMAS
from theodolite.store.records import Records
from theodolite.study import Settings, Study

ENDS = {"first": "first", "last": "last", "lowest": "min", "highest": "max"}  # as pandas calls them


def tables(records: Records[Any]) -> list[Table]:
    """What was recorded, what it took, and what failed."""
    found = _found(records)
    made = [
        Table(
            "recorded",
            "What was recorded",
            _recorded(_series(found["numbers"], found["vectors"])),
            "Medians over seeds of the first, last, lowest and highest number of each training. Entries of a vector go "
            "by their rank among those that were recorded, which may be the largest few of many.",
        ),
        Table(
            "trainings",
            "How each training ended",
            _ended(records),
            "Steps as far as they were recorded. A training that was interrupted goes on with Recorder(resume=True).",
        ),
        Table(
            "costs",
            "What recording took",
            _costs(found["ledger"], found["costs"]),
            "How often the schedule asked for a measurement, and what became of it; left out: to keep the budget. The "
            "share is that of the time trained, without any measuring, until the last measurement.",
        ),
        Table(
            "failures",
            "What failed",
            _failures(found["failures"]),
            "The first failure of each kind. The training went on.",
        ),
    ]
    return [table for table in made if len(table.frame)]


def figures(records: Records[Any]) -> list[Figure]:
    """Every number and vector over the steps, densities at a few of them, and the paths of the weights."""
    found = _found(records)
    made, walked = draw(found), recorded_paths.read(records)
    if len(found["ledger"]):
        runs = found["ledger"][["fingerprint", "seed", "training"]].drop_duplicates()
        for n, path in enumerate(walked):
            made += path_figures(path, runs, "" if len(walked) == 1 else f"-{n + 1}")
    return made


def _found(records: Records[Any]) -> dict[str, pd.DataFrame]:
    words = _words(records)
    tables = {name: records.table(name) for name in TABLES}
    return {
        name: table.assign(training=table["fingerprint"].map(words)) if len(table) else table
        for name, table in tables.items()
    }


def _words(records: Records[Any]) -> dict[str, str]:
    return {item.fingerprint: ", ".join(f"{k} {v}" for k, v in item.labels.items()) for item in records.plan.runs}


def series(records: Records[Any]) -> pd.DataFrame:
    """What was found, without how: a row a training, instrument, quantity and step; vectors by rank."""
    found = _found(records)
    return _series(found["numbers"], found["vectors"])


def _series(numbers: pd.DataFrame, vectors: pd.DataFrame) -> pd.DataFrame:
    parts = []
    if len(numbers):
        about = ABOUT - {"standard_error", "mean_standard_error"}
        parts.append(numbers[~numbers["quantity"].str.contains(".", regex=False) & ~numbers["quantity"].isin(about)])
    if len(vectors):
        for (instrument, quantity), part in vectors_found(vectors).groupby(["instrument", "quantity"], sort=False):
            lines = ranked(part)
            parts.append(lines.assign(instrument=str(instrument), quantity=f"{quantity}, " + lines["line"]))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _recorded(told: pd.DataFrame) -> pd.DataFrame:
    if not len(told):
        return told
    rows = []
    for (training, instrument, quantity), own in told.groupby(["training", "instrument", "quantity"], sort=False):
        runs = own.groupby("fingerprint")["value"]
        row = {"training": training, "instrument": instrument, "quantity": quantity, "seeds": runs.ngroups}
        row["measured"] = len(own)
        row |= {which: runs.agg(how).median() for which, how in ENDS.items()}
        rows.append(row)
    return _without_empty(pd.DataFrame(rows))


def _ended(records: Records[Any]) -> pd.DataFrame:
    table = trainings(records).drop(columns="fingerprint")
    for column in ("training_seconds", "parameters", "ended_by"):
        if table[column].isna().all() or (column == "ended_by" and not table[column].astype(bool).any()):
            table = table.drop(columns=column)
    return table.rename(columns={"training_seconds": "seconds of training", "ended_by": "ended by"})


def _costs(ledger: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    if not len(ledger):
        return ledger
    rows = []
    for (training, instrument), own in ledger.groupby(["training", "instrument"], sort=False):
        mine = costs[costs["fingerprint"].isin(own["fingerprint"])] if len(costs) else costs
        trained = mine.groupby("fingerprint")["training_seconds"].max().sum() if len(mine) else np.nan
        spent = own["spent"].sum()
        counts = {"asked": "asked", "measured": "measured", "left out": "skipped", "failed": "failed"}
        rows.append(
            {"training": training, "instrument": instrument}
            | {name: int(own[column].sum()) for name, column in counts.items()}
            | {"seconds": spent, "share of training": spent / trained if trained else np.nan}
        )
    return _without_empty(pd.DataFrame(rows))


def _failures(failures: pd.DataFrame) -> pd.DataFrame:
    if not len(failures):
        return failures
    firsts = failures.groupby(["training", "instrument", "error"], sort=False).agg(
        times=("step", "size"), step=("step", "first"), message=("message", "first")
    )
    return _without_empty(firsts.reset_index().rename(columns={"step": "first at step"}))


def _without_empty(table: pd.DataFrame) -> pd.DataFrame:
    """Without the column of labels where nobody gave any."""
    return table.drop(columns="training") if len(table) and (table["training"] == "").all() else table


STUDY = Study(
    name=NAME,
    title="Your own trainings",
    question="What did the instruments show of the trainings that were recorded?",
    source="Recorded by th.Recorder",
    settings_type=Settings,
    presets={},
    expand=lambda settings: (),
    measure=lambda spec, outcome: {},
    tables=tables,
    figures=figures,
    claims=(),
    schemas=SCHEMAS,
    not_shown=(
        "What was not measured: between two measurements anything may have happened. Bands show how the recorded seeds "
        "scatter, and nothing is claimed or tested here."
    ),
    seconds={},
)
