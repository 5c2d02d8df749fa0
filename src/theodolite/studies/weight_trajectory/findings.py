"""What the records of the weight trajectories say: numbers for the claims, tables and figures.

Beside :mod:`theodolite.studies.weight_trajectory.study`, which trains, measures and claims.
"""

import numpy as np
import pandas as pd

from theodolite.claims import Number, crossed_components, row
from theodolite.figures.curves import BAND, curves
from theodolite.figures.paths import MARKS, paths
from theodolite.figures.points import dots, over_factor
from theodolite.figures.scales import Axis, Rule
from theodolite.findings import Figure, Table
from theodolite.store.records import Records
from theodolite.studies.classifiers import CLASSES, covered
from theodolite.studies.weight_trajectory.ends import KINDS, convergence_table, ends_table, kinds_of
from theodolite.studies.weight_trajectory.settings import WeightTrajectory
from theodolite.wording import counted, per_cent

FIRST, WHOLE = "first", "all"  # layers as the instrument calls them
LAYERS = {FIRST: "first layer", WHOLE: "whole model"}
PLANES = {FIRST: "figure-5-first-layer", WHOLE: "figure-5-whole-model"}
RENAMED = {"layer": {"first layer": FIRST, "whole model": WHOLE}}
OLD = "This folder is of a version that did not measure this. Run the study again."
SHOWN = 0  # the group that Figure 5 draws, and whose first layer is also kept as a table, Parquet and CSV
GUESSING = float(np.log(CLASSES))  # cross entropy of guessing: the scale of a barrier
RESULTS = {
    "train_loss": "training loss",
    "test_loss": "test loss",
    "train_accuracy": "training accuracy",
    "test_accuracy": "test accuracy",
}
SOURCES = {"weights": "initial weights", "order": "data order", "rest": "the two together, and the rest"}
EARLY = 0.2  # of the epochs: "quickly"
LARGE = 0.14  # of the variance: where Cohen 1988 ("Statistical Power Analysis", chapter 8) lets a large effect begin


def tables(records: Records[WeightTrajectory]) -> list[Table]:
    """Paths by layer, the split of the variance, and what became of the trainings of Figure 5."""
    groups, k = records.done["seed"].nunique(), records.settings.crossed
    chance = covered(records)
    found = [
        Table(
            "figure-5-numbers",
            "Paths of training in numbers",
            _path_table(records),
            f"Means over {counted(groups, 'group')} of trainings, with 95 % intervals. PCA of all trainings of a group "
            "together, and of each alone, with a null for both: a random walk alone has 6/π² = 0.608 of its "
            "variance on the first component (Antognini and Sohl-Dickstein 2018), and n equally long straight paths "
            "from one point at right angles to each other have 1/(n − 1) on each of n − 1 components. Start to end: "
            "ratio of the variance between trainings at the start to that at the end, along the first component and in "
            "full space. Nulls: the same ratio for paths from the same starts, as long, in random directions (along "
            "PCA 1) or at right angles to each other (in full space). Last step to first: ratio of their lengths. "
            f"{chance}",
        ),
        Table(
            "figure-5-trainings",
            "The trainings of Figure 5, one network trained again and again",
            records.derived(_final)
            .query("seed == @SHOWN and weights == order")[
                ["weights", "train_loss", "test_loss", "train_accuracy", "test_accuracy"]
            ]
            .rename(columns={"weights": "training", **RESULTS}),
            "After the last epoch.",
        ),
        Table(
            "ends",
            "What lies between the ends of two trainings, and how far an end is from a minimum",
            ends_table(records),
            f"Means over {counted(groups, 'group')} of each group's pairs, with 95 % intervals: the highest training "
            "loss above the line of the ends' losses, and the highest share of wrong answers minus the mean of the "
            "ends. The same between a network and itself with its hidden units in another order is what one minimum "
            f"gives where it is not recognised. {chance}",
        ),
        Table(
            "convergence",
            "How far the ends are from a minimum, and how differently they answer",
            convergence_table(records),
            "Geometric means over groups with 95 % intervals. Ratio of gradient to curvature: that of the norm of the "
            "training loss's gradient to its largest curvature; where the curvature stays below that, no point of zero "
            "gradient is nearer. Who is right: "
            "McNemar's statistic of two trainings on the same test images, mean over a group's pairs; 1 is what "
            f"trainings that are equally good give. {chance}",
        ),
        Table(
            "variance",
            "Where the variance of the final result comes from",
            pd.DataFrame([_variance_row(records, column) for column in ("test_loss", "test_accuracy")]),
            f"A crossed design in each of {counted(groups, 'group')}: {k} initial weights, each trained with the same "
            f"{k} data "
            "orders. Shares of the variance of one result, from the two-way analysis of variance with random "
            "factors, with 95 % intervals over groups; an estimate may come out below zero.",
        ),
    ]
    return [table for table in found if len(table.frame)]


def figures(records: Records[WeightTrajectory]) -> list[Figure]:
    """Figure 5 for the first layer and the whole model; distances in full space; barriers; the variance split."""
    found = []
    walks, shares = records.analysis("paths"), records.analysis("shares")
    if len(walks):
        found += [_plane(walks, shares, layer, records.settings) for layer in LAYERS]
        found += [_distances(walks, records.analysis("apart")), _barriers(records.analysis("lines"))]
    split = split_variance(records, "test_loss")
    return [*found, _split_figure(split)] if len(split) else found


def _plane(walks: pd.DataFrame, shares: pd.DataFrame, layer: str, settings: WeightTrajectory) -> Figure:
    shown = walks[(walks["seed"] == SHOWN) & (walks["layer"] == layer)]
    share = shares[(shares["seed"] == SHOWN) & (shares["layer"] == layer)].set_index("component")["together"]
    across, up = (Axis(f"component_{k}", f"PCA {k} ({per_cent(share[k])} of the variance)") for k in (1, 2))
    chart = paths(shown, x=across, y=up, series="training", step="epoch")
    n = shown["training"].nunique()
    start, end = (shown.loc[shown["epoch"] == at, "component_1"].std() for at in (0, settings.epochs))
    return Figure(
        PLANES[layer],
        f"Figure 5: paths of the {LAYERS[layer]} in the plane of their first two principal components",
        chart,
        f"{n} trainings of one network, {settings.epochs} epochs, a dot every {settings.every}. {MARKS} One "
        "group of trainings; both axes have the same scale. A plane can mislead: whatever they learn, "
        f"{n} straight paths at right angles to each other look like this, with {per_cent(1 / (n - 1))} of the "
        "variance on "
        "each axis, and a single random walk has 61 % and 15 % of its own on its two.",
        f"Standard deviation between the trainings along the first component: {start:.2g} at the start, {end:.2g} at "
        "the end.",
        "The weights of each model quickly diverged from the middle and eventually converged to their respective "
        "local minimums.",
    )


def _distances(walks: pd.DataFrame, apart: pd.DataFrame) -> Figure:
    kinds = {"distance_from_start": "distance from the start", "step_length": "step since the last snapshot"}
    long = walks.melt(["layer", "seed", "epoch"], list(kinds), "what", "distance").replace({"what": kinds})
    both = pd.concat([apart.assign(what="distance between trainings"), long], ignore_index=True)
    means = both.groupby(["layer", "what", "seed", "epoch"], sort=False)["distance"].mean().reset_index()
    chart = curves(
        means[means["distance"] > 0].replace({"layer": LAYERS}),  # at epoch 0 none has left its start: no logarithm
        x=Axis("epoch", "epoch"),
        y=Axis("distance", "distance in weight space", log=True),
        series="what",
        panel="layer",
    )
    middle = apart[apart["layer"] == FIRST].groupby("epoch")["distance"].median()
    return Figure(
        "distances",
        "Distances in the full weight space",
        chart,
        "Euclidean distances of first layer and whole model, means over the trainings of a group. "
        f"{counted(apart['seed'].nunique(), 'group')}. {BAND.replace('seeds', 'groups')}",
        f"Two trainings are {middle.iloc[0]:.2g} apart in the first layer before training and {middle.iloc[-1]:.2g} "
        "after.",
        "The model parameters change less and less with each epoch",
    )


def _barriers(lines: pd.DataFrame) -> Figure:
    lines = kinds_of(lines)
    unit = lines["seed"].astype(str) + ":" + lines["first"].astype(str)
    chart = curves(
        lines.assign(unit=unit, to=lines["kind"].map(KINDS)),
        x=Axis("alpha", "position between the end of a training and …"),
        y=Axis("training", "training loss (cross entropy)", log=True),
        series="to",
        seed="unit",
        rules=[Rule(GUESSING, "guessing")],
    )
    top = lines.groupby([unit, "kind"], sort=False)["training"].max().groupby("kind", sort=False).median()
    heights = "; ".join(f"to {KINDS[str(kind)]} {height:.2g}" for kind, height in top.items())
    return Figure(
        "barriers",
        "Loss on the straight line between the ends of two trainings, and between one of them and itself",
        chart,
        f"{counted(unit.nunique(), 'pair')} of trainings, no training in two of them. Units in another order compute "
        f"the same, so the last line begins and ends in one minimum. {BAND.replace('seeds', 'pairs')}",
        f"Highest training loss on the way, median pair: {heights}; guessing {GUESSING:.2g}.",
        "converged to their respective local minimums",
    )


def _split_figure(split: pd.DataFrame) -> Figure:
    long = split.rename(columns=SOURCES).melt(value_name="share", var_name="source")
    return Figure(
        "variance",
        "Variance of the final test loss: initial weights, data order, and the rest",
        over_factor(
            long,
            x=Axis("source", "source of chance"),
            y=Axis("share", "share of the variance"),
            statistic="mean",
            rules=[Rule(0.0, ""), Rule(LARGE, "large", claimed=(LARGE, np.inf))],
        ),
        f"Crossed designs of {counted(len(split), 'group')}. {dots('mean').replace('seeds', 'groups')} Shares of "
        f"the mean variance of all groups; an estimate may come out below zero. Shaded: from {LARGE:g} on a share is "
        "large (Cohen 1988), as claimed of the initial weights.",
        f"Mean share of the initial weights: {split['weights'].mean():.2g}, of the data order: "
        f"{split['order'].mean():.2g}.",
        'the importance of "lucky" initial weight values',
    )


def _path_table(records: Records[WeightTrajectory]) -> pd.DataFrame:
    ratios, shares = records.derived(spreads), records.analysis("shares")
    rows = []
    for layer, own in ratios.groupby("layer", sort=False):
        of = shares[shares["layer"] == layer]
        first, second = (of[of["component"] == k].set_index("seed") for k in (1, 2))
        numbers: dict[str, Number] = {
            "PCA 1": (first["together"], "mean"),
            "PCA 2": (second["together"], "mean"),
            "PCA 1, each alone": (first["alone"], "mean"),
            "ratio of start to end, PCA 1": ("plane", "ratio"),
            "ratio of start to end, full space": ("full_space", "ratio"),
            "ratio of last step to first": ("last_step", "ratio"),
            "null of full space": ("right_angles", "ratio"),
        }
        if "undirected" in first:
            numbers["null of PCA 1"] = (first["undirected"], "ratio")
        nulls = {
            "PCA 1 of a random walk": first["random_walk"].iloc[0],
            "PCA 1 of paths at right angles": 1 / (records.settings.trainings - 1),
        }
        place = {"layer": LAYERS[str(layer)], "parameters": first["parameters"].iloc[0]}
        rows.append(place | row(own, numbers) | nulls)
    return pd.DataFrame(rows)


def _variance_row(records: Records[WeightTrajectory], result: str) -> dict[str, object]:
    values = records.derived(_final)[result]
    split = split_variance(records, result).rename(columns=SOURCES).reset_index()
    final = {"final": RESULTS[result], "mean": values.mean(), "deviation": values.std()}
    return final | row(split, {name: (name, "mean") for name in SOURCES.values()})


def spreads(records: Records[WeightTrajectory]) -> pd.DataFrame:
    """A row a group and layer: variance between trainings at the start over the end, in the plane and in full space.

    And what in full space paths from the same starts, as long and at right angles to each other, would have.
    """
    walks, apart = records.analysis("paths"), records.analysis("apart")
    if walks.empty:
        return pd.DataFrame(columns=["seed", "layer", "plane", "full_space", "last_step", "right_angles"])
    keys = ["seed", "layer", "epoch"]
    of = walks.groupby(keys)
    over = [of["component_1"].var(), apart.assign(square=apart["distance"] ** 2).groupby(keys)["square"].mean()]
    plane, full, steps = (_ends(values) for values in (*over, of["step_length"].mean().dropna()))
    order = pd.MultiIndex.from_frame(walks[["seed", "layer"]].drop_duplicates())
    moved = (of["distance_from_start"].agg(lambda d: float((d**2).mean()))).groupby(["seed", "layer"]).last()
    ratios = {
        "plane": plane[0] / plane[1],
        "full_space": full[0] / full[1],
        "last_step": steps[1] / steps[0],
        "right_angles": full[0] / (full[0] + 2 * moved),  # Pythagoras: two ways at right angles to each other
    }
    return pd.DataFrame(ratios).reindex(order).reset_index()


def pace(records: Records[WeightTrajectory]) -> pd.Series:
    """For each group how far trainings are after a fifth of the epochs, over how far a random walk would be.

    Of the whole way, mean over trainings; a random walk is at the root of the share of time.
    """
    walks = records.analysis("paths")
    walks = walks[walks["layer"] == FIRST]
    epochs = records.settings.epochs
    early = walks.loc[walks["epoch"] >= EARLY * epochs, "epoch"].min()
    mean = walks.groupby(["seed", "epoch"])["distance_from_start"].mean().unstack("epoch")
    pace: pd.Series = mean[early] / mean[mean.columns.max()] / (early / epochs) ** 0.5
    return pace


def _ends(values: pd.Series) -> tuple[pd.Series, pd.Series]:
    """The values at the first and at the last epoch of each group and layer."""
    grouped = values.groupby(["seed", "layer"])
    first, last = (pd.Series(grouped.nth(n)).droplevel("epoch") for n in (0, -1))
    return first, last


def split_variance(records: Records[WeightTrajectory], result: str) -> pd.DataFrame:
    """A row a group: components of variance as shares of one result's, whose variance is the mean of all groups.

    Each group's own variance would do as a denominator too, but makes the mean of few small designs too low (by a
    quarter at three by three and a share of one half, in simulation) and its interval too narrow.
    """
    k = records.settings.crossed
    final = records.derived(_final)
    final = final[(final["weights"] < k) & (final["order"] < k)]
    parts = {}
    for group, values in final.sort_values(["weights", "order"]).groupby("seed", sort=False)[result]:
        if len(values) == k * k:  # NaN where a run diverged, and then in every component
            parts[group] = crossed_components(values.to_numpy().reshape(k, k))
    table = pd.DataFrame(
        [{"weights": c.rows, "order": c.columns, "rest": c.rest} for c in parts.values()],
        index=pd.Index(parts, name="seed"),
        columns=list(SOURCES),
        dtype="float64",
    )
    return table / table.sum(axis=1, skipna=False).mean()


def _final(records: Records[WeightTrajectory]) -> pd.DataFrame:
    """The last evaluation of every run; no test result counts where the training loss is not a number."""
    last = records.table("metrics").groupby("fingerprint", sort=False).tail(1)
    results = ["test_loss", "test_accuracy"]
    last[results] = last[results].where(np.isfinite(last["train_loss"]), np.nan)
    return last
