"""Image classification: three convolutional networks and three perceptrons on CIFAR-10, epoch by epoch.

The report's Figures 3 and 4 and Table 2. It gives the parameter counts and says nothing of batch size, learning rate or
epochs: they are chosen here, before any run, with the reason beside each setting.
"""

from collections.abc import Iterator

import pandas as pd

from theodolite.claims import Claim, Evidence
from theodolite.data import DataSpec
from theodolite.models.description import CNN, MLP
from theodolite.store.records import Records
from theodolite.studies.classifiers import training_of
from theodolite.studies.image_classification.findings import (
    KINDS,
    RISE,
    WINDOW,
    figures,
    results,
    tables,
)
from theodolite.studies.image_classification.settings import PRESETS, ImageClassification
from theodolite.study import RunSpec, Study
from theodolite.wording import per_cent

NAME = "image-classification"
Image = tuple[int, int, int]
COLOUR, GREY = (3, 32, 32), (1, 8, 8)

# Exactly the parameter counts of Table 2; it gives no shapes. dnn_2 is as large as dnn_0 and a layer deeper.
MODELS: dict[str, CNN | MLP] = {
    "cnn_0": CNN(image=COLOUR, channels=(30, 12, 15), hidden=(512,), outputs=10),  # 134,249
    "cnn_1": CNN(image=COLOUR, channels=(12, 64, 96), hidden=(100, 84), outputs=10),  # 225,738
    "cnn_2": CNN(image=COLOUR, channels=(16, 96, 128), hidden=(64, 40), outputs=10),  # 259,234
    "dnn_0": MLP(inputs=3072, hidden=(200, 100, 55), outputs=10),  # 640,815
    "dnn_1": MLP(inputs=3072, hidden=(850, 310, 170, 20), outputs=10),  # 2,932,360
    "dnn_2": MLP(inputs=3072, hidden=(190, 170, 55, 5), outputs=10),  # 626,085
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
    """Every network and seed; a seed gives the same order of images to every network.

    A precision that is not settled counts as float32.
    """
    data = DataSpec(source=settings.data, train=settings.train, test=settings.test)
    for name, model in (MODELS if settings.data == "cifar10" else STAND_INS).items():
        seeds = min(settings.seeds, settings.cnn_seeds) if isinstance(model, CNN) else settings.seeds
        for seed in range(seeds):
            yield training_of(
                NAME,
                {"kind": kind_of(model), "model": name},
                seed,
                data,
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


def _overfitting(records: Records[ImageClassification]) -> Evidence:
    low, high = (_each_seed(records, end).median(axis=1, skipna=False) for end in ("earliest", "latest"))
    return Evidence(low, high)


def _smallest(records: Records[ImageClassification], gap: str) -> Evidence:
    return Evidence.exact(_each_seed(records, gap).min(axis=1, skipna=False))


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


CLAIMS = (
    Claim(
        id="overfits-after-15-epochs",
        sentence="The model begins to overfit the training data, reducing its ability to generalize after ~15 epochs.",
        source="report, Figures 3 and 4 top",
        statistic=(
            "epoch of the lowest test loss, median of the six networks; where the test loss does not end "
            f"{per_cent(RISE - 1)} above it, later than the last epoch"
        ),
        kind="median",
        side="within",
        threshold=WINDOW,
        evidence=_overfitting,
    ),
    Claim(
        id="train-loss-below-test",
        sentence="For each of the models, the training loss is always lower than the testing loss over time.",
        source="report, Figures 3 and 4 bottom",
        statistic="test loss minus training loss, the smallest over all epochs and the six networks",
        kind="mean",
        side="above",
        threshold=0.0,
        evidence=lambda records: _smallest(records, "loss_gap"),
    ),
    Claim(
        id="train-accuracy-above-test",
        sentence="For each of the models, the training accuracy is always higher than the testing accuracy over time.",
        source="report, Figures 3 and 4 bottom",
        statistic="training accuracy minus test accuracy, the smallest over all epochs and the six networks",
        kind="mean",
        side="above",
        threshold=0.0,
        evidence=lambda records: _smallest(records, "accuracy_gap"),
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
    title="Image classification: six networks on CIFAR-10",
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
    claims=CLAIMS,
    seconds={"smoke": 15, "quick": 122, "full": 4200},
    not_shown=(
        "Below the full preset a subset: with fewer images networks overfit at another epoch and reach a lower "
        "accuracy than on all "
        "50,000, so only full tests the report's own setting; its batch size, learning rate and shapes are not known, "
        "and all three move the epoch. One learning rate serves all six networks. dnn_2 is narrower before its "
        "output (5 units on CIFAR-10), so what sets it apart from dnn_0 is not depth alone."
    ),
)
