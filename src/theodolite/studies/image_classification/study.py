"""Image classification: three convolutional networks and three perceptrons on CIFAR-10, epoch by epoch.

The report's Figures 3 and 4 and Table 2. It gives the parameter counts and says nothing of batch size, learning rate or
epochs: they are chosen here, before any run, with the reason beside each setting.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from theodolite.claims import Claim, Evidence, worded
from theodolite.models import CNN, MLP
from theodolite.store.records import Records
from theodolite.studies.classifiers import images, training_of
from theodolite.studies.image_classification.findings import (
    ABOUT,
    KINDS,
    RISE,
    WINDOW,
    figures,
    results,
    tables,
)
from theodolite.studies.image_classification.settings import PRESETS, ImageClassification
from theodolite.studies.image_classification.words import WORDS
from theodolite.study import METRICS, RunSpec, Study
from theodolite.wording import per_cent

NAME = "image-classification"
MOST = 0.5  # of the trainings; six of six can show it, and convolutional networks are dear
Image = tuple[int, int, int]
COLOUR, GREY = (3, 32, 32), (1, 8, 8)

# Exactly the parameter counts of Table 2; it gives no shapes. dnn_2 is as large as dnn_0 and a layer deeper, and each
# layer of both has about half the units of the one before, so that depth is what sets them apart.
MODELS: dict[str, CNN | MLP] = {
    "cnn_0": CNN(image=COLOUR, channels=(30, 12, 15), hidden=(512,), outputs=10),  # 134,249
    "cnn_1": CNN(image=COLOUR, channels=(12, 64, 96), hidden=(100, 84), outputs=10),  # 225,738
    "cnn_2": CNN(image=COLOUR, channels=(16, 96, 128), hidden=(64, 40), outputs=10),  # 259,234
    "dnn_0": MLP(inputs=3072, hidden=(200, 100, 55), outputs=10),  # 640,815
    "dnn_1": MLP(inputs=3072, hidden=(850, 310, 170, 20), outputs=10),  # 2,932,360
    "dnn_2": MLP(inputs=3072, hidden=(195, 104, 48, 24), outputs=10),  # 626,085
}
# Their stand-ins on digits, at smoke; the CNNs without a third pool, for which 8 x 8 pixels leave no room.
STAND_INS: dict[str, CNN | MLP] = {
    "cnn_0": CNN(image=GREY, channels=(6, 12), hidden=(48,), outputs=10),
    "cnn_1": CNN(image=GREY, channels=(8, 16), hidden=(32, 24), outputs=10),
    "cnn_2": CNN(image=GREY, channels=(8, 16), hidden=(64, 40), outputs=10),
    "dnn_0": MLP(inputs=64, hidden=(30, 20, 14), outputs=10),  # 3,014
    "dnn_1": MLP(inputs=64, hidden=(64, 32, 24, 16), outputs=10),
    "dnn_2": MLP(inputs=64, hidden=(28, 18, 16, 12), outputs=10),  # 2,980
}


def kind_of(model: CNN | MLP) -> str:
    """Its key in :data:`KINDS`."""
    return "cnn" if isinstance(model, CNN) else "dnn"


def expand(settings: ImageClassification) -> Iterator[RunSpec]:
    """Every network and seed; a seed gives the same images in the same order to every network.

    A precision that is not settled counts as float32.
    """
    for name, model in (MODELS if settings.data == "cifar10" else STAND_INS).items():
        seeds = settings.seeds_of_cnns() if isinstance(model, CNN) else settings.seeds
        for seed in range(seeds):
            yield training_of(
                NAME,
                {"kind": kind_of(model), "model": name},
                seed,
                images(settings.data, seed, train=settings.train, test=settings.test),
                model,
                learning_rate=settings.learning_rate,
                batch_size=settings.batch_size,
                epochs=settings.epochs,
                autocast=settings.precision == "bfloat16",
                augment=settings.augment,
            )


def _each_seed(records: Records[ImageClassification], column: str) -> pd.DataFrame:
    """A row for each seed that every planned network has finished, a column for each network."""
    runs, networks = records.derived(results), records.runs["model"].unique()
    done = runs.pivot(index="seed", columns="model", values="fingerprint").reindex(columns=networks)
    numbers = runs.pivot(index="seed", columns="model", values=column).reindex(columns=networks)
    return numbers[done.notna().all(axis=1)]


def _each_network(
    records: Records[ImageClassification], low: str, high: str | None = None, *, kind: str | None = None
) -> dict[str, Evidence]:
    """A number of each seed, or its bounds, for each network by itself: a median of six networks is no network's."""
    runs = records.derived(results).set_index("seed")
    names = [name for name, model in MODELS.items() if kind in (None, kind_of(model))]
    parts = {name: runs[runs["model"] == name].astype({low: "float64"}) for name in names}
    return {name: Evidence(part[low], part[high or low].astype("float64")) for name, part in parts.items()}


def _at_this_size(
    records: Records[ImageClassification], found: Mapping[str, Evidence], *, below: bool
) -> Mapping[str, Evidence]:
    """On a subset nothing speaks against a claim about epochs: with fewer images networks overfit earlier.

    Args:
        records: whose settings say whether it is one.
        found: the evidence of the whole set.
        below: whether numbers of the whole set may lie below those found, or above.
    """
    train = records.settings.train
    if train is None:
        return found
    note = f"Undecided at this size: {train:,} training images say nothing against a claim about all of them."

    def opened(ends: pd.Series, *, away: bool) -> pd.Series:
        return ends.where(ends.isna(), -np.inf if below else np.inf) if away else ends

    return {
        name: Evidence(opened(part.low, away=below), opened(part.high, away=not below), note)
        for name, part in found.items()
    }


def _overfitting(records: Records[ImageClassification], kind: str) -> Mapping[str, Evidence]:
    return _at_this_size(records, _each_network(records, "earliest", "latest", kind=kind), below=False)


def _accuracy_since(records: Records[ImageClassification]) -> Mapping[str, Evidence]:
    return _at_this_size(records, _each_network(records, "test_accuracy_since"), below=True)


def _cnn_over_dnn(records: Records[ImageClassification]) -> Evidence:
    best = _each_seed(records, "best_accuracy")
    kinds = {kind: [name for name, model in MODELS.items() if kind_of(model) == kind] for kind in KINDS}
    cnns, dnns = (best[names].mean(axis=1, skipna=False) for names in kinds.values())
    return Evidence.exact(cnns - dnns)


def _deeper_over_shallower(records: Records[ImageClassification]) -> Evidence:
    runs = records.derived(results)
    four, five = (
        Evidence.exact(runs[runs["model"] == name].set_index("seed")["best_accuracy"]) for name in ("dnn_0", "dnn_2")
    )
    return five - four


def _overfits(claim: str, kind: str, sentence: str) -> Claim:
    return Claim(
        id=claim,
        sentence=sentence,
        source=f"report, {KINDS[kind]} top",
        statistic=(
            f"epoch of the lowest test loss, for each of the three {kind.upper()}s; where the test loss does not end "
            f"{per_cent(RISE - 1)} above it, later than the last epoch"
        ),
        kind="median",
        side="within",
        threshold=WINDOW,
        evidence=lambda records: _overfitting(records, kind),
        seeds=ImageClassification.seeds_of_cnns if kind == "cnn" else None,
    )


CLAIMS = (
    _overfits(
        "overfits-after-15-epochs",
        "cnn",
        "The model begins to overfit the training data, reducing its ability to generalize after ~15 epochs.",
    ),
    _overfits(
        "dnn-overfits-after-15-epochs", "dnn", "The same can be seen [of a DNN]: it begins to overfit after ~15 epochs."
    ),
    Claim(
        id="train-loss-continues-to-fall",
        sentence="The training set loss continues to decrease as the model fits the training data with each epoch.",
        source="report, Figures 3 and 4 top left",
        statistic="training loss in the last fifth of the epochs over that in the fifth before, for each network",
        kind="ratio",
        side="below",
        threshold=1.0,
        evidence=lambda records: _each_network(records, "later_loss"),
        seeds=ImageClassification.seeds_of_cnns,
    ),
    Claim(
        id="train-accuracy-continues-to-rise",
        sentence="The accuracy also increases as more epochs are completed.",
        source="report, Figures 3 and 4 top right",
        statistic="training accuracy in the last fifth of the epochs minus that in the fifth before, for each network",
        kind="mean",
        side="above",
        threshold=0.0,
        evidence=lambda records: _each_network(records, "later_accuracy"),
        seeds=ImageClassification.seeds_of_cnns,
    ),
    Claim(
        id="test-accuracy-falls-after-15-epochs",
        sentence="After ~15 epochs, the testing loss and accuracy are increasing and decreasing respectively.",
        source="report, Figures 3 and 4 top",
        # Of the accuracy alone: the loss may rise while it does not fall, and has a claim of its own.
        statistic=f"test accuracy in the last fifth of the epochs minus that of epochs {ABOUT - 1} to {ABOUT + 1}, for "
        "each network",
        kind="mean",
        side="below",
        threshold=0.0,
        evidence=_accuracy_since,
        seeds=ImageClassification.seeds_of_cnns,
    ),
    Claim(
        id="train-loss-below-test",
        sentence="For each of the models, the training loss is always lower than the testing loss over time.",
        source="report, Figures 3 and 4 bottom",
        # "Always" is a share of trainings: a mean of smallest gaps says nothing of it, and one epoch of one run refutes
        # it, by the chance of the test images too.
        statistic="share of trainings in which after no epoch the training loss lies above the test loss by more than "
        "twice the error of the test set, for each network",
        kind="share",
        side="above",
        threshold=MOST,
        evidence=lambda records: _each_network(records, "loss_below"),
        seeds=ImageClassification.seeds_of_cnns,
    ),
    Claim(
        id="train-accuracy-above-test",
        sentence="For each of the models, the training accuracy is always higher than the testing accuracy over time.",
        source="report, Figures 3 and 4 bottom",
        statistic="share of trainings in which after no epoch the training accuracy lies below the test accuracy by "
        "more than twice the error of the test set, for each network",
        kind="share",
        side="above",
        threshold=MOST,
        evidence=lambda records: _each_network(records, "accuracy_above"),
        seeds=ImageClassification.seeds_of_cnns,
    ),
    Claim(
        id="cnn-beats-dnn",
        sentence="Convolutional networks classify images better than perceptrons several times their size.",
        source="beyond",
        statistic="best test accuracy over the epochs, mean of the three CNNs minus mean of the three DNNs",
        kind="mean",
        side="above",
        threshold=0.0,
        evidence=_cnn_over_dnn,
        seeds=ImageClassification.seeds_of_cnns,
    ),
    Claim(
        id="deeper-at-equal-size",
        sentence="Of two perceptrons of about the same size, the one with a layer more classifies images better.",
        source="beyond",
        statistic="best test accuracy over the epochs, dnn_2 (5 layers) minus dnn_0 (4 layers)",
        kind="mean",
        side="above",
        threshold=0.0,
        evidence=_deeper_over_shallower,
    ),
)


STUDY = Study(
    name=NAME,
    title="Image classification: when six networks overfit",
    question=(
        "When do convolutional networks and perceptrons begin to overfit, is the training loss always below the test "
        "loss, and what do convolutions and depth bring?"
    ),
    source="Figures 3 and 4, Table 2",
    settings_type=ImageClassification,
    presets=PRESETS,
    expand=expand,
    tables=tables,
    figures=figures,
    claims=worded(CLAIMS, WORDS),
    schemas={"metrics": METRICS},
    seconds={"smoke": 15, "quick": 122, "full": 4200},
    not_shown=(
        "Below the full preset a subset: with fewer images networks overfit at another epoch and reach a lower "
        "accuracy than on all "
        "50,000, so only full tests the report's own setting; its batch size, learning rate and shapes are not known, "
        "and all three move the epoch. One learning rate serves all six networks, and one pair of shapes says little "
        "of depth in general."
    ),
)
