"""What the records of the sensitivities say: numbers for the claims, tables and figures.

Beside :mod:`theodolite.studies.sensitivity.study`, which trains, measures and claims.
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from theodolite.claims import factor_per_doubling, row
from theodolite.claims.rows import Number
from theodolite.figures.curves import BAND, curves
from theodolite.figures.points import MEDIAN, over_factor, scatter
from theodolite.figures.scales import Axis
from theodolite.findings import Figure, Table
from theodolite.store.records import Records
from theodolite.studies.sensitivity.settings import Sensitivity
from theodolite.wording import counted

EPOCHS, STEPS = "equal epochs", "equal steps"


def compared(records: Records[Sensitivity]) -> pd.DataFrame:
    """A row for each run and comparison: sensitivity on both sets, generalisation gap, sharpness.

    Seeds of which a batch size is missing are left out until it is there; a diverged run has NaN.
    """
    settings, runs = records.settings, records.done
    complete = runs.groupby("seed")["batch_size"].transform("nunique") == len(settings.batch_sizes)
    runs = runs.loc[complete, ["fingerprint", "seed", "batch_size"]]
    places: dict[str, int | pd.Series] = {
        EPOCHS: settings.epochs,
        STEPS: settings.epochs * runs["batch_size"] // settings.middle,
    }
    rows = pd.concat([runs.assign(comparison=name, epoch=epoch) for name, epoch in places.items()])
    key = ["fingerprint", "epoch"]
    measured = records.table("sensitivity").pivot_table(index=key, columns="set", values="sensitivity")
    sharp = records.table("sharpness").set_index(key)[["keskar", "sam"]]
    scores = records.table("metrics").set_index(key)
    scores = scores[["step", "train_loss", "test_loss", "train_accuracy", "test_accuracy"]]
    joined = rows.join(measured, on=key).join(sharp, on=key).join(scores, on=key)
    gap = joined["train_accuracy"] - joined["test_accuracy"]
    return joined.assign(gap=gap, loss_gap=joined["test_loss"] - joined["train_loss"]).reset_index(drop=True)


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
        "training samples."
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
            "% interval.",
        ),
    ]


NUMBERS: dict[str, Number] = {
    "sensitivity, training": ("training", "ratio"),
    "sensitivity, test": ("test", "ratio"),
    "gap": ("gap", "mean"),
    "Keskar's sharpness": ("keskar", "ratio"),
    "SAM's sharpness": ("sam", "ratio"),
}


def _row(keys: tuple[Any, ...], runs: pd.DataFrame) -> dict[str, object]:
    comparison, size = keys
    return {"comparison": comparison, "batch size": size, "steps": runs["step"].max()} | row(runs, NUMBERS)


def _trend(comparison: str, runs: pd.DataFrame) -> list[dict[str, object]]:
    quantities = {
        "sensitivity, test": "test",
        "sensitivity, training": "training",
        "Keskar's sharpness": "keskar",
        "SAM's sharpness": "sam",
    }
    return [
        {"comparison": comparison, "quantity": name}
        | row(runs, {"factor per doubling": (factor_per_doubling(runs, "batch_size", column), "ratio")})
        for name, column in quantities.items()
    ]


SIZE = Axis("batch_size", "batch size")


def figures(records: Records[Sensitivity]) -> list[Figure]:
    """Figure 12 on each set, sensitivity over steps and against the gap, and both sharpnesses."""
    rows = compared(records)
    seeds = rows["seed"].nunique()
    twelve = [_figure_12(rows, name, seeds) for name in ("test", "training")]
    return [*twelve, _steps_figure(records, seeds), _gap_figure(rows, seeds), *_sharp(rows, seeds)]


def _figure_12(rows: pd.DataFrame, part: str, seeds: int) -> Figure:
    test = part == "test"
    y = Axis(part, f"sensitivity on the {part} set (loss / input)", log=not test)  # training: it goes towards zero
    ends = rows.groupby(["comparison", "batch_size"])[part].median().unstack()
    first, last = ends.columns[0], ends.columns[-1]
    seen = "; ".join(f"at {name} from {ends.loc[name, first]:.2g} to {ends.loc[name, last]:.2g}" for name in ends.index)
    return Figure(
        "figure-12" if test else "figure-12-training",
        f"Figure 12: sensitivity on the {part} set by batch size",
        over_factor(rows, x=SIZE, y=y, panel="comparison"),
        f"Mean over the {part} set of the norm of the derivative of a sample's loss by its input. Equal epochs, as in "
        f"the report, and the same number of steps for all. {counted(seeds, 'seed')}. {MEDIAN}",
        f"Median sensitivity on the {part} set from batch size {first} to {last}: {seen}.",
        "As batch size increases, the sensitivity of the model decreases." if test else "",
    )


def _steps_figure(records: Records[Sensitivity], seeds: int) -> Figure:
    measured = records.table("sensitivity")
    steps = records.table("metrics")[["fingerprint", "epoch", "step"]]
    test = measured[measured["set"] == "test"].merge(steps, on=["fingerprint", "epoch"])
    test = test.assign(batch="batch " + test["batch_size"].astype(str))
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
        f"If the number of steps were all that the batch size changes, the lines would lie on each other. {seeds} "
        f"seeds. {BAND}",
        "Sensitivity on the test set against optimization steps, a line for each batch size.",
    )


def _gap_figure(rows: pd.DataFrame, seeds: int) -> Figure:
    named = rows.assign(batch="batch " + rows["batch_size"].astype(str))
    chart = scatter(
        distinct(named),
        x=Axis("gap", "generalisation gap (training minus test accuracy)", format=".1%"),
        y=Axis("test", "sensitivity on the test set (loss / input)"),
        series="batch",
        detail=["comparison", "seed"],
    )
    return Figure(
        "overfitting",
        "Sensitivity and generalisation gap",
        chart,
        f"A point a network, at equal epochs and at equal steps. {counted(seeds, 'seed')}.",
        "Sensitivity on the test set against the generalisation gap, a point a network, coloured by batch size.",
        "High sensitivity generally corresponds to overfitting.",
    )


def _sharp(rows: pd.DataFrame, seeds: int) -> Iterator[Figure]:
    what = {
        "keskar": ("Keskar's sharpness", "%", "highest rise found in a box of 0.001, in per cent of 1 + loss"),
        "sam": ("SAM's sharpness", "loss", "rise after a step of 0.05 up the gradient"),
    }
    for column, (name, unit, meaning) in what.items():
        chart = over_factor(rows, x=SIZE, y=Axis(column, f"{name} ({unit})", log=True), panel="comparison")
        ends = rows[rows["comparison"] == EPOCHS].groupby("batch_size")[column].median()
        yield Figure(
            f"sharpness-{column}",
            f"{name} by batch size",
            chart,
            f"Of the training loss: {meaning}. {counted(seeds, 'seed')}. {MEDIAN}",
            f"Median at equal epochs: {ends.iloc[0]:.2g} at batch size {ends.index[0]}, {ends.iloc[-1]:.2g} at "
            f"{ends.index[-1]}.",
        )


def distinct(rows: pd.DataFrame) -> pd.DataFrame:
    """Each network once: that of the batch size in the middle stands in both comparisons."""
    return rows.drop_duplicates(["seed", "batch_size", "epoch"])
