"""What the records of the minimal ratio say: evidence of the claims, and tables.

Beside :mod:`~theodolite.studies.minimal_ratio`, which sets out and claims; imports no torch.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from theodolite.claims import Evidence, Kind, interval, rank_correlation
from theodolite.findings import Table
from theodolite.store.records import Records

POINTS, PROTOCOL = "points", "protocol"  # what is measured
TARGETS, DEEP, DIGITS, COS = "random targets", "random targets, two hidden layers", "three digits", "cos"
TASKS = (TARGETS, DEEP, DIGITS, COS)
STARTS = ("random-index-k", "snapshot", "symmetric")
LETTER, WITH_DECAY = "to the letter", "with weight decay"  # the report's protocol without any, and on our landscape
FIRST, NORM, AGAIN = "cross entropy", "gradient norm", "cross entropy again"  # its phases
MATRICES = "random matrices"
SOFT = 10.0  # times the weight decay: |λ| up to here is called soft, held by little but the decay
STRATUM = 8  # points that a stratum must have to say anything about order
CERTIFIED = "certified"


def points(records: Records, task: str | None = None, *, all_starts: bool = False) -> pd.DataFrame:
    """Distinct certified points; ``all_starts``: also those that another way to start reached as well."""
    found = records.analysis(POINTS)
    if len(found):
        found = found[(found["counted"] | all_starts) & ((task is None) | (found["task"] == task))]
    return found


def by_task(records: Records, table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each task, in one order everywhere."""
    for task in TASKS:
        part = table[table["task"] == task] if len(table) else table
        if len(part):
            yield task, part


def inverse(records: Records) -> Evidence:
    """Correlation of minimal ratio and loss, the highest of the tasks."""
    parts = [rank_correlation(part, "loss", "positive").low for _, part in by_task(records, points(records))]
    return _worst(records, parts, "max")


def stratified(records: Records) -> Evidence:
    """Correlation of index and loss within strata, the lowest of the tasks."""
    parts = [_within(part) for _, part in by_task(records, points(records, all_starts=True))]
    return _worst(records, parts, "min")


def _within(part: pd.DataFrame) -> pd.Series:
    """For each seed the mean over strata, weighted by their points; NaN where no stratum has enough of them."""
    found = {}
    for seed, rows in part.groupby("seed"):
        strata = [s for _, s in rows.groupby(["start", "live"]) if len(s) >= STRATUM]
        weights = [len(s) for s in strata]
        found[seed] = np.average([_correlation(s, "index") for s in strata], weights=weights) if strata else np.nan
    return pd.Series(found, dtype="float64")


def _correlation(rows: pd.DataFrame, column: str) -> float:
    """Spearman's; 0 where the column never changes while the loss does: then the loss tells nothing of it."""
    if rows[column].nunique() < 2 <= rows["loss"].nunique():
        return 0.0
    return float(rank_correlation(rows.assign(seed=0), "loss", column).low.iloc[0])


def protocol(records: Records) -> Evidence:
    """Gradient norm over largest curvature in the last phase, the smaller of the two variants."""
    table = records.analysis(PROTOCOL)
    parts = []
    if len(table):
        late = table[table["phase"] == AGAIN]
        relative = (late["gradient_norm"] / late["largest"]).groupby([late["variant"], late["seed"]]).median()
        parts = [relative[variant] for variant in (LETTER, WITH_DECAY)]
    return _worst(records, parts, "min", PROTOCOL)


def _worst(records: Records, parts: list[pd.Series], how: str, kind: str = POINTS) -> Evidence:
    """One number a seed; a seed that lacks one of them, or whose measurement failed, has none and stays."""
    if not parts:
        return Evidence.exact(pd.Series(dtype="float64"))
    together = pd.concat(parts, axis=1)
    one = getattr(together, how)(axis=1, skipna=False)
    measured = records.analyses[records.analyses["measured"] == kind]
    failed = measured[measured["status"] == "failed"]["seed"].unique()
    waiting = measured[measured["status"].isin(["missing", "running"])]["seed"].unique()
    one = one.reindex(one.index.union(failed)).drop(index=[s for s in waiting if s in one.index and s not in failed])
    return Evidence.exact(one.mask(one.index.isin(failed)).sort_index())


def tables(records: Records) -> list[Table]:
    """Correlations, strata, the report's steps, the dial, random matrices, and what was refused."""
    makers = (_summary, _strata, _steps, _dial, _matrices, _outcomes)
    return [table for table in (make(records) for make in makers) if len(table.frame)]


def _summary(records: Records) -> Table:
    rows = []
    for task, part in by_task(records, points(records)):
        count = part.groupby("seed").size()
        rows.append(
            {
                "task": task,
                "parameters": int(part["parameters"].iloc[0]),
                "seeds": len(count),
                "points a seed": f"{count.min()} to {count.max()}",
                "index": f"{part['index'].min()} to {part['index'].max()}",
                "lowest loss": part["loss"].min(),
                "highest loss": part["loss"].max(),
                "share free": part["free"].mean(),
                **_columns(rank_correlation(part, "loss", "positive").low, "correlation", "minimal ratio and loss"),
                **_columns(rank_correlation(part, "loss", "index").low, "correlation", "index and loss"),
                "largest gradient norm": part["gradient_norm"].max(),
                "largest h": part["kantorovich"].max(),
            }
        )
    return Table(
        "figure-8-numbers",
        "Certified critical points, and how their minimal ratio goes with their loss",
        pd.DataFrame(rows),
        "Distinct certified points. Free: no hidden unit is dead or tied to another. Spearman's correlation within "
        "each seed's data, mean over seeds with its 95 % interval. With weight decay no eigenvalue is zero, so the "
        "shares of positive and negative ones add up to one and the two correlations are one with opposite signs.",
    )


def _strata(records: Records) -> Table:
    found, rows = points(records, all_starts=True), []
    for task, part in by_task(records, found):
        for by, name in (("start", "start"), ("live", "live units")):
            counted = part if by == "start" else part[part["counted"]]
            for value, stratum in counted.groupby(by):
                enough = stratum.groupby("seed").filter(lambda rows: len(rows) >= STRATUM)
                if enough.empty:
                    continue
                each = pd.Series({s: _correlation(r, "positive") for s, r in enough.groupby("seed")})
                rows.append(
                    {
                        "task": task,
                        "stratum": f"{name}: {value}",
                        "seeds": len(each),
                        "points": len(enough),
                        **_columns(each, "correlation", "minimal ratio and loss"),
                    }
                )
    return Table(
        "strata",
        "The same correlation for each way to start, and at each number of live units",
        pd.DataFrame(rows),
        f"Only seeds with at least {STRATUM} points in the stratum. A stratum whose minimal ratio never changes counts "
        "as no correlation. Live units: different hidden units that pass something on, a number for each layer.",
    )


def _steps(records: Records) -> Table:
    """What each step of the report's protocol did to the gradient, beside the control and the certified points."""
    table, found = records.analysis(PROTOCOL), points(records, DIGITS)
    if table.empty or found.empty:
        return Table("report-steps", "", pd.DataFrame())
    rows = []
    for variant, part in table.groupby("variant", sort=False):
        ends = part[part["epoch"].isin([0, *part.groupby(["seed", "phase"])["epoch"].max()])]
        rows.append(_step(f"{variant}: initial weights", ends[ends["epoch"] == 0]))
        rows += [_step(f"{variant}: after {p}", ends[(ends["phase"] == p) & (ends["epoch"] > 0)]) for p in PHASES]
        rows.append(_step(f"{variant}: every epoch of {AGAIN}", part[part["phase"] == AGAIN], correlate=True))
    initial = records.analysis("initial")
    control = initial[initial["task"] == DIGITS]
    rows.append(_step("control: random initial weights", control, correlate=True))
    rows.append(_step("certified critical points", found.assign(certified=True), correlate=True))
    return Table(
        "report-steps",
        "The report's protocol, step by step",
        pd.DataFrame(rows),
        "On three digits. Gradient norm and its quotient by the largest curvature: geometric means over seeds of each "
        "seed's median, with 95 % intervals; a critical point must stay below 1e-9 and 1e-8. Certified: share of the "
        "weights looked at that pass the test. Zero: mean share of eigenvalues within rounding of zero, whose signs "
        "decide nothing; the report counts those above 0. ‖Hg‖ over ‖g‖: the first is what a script reads that looks "
        "at the gradient after the backward pass of the gradient norm. Correlation of minimal ratio and loss, by seed.",
    )


PHASES = (FIRST, NORM, AGAIN)


def _step(name: str, rows: pd.DataFrame, *, correlate: bool = False) -> dict[str, Any]:
    norms = rows.groupby("seed")["gradient_norm"].median()
    relative = (rows["gradient_norm"] / rows["largest"]).groupby(rows["seed"]).median()
    row: dict[str, Any] = {"weights": name, **_columns(norms, "ratio", "gradient norm")}
    row |= {**_columns(relative, "ratio", "over largest curvature"), "certified": rows["certified"].mean()}
    row["zero"] = rows["zero"].mean()
    row["‖Hg‖ over ‖g‖"] = (rows["product_norm"] / rows["gradient_norm"]).median() if "product_norm" in rows else np.nan
    none = pd.Series(dtype="float64")
    values = rank_correlation(rows, "loss", "positive").low if correlate else none
    return row | _columns(values, "correlation", "minimal ratio and loss")


def _dial(records: Records) -> Table:
    table, rows = records.analysis("dial"), []
    for decay, part in table.groupby("decay", sort=False) if len(table) else ():
        kept = part[part["outcome"] == CERTIFIED]
        shares = part.assign(kept=part["outcome"] == CERTIFIED).groupby("seed")["kept"].sum() / _begun(table)
        enough = kept.groupby("seed").filter(lambda rows: len(rows) >= STRATUM)
        mean = kept.groupby("seed")[["positive", "negative", "zero", "soft", "flat", "weights"]].mean()
        rows.append(
            {
                "weight decay": decay,
                "points": len(kept),
                **_columns(shares, "mean", "still there"),
                **{name: mean[name].mean() for name in ("positive", "negative", "zero", "soft")},
                "on a flat surface": (kept["flat"] > 0).mean() if len(kept) else np.nan,
                "flat directions": kept.loc[kept["flat"] > 0, "flat"].mean(),
                "norm of the weights": mean["weights"].mean(),
                **_columns(_each(enough, "positive"), "correlation", "minimal ratio and loss"),
                **_columns(_each(enough, "negative"), "correlation", "negative share and loss"),
            }
        )
    return Table(
        "dial",
        "Weight decay as a dial towards zero",
        pd.DataFrame(rows),
        f"Points on {TARGETS}, followed as the decay goes down; one that is lost (it meets another and both vanish, or "
        "its weights grow without end) is not looked for again. Still there: share of a seed's points that are "
        "certified at this decay. Positive, negative and zero: mean shares of eigenvalues. Soft: those within ten "
        "times the decay, which at decay 0 are those that are zero. At 0 the two correlations may differ.",
    )


def _begun(table: pd.DataFrame) -> pd.Series:
    begun: pd.Series = table[table["decay"] == table["decay"].max()].groupby("seed").size()
    return begun


def _each(rows: pd.DataFrame, column: str) -> pd.Series:
    return pd.Series({s: _correlation(r, column) for s, r in rows.groupby("seed")}, dtype="float64")


def _matrices(records: Records) -> Table:
    rows = []
    for task, part in by_task(
        records, points(records).dropna(subset="predicted") if len(points(records)) else points(records)
    ):
        away = (part["negative"] - part["predicted"]).groupby(part["seed"]).mean()
        rows.append(
            {
                "task": task,
                "negative share": part["negative"].mean(),
                "predicted": part["predicted"].mean(),
                **_columns(away, "mean", "difference"),
                **_columns(_together(part), "correlation", "measured and predicted"),
            }
        )
    return Table(
        "random-matrices",
        "Share of negative eigenvalues, and what random matrices predict",
        pd.DataFrame(rows),
        "Pennington and Bahri 2017: a Wishart and a free Wigner matrix with the first two moments of each point's own "
        "Gauss-Newton matrix and the rest of its Hessian, moved up by the weight decay. Squared errors only: with "
        "cross entropy the Gauss-Newton matrix depends on the outputs.",
    )


def _together(part: pd.DataFrame) -> pd.Series:
    return rank_correlation(part.rename(columns={"predicted": "x"}), "x", "negative").low


def _outcomes(records: Records) -> Table:
    table = records.analysis("outcomes")
    if len(table):
        table = table.pivot_table(
            index=["task", "start"], columns="outcome", values="starts", aggfunc="sum", fill_value=0, sort=False
        ).reset_index()
        table = table.sort_values("task", key=lambda names: names.map(TASKS.index), kind="stable")
    return Table(
        "outcomes",
        "What became of every start",
        table,
        "Walks of all seeds. Only certified ends are counted anywhere, copies by permutation or sign of units once.",
    )


def _columns(values: pd.Series, kind: Kind, name: str) -> dict[str, Any]:
    return interval(Evidence.exact(values), kind).columns(name)
