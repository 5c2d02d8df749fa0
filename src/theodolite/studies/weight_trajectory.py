"""Paths of training through weight space: one network trained eight times, seen in a plane and measured in full.

The report's Figure 5. It gives optimizer, loss, epochs, the layer and how often it is saved; the rest is chosen here,
before any run, with the reason beside each setting.

A seed of this study is a group of trainings: ``trainings`` independent ones, as in the report, each with initial
weights and a data order of its own, and among the first ``crossed`` of them every initial weights with every order.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from theodolite.claims import Claim, Evidence, Kind, interval, rank_correlation
from theodolite.claims.variance import crossed_components
from theodolite.data import DataSpec
from theodolite.figures.curves import BAND, curves
from theodolite.figures.paths import MARKS, paths
from theodolite.figures.points import MEDIAN, over_factor
from theodolite.figures.scales import Axis, Rule
from theodolite.findings import Figure, Table
from theodolite.store.records import Records
from theodolite.studies.classifiers import CLASSES, classifier
from theodolite.study import AnalysisSpec, RunSpec, Seeds, Settings, Study, Training

if TYPE_CHECKING:
    from theodolite.runs import Trained
    from theodolite.train import Outcome

NAME = "weight-trajectory"
LAYERS = {"first": "first layer", "all": "whole model"}  # the instrument's name of a layer, and ours
FIRST, WHOLE = LAYERS.values()
SHOWN = 0  # the group that Figure 5 draws, and whose first layer is also kept as a table, Parquet and CSV
ALPHAS = tuple(i / 20 for i in range(21))  # of the line between two ends
GUESSING = float(np.log(CLASSES))  # cross entropy of guessing: the scale of a barrier
SOURCES = {"weights": "initial weights", "order": "data order", "rest": "the two together, and the rest"}


class WeightTrajectory(Settings):
    """Dials of the study, at ``quick``."""

    seeds: PositiveInt = 8  # groups
    trainings: Annotated[int, Field(ge=2)] = 8  # the report's, independent of each other
    crossed: Annotated[int, Field(ge=2)] = 3  # initial weights and orders of the crossed design, its square trainings
    source: str = "mnist"  # the data set of the report's other networks of this part
    train: PositiveInt | None = 2_000  # a subset; its full size costs thirty times as much
    test: PositiveInt | None = 2_000
    hidden: tuple[PositiveInt, ...] = (16, 16)  # small, since every snapshot of every training is kept
    learning_rate: PositiveFloat = 1e-3  # Adam's default
    batch_size: PositiveInt = 32  # the smallest of the report's
    epochs: PositiveInt = 51  # the report's
    every: PositiveInt = 3  # epochs between snapshots; the report's

    @model_validator(mode="after")
    def _check(self) -> "WeightTrajectory":
        if self.crossed > self.trainings:
            raise ValueError(f"the crossed design takes {self.crossed} of only {self.trainings} trainings")
        if self.epochs <= self.every:
            raise ValueError("expected at least two steps between snapshots")
        return self


PRESETS = {
    "smoke": WeightTrajectory(seeds=3, crossed=2, source="digits", train=None, test=None, epochs=15),
    "quick": WeightTrajectory(),
    "full": WeightTrajectory(
        seeds=10, train=None, test=None, hidden=(32, 32), batch_size=128
    ),  # 128: four times as fast
}


def expand(settings: WeightTrajectory) -> Iterator[RunSpec]:
    """The independent trainings of every group, with snapshots; then what the crossed design needs beside them."""
    for group in range(settings.seeds):
        yield from _independent(settings, group)
    for group in range(settings.seeds):
        for weights in range(settings.crossed):
            for order in range(settings.crossed):
                if weights != order:
                    yield _spec(settings, group, weights, order)


def measure(spec: RunSpec, outcome: "Outcome") -> Mapping[str, pd.DataFrame]:
    """The first layer after every few epochs, a row a weight: the report's file, as Parquet and as CSV."""
    if not spec.measure.get("first_layer"):
        return {}
    first = next(name for name, tensor in outcome.weights.items() if tensor.ndim == 2).rpartition(".")[0]
    weight, bias = (f"{first}.{part}" for part in ("weight", "bias"))
    units, inputs = outcome.weights[weight].shape
    table = pd.DataFrame(
        {
            "unit": [*np.repeat(np.arange(units), inputs), *range(units)],
            "input": pd.array([*np.tile(np.arange(inputs), units), *[None] * units], dtype="Int64"),  # none: the bias
            **{
                f"epoch {epoch}": np.concatenate([state[weight].numpy().ravel(), state[bias].numpy()])
                for epoch, state in outcome.snapshots.items()
            },
        }
    )
    return {"first_layer": table, "first_layer.csv": table}


def analyses(settings: WeightTrajectory) -> Iterator[AnalysisSpec]:
    """One a group, of its independent trainings."""
    for group in range(settings.seeds):
        inputs = tuple(spec.fingerprint() for spec in _independent(settings, group))
        yield AnalysisSpec(study=NAME, labels={}, seed=group, inputs=inputs, settings={"alphas": ALPHAS})


def analyse(spec: AnalysisSpec, trained: Sequence["Trained"]) -> Mapping[str, pd.DataFrame]:
    """Paths in the plane and in full space; loss on the line between the ends of disjoint pairs of trainings."""
    epochs = sorted(trained[0].snapshots)
    if any(sorted(run.snapshots) != epochs or run.spec.training.epochs not in epochs for run in trained):
        return {}  # one diverged: the group gives no number, which the claims take at its worst
    found: dict[str, list[pd.DataFrame]] = {"paths": [], "apart": [], "shares": []}
    for layer, name in LAYERS.items():
        for table, rows in _paths(trained, epochs, layer).items():
            rows.insert(0, "layer", name)
            found[table].append(rows)
    joined = {table: pd.concat(parts, ignore_index=True) for table, parts in found.items()}
    return {**joined, "lines": _lines(trained, spec.settings["alphas"])}


def _paths(trained: Sequence["Trained"], epochs: Sequence[int], layer: str) -> dict[str, pd.DataFrame]:
    from theodolite.measure.trajectory import trajectory

    path = trajectory([list(run.snapshots.values()) for run in trained], layer)
    steps = path.to_frame().rename(columns={"run": "training"})
    steps["epoch"] = np.asarray(epochs)[steps.pop("snapshot")]
    first, second = np.transpose(path.pairs)
    apart = {"first": np.repeat(first, len(epochs)), "second": np.repeat(second, len(epochs))}
    return {
        "paths": steps,
        "apart": pd.DataFrame(
            {**apart, "epoch": np.tile(epochs, len(first)), "distance": path.pairwise_distance.ravel()}
        ),
        "shares": pd.DataFrame(
            {
                "component": np.arange(1, len(path.random_walk) + 1),
                "together": path.explained_variance,
                "alone": path.explained_variance_by_run.mean(0),
                "random_walk": path.random_walk,
                "parameters": path.parameters,
            }
        ),
    }


def _lines(trained: Sequence["Trained"], alphas: Sequence[float]) -> pd.DataFrame:
    from torch.nn.functional import cross_entropy

    from theodolite import data, train
    from theodolite.measure.interpolate import interpolate

    sets = train.tensors(data.load(trained[0].spec.data))
    parts = []
    for first in range(0, len(trained) - 1, 2):
        one, other = (run.module() for run in trained[first : first + 2])
        on_train, on_test = (
            interpolate(one, other, cross_entropy, (split.inputs.flatten(1), split.targets), alphas)
            for split in (sets.train, sets.test)
        )
        line = {"first": first, "second": first + 1, "alpha": alphas, "barrier": on_train.barrier_above_line}
        losses = {"training": on_train.loss.numpy(), "test": on_test.loss.numpy()}
        parts.append(pd.DataFrame({**line, **losses}))
    return pd.concat(parts, ignore_index=True)


def tables(records: Records) -> list[Table]:
    """Paths by layer, the split of the variance, and what became of the trainings of Figure 5."""
    groups, k = records.done["seed"].nunique(), records.plan.settings["crossed"]
    found = [
        Table(
            "figure-5-numbers",
            "Paths of training in numbers",
            _path_table(records),
            f"Means over {groups} groups of trainings, with 95 % intervals. PCA of all trainings of a group "
            "together, and of each alone, with a null for both: a random walk alone has 6/π² = 0.608 of its "
            "variance on the first component (Antognini and Sohl-Dickstein 2018), and n equally long straight paths "
            "from one point at right angles to each other have 1/(n - 1) on each of n - 1 components. Variance "
            "between trainings at the start over that at the end, along the first component and in full space. "
            "Length of the last step over the first.",
        ),
        Table(
            "figure-5-trainings",
            "The trainings of Figure 5, one network trained again and again",
            _final(records)
            .query("seed == @SHOWN and weights == order")[
                ["weights", "train_loss", "test_loss", "train_accuracy", "test_accuracy"]
            ]
            .rename(columns=lambda name: "training" if name == "weights" else name.replace("_", " ")),
            "After the last epoch.",
        ),
        Table(
            "variance",
            "Where the variance of the final result comes from",
            pd.DataFrame([_variance_row(records, column) for column in ("test_loss", "test_accuracy")]),
            f"A crossed design in each of {groups} groups: {k} initial weights, each trained with the same {k} data "
            "orders. Shares of the variance of one result, from the two-way analysis of variance with random "
            "factors, with 95 % intervals over groups; an estimate may come out below zero.",
        ),
    ]
    return [table for table in found if len(table.frame)]


def figures(records: Records) -> list[Figure]:
    """Figure 5 for the first layer and the whole model; distances in full space; barriers; the variance split."""
    found = []
    walks, shares = records.analysis("paths"), records.analysis("shares")
    if len(walks):
        found += [_plane(walks, shares, layer, records.plan.settings) for layer in LAYERS.values()]
        found += [_distances(walks, records.analysis("apart")), _barriers(records.analysis("lines"))]
    split = _split(records, "test_loss")
    return [*found, _split_figure(split)] if len(split) else found


def _plane(walks: pd.DataFrame, shares: pd.DataFrame, layer: str, settings: Mapping[str, Any]) -> Figure:
    shown = walks[(walks["seed"] == SHOWN) & (walks["layer"] == layer)]
    share = shares[(shares["seed"] == SHOWN) & (shares["layer"] == layer)].set_index("component")["together"]
    across, up = (Axis(f"component_{k}", f"PCA {k} ({share[k]:.0%} of the variance)") for k in (1, 2))
    chart = paths(shown, x=across, y=up, series="training", step="epoch")
    n = shown["training"].nunique()
    start, end = (shown.loc[shown["epoch"] == at, "component_1"].std() for at in (0, settings["epochs"]))
    return Figure(
        f"figure-5-{layer.replace(' ', '-')}",
        f"Figure 5: paths of the {layer} in the plane of their first two principal components",
        chart,
        f"{n} trainings of one network, {settings['epochs']} epochs, a dot every "
        f"{settings['every']}. {MARKS} One group of trainings; both axes have the same scale. A plane of two "
        "components can mislead: random walks draw smooth curves in it as well, with 61 % and 15 % of their "
        "variance on its axes.",
        f"Standard deviation between the trainings along the first component: {start:.2g} at the start, {end:.2g} at "
        "the end.",
        "The weights of each model quickly diverged from the middle and eventually converged to their respective "
        "local minimums.",
    )


def _distances(walks: pd.DataFrame, apart: pd.DataFrame) -> Figure:
    steps = walks.assign(unit=walks["seed"].astype(str) + "-" + walks["training"].astype(str))
    kinds = {"distance_from_start": "distance from the start", "step_length": "step since the last snapshot"}
    parts = [
        steps[["layer", "unit", "epoch"]].assign(what=name, distance=steps[column]).dropna()
        for column, name in kinds.items()
    ]
    unit = apart["seed"].astype(str) + ":" + apart["first"].astype(str) + "-" + apart["second"].astype(str)
    parts = [part[part["distance"] > 0] for part in parts]  # at the start every training is there: no logarithm
    parts.insert(0, apart[["layer", "epoch", "distance"]].assign(what="distance between trainings", unit=unit))
    chart = curves(
        pd.concat(parts, ignore_index=True),
        x=Axis("epoch", "epoch"),
        y=Axis("distance", "distance in weight space", log=True),
        series="what",
        seed="unit",
        panel="layer",
    )
    middle = apart[apart["layer"] == FIRST].groupby("epoch")["distance"].median()
    return Figure(
        "distances",
        "Distances in the full weight space",
        chart,
        f"Euclidean distances of first layer and whole model, {steps['unit'].nunique()} trainings. Line: median; "
        "band: the middle 80 % of trainings, or of pairs of one group.",
        f"Two trainings are {middle.iloc[0]:.2g} apart in the first layer before training and {middle.iloc[-1]:.2g} "
        "after.",
        "The model parameters change less and less with each epoch",
    )


def _barriers(lines: pd.DataFrame) -> Figure:
    unit = lines["seed"].astype(str) + ":" + lines["first"].astype(str)
    long = lines.assign(unit=unit).melt(["unit", "alpha"], ["training", "test"], "set", "loss")
    chart = curves(
        long,
        x=Axis("alpha", "position between the ends of two trainings"),
        y=Axis("loss", "loss (cross entropy)", log=True),
        series="set",
        seed="unit",
        rules=[Rule(GUESSING, "guessing")],
    )
    top = lines.groupby(unit)["training"].max().median()
    return Figure(
        "barriers",
        "Loss on the straight line between the ends of two trainings",
        chart,
        f"{unit.nunique()} pairs of trainings, no training in two of them. {BAND.replace('seeds', 'pairs')}",
        f"The median pair reaches a training loss of {top:.2g} between its ends, against {GUESSING:.2g} for guessing.",
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
            rules=[Rule(0.0, ""), Rule(LARGE, "large (Cohen 1988)")],
        ),
        f"Crossed designs of {len(split)} groups. {MEDIAN} Shares of the mean "
        "variance of all groups; an estimate may come out below zero.",
        f"Mean share of the initial weights: {split['weights'].mean():.2g}, of the data order: "
        f"{split['order'].mean():.2g}.",
        'the importance of "lucky" initial weight values',
    )


LARGE = 0.14  # of the variance: where Cohen 1988 ("Statistical Power Analysis", chapter 8) lets a large effect begin


def _starts(records: Records, space: str) -> Evidence:
    spread = _spreads(records)
    return _each_group(records, spread.loc[spread["layer"] == FIRST].set_index("seed")[space])


def _steps(records: Records) -> Evidence:
    """One number a training: its weights and its order are its own."""
    walks = records.analysis("paths")
    runs = records.done[records.done["weights"] == records.done["order"]]
    names = runs["seed"].astype(str) + "-" + runs["weights"].astype(str)
    if not len(walks):
        return _unknown(names[runs["diverged_epoch"].notna()])
    walks = walks[(walks["layer"] == FIRST) & walks["step_length"].notna()]
    found = rank_correlation(
        walks.assign(seed=walks["seed"].astype(str) + "-" + walks["training"].astype(str)), "epoch", "step_length"
    )
    lost = runs["seed"].isin(_diverged(records))
    return Evidence.exact(pd.concat([found.low, _unknown(names[lost]).low]))


def _barrier(records: Records) -> Evidence:
    """One number a pair; no training is in two pairs."""
    lines = records.analysis("lines")
    pairs = [
        f"{group}:{first}"
        for group in _diverged(records)
        for first in range(0, records.plan.settings["trainings"] - 1, 2)
    ]
    lost = _unknown(pd.Series(pairs, dtype="str")).low
    if not len(lines):
        return Evidence.exact(lost)
    heights = lines.groupby(lines["seed"].astype(str) + ":" + lines["first"].astype(str))["barrier"].first() / GUESSING
    return Evidence.exact(pd.concat([heights, lost]))


def _luck(records: Records) -> Evidence:
    return Evidence.exact(_split(records, "test_loss")["weights"])


CLAIMS = (
    Claim(
        id="starts-close",
        sentence="Each model's starting first layer weights had very little variation between the other models' "
        "starting first layer weights, shown by the closeness of proximity on the PCA 1 axis.",
        source="report, Figure 5",
        statistic="variance between the trainings of a group along PCA 1 of the first layer, at the start over at "
        "the end",
        kind="ratio",
        side="below",
        threshold=0.1,
        evidence=lambda records: _starts(records, "plane"),
    ),
    Claim(
        id="starts-close-in-full-space",
        sentence="The starting first layer weights are as close in the full weight space as the plane shows them.",
        source="beyond",
        statistic="mean squared distance between the first layers of a group's trainings, at the start over at the end",
        kind="ratio",
        side="below",
        threshold=0.1,
        evidence=lambda records: _starts(records, "full space"),
    ),
    Claim(
        id="steps-shrink",
        sentence="Throughout the optimization process, the model parameters change less and less with each epoch.",
        source="report, Figure 5",
        statistic="Spearman's correlation of epoch and length of the step between snapshots of the first layer, in "
        "full space, a number a training",
        kind="correlation",
        side="below",
        threshold=0.0,
        evidence=_steps,
    ),
    Claim(
        id="different-minima",
        sentence="The weights of each model eventually converged to their respective local minimums.",
        source="report, Figure 5",
        statistic="highest training loss on the line between the ends of two trainings above the line of their "
        "losses, over the loss of guessing, a number for each of disjoint pairs",
        kind="mean",
        side="above",
        threshold=0.02,  # the margin below which Frankle et al. 2020 count a barrier as noise; zero it is by definition
        evidence=_barrier,
    ),
    Claim(
        id="initial-weights-matter",
        sentence='This also highlights the importance of "lucky" initial weight values.',
        source="beyond",
        statistic="share of the variance of the final test loss that goes with the initial weights whatever the "
        "data order, in a crossed design",
        kind="mean",
        side="above",
        threshold=LARGE,
        evidence=_luck,
    ),
)


def _independent(settings: WeightTrajectory, group: int) -> Iterator[RunSpec]:
    for training in range(settings.trainings):
        yield _spec(settings, group, training, training)


def _spec(settings: WeightTrajectory, group: int, weights: int, order: int) -> RunSpec:
    own = weights == order
    return RunSpec(
        study=NAME,
        labels={"weights": weights, "order": order},
        seed=group,
        data=DataSpec(source=settings.source, train=settings.train, test=settings.test),
        model=classifier(settings.source, settings.hidden),
        training=Training(
            loss="cross_entropy",
            optimizer="adam",
            learning_rate=settings.learning_rate,
            batch_size=settings.batch_size,
            epochs=settings.epochs,
            evaluate_every=settings.every,
            snapshot_every=settings.every if own else None,
        ),
        # Two sources of chance, so no number serves for both.
        seeds=Seeds(weights=1000 * group + weights, order=1000 * group + 500 + order),
        measure={"first_layer": True} if own and group == SHOWN else {},
    )


def _diverged(records: Records) -> list[int]:
    """Groups of which an independent training diverged."""
    runs = records.done
    lost = runs["diverged_epoch"].notna() & (runs["weights"] == runs["order"])
    return sorted(runs.loc[lost, "seed"].unique())


def _unknown(names: pd.Series) -> Evidence:
    return Evidence.exact(pd.Series(np.nan, index=pd.Index(names), dtype="float64"))


def _each_group(records: Records, values: pd.Series) -> Evidence:
    lost = [group for group in _diverged(records) if group not in values.index]
    return Evidence.exact(values.reindex([*values.index, *lost]))


def _spreads(records: Records) -> pd.DataFrame:
    """A row a group and layer: variance between trainings at the start over the end, in the plane and in full space."""
    walks, apart = records.analysis("paths"), records.analysis("apart")
    rows = []
    for (seed, layer), path in walks.groupby(["seed", "layer"], sort=False) if len(walks) else ():
        own = apart[(apart["seed"] == seed) & (apart["layer"] == layer)]
        plane = path.groupby("epoch")["component_1"].var()
        full = (own["distance"] ** 2).groupby(own["epoch"]).mean()
        steps = path.groupby("epoch")["step_length"].mean().dropna()
        ratios = {"plane": plane.iloc[0] / plane.iloc[-1], "full space": full.iloc[0] / full.iloc[-1]}
        rows.append({"seed": seed, "layer": layer, **ratios, "last step": steps.iloc[-1] / steps.iloc[0]})
    return pd.DataFrame(rows, columns=["seed", "layer", "plane", "full space", "last step"])


def _path_table(records: Records) -> pd.DataFrame:
    spreads, shares = _spreads(records), records.analysis("shares")
    rows = []
    for layer, own in spreads.groupby("layer", sort=False):
        of = shares[shares["layer"] == layer]
        first, second = (of[of["component"] == k].set_index("seed") for k in (1, 2))
        row: dict[str, object] = {"layer": layer, "parameters": first["parameters"].iloc[0]}
        numbers: dict[str, tuple[pd.Series, Kind]] = {
            "PCA 1": (first["together"], "mean"),
            "PCA 2": (second["together"], "mean"),
            "PCA 1, each alone": (first["alone"], "mean"),
            "start over end, PCA 1": (own.set_index("seed")["plane"], "ratio"),
            "start over end, full space": (own.set_index("seed")["full space"], "ratio"),
            "last step over first": (own.set_index("seed")["last step"], "ratio"),
        }
        for name, (values, kind) in numbers.items():
            row |= _bounded(name, values, kind)
        row["PCA 1 of a random walk"] = first["random_walk"].iloc[0]
        row["PCA 1 of paths at right angles"] = 1 / (records.plan.settings["trainings"] - 1)
        rows.append(row)
    return pd.DataFrame(rows)


def _bounded(name: str, values: pd.Series, kind: Kind) -> dict[str, object]:
    found = interval(Evidence.exact(values), kind)
    return {name: found.estimate, f"{name} low": found.low, f"{name} high": found.high}


def _final(records: Records) -> pd.DataFrame:
    """The last evaluation of every run; no test result counts where the training loss is not a number."""
    last = records.table("metrics").groupby("fingerprint", sort=False).tail(1)
    results = ["test_loss", "test_accuracy"]
    last[results] = last[results].where(np.isfinite(last["train_loss"]), np.nan)
    return last


def _split(records: Records, result: str) -> pd.DataFrame:
    """A row a group: components of variance as shares of one result's, whose variance is the mean of all groups.

    Each group's own variance would do as a denominator too, but makes the mean of few small designs too low (by a
    quarter at three by three and a share of one half, in simulation) and its interval too narrow.
    """
    k = records.plan.settings["crossed"]
    final = _final(records)
    final = final[(final["weights"] < k) & (final["order"] < k)]
    parts = {}
    for group, rows in final.groupby("seed", sort=False):
        grid = rows.pivot_table(index="weights", columns="order", values=result, dropna=False).to_numpy()
        if len(rows) == k * k:  # NaN where a run diverged, and then in every component
            parts[group] = crossed_components(grid)
    table = pd.DataFrame(
        [{"weights": c.rows, "order": c.columns, "rest": c.rest} for c in parts.values()],
        index=pd.Index(parts, name="seed"),
        columns=list(SOURCES),
        dtype="float64",
    )
    return table / table.sum(axis=1, skipna=False).mean()


def _variance_row(records: Records, result: str) -> dict[str, object]:
    values = _final(records)[result]
    row: dict[str, object] = {"final": result.replace("_", " "), "mean": values.mean(), "deviation": values.std()}
    for source, share in _split(records, result).items():
        row |= _bounded(SOURCES[str(source)], share, "mean")
    return row


STUDY = Study(
    name=NAME,
    title="Paths of training through weight space",
    question=(
        "Where do trainings of one network start and end, do their steps shrink, and how much of the result is "
        "decided by the initial weights?"
    ),
    source="Figure 5",
    presets=PRESETS,
    expand=expand,
    measure=measure,
    tables=tables,
    figures=figures,
    claims=CLAIMS,
    analyses=analyses,
    analyse=analyse,
    not_shown=(
        "Whether two ends are different functions: hidden units can be permuted without changing the network, and a "
        "barrier on the straight line may vanish once they are matched (the study of interpolation tests that). "
        "Whether the ends are minima at all: Adam with a constant rate does not stop in one. All groups share one "
        "training set, so what another sample of the data would change is not in the variance."
    ),
)
