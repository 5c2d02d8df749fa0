"""What the records of the sizes say: numbers for the claims, tables and figures.

Beside :mod:`theodolite.studies.capacity.study`, which trains, measures and claims.
"""

from dataclasses import replace
from typing import Any

import pandas as pd

from theodolite.claims import Number, row
from theodolite.figures.curves import BAND, curves
from theodolite.figures.scales import Axis, Rule
from theodolite.findings import Figure, Table
from theodolite.store.records import Records
from theodolite.studies.capacity.settings import Capacity
from theodolite.studies.classifiers import covered
from theodolite.wording import counted, per_cent

CLEAN, NOISY = "true labels", "noisy labels"
ERROR = "error"  # what is drawn of an accuracy: differences near 100 % can be seen


FITTED = 0.99  # median training accuracy from which a size counts as interpolating its training labels


def tables(records: Records[Capacity]) -> list[Table]:
    """What became of each size, for each kind of labels."""
    ends = final_scores(records)
    caption = (
        f"Means over {counted(ends['seed'].nunique(), 'seed')} at the end of training, losses as geometric means, "
        f"each with its 95 % interval. {covered(records)} Training accuracy and loss are those on the labels as given; "
        "test labels are always true."
    )
    rows = [_row(keys, group) for keys, group in ends.groupby(["labels", "parameters"], sort=False)]
    return [Table("sizes", "Size against training and test", pd.DataFrame(rows), caption)]


def figures(records: Records[Capacity]) -> list[Figure]:
    """Figure 10's two panels for each kind of labels, and the test error of both together."""
    ends = final_scores(records)
    seeds = ends["seed"].nunique()
    found = []
    for labels, part in ends.groupby("labels", sort=False):
        found += [_figure_10(part, str(labels), quantity, records.settings, seeds) for quantity in ("accuracy", "loss")]
    if ends["labels"].nunique() > 1:
        found.append(_descent_figure(ends, records.settings, seeds))
    return [replace(figure, caption=f"{figure.caption} {covered(records)}") for figure in found]


SIZE = Axis("parameters", "parameters", log=True, format="~s")


_LOSS = Axis("value", "loss (cross entropy, mean over samples)", log=True)


def _error(settings: Capacity) -> Axis:
    """Shares of wrong answers; below one training image an axis that is logarithmic would have no end."""
    return Axis(
        "value", "error (share of images)", format=".1~%", linear=1 / settings.train if settings.train else 1e-4
    )


_SAID = {
    "accuracy": (
        "The training accuracy increases as the number of parameters increases but the testing accuracy actually "
        "decreases when the number of parameters gets too large."
    ),
    "loss": (
        "The training loss continues to decrease when the number of parameters are increased, but the testing loss "
        "actually increases after a certain point."
    ),
}


def _figure_10(ends: pd.DataFrame, labels: str, quantity: str, settings: Capacity, seeds: int) -> Figure:
    drawn, y = (ERROR, _error(settings)) if quantity == "accuracy" else (quantity, _LOSS)
    wide = ends.assign(train_error=1 - ends["train_accuracy"])
    wide = wide.rename(columns={f"train_{drawn}": "training", f"test_{drawn}": "test"})
    long = wide.melt(["seed", "parameters"], ["training", "test"], "set", "value")
    chart = curves(long, x=SIZE, y=y, series="set", rules=_threshold_rules(ends))
    medians = wide.groupby("parameters")[["training", "test"]].median()
    best = int(medians["test"].to_numpy().argmin())
    first, last = medians.iloc[0], medians.iloc[-1]
    report = _SAID[quantity] if labels == CLEAN else ""
    return Figure(
        f"{'figure-10' if labels == CLEAN else 'noise'}-{quantity}",
        f"{'Figure 10: ' if labels == CLEAN else 'With noise: '}{drawn} by size, {_words(labels, settings)}",
        chart,
        f"At the end of training with {_words(labels, settings)}, judged on the test set by true ones. "
        f"{counted(seeds, 'seed')}. {BAND} {_threshold_words(ends)}",
        f"From {medians.index[0]:,} to {medians.index[-1]:,} parameters, training {drawn} goes from "
        f"{first['training']:.2g} to {last['training']:.2g} and test {drawn} from {first['test']:.2g} to "
        f"{last['test']:.2g}, best at {medians.index[best]:,} ({medians['test'].iloc[best]:.2g}); medians over seeds.",
        report,
    )


def _descent_figure(ends: pd.DataFrame, settings: Capacity, seeds: int) -> Figure:
    shares = {CLEAN: 0.0, NOISY: settings.noise}  # an ordered factor, with colours of its own
    named = ends.assign(labels=ends["labels"].map(lambda labels: f"{per_cent(shares[labels])} wrong labels"))
    noisy = ends[ends["labels"] == NOISY]
    chart = curves(
        named,
        x=SIZE,
        y=Axis("test_error", "test error (share of images)", log=True, format=".0%"),
        series="labels",
        rules=_threshold_rules(noisy),
    )
    medians = noisy.groupby("parameters")["test_error"].median()
    return Figure(
        "double-descent",
        "Test error by size, with and without noise in the training labels",
        chart,
        f"At the end of training, judged by true labels. {counted(seeds, 'seed')}. {BAND} {_threshold_words(noisy)}",
        f"With noisy labels the median test error goes from {per_cent(medians.iloc[0], 1)} at {medians.index[0]:,} "
        "parameters "
        f"to {per_cent(medians.iloc[-1], 1)} at {medians.index[-1]:,}, lowest at {medians.idxmin():,} "
        f"({per_cent(medians.min(), 1)}).",
    )


def _words(labels: object, settings: Capacity) -> str:
    return f"{per_cent(settings.noise)} wrong labels" if labels == NOISY else str(labels)


def interpolation_threshold(ends: pd.DataFrame) -> int | None:
    """The fewest parameters whose median training accuracy over seeds is 0.99; None where no size has it."""
    return first_fitted(ends.groupby("parameters")["train_accuracy"].median())


def first_fitted(medians: pd.Series) -> int | None:
    """The same from median training accuracies, a row for each number of parameters."""
    fitted = medians.index[medians >= FITTED]
    return int(fitted.min()) if len(fitted) else None


def _threshold_rules(ends: pd.DataFrame) -> list[Rule]:
    at = interpolation_threshold(ends)
    return [] if at is None else [Rule(at, "training labels fitted", "x")]


def _threshold_words(ends: pd.DataFrame) -> str:
    if interpolation_threshold(ends) is None:
        return f"No size reaches a median training accuracy of {FITTED:g}."
    return f"Upright line: interpolation threshold, the smallest size with a median training accuracy of {FITTED:g}."


def final_scores(records: Records[Capacity]) -> pd.DataFrame:
    """One row a run: its labels and size, its last evaluation."""
    last = records.table("metrics").groupby("fingerprint").tail(1).set_index("fingerprint")
    columns = ["train_loss", "test_loss", "train_accuracy", "test_accuracy"]
    ends = records.done.set_index("fingerprint").join(last[columns])
    return ends.assign(test_error=1 - ends["test_accuracy"]).reset_index()


NUMBERS: dict[str, Number] = {
    "training accuracy": ("train_accuracy", "mean"),
    "test accuracy": ("test_accuracy", "mean"),
    "training loss": ("train_loss", "ratio"),
    "test loss": ("test_loss", "ratio"),
}


def _row(keys: tuple[Any, ...], runs: pd.DataFrame) -> dict[str, object]:
    labels, parameters = keys
    return {"labels": labels, "parameters": parameters, "shape": runs["shape"].iloc[0]} | row(runs, NUMBERS)
