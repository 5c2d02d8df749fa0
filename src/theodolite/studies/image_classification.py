"""Image classification: three convolutional networks and three perceptrons on CIFAR-10, epoch by epoch.

The report's Figures 3 and 4 and Table 2. It gives the parameter counts and says nothing of batch size, learning rate or
epochs: they are chosen here, before any run, with the reason beside each setting.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from pydantic import PositiveFloat, PositiveInt

from theodolite import machine
from theodolite.claims import Claim, Evidence, Kind, interval
from theodolite.data import DataSpec
from theodolite.figures.curves import BAND, curves
from theodolite.figures.points import MEDIAN, over_factor
from theodolite.figures.scales import Axis, Rule
from theodolite.findings import Figure, Table
from theodolite.models.description import CNN, MLP
from theodolite.store.records import Records
from theodolite.study import RunSpec, Seeds, Settings, Study, Training

if TYPE_CHECKING:
    from theodolite.train import Outcome

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
KINDS = {"cnn": "Figure 3", "dnn": "Figure 4"}
ABOUT = 15  # "after ~15 epochs"
WINDOW = (10.0, 20.0)  # what still counts as about 15
RISE = 1.05  # last test loss over the lowest, from which a network has overfitted: twice the error of a mean over 1,000


class ImageClassification(Settings):
    """Dials of the study, at ``quick``."""

    seeds: PositiveInt = 8  # of each DNN
    cnn_seeds: PositiveInt = 3  # of each CNN, never more than seeds: they are ten times as dear
    data: Literal["cifar10", "digits"] = "cifar10"
    train: PositiveInt | None = 2000  # what two cores can train 33 networks on in minutes; null: all 50,000
    test: PositiveInt | None = 1000
    learning_rate: PositiveFloat = 1e-3  # Adam's default; the report names Adam elsewhere
    batch_size: PositiveInt = 64  # 128 on the whole set; less here, so that an epoch is not too few steps
    epochs: PositiveInt = 20  # so that five are left after the fifteenth
    # Of inputs and passes; auto: bfloat16 where the processor says that it has instructions for it, else float32.
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    augment: bool = False  # random crops and mirror images; the report has none


PRESETS = {
    "smoke": ImageClassification(seeds=3, data="digits", train=256, test=128),
    "quick": ImageClassification(),
    # 25 epochs, as the report trains a DNN elsewhere (Figure 11).
    "full": ImageClassification(seeds=10, cnn_seeds=5, train=None, test=None, batch_size=128, epochs=25),
}


def expand(settings: ImageClassification) -> Iterator[RunSpec]:
    """Every network and seed; a seed gives the same order of images to every network."""
    automatic = settings.precision == "auto" and machine.has_bfloat16()
    training = Training(
        loss="cross_entropy",
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        autocast=automatic or settings.precision == "bfloat16",
        augment=settings.augment,
    )
    for name, model in (MODELS if settings.data == "cifar10" else STAND_INS).items():
        seeds = min(settings.seeds, settings.cnn_seeds) if isinstance(model, CNN) else settings.seeds
        for seed in range(seeds):
            yield RunSpec(
                study=NAME,
                labels={"kind": name[:3], "model": name},
                seed=seed,
                data=DataSpec(source=settings.data, train=settings.train, test=settings.test),
                model=model,
                training=training,
                seeds=Seeds(weights=seed, order=seed),
            )


def measure(spec: RunSpec, outcome: "Outcome") -> Mapping[str, pd.DataFrame]:
    """Nothing beyond the metrics of the training."""
    return {}


def tables(records: Records) -> list[Table]:
    """Table 2, and what became of each network."""
    runs = _results(records)
    rows = [_row(str(name), part) for name, part in runs.groupby("model", sort=False)]
    caption = (
        f"{_setting(records)} Means over seeds, epochs as medians, each with its 95 % interval. The best test accuracy "
        "is the highest over the epochs, so it is a little better than on images seen only once. Rise: last test loss "
        f"over the lowest; below {RISE:g} a network counts as not having overfitted yet."
    )
    return [Table("table-2", "Table 2: the six networks, and what became of them", pd.DataFrame(rows), caption)]


def figures(records: Records) -> list[Figure]:
    """The four panels of Figure 3 and of Figure 4; then when each network overfits, and how good it gets."""
    metrics, runs = records.table("metrics"), _results(records)
    metrics = metrics[metrics["epoch"] > 0]
    found = []
    for kind in KINDS:
        part = metrics[metrics["kind"] == kind]
        if len(part):
            single = part[part["model"] == part["model"].iloc[0]]
            found += [_single_figure(single, kind, quantity, records) for quantity in _AXES]
            found += [_all_figure(part, kind, quantity, records) for quantity in _AXES]
    return [*found, _overfitting_figure(runs, records), _accuracy_figure(runs, records)]


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


def _single_figure(metrics: pd.DataFrame, kind: str, quantity: str, records: Records) -> Figure:
    name, side = metrics["model"].iloc[0], "left" if quantity == "loss" else "right"
    long = _by_set(metrics, quantity)
    chart = curves(long, x=_EPOCH, y=_AXES[quantity], series="set", rules=[Rule(ABOUT, "report: overfits after", "x")])
    test, training = (long[long["set"] == part].groupby("epoch")["value"].median() for part in ("test", "training"))
    how = "min" if quantity == "loss" else "max"
    best = getattr(test, f"idx{how}")()
    return Figure(
        f"{KINDS[kind].lower().replace(' ', '-')}-single-{quantity}",
        f"{KINDS[kind]} (top {side}): {quantity} of {name}",
        chart,
        f"{_setting(records)} {metrics['seed'].nunique()} seeds. {BAND}",
        f"The median test {quantity} of {name} is best after epoch {best!s} ({getattr(test, how)():.2f}) and "
        f"{test.iloc[-1]:.2f} after epoch {test.index[-1]!s}; the training {quantity} ends at {training.iloc[-1]:.2f}.",
        _SAID["single", quantity],
    )


def _all_figure(metrics: pd.DataFrame, kind: str, quantity: str, records: Records) -> Figure:
    side = "left" if quantity == "loss" else "right"
    long = _by_set(metrics, quantity)
    chart = curves(long, x=_EPOCH, y=_AXES[quantity], series="model", panel="set")
    last = long[long["epoch"] == long["epoch"].max()].groupby(["model", "set"], sort=False)["value"].median()
    ends = "; ".join(f"{m} {last[m, 'training']:.2f} and {last[m, 'test']:.2f}" for m in metrics["model"].unique())
    return Figure(
        f"{KINDS[kind].lower().replace(' ', '-')}-all-{quantity}",
        f"{KINDS[kind]} (bottom {side}): {quantity} of all {kind.upper()}s",
        chart,
        f"{_setting(records)} {metrics['seed'].nunique()} seeds. {BAND}",
        f"Median training and test {quantity} after the last epoch: {ends}.",
        _SAID["all", quantity],
    )


def _overfitting_figure(runs: pd.DataFrame, records: Records) -> Figure:
    chart = over_factor(
        runs.assign(unseen=np.isinf(runs["latest"])),
        x=Axis("model", "network"),
        y=Axis("earliest", "epoch of the lowest test loss"),
        censored="unseen",
        rules=[Rule(end, f"epoch {end:g}") for end in WINDOW],
    )
    medians = runs.groupby("model", sort=False)["lowest_epoch"].median()
    said = ", ".join(f"{name} {epoch:g}" for name, epoch in medians.items())
    return Figure(
        "overfitting",
        "When each network begins to overfit",
        chart,
        f"{_setting(records)} {_seeds(records)} {MEDIAN} Open triangles: the test loss had not risen by {RISE - 1:.0%} "
        "by the end, so overfitting begins later than shown, if at all.",
        f"Median epoch of the lowest test loss: {said}.",
        "The model begins to overfit the training data, reducing its ability to generalize after ~15 epochs.",
    )


def _accuracy_figure(runs: pd.DataFrame, records: Records) -> Figure:
    best = Axis("best_accuracy", "best test accuracy", format=".0%")
    medians = runs.groupby("model", sort=False)["best_accuracy"].median()
    said = ", ".join(f"{name} {accuracy:.1%}" for name, accuracy in medians.items())
    return Figure(
        "best-accuracy",
        "The best test accuracy of each network",
        over_factor(runs, x=Axis("model", "network"), y=best),
        f"{_setting(records)} {_seeds(records)} {MEDIAN}",
        f"Median over seeds of the best test accuracy: {said}.",
    )


def _by_set(metrics: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Training and test set below each other."""
    columns = {f"train_{quantity}": "training", f"test_{quantity}": "test"}
    kept = ["model", "seed", "epoch"]
    return metrics.rename(columns=columns).melt(kept, list(columns.values()), "set", "value")


def _setting(records: Records) -> str:
    settings, spec = records.plan.settings, next(iter(records.specs()))
    kept = f"{settings['train']} training images" if settings["train"] else "the whole training set"
    source = {"cifar10": "CIFAR-10", "digits": "scikit-learn's digits, with small stand-ins for the networks"}
    precision = "bfloat16" if spec.training.autocast else spec.training.dtype
    return (
        f"{source[settings['data']]}, {kept}, batches of {settings['batch_size']}, Adam at "
        f"{settings['learning_rate']:g}, {precision}{', with augmentation' if settings['augment'] else ''}. "
        "Both sets in evaluation mode after each epoch."
    )


def _seeds(records: Records) -> str:
    counts = records.done.groupby("kind", sort=False)["seed"].nunique()
    return " and ".join(f"{count} seeds of each {str(kind).upper()}" for kind, count in counts.items()) + "."


def _results(records: Records) -> pd.DataFrame:
    """One row a run: its lowest test loss, its best test accuracy, the gaps, and when it began to overfit.

    A diverged run has no numbers. ``earliest`` and ``latest`` bound the epoch after which the test loss only rose:
    both are that of the lowest test loss, unless it had not risen by RISE at the end: then the last and infinity.
    """
    metrics = records.table("metrics")
    found = {name: _result(part) for name, part in metrics[metrics["epoch"] > 0].groupby("fingerprint", sort=False)}
    runs = records.done.set_index("fingerprint").join(pd.DataFrame.from_dict(found, orient="index"))
    numbers = list(next(iter(found.values())))
    runs.loc[runs["diverged_epoch"].notna(), numbers] = np.nan
    return runs.reset_index()


def _result(metrics: pd.DataFrame) -> dict[str, float]:
    epochs = metrics.set_index("epoch").fillna({"test_loss": np.inf})
    lowest, best = (int(str(at)) for at in (epochs["test_loss"].idxmin(), epochs["test_accuracy"].idxmax()))
    rise = epochs["test_loss"].iloc[-1] / epochs["test_loss"][lowest]
    overfitted = rise >= RISE
    return {
        "lowest_loss": epochs["test_loss"][lowest],
        "lowest_epoch": lowest,
        "rise": rise,
        "earliest": lowest if overfitted else epochs.index[-1],
        "latest": lowest if overfitted else np.inf,
        "best_accuracy": epochs["test_accuracy"][best],
        "best_epoch": best,
        "train_accuracy": epochs["train_accuracy"].iloc[-1],
        "loss_gap": (epochs["test_loss"] - epochs["train_loss"]).min(skipna=False),
        "accuracy_gap": (epochs["train_accuracy"] - epochs["test_accuracy"]).min(skipna=False),
    }


def _row(name: str, runs: pd.DataFrame) -> dict[str, object]:
    first, seeds = runs.iloc[0], runs.set_index("seed")
    row: dict[str, object] = {
        "network": name,
        "parameters": first["parameters"],
        "layers": first["layers"],
        "shape": first["shape"],
        "seeds": len(runs),
    }
    numbers: dict[str, tuple[Evidence, Kind]] = {
        "best test accuracy": (Evidence.exact(seeds["best_accuracy"]), "mean"),
        "its epoch": (Evidence.exact(seeds["best_epoch"]), "median"),
        "last training accuracy": (Evidence.exact(seeds["train_accuracy"]), "mean"),
        "lowest test loss": (Evidence.exact(seeds["lowest_loss"]), "mean"),
        "epoch of lowest test loss": (Evidence.exact(seeds["lowest_epoch"]), "median"),
        "rise": (Evidence.exact(seeds["rise"]), "ratio"),
    }
    for label, (evidence, kind) in numbers.items():
        found = interval(evidence, kind)
        row |= found.columns(label)
    return row


def _each_seed(records: Records, column: str) -> pd.DataFrame:
    """A row for each seed that every planned network has finished, a column for each network."""
    runs, networks = _results(records), records.runs["model"].unique()
    done = runs.pivot(index="seed", columns="model", values="fingerprint").reindex(columns=networks)
    numbers = runs.pivot(index="seed", columns="model", values=column).reindex(columns=networks)
    return numbers[done.notna().all(axis=1)]


def _overfitting(records: Records) -> Evidence:
    low, high = (_each_seed(records, end).median(axis=1, skipna=False) for end in ("earliest", "latest"))
    return Evidence(low, high)


def _smallest(records: Records, gap: str) -> Evidence:
    return Evidence.exact(_each_seed(records, gap).min(axis=1, skipna=False))


def _cnn_over_dnn(records: Records) -> Evidence:
    best = _each_seed(records, "best_accuracy")
    cnns, dnns = (best[[name for name in MODELS if name.startswith(kind)]].mean(axis=1, skipna=False) for kind in KINDS)
    return Evidence.exact(cnns - dnns)


def _deeper_over_shallower(records: Records) -> Evidence:
    runs = _results(records)
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
            f"{RISE - 1:.0%} above it, later than the last epoch"
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
    presets=PRESETS,
    expand=expand,
    measure=measure,
    tables=tables,
    figures=figures,
    claims=CLAIMS,
    seconds={"smoke": 15, "quick": 235},
    not_shown=(
        "At quick a subset: with fewer images networks overfit at another epoch and reach a lower accuracy than on all "
        "50,000, so only full tests the report's own setting; its batch size, learning rate and shapes are not known, "
        "and all three move the epoch. One learning rate serves all six networks. dnn_2 narrows to 5 units before its "
        "output, so what sets it apart from dnn_0 is not depth alone."
    ),
)
