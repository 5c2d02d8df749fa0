"""What the records of the minimal ratio say: evidence of the claims, and tables.

Beside :mod:`~theodolite.studies.minimal_ratio.study`, which sets out and claims; imports no torch.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from theodolite.claims import Evidence, Numbers, Statistic, interval, rank_correlation, trends
from theodolite.findings import Table
from theodolite.store.records import Records
from theodolite.studies.minimal_ratio.settings import MinimalRatio

POINTS, PROTOCOL, FIELD = "points", "protocol", "field"  # what is measured
TARGETS, DEEP, DIGITS, COS = "random targets", "random targets, two hidden layers", "three digits", "cos"
TASKS = (TARGETS, DEEP, DIGITS, COS)
AT_RANDOM = "random-index-k"
STARTS = (AT_RANDOM, "snapshot", "symmetric")
WAYS = {AT_RANDOM: "random weights", "snapshot": "weights of a training", "symmetric": "symmetric weights"}  # in words
NULL = "random field"
CRITICAL = 1e-8  # norm of the gradient over the largest curvature: what every certified point must meet
OLD = "This folder is of a version that did not measure this. Run the study again."
SHORT = {TARGETS: "random targets", DEEP: "two hidden layers", DIGITS: "three digits", COS: "cos"}  # along an axis
LETTER, WITH_DECAY = "to_the_letter", "weight_decay"  # variants of the report's protocol: without any, on our landscape
VARIANTS = {LETTER: "to the letter", WITH_DECAY: "with weight decay"}
FIRST, NORM, AGAIN = "cross_entropy", "gradient_norm", "cross_entropy_again"  # its phases
PHASES = {FIRST: "cross entropy", NORM: "gradient norm", AGAIN: "cross entropy again"}
MEASURED, MATRICES = "measured", "random_matrices"  # kinds of spectra
KINDS = {MEASURED: "measured", MATRICES: "random matrices"}
SELECTED = {"lowest_loss": "lowest loss", "median_loss": "median loss", "high_loss": "high loss"}  # points with spectra
SOFT = 10.0  # times the weight decay: |λ| up to here is called soft, held by little but the decay
STRATUM = 8  # points that a stratum must have to say anything about order
CERTIFIED = "certified"
OUTCOMES = {
    CERTIFIED: "certified",
    "gradient_flat": "gradient-flat",
    "not_converged": "not converged",
    "degenerate": "degenerate",
    "ran_away": "ran away",
    "not_finite": "not finite",
}
RENAMED = {
    "variant": {"to the letter": LETTER, "with weight decay": WITH_DECAY},
    "phase": {"cross entropy": FIRST, "gradient norm": NORM, "cross entropy again": AGAIN},
    "kind": {"points": MEASURED, "random matrices": MATRICES},
    "point": {"lowest loss": "lowest_loss", "median loss": "median_loss", "high loss": "high_loss"},
    "outcome": {
        "gradient-flat": "gradient_flat",
        "not converged": "not_converged",
        "ran away": "ran_away",
        "not finite": "not_finite",
    },
}


def points(records: Records[MinimalRatio], task: str | None = None, *, all_starts: bool = False) -> pd.DataFrame:
    """Distinct certified points; ``all_starts``: also those that another way to start reached as well."""
    found = records.analysis(POINTS)
    if len(found):
        found = found[(found["counted"] | all_starts) & ((task is None) | (found["task"] == task))]
    return found


def by_task(records: Records[MinimalRatio], table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each task, in one order everywhere."""
    for task in TASKS:
        part = table[table["task"] == task] if len(table) else table
        if len(part):
            yield task, part


def inverse(records: Records[MinimalRatio]) -> dict[str, Evidence]:
    """Correlation of minimal ratio and loss, on each task."""
    return _on_each(records, lambda task: rank_correlation(points(records, task), "loss", "positive").low)


def stratified(records: Records[MinimalRatio]) -> dict[str, Evidence]:
    """Correlation of index and loss within strata, on each task."""
    return _on_each(records, lambda task: _within(points(records, task, all_starts=True)))


def beyond_field(records: Records[MinimalRatio]) -> dict[str, Evidence]:
    """Correlation of minimal ratio and loss less that of a random field, both over points from random starts."""

    def difference(task: str) -> pd.Series:
        found, null = points(records, task, all_starts=True), field(records, task)
        own = rank_correlation(found[found["start"] == AT_RANDOM], "loss", "positive").low
        return own - rank_correlation(null, "loss", "positive").low

    if not len(field(records)):
        return dict.fromkeys(TASKS, _lacking(records, FIELD))
    return _on_each(records, difference, (POINTS, FIELD))


def approach(records: Records[MinimalRatio]) -> dict[str, Evidence]:
    """Correlation of the minimal ratio at weights of a training and the index of the point that a walk from it finds.

    An index that is the same for all says that the ratio told nothing, and counts as 0.
    """
    table = records.analysis("approach")
    if table.empty:
        return dict.fromkeys(TASKS, _lacking(records, POINTS))
    kept = table[table["outcome"] == CERTIFIED]
    return _on_each(records, lambda task: tells_index(kept[kept["task"] == task]))


def tells_index(rows: pd.DataFrame) -> pd.Series:
    """For each seed the rank correlation of minimal ratio and index; 0 where all have one index."""
    return trends.each_seed(rows, "positive", "index", _correlation)


def field(records: Records[MinimalRatio], task: str | None = None) -> pd.DataFrame:
    """Distinct certified points of random fields with as many dimensions as each task has parameters."""
    found = records.analysis(FIELD)
    return found[found["task"] == task] if len(found) and task is not None else found


def _within(part: pd.DataFrame) -> pd.Series:
    """For each seed the mean over strata, weighted by their points; NaN where no stratum has enough of them."""
    codes = part.groupby(["seed", "start", "live"]).ngroup().to_numpy()
    found: dict[int, list[tuple[float, int]]] = {seed: [] for seed in sorted(part["seed"].unique())}  # and its points
    for seeds, loss, index in trends.split(codes, *(part[name].to_numpy() for name in ("seed", "loss", "index"))):
        if len(loss) >= STRATUM:
            found[seeds[0]].append((_correlation(loss, index.astype(np.float64)), len(loss)))
    means = [np.average([r for r, _ in own], weights=[n for _, n in own]) if own else np.nan for own in found.values()]
    return pd.Series(means, index=list(found), dtype="float64")


def _correlation(loss: Numbers, column: Numbers) -> float:
    """Spearman's; 0 where the column never changes while the loss does: then the loss tells nothing of it."""
    distinct = [len(np.unique(values[~np.isnan(values)])) for values in (column, loss)]
    return 0.0 if distinct[0] < 2 <= distinct[1] else trends.spearman(loss, column)


def protocol(records: Records[MinimalRatio]) -> Evidence:
    """Gradient norm over largest curvature after the last epoch that minimises the norm, by the report's protocol."""
    table = records.analysis(PROTOCOL)
    if len(table):
        table = table[(table["variant"] == LETTER) & (table["phase"] == NORM)]
        table = table[table["epoch"] == table["epoch"].max()].set_index("seed")
        relative = table["gradient_norm"] / table["largest"]
    else:
        relative = pd.Series(dtype="float64")
    return _of_seeds(records, relative, DIGITS, (PROTOCOL,))


def _on_each(
    records: Records[MinimalRatio], number: Callable[[str], pd.Series], kinds: Sequence[str] = (POINTS,)
) -> dict[str, Evidence]:
    """A number a seed for each task, of points that there are."""
    none = pd.Series(dtype="float64")
    some = len(points(records, all_starts=True)) > 0
    return {task: _of_seeds(records, number(task) if some else none, task, kinds) for task in TASKS}


def _of_seeds(records: Records[MinimalRatio], values: pd.Series, task: str, kinds: Sequence[str]) -> Evidence:
    """Every seed that is measured; one whose measurement failed, or gave no number, has none and stays."""
    plan = records.analyses
    own = plan[plan["measured"].isin(kinds) & (plan["task"] == task)]
    over = own["status"].isin(["done", "failed"]).groupby(own["seed"]).all()
    failed = own.loc[own["status"] == "failed", "seed"]
    one = values.reindex(over.index[over])
    return Evidence.exact(one.mask(one.index.isin(failed)))


def _lacking(records: Records[MinimalRatio], kind: str) -> Evidence:
    """No evidence, and why: it is not there yet, or an older version measured without it."""
    planned = records.analyses
    waits = ((planned["measured"] == kind) & planned["status"].isin(["missing", "running"])).any()
    return Evidence.exact(pd.Series(dtype="float64"), note="" if waits else OLD)


def tables(records: Records[MinimalRatio]) -> list[Table]:
    """Correlations, strata, the dial, random matrices, and what was refused."""
    makers = (_summary, _strata, _dial, _matrices, _outcomes)
    return [table for table in (make(records) for make in makers) if len(table.frame)]


def _summary(records: Records[MinimalRatio]) -> Table:
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
                **columns(rank_correlation(part, "loss", "positive").low, "correlation", "minimal ratio and loss"),
                **columns(rank_correlation(part, "loss", "index").low, "correlation", "index and loss"),
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


def _strata(records: Records[MinimalRatio]) -> Table:
    found, rows = points(records, all_starts=True), []
    for task, part in by_task(records, found):
        for by, name in (("start", "start"), ("live", "live units")):
            counted = part if by == "start" else part[part["counted"]]
            for value, stratum in counted.groupby(by):
                enough = large(stratum)
                if enough.empty:
                    continue
                each = each_seed(enough, "positive")
                rows.append(
                    {
                        "task": task,
                        "stratum": f"{name}: {WAYS.get(str(value), value)}",
                        "seeds": len(each),
                        "points": len(enough),
                        **columns(each, "correlation", "minimal ratio and loss"),
                    }
                )
    return Table(
        "strata",
        "The same correlation for each way to start, and at each number of live units",
        pd.DataFrame(rows),
        f"Only seeds with at least {STRATUM} points in the stratum. A stratum whose minimal ratio never changes counts "
        "as no correlation. Live units: different hidden units that pass something on, a number for each layer.",
    )


def _dial(records: Records[MinimalRatio]) -> Table:
    table, rows = records.analysis("dial"), []
    for decay, part in table.groupby("decay", sort=False) if len(table) else ():
        kept = part[part["outcome"] == CERTIFIED]
        shares = part.assign(kept=part["outcome"] == CERTIFIED).groupby("seed")["kept"].sum() / _begun(table)
        enough = large(kept)
        mean = kept.groupby("seed")[["positive", "negative", "zero", "soft", "flat", "weights"]].mean()
        rows.append(
            {
                "weight decay": decay,
                "points": len(kept),
                **columns(shares, "mean", "still there"),
                **{name: mean[name].mean() for name in ("positive", "negative", "zero", "soft")},
                "on a flat surface": (kept["flat"] > 0).mean() if len(kept) else np.nan,
                "flat directions": kept.loc[kept["flat"] > 0, "flat"].mean(),
                "norm of the weights": mean["weights"].mean(),
                **columns(each_seed(enough, "positive"), "correlation", "minimal ratio and loss"),
                **columns(each_seed(enough, "negative"), "correlation", "negative share and loss"),
            }
        )
    return Table(
        "dial",
        "Weight decay as a dial towards zero",
        pd.DataFrame(rows),
        f"Points on {TARGETS}, followed as the decay goes down; one that is lost (its walk does not converge, as where "
        "two points meet and vanish, or its end is not certified) is not looked for again. Still there: share of a "
        "seed's points that are certified at this decay. Positive, negative and zero: mean shares of eigenvalues. "
        "Soft: those within ten times the decay, which at decay 0 are those that are zero. At 0 the two "
        "correlations may differ.",
    )


def _begun(table: pd.DataFrame) -> pd.Series:
    begun: pd.Series = table[table["decay"] == table["decay"].max()].groupby("seed").size()
    return begun


def each_seed(rows: pd.DataFrame, column: str) -> pd.Series:
    """For each seed the rank correlation of a column and the loss; 0 where only the loss changes."""
    return trends.each_seed(rows, "loss", column, _correlation).sort_index()


def large(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of seeds that have enough of them to say anything about order."""
    return rows[rows.groupby("seed")["seed"].transform("size") >= STRATUM]


def _matrices(records: Records[MinimalRatio]) -> Table:
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
                **columns(away, "mean", "difference"),
                **columns(_together(part), "correlation", "measured and predicted"),
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


def _outcomes(records: Records[MinimalRatio]) -> Table:
    table = records.analysis("outcomes")
    if len(table):
        table = (
            table.replace({"outcome": OUTCOMES, "start": WAYS})
            .pivot_table(
                index=["task", "start"], columns="outcome", values="starts", aggfunc="sum", fill_value=0, sort=False
            )
            .reset_index()
        )
        table["task"] = table["task"].astype(str)  # categories would keep an order of their own
        table = table.sort_values("task", key=lambda names: names.map(TASKS.index), kind="stable")
    return Table(
        "outcomes",
        "What became of every start",
        table,
        "Walks of all seeds. Only certified ends are counted anywhere, copies by permutation or sign of units once.",
    )


def columns(values: pd.Series, kind: Statistic, name: str) -> dict[str, Any]:
    """A number a seed as an estimate with its interval, in columns of a table."""
    return interval(Evidence.exact(values), kind).columns(name)
