"""Sensitivity: how strongly the loss of a trained perceptron reacts to its input, by batch size.

The report's Figure 12, and beyond it the report's explanation put to the test: the same batch sizes at equal numbers of
steps. At a constant learning rate a longer training passes through the shorter one, so both come from one run: its
weights are kept where it has had its epochs and where it has had its steps.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import gcd
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from theodolite.claims import Claim, Evidence, Kind, factor_per_doubling, interval, rank_correlation
from theodolite.data import DataSpec
from theodolite.figures.curves import BAND, curves
from theodolite.figures.points import MEDIAN, over_factor, scatter
from theodolite.figures.scales import Axis
from theodolite.findings import Figure, Table
from theodolite.store.records import Records
from theodolite.studies.classifiers import classifier
from theodolite.study import RunSpec, Seeds, Settings, Study, Training

if TYPE_CHECKING:
    from theodolite.train import Outcome

NAME = "sensitivity"
EPOCHS, STEPS = "equal epochs", "equal steps"
LEFT = 0.25  # share of the trend that may be left, on either side, where steps explain it
CHUNK = 1024  # samples measured at once


class Sensitivity(Settings):
    """Dials of the study, at ``quick``."""

    seeds: PositiveInt = 8
    data: str = "mnist"
    train: PositiveInt = 4096  # a multiple of every batch size, so that equal epochs and steps are exact
    test: PositiveInt | None = 4096  # as many, so that both sets are measured with like error
    hidden: tuple[PositiveInt, ...] = (64, 64)  # the report does not say which network
    batch_sizes: tuple[PositiveInt, ...] = (32, 64, 256, 512, 1024)  # the report's
    middle: PositiveInt = 256  # at equal steps all take as many as this one does in its epochs
    learning_rate: PositiveFloat = 1e-3  # Adam's default, for every batch size: the report changes nothing else
    epochs: PositiveInt = 24  # close to the 25 of the report's Figure 11, and divisible as the check below asks
    sharpness_samples: Annotated[int, Field(ge=1)] = 1024  # of the training set: it takes some 30 gradients a network

    @model_validator(mode="after")
    def _check(self) -> "Sensitivity":
        if self.middle not in self.batch_sizes or len(set(self.batch_sizes)) < 3:
            raise ValueError("expected at least three batch sizes, the one in the middle among them")
        for size in self.batch_sizes:
            if self.epochs * size % self.middle:
                raise ValueError(
                    f"expected epochs * batch_size / middle to be whole, as {self.epochs} * {size} / {self.middle} is "
                    "not; change epochs or middle"
                )
        return self


PRESETS = {
    "smoke": Sensitivity(
        seeds=3, data="mnist1d", train=1024, test=512, hidden=(32,), batch_sizes=(32, 64, 128), middle=64, epochs=16,
        sharpness_samples=256,
    ),
    "quick": Sensitivity(),
    "full": Sensitivity(seeds=10, train=60_000, test=None, hidden=(128, 64), sharpness_samples=8192),
}  # fmt: skip


def expand(settings: Sensitivity) -> Iterator[RunSpec]:
    """Every batch size and seed, trained as long as the longer of both comparisons needs."""
    for size in settings.batch_sizes:
        at = {EPOCHS: settings.epochs, STEPS: settings.epochs * size // settings.middle}
        for seed in range(settings.seeds):
            yield RunSpec(
                study=NAME,
                labels={"batch_size": size},
                seed=seed,
                data=DataSpec(source=settings.data, train=settings.train, test=settings.test),
                model=classifier(settings.data, settings.hidden),
                training=Training(
                    loss="cross_entropy",
                    learning_rate=settings.learning_rate,
                    batch_size=size,
                    epochs=max(at.values()),
                    evaluate_every=_every(at),
                    snapshot_every=_every(at),
                ),
                seeds=Seeds(weights=seed, order=seed),
                measure={"epochs": at[EPOCHS], "steps": at[STEPS], "sharpness_samples": settings.sharpness_samples},
            )


def _every(at: Mapping[str, int]) -> int:
    """Epochs between two measurements: both comparisons fall on one, and the way there shows in between."""
    return gcd(at[EPOCHS], at[STEPS], max(1, at[EPOCHS] // 2))


def measure(spec: RunSpec, outcome: "Outcome") -> Mapping[str, pd.DataFrame]:
    """Sensitivity on both sets at every kept epoch; sharpness where both comparisons are made."""
    from torch.nn.functional import cross_entropy

    from theodolite import data, train
    from theodolite.measure.sensitivity import sensitivity

    sets = train.tensors(data.load(spec.data))
    module = outcome.module()
    rows, sharp = [], []
    for epoch, weights in outcome.snapshots.items():
        if epoch == 0 or epoch == outcome.diverged_epoch:  # untrained; not a number
            continue
        module.load_state_dict(weights)
        for name, part in (("training", sets.train), ("test", sets.test)):
            inputs = part.inputs.flatten(1)
            batches = list(zip(inputs.split(CHUNK), part.targets.split(CHUNK), strict=True))
            found = sensitivity(module, cross_entropy, batches)
            rows.append((epoch, name, found.mean, found.standard_error, found.value))
        if epoch in (spec.measure["epochs"], spec.measure["steps"]):
            kept = slice(spec.measure["sharpness_samples"])
            pair = sets.train.inputs[kept].flatten(1), sets.train.targets[kept]
            sharp.append((epoch, *_sharpness(module, pair)))
    columns = ["epoch", "set", "sensitivity", "standard_error", "of_mean_loss"]
    return {
        "sensitivity": pd.DataFrame(rows, columns=columns),
        "sharpness": pd.DataFrame(sharp, columns=["epoch", "keskar", "sam"]),
    }


def _sharpness(module: Any, pair: tuple[Any, Any]) -> tuple[float, float]:
    from torch.nn.functional import cross_entropy

    from theodolite.measure.sharpness import sharpness

    keskar, sam = (sharpness(module, cross_entropy, pair, method=method).value for method in ("keskar", "sam"))
    return keskar, sam


def compared(records: Records) -> pd.DataFrame:
    """A row for each run and comparison: sensitivity on both sets, generalisation gap, sharpness.

    Seeds of which a batch size is missing are left out until it is there; a diverged run has NaN.
    """
    settings, runs = records.plan.settings, records.done
    complete = runs.groupby("seed")["batch_size"].transform("nunique") == len(settings["batch_sizes"])
    runs = runs.loc[complete, ["fingerprint", "seed", "batch_size"]]
    places = {EPOCHS: settings["epochs"], STEPS: settings["epochs"] * runs["batch_size"] // settings["middle"]}
    rows = pd.concat([runs.assign(comparison=name, epoch=epoch) for name, epoch in places.items()])
    key = ["fingerprint", "epoch"]
    measured = records.table("sensitivity").pivot_table(index=key, columns="set", values="sensitivity")
    sharp = records.table("sharpness").set_index(key)[["keskar", "sam"]]
    scores = records.table("metrics").set_index(key)
    scores = scores[["step", "train_loss", "test_loss", "train_accuracy", "test_accuracy"]]
    joined = rows.join(measured, on=key).join(sharp, on=key).join(scores, on=key)
    gap = joined["train_accuracy"] - joined["test_accuracy"]
    return joined.assign(gap=gap, loss_gap=joined["test_loss"] - joined["train_loss"]).reset_index(drop=True)


def tables(records: Records) -> list[Table]:
    """What each batch size ends with, at equal epochs and at equal steps; and the trends in the batch size."""
    rows = compared(records)
    seeds, settings = rows["seed"].nunique(), records.plan.settings
    caption = (
        f"Over {seeds} seeds, each with its 95 % interval: geometric means of the sensitivity (mean over samples of "
        "the norm of the derivative of a sample's loss by its input) and of both sharpnesses (Keskar's in per cent at "
        "a box of 0.001; SAM's, the rise of the loss after a step of 0.05 up the gradient), means of the gap "
        f"(training accuracy minus test accuracy). Sharpness is that of the loss on {settings['sharpness_samples']} "
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
            f"Least squares on both logarithms in each seed; geometric mean over {seeds} seeds with its 95 % interval.",
        ),
    ]


def _row(keys: tuple[Any, ...], runs: pd.DataFrame) -> dict[str, object]:
    comparison, size = keys
    row: dict[str, object] = {"comparison": comparison, "batch size": size, "steps": runs["step"].max()}
    numbers: dict[str, tuple[str, Kind]] = {
        "sensitivity, training": ("training", "ratio"),
        "sensitivity, test": ("test", "ratio"),
        "gap": ("gap", "mean"),
        "Keskar's sharpness": ("keskar", "ratio"),
        "SAM's sharpness": ("sam", "ratio"),
    }
    for name, (column, kind) in numbers.items():
        row |= _found(name, Evidence.exact(runs.set_index("seed")[column]), kind)
    return row


def _trend(comparison: str, runs: pd.DataFrame) -> list[dict[str, object]]:
    quantities = {
        "sensitivity, test": "test",
        "sensitivity, training": "training",
        "Keskar's sharpness": "keskar",
        "SAM's sharpness": "sam",
    }
    return [
        {"comparison": comparison, "quantity": name}
        | _found("factor per doubling", factor_per_doubling(runs, "batch_size", column), "ratio")
        for name, column in quantities.items()
    ]


def _found(name: str, evidence: Evidence, kind: Kind) -> dict[str, object]:
    found = interval(evidence, kind)
    return found.columns(name)


SIZE = Axis("batch_size", "batch size")


def figures(records: Records) -> list[Figure]:
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
        f"Mean over the {part} set of the norm of the derivative of a sample's loss by its input. Left as in the "
        f"report, right with the same number of steps for all. {seeds} seeds. {MEDIAN}",
        f"Median sensitivity on the {part} set from batch size {first} to {last}: {seen}.",
        "As batch size increases, the sensitivity of the model decreases." if test else "",
    )


def _steps_figure(records: Records, seeds: int) -> Figure:
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
        _distinct(named),
        x=Axis("gap", "generalisation gap (training minus test accuracy)", format=".1%"),
        y=Axis("test", "sensitivity on the test set (loss / input)"),
        series="batch",
        detail=["comparison", "seed"],
    )
    return Figure(
        "overfitting",
        "Sensitivity and generalisation gap",
        chart,
        f"A point a network, at equal epochs and at equal steps. {seeds} seeds.",
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
            f"Of the training loss: {meaning}. {seeds} seeds. {MEDIAN}",
            f"Median at equal epochs: {ends.iloc[0]:.2g} at batch size {ends.index[0]}, {ends.iloc[-1]:.2g} at "
            f"{ends.index[-1]}.",
        )


def _at(records: Records, comparison: str) -> pd.DataFrame:
    rows = compared(records)
    return rows[rows["comparison"] == comparison]


def _distinct(rows: pd.DataFrame) -> pd.DataFrame:
    """Each network once: that of the batch size in the middle stands in both comparisons."""
    return rows.drop_duplicates(["seed", "batch_size", "epoch"])


def _factor(records: Records, comparison: str, column: str) -> Evidence:
    return factor_per_doubling(_at(records, comparison), "batch_size", column)


def _beside(records: Records, column: str, what: str, other: str) -> Evidence:
    """The factor of one quantity at equal epochs, and in its note what that of another is."""
    found = interval(_factor(records, EPOCHS, other), "ratio")
    return replace(
        _factor(records, EPOCHS, column),
        note=f"{what} the factor is {found.estimate:.3g} [{found.low:.3g}, {found.high:.3g}].",
    )


def _share_left(records: Records) -> Evidence:
    left, whole = (np.log2(_factor(records, comparison, "test").low) for comparison in (STEPS, EPOCHS))
    return Evidence.exact((left / whole).replace([np.inf, -np.inf], np.nan))


CLAIMS = (
    Claim(
        id="falls-with-batch-size",
        sentence="As batch size increases, the sensitivity of the model decreases.",
        source="report, Figure 12",
        statistic="factor of the sensitivity on the test set for a doubling of the batch size, equal epochs",
        kind="ratio",
        side="below",
        threshold=1.0,
        evidence=lambda records: _beside(records, "test", "On the training set", "training"),
    ),
    Claim(
        id="steps-explain-it",
        sentence="This makes sense, as a lower batch size corresponds to more optimization steps.",
        source="report, Figure 12",
        statistic=(
            "share of the trend that is left at equal steps: logarithm of the factor for a doubling there over that "
            "at equal epochs; negative where the trend turns round"
        ),
        kind="median",
        side="within",
        threshold=(-LEFT, LEFT),
        evidence=_share_left,
    ),
    Claim(
        id="goes-with-overfitting",
        sentence="High sensitivity generally corresponds to overfitting.",
        source="report, Figure 12",
        statistic="Spearman's correlation of test sensitivity and generalisation gap over all networks compared",
        kind="correlation",
        side="above",
        threshold=0.0,
        evidence=lambda records: rank_correlation(_distinct(compared(records)), "gap", "test"),
    ),
    Claim(
        id="sharpness-grows",
        sentence="Larger batches end in sharper minima (Keskar et al. 2017).",
        source="beyond",
        statistic="factor of Keskar's sharpness for a doubling of the batch size, equal epochs",
        kind="ratio",
        side="above",
        threshold=1.0,
        evidence=lambda records: _beside(records, "keskar", "By SAM's measure", "sam"),
    ),
)


STUDY = Study(
    name=NAME,
    title="Sensitivity: how strongly the loss reacts to the input, by batch size",
    question=(
        "Does a network trained with larger batches react less to its input, is the number of steps the reason, and "
        "does sensitivity go with overfitting?"
    ),
    source="Figure 12",
    presets=PRESETS,
    expand=expand,
    measure=measure,
    tables=tables,
    figures=figures,
    claims=CLAIMS,
    seconds={"smoke": 5, "quick": 75},
    not_shown=(
        "The learning rate is the same for every batch size, as in the report; one that grows with the batch changes "
        "the trend. At equal steps larger batches see the data more often, so the number of steps is held fixed there "
        "and the number of epochs is not: no design holds both. That sensitivity goes with overfitting over batch "
        "sizes does not say that it causes it."
    ),
)
