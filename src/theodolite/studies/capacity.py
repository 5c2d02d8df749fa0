"""Capacity: perceptrons of a thousand to a million parameters on the same images, with true and with noisy labels.

The report's Figure 10, and beyond it label noise, where the test error can fall a second time past the size from which
every training label is fitted. The report gives neither sizes nor training; both are chosen here, before any verdict.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from theodolite.claims import Claim, Evidence, Kind, interval, rank_correlation
from theodolite.claims.crossfit import hump, past_the_best
from theodolite.data import DataSpec
from theodolite.figures.curves import BAND, curves
from theodolite.figures.scales import Axis, Rule
from theodolite.findings import Figure, Table
from theodolite.store.records import Records
from theodolite.studies.classifiers import CLASSES, classifier
from theodolite.study import RunSpec, Seeds, Settings, Study, Training

if TYPE_CHECKING:
    from theodolite.train import Outcome

NAME = "capacity"
CLEAN, NOISY = "true labels", "noisy labels"
FITTED = 0.99  # median training accuracy from which a size counts as interpolating its training labels
MONOTONE = 0.8  # rank correlation with size from which a quantity "increases as the number of parameters increases"


class Capacity(Settings):
    """Dials of the study, at ``quick``."""

    seeds: PositiveInt = 8
    data: str = "mnist"
    train: PositiveInt | None = 1000  # few, so that a million parameters lie far past the interpolation threshold
    test: PositiveInt | None = None  # the whole test set: what differs between large networks is small
    # One hidden layer, so that size is one dial; 805 to 1,000,120 parameters on MNIST. The steps widen where they cost.
    hidden: tuple[PositiveInt, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 320, 1258)
    noise: Annotated[float, Field(ge=0, le=0.9)] = 0.2  # share of wrong labels; 0 leaves the noisy half out
    # Chosen by the training loss of four sizes on noisy labels, of which 0.001 left up to six times as much.
    learning_rate: PositiveFloat = 3e-3
    batch_size: PositiveInt = 100
    epochs: PositiveInt = 40  # the one criterion for all sizes: so many, while the learning rate goes to zero

    @model_validator(mode="after")
    def _check(self) -> "Capacity":
        if len(self.hidden) < 3 or any(a >= b for a, b in pairwise(self.hidden)):
            raise ValueError("expected at least three hidden widths, each larger than the one before")
        return self


PRESETS = {
    "smoke": Capacity(seeds=3, data="digits", train=256, hidden=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512), batch_size=32),
    "quick": Capacity(),
    # 4,000 images, as Belkin et al. 2019 took of MNIST; all 60,000 would take fifteen times as long.
    "full": Capacity(seeds=10, train=4000, hidden=(1, 2, 4, 8, 16, 32, 64, 128, 256, 400, 640, 1258), epochs=100),
}


def expand(settings: Capacity) -> Iterator[RunSpec]:
    """Every size, kind of labels and seed; a seed has the same noise and the same order of samples at every size."""
    for hidden in settings.hidden:
        model = classifier(settings.data, (hidden,))
        for labels in (CLEAN, NOISY) if settings.noise else (CLEAN,):
            for seed in range(settings.seeds):
                noisy = labels == NOISY
                source = DataSpec(
                    source=settings.data,
                    train=settings.train,
                    test=settings.test,
                    # One label in ten drawn at random is the true one: the share of wrong ones is `noise` on average.
                    random_labels=settings.noise * CLASSES / (CLASSES - 1) if noisy else 0.0,
                    label_seed=seed if noisy else 0,
                )
                yield RunSpec(
                    study=NAME,
                    labels={"hidden": hidden, "labels": labels},
                    seed=seed,
                    data=source,
                    model=model,
                    training=Training(
                        loss="cross_entropy",
                        learning_rate=settings.learning_rate,
                        schedule="cosine",
                        batch_size=settings.batch_size,
                        epochs=settings.epochs,
                        evaluate_every=settings.epochs,  # its end is what counts; before it would cost as much again
                    ),
                    seeds=Seeds(weights=seed, order=seed),
                )


def measure(spec: RunSpec, outcome: "Outcome") -> Mapping[str, pd.DataFrame]:
    """Nothing beyond the metrics of the training."""
    return {}


def tables(records: Records) -> list[Table]:
    """What became of each size, for each kind of labels."""
    ends = _ends(records)
    caption = (
        f"Means over {ends['seed'].nunique()} seeds at the end of training, losses as geometric means, each with its "
        "95 % interval. Training accuracy and loss are those on the labels as given; test labels are always true."
    )
    rows = [_row(keys, group) for keys, group in ends.groupby(["labels", "parameters"], sort=False)]
    return [Table("sizes", "Size against training and test", pd.DataFrame(rows), caption)]


def figures(records: Records) -> list[Figure]:
    """Figure 10's two panels for each kind of labels, and the test error of both together."""
    ends = _ends(records)
    seeds = ends["seed"].nunique()
    found = []
    for labels, part in ends.groupby("labels", sort=False):
        found += [_figure_10(part, str(labels), quantity, records.plan.settings, seeds) for quantity in _AXES]
    if ends["labels"].nunique() > 1:
        found.append(_descent_figure(ends, records.plan.settings, seeds))
    return found


SIZE = Axis("parameters", "parameters", log=True, format="~s")
_AXES = {
    "accuracy": Axis("value", "accuracy", domain=(0, 1.1), format=".0%"),  # room for the threshold's name
    "loss": Axis("value", "loss (cross entropy, mean over samples)", log=True),
}
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


def _figure_10(ends: pd.DataFrame, labels: str, quantity: str, settings: Mapping[str, Any], seeds: int) -> Figure:
    columns = {f"train_{quantity}": "training", f"test_{quantity}": "test"}
    wide = ends.rename(columns=columns)
    long = wide.melt(["seed", "parameters"], list(columns.values()), "set", "value")
    chart = curves(long, x=SIZE, y=_AXES[quantity], series="set", rules=_threshold_rules(ends))
    medians = wide.groupby("parameters")[["training", "test"]].median()
    best = int((medians["test"] if quantity == "loss" else -medians["test"]).to_numpy().argmin())
    first, last = medians.iloc[0], medians.iloc[-1]
    report = _SAID[quantity] if labels == CLEAN else ""
    return Figure(
        f"{'figure-10' if labels == CLEAN else 'noise'}-{quantity}",
        f"{'Figure 10: ' if labels == CLEAN else 'With noise: '}{quantity} by size, {_words(labels, settings)}",
        chart,
        f"At the end of training with {_words(labels, settings)}, judged on the test set by true ones. "
        f"{seeds} seeds. {BAND} {_threshold_words(ends)}",
        f"From {medians.index[0]:,} to {medians.index[-1]:,} parameters, training {quantity} goes from "
        f"{first['training']:.2g} to {last['training']:.2g} and test {quantity} from {first['test']:.2g} to "
        f"{last['test']:.2g}, best at {medians.index[best]:,} ({medians['test'].iloc[best]:.2g}); medians over seeds.",
        report,
    )


def _descent_figure(ends: pd.DataFrame, settings: Mapping[str, Any], seeds: int) -> Figure:
    named = ends.assign(labels=ends["labels"].map(lambda labels: _words(labels, settings)))
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
        f"At the end of training, judged by true labels. {seeds} seeds. {BAND} {_threshold_words(noisy)}",
        f"With noisy labels the median test error goes from {medians.iloc[0]:.1%} at {medians.index[0]:,} parameters "
        f"to {medians.iloc[-1]:.1%} at {medians.index[-1]:,}, lowest at {medians.idxmin():,} ({medians.min():.1%}).",
    )


def _words(labels: object, settings: Mapping[str, Any]) -> str:
    return f"{settings['noise']:.0%} wrong labels" if labels == NOISY else str(labels)


def interpolation_threshold(ends: pd.DataFrame) -> int | None:
    """The fewest parameters whose median training accuracy over seeds is 0.99; None where no size has it."""
    medians = ends.groupby("parameters")["train_accuracy"].median()
    fitted = medians.index[medians >= FITTED]
    return int(fitted.min()) if len(fitted) else None


def _threshold_rules(ends: pd.DataFrame) -> list[Rule]:
    at = interpolation_threshold(ends)
    return [] if at is None else [Rule(at, "training labels fitted", "x")]


def _threshold_words(ends: pd.DataFrame) -> str:
    if interpolation_threshold(ends) is None:
        return f"No size reaches a median training accuracy of {FITTED:g}."
    return f"Upright line: interpolation threshold, the smallest size with a median training accuracy of {FITTED:g}."


def _ends(records: Records) -> pd.DataFrame:
    """One row a run: its labels and size, its last evaluation."""
    last = records.table("metrics").groupby("fingerprint").tail(1).set_index("fingerprint")
    columns = ["train_loss", "test_loss", "train_accuracy", "test_accuracy"]
    ends = records.done.set_index("fingerprint").join(last[columns])
    return ends.assign(test_error=1 - ends["test_accuracy"]).reset_index()


def _row(keys: tuple[Any, ...], runs: pd.DataFrame) -> dict[str, object]:
    labels, parameters = keys
    row: dict[str, object] = {"labels": labels, "parameters": parameters, "shape": runs["shape"].iloc[0]}
    numbers: dict[str, tuple[str, Kind]] = {
        "training accuracy": ("train_accuracy", "mean"),
        "test accuracy": ("test_accuracy", "mean"),
        "training loss": ("train_loss", "ratio"),
        "test loss": ("test_loss", "ratio"),
    }
    for name, (column, kind) in numbers.items():
        found = interval(Evidence.exact(runs.set_index("seed")[column]), kind)
        row |= found.columns(name)
    return row


def _part(records: Records, labels: str) -> pd.DataFrame:
    """The runs that a claim is about; seeds of which a size is missing are left out until it is there."""
    ends = _ends(records)
    part = ends[ends["labels"] == labels]
    complete = part.groupby("seed")["hidden"].transform("nunique") == len(records.plan.settings["hidden"])
    return part[complete]


def _by_size(records: Records, labels: str, column: str) -> pd.DataFrame:
    """Sizes by seeds, for the numbers that are picked by the other seeds."""
    part = _part(records, labels).astype({column: "float64"})
    return part.pivot(index="parameters", columns="seed", values=column).sort_index()


def _accuracy_past_the_best(records: Records) -> Evidence:
    largest, best = past_the_best(_by_size(records, CLEAN, "test_accuracy"), highest=True)
    return Evidence.exact(largest - best)


def _loss_past_the_best(records: Records) -> Evidence:
    largest, best = past_the_best(_by_size(records, CLEAN, "test_loss"), highest=False)
    return Evidence.exact(largest) / Evidence.exact(best)


CLAIMS = (
    Claim(
        id="train-accuracy-rises",
        sentence="The training accuracy increases as the number of parameters increases.",
        source="report, Figure 10 left",
        statistic="Spearman's correlation of final training accuracy and parameters over the sizes, true labels",
        kind="correlation",
        side="above",
        threshold=MONOTONE,
        evidence=lambda records: rank_correlation(_part(records, CLEAN), "parameters", "train_accuracy"),
    ),
    Claim(
        id="train-loss-falls",
        sentence="The training loss continues to decrease when the number of parameters are increased.",
        source="report, Figure 10 right",
        statistic="Spearman's correlation of final training loss and parameters over the sizes, true labels",
        kind="correlation",
        side="below",
        threshold=-MONOTONE,
        evidence=lambda records: rank_correlation(_part(records, CLEAN), "parameters", "train_loss"),
    ),
    Claim(
        id="test-accuracy-falls-past-a-size",
        sentence="The testing accuracy actually decreases when the number of parameters gets too large.",
        source="report, Figure 10 left",
        statistic=(
            "test accuracy at the largest size minus that at the smaller size which is best for the other seeds, true "
            "labels"
        ),
        kind="mean",
        side="below",
        threshold=0.0,
        evidence=_accuracy_past_the_best,
    ),
    Claim(
        id="test-loss-rises-past-a-size",
        sentence="The testing loss actually increases after a certain point.",
        source="report, Figure 10 right",
        statistic="test loss at the largest size over that at the smaller size which is best for the other seeds, "
        "true labels",
        kind="ratio",
        side="above",
        threshold=1.0,
        evidence=_loss_past_the_best,
    ),
    Claim(
        id="second-descent",
        sentence="With noisy labels the test error rises towards the interpolation threshold and falls again past it.",
        source="beyond",
        statistic=(
            "height of the hump of the test error over size, above the valley before it or the largest size, "
            "whichever is less; valley and peak where they are in the other seeds; noisy labels"
        ),
        kind="mean",
        side="above",
        threshold=0.0,
        evidence=lambda records: Evidence.exact(hump(_by_size(records, NOISY, "test_error"))),
    ),
)


STUDY = Study(
    name=NAME,
    title="Capacity: size against generalisation",
    question=(
        "Do larger networks fit the training set better and the test set worse, and what does noise in the labels "
        "change?"
    ),
    source="Figure 10",
    presets=PRESETS,
    expand=expand,
    measure=measure,
    tables=tables,
    figures=figures,
    claims=CLAIMS,
    seconds={"smoke": 5, "quick": 63},
    not_shown=(
        "One hidden layer, one optimizer and the same number of epochs for every size, so a size that trains slowly "
        "ends less fitted; no regularisation and no early stopping. The threshold belongs to this training and this "
        "number of images, not to the architecture alone."
    ),
)
