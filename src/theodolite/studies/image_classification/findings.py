"""What the records of the image classifiers say: numbers for the claims, tables and figures.

Beside :mod:`theodolite.studies.image_classification.study`, which trains, measures and claims.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from theodolite.claims import Number, row
from theodolite.figures.curves import BAND, curves
from theodolite.figures.points import MEDIAN, dots, over_factor
from theodolite.figures.scales import Axis, Rule
from theodolite.findings import Figure, Table
from theodolite.store.records import Records
from theodolite.studies.classifiers import covered
from theodolite.studies.image_classification.settings import ImageClassification
from theodolite.wording import counted, per_cent

KINDS = {"cnn": "Figure 3", "dnn": "Figure 4"}
FIGURES = {"cnn": "figure-3", "dnn": "figure-4"}  # how the names of their figures begin
NAMES = {f"{kind}_{number}": f"{kind.upper()} {number}" for kind in KINDS for number in range(3)}  # for readers
ABOUT = 15  # "after ~15 epochs"


WINDOW = (10.0, 20.0)  # what still counts as about 15


SPREAD = 0.5  # of images' losses, over their mean: 0.3 to 0.6 in the first epochs, where both sets have about one loss


FIFTHS = 5  # parts of the epochs: what "continues" at the end is measured between the last two


TEST_IMAGES = {"cifar10": 10_000, "digits": 360}  # of the whole sets


RISE = 1.05  # last test loss over the lowest, from which a network has overfitted: twice the error of a mean over 1,000


def tables(records: Records[ImageClassification]) -> list[Table]:
    """Table 2, and what became of each network."""
    runs = records.derived(results)
    rows = [_row(NAMES[str(name)], part) for name, part in runs.groupby("model", sort=False)]
    caption = (
        f"{_setting(records)} {covered(records)} Means over seeds, epochs as medians, each with its 95 % interval. The "
        "best test accuracy is the highest over the epochs, so it is a little better than on images seen only once. "
        f"Rise: ratio of the last test loss to the lowest; below {RISE:g} a network counts as not having overfitted "
        "yet. Always below, always above: share of trainings without an epoch in which training loss or accuracy is on "
        "the other side of the test set's by more than twice the error that so many test images leave."
    )
    return [Table("table-2", "Table 2: the six networks, and what became of them", pd.DataFrame(rows), caption)]


def figures(records: Records[ImageClassification]) -> list[Figure]:
    """The four panels of Figure 3 and of Figure 4; then when each network overfits, and how good it gets."""
    metrics, runs = (
        table.assign(model=table["model"].map(NAMES)) for table in (records.table("metrics"), records.derived(results))
    )
    metrics = metrics[metrics["epoch"] > 0]
    found = []
    for kind in KINDS:
        part = metrics[metrics["kind"] == kind]
        if len(part):
            single = part[part["model"] == part["model"].iloc[0]]
            found += [_single_figure(single, kind, quantity, records) for quantity in _AXES]
            found += [_all_figure(part, kind, quantity, records) for quantity in _AXES]
    found += [_overfitting_figure(runs, records), _accuracy_figure(runs, records)]
    return [replace(figure, caption=f"{figure.caption} {covered(records)}") for figure in found]


_AXES = {
    "loss": Axis("value", "loss (cross entropy, mean over images)"),
    "accuracy": Axis("value", "accuracy", format=".0%"),
}


_EPOCH = Axis("epoch", "epoch")


_SAID = {
    ("single", "loss"): (
        "The training set loss continues to decrease as the model fits the training data with each epoch. However, the "
        "model begins to overfit the training data after ~15 epochs."
    ),
    ("single", "accuracy"): (
        "The accuracy also increases as more epochs are completed. After ~15 epochs, the testing loss and accuracy are "
        "increasing and decreasing respectively."
    ),
    ("all", "loss"): "For each of the models, the training loss is always lower than the testing loss over time.",
    ("all", "accuracy"): "For each of the models, the training accuracy is always higher than the testing accuracy.",
}


def _single_figure(metrics: pd.DataFrame, kind: str, quantity: str, records: Records[ImageClassification]) -> Figure:
    name, side = metrics["model"].iloc[0], "left" if quantity == "loss" else "right"
    long = _by_set(metrics, quantity)
    chart = curves(long, x=_EPOCH, y=_AXES[quantity], series="set", rules=[Rule(ABOUT, "report: overfits after", "x")])
    test, training = (long[long["set"] == part].groupby("epoch")["value"].median() for part in ("test", "training"))
    how = "min" if quantity == "loss" else "max"
    best = getattr(test, f"idx{how}")()
    return Figure(
        f"{FIGURES[kind]}-single-{quantity}",
        f"{KINDS[kind]} (top {side}): {quantity} of {name}",
        chart,
        f"{_setting(records)} {counted(metrics['seed'].nunique(), 'seed')}. {BAND}",
        f"The median test {quantity} of {name} is best after epoch {best!s} ({getattr(test, how)():.2f}), "
        + ("the last" if best == test.index[-1] else f"and {test.iloc[-1]:.2f} after epoch {test.index[-1]!s}")
        + f"; the training {quantity} ends at {training.iloc[-1]:.2f}.",
        _SAID["single", quantity],
    )


def _all_figure(metrics: pd.DataFrame, kind: str, quantity: str, records: Records[ImageClassification]) -> Figure:
    side = "left" if quantity == "loss" else "right"
    long = _by_set(metrics, quantity)
    chart = curves(long, x=_EPOCH, y=_AXES[quantity], series="model", panel="set")
    last = long[long["epoch"] == long["epoch"].max()].groupby(["model", "set"], sort=False)["value"].median()
    ends = "; ".join(f"{m} {last[m, 'training']:.2f} and {last[m, 'test']:.2f}" for m in metrics["model"].unique())
    return Figure(
        f"{FIGURES[kind]}-all-{quantity}",
        f"{KINDS[kind]} (bottom {side}): {quantity} of all {kind.upper()}s",
        chart,
        f"{_setting(records)} {counted(metrics['seed'].nunique(), 'seed')}. {BAND}",
        f"Median training and test {quantity} after the last epoch: {ends}.",
        _SAID["all", quantity],
    )


def _overfitting_figure(runs: pd.DataFrame, records: Records[ImageClassification]) -> Figure:
    unseen = np.isinf(runs["latest"])
    chart = over_factor(
        runs.assign(unseen=unseen),
        x=Axis("model", "network"),
        y=Axis("earliest", "epoch of the lowest test loss"),
        censored="unseen",
        rules=[Rule(WINDOW[0], f"epoch {WINDOW[0]:g}", claimed=WINDOW), Rule(WINDOW[1], f"epoch {WINDOW[1]:g}")],
    )
    medians = runs.groupby("model", sort=False)["lowest_epoch"].median()
    said = ", ".join(f"{name} {epoch:g}" for name, epoch in medians.items())
    open_triangles = (
        f" Open triangles: the test loss had not risen by {per_cent(RISE - 1)} by the end, so overfitting begins "
        "later than shown, if at all."
    )
    return Figure(
        "overfitting",
        "When each network begins to overfit",
        chart,
        f"{_setting(records)} {_seeds(records)} {MEDIAN}{open_triangles if unseen.any() else ''}",
        f"Median epoch of the lowest test loss: {said}.",
        "The model begins to overfit the training data, reducing its ability to generalize after ~15 epochs.",
    )


def _accuracy_figure(runs: pd.DataFrame, records: Records[ImageClassification]) -> Figure:
    best = Axis("best_accuracy", "best test accuracy", format=".0%")
    means = runs.groupby("model", sort=False)["best_accuracy"].mean()
    said = ", ".join(f"{name} {per_cent(accuracy, 1)}" for name, accuracy in means.items())
    return Figure(
        "best-accuracy",
        "The best test accuracy of each network",
        over_factor(runs, x=Axis("model", "network"), y=best, statistic="mean"),
        f"{_setting(records)} {_seeds(records)} {dots('mean')}",
        f"Mean over seeds of the best test accuracy: {said}.",
    )


def _by_set(metrics: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Training and test set below each other."""
    columns = {f"train_{quantity}": "training", f"test_{quantity}": "test"}
    kept = ["model", "seed", "epoch"]
    return metrics.rename(columns=columns).melt(kept, list(columns.values()), "set", "value")


def _setting(records: Records[ImageClassification]) -> str:
    settings, spec = records.settings, next(iter(records.specs()))
    kept = f"{settings.train} training images" if settings.train else "the whole training set"
    source = {"cifar10": "CIFAR-10", "digits": "scikit-learn's digits, with small stand-ins for the networks"}
    precision = "bfloat16" if spec.training.autocast else spec.training.dtype
    return (
        f"{source[settings.data]}, {kept}, batches of {settings.batch_size}, Adam at "
        f"{settings.learning_rate:g}, {precision}{', with augmentation' if settings.augment else ''}. "
        "Both sets in evaluation mode after each epoch."
    )


def _seeds(records: Records[ImageClassification]) -> str:
    counts = records.done.groupby("kind", sort=False)["seed"].nunique()
    return " and ".join(f"{counted(count, 'seed')} of each {str(kind).upper()}" for kind, count in counts.items()) + "."


def results(records: Records[ImageClassification]) -> pd.DataFrame:
    """One row a run: its lowest test loss, its best test accuracy, whether test is always worse, when it overfitted.

    A diverged run has no numbers. ``earliest`` and ``latest`` bound the epoch after which the test loss only rose:
    both are that of the lowest test loss, unless it had not risen by RISE at the end: then the last and infinity.
    """
    metrics = records.table("metrics")
    images = records.settings.test or TEST_IMAGES[records.settings.data]
    parts = metrics[metrics["epoch"] > 0].groupby("fingerprint", sort=False)
    found = {name: _result(part, images) for name, part in parts}
    runs = records.done.set_index("fingerprint").join(pd.DataFrame.from_dict(found, orient="index"))
    numbers = list(next(iter(found.values())))
    runs.loc[runs["diverged_epoch"].notna(), numbers] = np.nan
    return runs.reset_index()


def _result(metrics: pd.DataFrame, images: int) -> dict[str, float]:
    epochs = metrics.set_index("epoch").fillna({"test_loss": np.inf})
    lowest, best = (int(str(at)) for at in (epochs["test_loss"].idxmin(), epochs["test_accuracy"].idxmax()))
    rise = epochs["test_loss"].iloc[-1] / epochs["test_loss"][lowest]
    overfitted = rise >= RISE
    right = epochs["test_accuracy"]
    loss_error, accuracy_error = SPREAD * epochs["test_loss"] / images**0.5, (right * (1 - right) / images) ** 0.5
    loss_gap, accuracy_gap = epochs["test_loss"] - epochs["train_loss"], epochs["train_accuracy"] - right
    return {
        "lowest_loss": epochs["test_loss"][lowest],
        "lowest_epoch": lowest,
        "rise": rise,
        "earliest": lowest if overfitted else epochs.index[-1],
        "latest": lowest if overfitted else np.inf,
        "best_accuracy": epochs["test_accuracy"][best],
        "best_epoch": best,
        "train_accuracy": epochs["train_accuracy"].iloc[-1],
        "loss_below": float((loss_gap > -2 * loss_error).all()),
        "accuracy_above": float((accuracy_gap > -2 * accuracy_error).all()),
        **_courses(epochs.reset_index()),
    }


def _courses(epochs: pd.DataFrame) -> dict[str, float]:
    """Where training still goes at its end, and test accuracy since the epoch that the report names."""
    fifth = np.ceil(FIFTHS * epochs["epoch"] / epochs["epoch"].max())
    before, last = (epochs[fifth == number] for number in (FIFTHS - 1, FIFTHS))
    about = epochs[(epochs["epoch"] - ABOUT).abs() <= 1]
    losses = [float(np.exp(np.log(part["train_loss"]).mean(skipna=False))) for part in (last, before)]
    return {
        "later_loss": losses[0] / losses[1],
        "later_accuracy": last["train_accuracy"].mean() - before["train_accuracy"].mean(),
        "test_accuracy_since": last["test_accuracy"].mean() - about["test_accuracy"].mean(),
    }


NUMBERS: dict[str, Number] = {
    "best test accuracy": ("best_accuracy", "mean"),
    "its epoch": ("best_epoch", "median"),
    "last training accuracy": ("train_accuracy", "mean"),
    "lowest test loss": ("lowest_loss", "mean"),
    "epoch of lowest test loss": ("lowest_epoch", "median"),
    "rise": ("rise", "ratio"),
    "loss always below": ("loss_below", "share"),
    "accuracy always above": ("accuracy_above", "share"),
}


def _row(name: str, runs: pd.DataFrame) -> dict[str, object]:
    network = {column: runs[column].iloc[0] for column in ("parameters", "layers", "shape")}
    return {"network": name, **network, "seeds": len(runs)} | row(runs, NUMBERS)
