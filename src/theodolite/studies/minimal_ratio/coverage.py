"""What stands beside Figure 8: the same of a random field, how many points there are, and what a ratio foretells."""

import pandas as pd

from theodolite.claims import rank_correlation
from theodolite.findings import Table
from theodolite.store.records import Records
from theodolite.studies.minimal_ratio.findings import (
    AT_RANDOM,
    CERTIFIED,
    NULL,
    beyond_field,
    by_task,
    columns,
    field,
    points,
    tells_index,
)
from theodolite.studies.minimal_ratio.settings import MinimalRatio
from theodolite.wording import signed


def tables(records: Records[MinimalRatio]) -> list[Table]:
    """All that the records allow: older ones lack these measurements."""
    return [table for table in (make(records) for make in (_against_field, _coverage, _approach)) if len(table.frame)]


def _against_field(records: Records[MinimalRatio]) -> Table:
    rows = []
    differences = beyond_field(records)
    for task, null in by_task(records, field(records)):
        found = points(records, task, all_starts=True)
        own = found[found["start"] == AT_RANDOM] if len(found) else found
        if own.empty:
            continue
        rows.append(
            {
                "task": task,
                "dimensions": int(null["parameters"].iloc[0]),
                "seeds": null["seed"].nunique(),
                **columns(rank_correlation(own, "loss", "positive").low, "correlation", "network"),
                **columns(rank_correlation(null, "loss", "positive").low, "correlation", NULL),
                **columns(differences[task].low, "mean", "difference"),
            }
        )
    return Table(
        "random-field",
        "The same correlation on a random field, which has learned nothing",
        pd.DataFrame(rows),
        "Spearman's correlation of minimal ratio and loss over certified points from random starts, on the network's "
        "loss and on a smooth Gaussian random field (squared exponential, length and variance 1) of as many "
        "dimensions with the same weight decay. Means over seeds with 95 % intervals. Fields have this correlation by "
        "themselves (Bray and Dean 2007), so its sign alone says nothing of networks.",
    )


def _coverage(records: Records[MinimalRatio]) -> Table:
    found, rows = points(records), []
    for task, part in by_task(records, found) if "orbit" in found else ():
        each = part.groupby("seed")
        walks, once, twice = (
            each["found"].sum(),
            (part["found"] == 1).groupby(part["seed"]).sum(),
            (part["found"] == 2).groupby(part["seed"]).sum(),
        )
        morse = ((1 - 2 * (part["index"] % 2)) * part["orbit"]).groupby(part["seed"]).sum()
        rows.append(
            {
                "task": task,
                "seeds": len(walks),
                "certified walks": walks.mean(),
                "points": each.size().mean(),
                "found once": once.mean(),
                **columns(1 - once / walks, "mean", "Good-Turing coverage"),
                **columns(each.size() + once * (once - 1) / (2 * (twice + 1)), "mean", "Chao1"),
                "sum of signs is 1": f"{(morse == 1).sum()} of {len(morse)}",
                "sum of signs": f"{signed(str(morse.min()))} to {signed(str(morse.max()))}",
            }
        )
    return Table(
        "coverage",
        "How many of the points that there are were found",
        pd.DataFrame(rows),
        "Means over seeds, two of them with 95 % intervals. Good-Turing coverage: the chance that another walk would "
        "end at a point already found, 1 minus the share of walks that found theirs alone. Chao1: the least number of "
        "points that there are, from those found once and twice. Both take walks for independent draws, which the "
        "snapshots of one training are not. Sum of signs: Σ (−1)^index over all copies by permutation and sign of "
        "units, which is 1 over all critical points of a loss with weight decay (Morse); another sum proves that some "
        "are missing, and 1 that none is unless those missing cancel.",
        digits=4,
    )


def _approach(records: Records[MinimalRatio]) -> Table:
    table, rows = records.analysis("approach"), []
    for task, part in by_task(records, table):
        kept = part[part["outcome"] == CERTIFIED]
        rows.append(
            {
                "task": task,
                "seeds": part["seed"].nunique(),
                "snapshots": len(part),
                "certified": len(kept),
                "at a minimum": (kept["index"] == 0).mean(),
                **columns(tells_index(kept), "correlation", "minimal ratio and index"),
            }
        )
    return Table(
        "approach",
        "What the minimal ratio at weights of a training says about the point near by",
        pd.DataFrame(rows),
        "Newton's walk from every snapshot of ordinary trainings: share of certified ends that are minima, and "
        "Spearman's correlation of the minimal ratio at the snapshot and the index at the end, mean over seeds with "
        "its 95 % interval; 0 where all ends have one index.",
    )
