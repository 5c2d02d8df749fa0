"""What the records of the sensitivities say: numbers for the claims, tables and figures.

Beside :mod:`theodolite.studies.sensitivity.study`, which trains, measures and claims.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from theodolite.claims import Number, factor_per_doubling, interval, rank_correlation, row
from theodolite.figures.curves import BAND, curves
from theodolite.figures.points import dots, over_factor, scatter
from theodolite.figures.scales import Axis
from theodolite.findings import Figure, Table
from theodolite.store.records import Records
from theodolite.studies.classifiers import covered
from theodolite.studies.sensitivity.settings import Sensitivity
from theodolite.wording import counted, rounded, signed

EPOCHS, STEPS, LOSS = "equal epochs", "equal steps", "equal training loss"
OLD = "This folder is of a version that did not measure this. Run the study again."
MEASURED = ("training", "test", "batch")  # sensitivities: on both sets, and of the mean over a batch of test images


def bracket(epochs: pd.Series, losses: pd.Series, loss: float) -> tuple[int, ...]:
    """The two measured epochs between which a training first comes down to a loss; none where it never does.

    Before training nothing is measured: a loss that is reached by the first measurement gives that and the next.

    >>> bracket(pd.Series([0, 2, 4, 6]), pd.Series([2.3, 0.5, 0.09, 0.2]), 0.1)
    (2, 4)
    """
    trained = pd.Series(losses.to_numpy(), index=epochs.to_numpy(dtype=int)).loc[lambda found: found.index > 0]
    reached = np.flatnonzero((trained <= loss).to_numpy())
    if not len(reached) or len(trained) < 2:
        return ()
    last = max(1, int(reached[0]))
    return int(trained.index[last - 1]), int(trained.index[last])


def compared(records: Records[Sensitivity]) -> pd.DataFrame:
    """A row for each run and comparison: sensitivity on both sets, generalisation gap, sharpness.

    Seeds of which a batch size is missing are left out until it is there; a diverged run has NaN.
    """
    settings, runs = records.settings, records.done
    complete = runs.groupby("seed")["batch_size"].transform("nunique") == len(settings.batch_sizes)
    runs = runs.loc[complete, ["fingerprint", "seed", "batch_size"]]
    if runs.empty:
        columns = ["comparison", "epoch", "test", "training", "gap", "keskar", "sam"]
        return runs.reindex(columns=[*runs.columns, *columns])
    places: dict[str, int | pd.Series] = {
        EPOCHS: settings.epochs,
        STEPS: settings.epochs * runs["batch_size"] // settings.middle,
    }
    key = ["fingerprint", "epoch"]
    every = _measured(records)
    rows = pd.concat([runs.assign(comparison=name, epoch=epoch) for name, epoch in places.items()])
    rows = rows.join(every, on=key)
    if "jumps" not in every:  # an older version, which measured too seldom
        return rows.reset_index(drop=True)
    there = pd.DataFrame([_at_loss(every.loc[name], settings.loss) for name in runs["fingerprint"]], index=runs.index)
    return pd.concat([rows, runs.assign(comparison=LOSS).join(there)], ignore_index=True)


def _measured(records: Records[Sensitivity]) -> pd.DataFrame:
    """All that was measured of each run after each epoch, in columns."""
    key, wide = ["fingerprint", "epoch"], records.table("sensitivity")
    found = wide.pivot_table(index=key, columns="set", values="sensitivity", observed=True)
    test = wide[wide["set"] == "test"].set_index(key)
    if "samples" in test:  # ‖∂L/∂X‖ of a mean over N is 1/√N of the root mean square over samples, whoever trained
        found["batch"] = test["of_mean_loss"] * (test["samples"] / test["batch_size"]) ** 0.5
        found["batch_alone"] = test["of_mean_loss"] * test["samples"] ** 0.5
    found = found.join(records.table("sharpness").set_index(key)[["keskar", "sam"]])
    jumps = records.table("jumps")
    if len(jumps):
        found = found.join(jumps.set_index(key)["jumps"])
    scores = records.table("metrics").set_index(key)
    found = scores[["step", "train_loss", "test_loss", "train_accuracy", "test_accuracy"]].join(found)
    gap = found["train_accuracy"] - found["test_accuracy"]
    return found.assign(gap=gap, loss_gap=found["test_loss"] - found["train_loss"])


def _at_loss(run: pd.DataFrame, loss: float) -> dict[Any, float]:
    """What a run is where it first has a training loss: between two measurements, straight in the logarithm of loss.

    Args:
        run: what was measured, by epoch.
        loss: to be had; where the run never has it there is no number.
    """
    around = bracket(run.index.to_series(), run["train_loss"], loss)
    if not around or run.loc[list(around), "keskar"].isna().any():
        return {}
    before, after = (run.loc[epoch] for epoch in around)
    share = float(np.log(before["train_loss"] / loss) / np.log(before["train_loss"] / after["train_loss"]))
    between = before + share * (after - before)
    positive = [column for column in (*MEASURED, "batch_alone", "train_loss", "keskar", "sam") if column in run]
    between[positive] = before[positive] ** (1 - share) * after[positive] ** share
    return dict(between.drop("jumps"))


def tables(records: Records[Sensitivity]) -> list[Table]:
    """What each batch size ends with, at equal epochs and at equal steps; and the trends in the batch size."""
    rows = compared(records)
    seeds, settings = rows["seed"].nunique(), records.settings
    caption = (
        f"Over {counted(seeds, 'seed')}, each with its 95 % interval: geometric means of the sensitivity (mean over "
        "samples of "
        "the norm of the derivative of a sample's loss by its input) and of both sharpnesses (Keskar's in per cent at "
        "a box of 0.001; SAM's, the rise of the loss after a step of 0.05 up the gradient), means of the gap "
        f"(training accuracy minus test accuracy). Sharpness is that of the loss on {settings.sharpness_samples} "
        f"training samples. At equal training loss: where each first has the loss {settings.loss:g}, between two "
        "measurements. Of a batch's mean loss: the norm of its derivative by a whole batch of test images, as many as "
        "in a training step, which falls as one over the root of the batch size whatever network it is. "
        f"{covered(records)}"
    )
    values = [_row(keys, group) for keys, group in rows.groupby(["comparison", "batch_size"], sort=False)]
    trends = [_trend(str(name), group) for name, group in rows.groupby("comparison", sort=False)]
    return [
        Table("batch-sizes", "What each batch size ends with", pd.DataFrame(values), caption),
        Table(
            "trends",
            "What a doubling of the batch size multiplies each quantity by",
            pd.DataFrame([row for part in trends for row in part]),
            f"Least squares on both logarithms in each seed; geometric mean over {counted(seeds, 'seed')} with its 95 "
            "% interval. One network for all batch sizes: that of the smallest, where only the number of images in a "
            f"batch changes. {covered(records)}",
        ),
    ]


NUMBERS: dict[str, Number] = {
    "sensitivity, training": ("training", "ratio"),
    "sensitivity, test": ("test", "ratio"),
    "of a batch's mean loss": ("batch", "ratio"),
    "training loss": ("train_loss", "ratio"),
    "gap": ("gap", "mean"),
    "Keskar's sharpness": ("keskar", "ratio"),
    "SAM's sharpness": ("sam", "ratio"),
}


def _row(keys: tuple[Any, ...], runs: pd.DataFrame) -> dict[str, object]:
    comparison, size = keys
    return {"comparison": comparison, "batch size": size, "steps": runs["step"].median()} | row(
        runs, {name: number for name, number in NUMBERS.items() if number[0] in runs}
    )


def _trend(comparison: str, runs: pd.DataFrame) -> list[dict[str, object]]:
    quantities = {
        "sensitivity, test": "test",
        "sensitivity, training": "training",
        "sensitivity of a batch's mean loss": "batch",
        "the same, one network for all batch sizes": "one_network",
        "Keskar's sharpness": "keskar",
        "SAM's sharpness": "sam",
    }
    if "batch_alone" in runs:
        smallest = runs[runs["batch_size"] == runs["batch_size"].min()].set_index("seed")["batch_alone"]
        runs = runs.assign(one_network=runs["seed"].map(smallest) / runs["batch_size"] ** 0.5)
    return [
        {"comparison": comparison, "quantity": name}
        | row(runs, {"factor per doubling": (factor_per_doubling(runs, "batch_size", column), "ratio")})
        for name, column in quantities.items()
        if column in runs
    ]


SIZE = Axis("batch_size", "batch size")
ONE = "one network for all"
BATCH = "batch {}"  # as the theme knows batch sizes, each with its colour
LINE = f"{dots('ratio')} Line: the power of the batch size that fits best, least squares on logarithms in each seed."


def figures(records: Records[Sensitivity]) -> list[Figure]:
    """Figure 12 on each set and of batches, sensitivity over steps, gap and jumps, and both sharpnesses."""
    rows = compared(records)
    seeds = rows["seed"].nunique()
    twelve = [_figure_12(rows, name, seeds) for name in ("test", "training")]
    batches = [_batch_figure(rows, seeds)] if "batch" in rows else []
    jumps = [_jumps_figure(rows, seeds, records.settings.jump)] if "jumps" in rows else []
    return [*twelve, *batches, _steps_figure(records, seeds), _gap_figure(rows, seeds), *jumps, *_sharp(rows, seeds)]


def _doublings(rows: pd.DataFrame, y: Axis) -> tuple[Any, dict[str, str]]:
    """A quantity over batch sizes on two logarithmic axes, the fitted power and its factor a doubling; the factors."""
    smallest, largest = rows["batch_size"].min(), rows["batch_size"].max()
    sizes = [int(smallest) << step for step in range(int(np.log2(largest / smallest)) + 1)]
    positive = rows[(rows[y.column] > 0) & np.isfinite(rows[y.column])]
    factors, trends = {}, []
    for name, part in positive.groupby("comparison", sort=False):
        factor = interval(factor_per_doubling(part, "batch_size", y.column), "ratio").estimate
        factors[str(name)] = f"×\N{NO-BREAK SPACE}{rounded(factor)}"
        middle = np.log2(part["batch_size"]).groupby(part["seed"]).mean().mean()
        height = np.log(part[y.column]).groupby(part["seed"]).mean().mean()
        line = np.exp(height + np.log(factor) * (np.log2(sizes) - middle))
        trends.append(pd.DataFrame({"comparison": name, "batch_size": sizes, y.column: line}))
    titles = {name: f"{name}: {factor} a doubling" for name, factor in factors.items()}
    trend = pd.concat(trends) if trends else None
    chart = over_factor(
        rows.replace({"comparison": titles}),
        x=SIZE,
        y=y,
        panel="comparison",
        statistic="ratio",
        looks=BATCH,
        factors=sizes,
        trend=None if trend is None else trend.replace({"comparison": titles}),
    )
    return chart, factors


def _together(networks: pd.DataFrame, column: str) -> str:
    return signed(f"{rank_correlation(networks, column, 'test').low.mean():.2f}")


def _coloured(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(batch=table["batch_size"].map(BATCH.format))


def _figure_12(rows: pd.DataFrame, part: str, seeds: int) -> Figure:
    test = part == "test"
    y = Axis(part, f"sensitivity on the {part} set (loss / input)", log=True)
    chart, factors = _doublings(rows, y)
    seen = "; ".join(f"{factor} at {name}" for name, factor in factors.items())
    return Figure(
        "figure-12" if test else "figure-12-training",
        f"Figure 12: sensitivity on the {part} set by batch size",
        chart,
        f"Mean over the {part} set of the norm of the derivative of a sample's loss by its input. Equal epochs, as in "
        "the report; the same number of steps for all; where each first has the same training loss. "
        f"{counted(seeds, 'seed')}. {LINE}",
        f"By what a doubling of the batch size multiplies the sensitivity on the {part} set: {seen}.",
        "As batch size increases, the sensitivity of the model decreases." if test else "",
    )


def _batch_figure(rows: pd.DataFrame, seeds: int) -> Figure:
    own = rows[rows["comparison"] == EPOCHS]
    smallest = own[own["batch_size"] == own["batch_size"].min()].set_index("seed")["batch_alone"]
    one = own.assign(norm=own["seed"].map(smallest) / own["batch_size"] ** 0.5, network=ONE)
    long = pd.concat([own.assign(norm=own["batch"], network="trained with that batch size"), one])
    y = Axis("norm", "derivative of a batch's mean loss (loss / input)", log=True)
    factors = {name: factor_per_doubling(part, "batch_size", "norm") for name, part in long.groupby("network")}
    seen = "; ".join(f"{interval(factor, 'ratio').estimate:.2f} for {name!s}" for name, factor in factors.items())
    return Figure(
        "figure-12-batches",
        "Figure 12 as a script reads it: the derivative of the mean loss over a batch",
        over_factor(long, x=SIZE, y=y, series="network", statistic="ratio"),
        "Frobenius norm of the derivative of the mean loss over a batch of test images by all of them, with as many "
        "images as in a step of the training; equal epochs. Of one network it falls as one over the root of their "
        f"number, which says nothing of the network. {counted(seeds, 'seed')}. {dots('ratio')}",
        f"By what a doubling of the batch size multiplies the derivative of a batch's mean loss: {seen}.",
        "As batch size increases, the sensitivity of the model decreases.",
    )


def _jumps_figure(rows: pd.DataFrame, seeds: int, length: float) -> Figure:
    named = distinct(rows).dropna(subset="jumps")
    named = _coloured(named)
    chart = scatter(
        named,
        x=Axis("test", "sensitivity on the test set (loss / input)"),
        y=Axis("jumps", "test images whose predicted class changes", format=".0%"),
        series="batch",
        marks="comparison",
        detail=["seed"],
    )
    return Figure(
        "jumps",
        "Sensitivity and jumps of the predicted class",
        chart,
        f"A point a network, at equal epochs and at equal steps: share of test images whose class changes after a step "
        f"of {length:g}, in deviations of a pixel, up the gradient of their own loss. {counted(seeds, 'seed')}.",
        "Rank correlation of the share of test images that jump classes and the sensitivity on the test set: "
        f"{_together(named, 'jumps')}, mean over seeds.",
        "small changes in a certain class of image could cause the model to jump classes in its prediction",
    )


def _steps_figure(records: Records[Sensitivity], seeds: int) -> Figure:
    measured = records.table("sensitivity")
    steps = records.table("metrics")[["fingerprint", "epoch", "step"]]
    test = measured[measured["set"] == "test"].merge(steps, on=["fingerprint", "epoch"])
    test = _coloured(test)
    last = test.groupby(["batch", "seed"], sort=False)["sensitivity"].last()
    ends = last.groupby("batch", sort=False).median()
    chart = curves(
        test,
        x=Axis("step", "optimization steps", log=True),
        y=Axis("sensitivity", "sensitivity on the test set (loss / input)"),
        series="batch",
    )
    return Figure(
        "steps",
        "Sensitivity on the test set over the steps of training",
        chart,
        f"If the number of steps were all that the batch size changes, all lines would coincide. "
        f"{counted(seeds, 'seed')}. {BAND}",
        "Sensitivity on the test set at the end of training, median over seeds: "
        + "; ".join(f"{name} {value:.2g}" for name, value in ends.items())
        + ".",
    )


def _gap_figure(rows: pd.DataFrame, seeds: int) -> Figure:
    named = _coloured(distinct(rows))
    chart = scatter(
        named,
        x=Axis("gap", "generalisation gap (training minus test accuracy)", format=".1%"),
        y=Axis("test", "sensitivity on the test set (loss / input)"),
        series="batch",
        marks="comparison",
        detail=["seed"],
    )
    return Figure(
        "overfitting",
        "Sensitivity and generalisation gap",
        chart,
        f"A point a network, at equal epochs and at equal steps. {counted(seeds, 'seed')}.",
        "Rank correlation of sensitivity on the test set and generalisation gap: "
        f"{_together(named, 'gap')}, mean over seeds.",
        "High sensitivity generally corresponds to overfitting.",
    )


def _sharp(rows: pd.DataFrame, seeds: int) -> Iterator[Figure]:
    what = {
        "keskar": ("Keskar's sharpness", "%", "highest rise found in a box of 0.001, in per cent of 1 + loss"),
        "sam": ("SAM's sharpness", "loss", "rise after a step of 0.05 up the gradient"),
    }
    for column, (name, unit, meaning) in what.items():
        chart, factors = _doublings(rows, Axis(column, f"{name} ({unit})", log=True))
        seen = "; ".join(f"{factor} at {comparison}" for comparison, factor in factors.items())
        yield Figure(
            f"sharpness-{column}",
            f"{name} by batch size",
            chart,
            f"Of the training loss: {meaning}. {counted(seeds, 'seed')}. {LINE}",
            f"By what a doubling of the batch size multiplies {name}: {seen}.",
        )


def distinct(rows: pd.DataFrame) -> pd.DataFrame:
    """Each network that was measured once: that of the batch size in the middle stands in two comparisons."""
    return rows[rows["comparison"] != LOSS].drop_duplicates(["seed", "batch_size", "epoch"])
