"""What the records of the random labels say: numbers for the claims, tables and figures.

Beside :mod:`theodolite.studies.random_labels.study`, which trains, measures and claims.
"""

from dataclasses import replace

import pandas as pd

from theodolite.claims import Number, epochs_to_convergence, row
from theodolite.figures.curves import BAND, curves
from theodolite.figures.points import CENSORED, MEDIAN, dots, over_factor
from theodolite.figures.scales import Axis, Rule
from theodolite.findings import Figure, Table
from theodolite.store.records import Records
from theodolite.studies.classifiers import CLASSES, covered
from theodolite.studies.random_labels.settings import ALL, RandomLabels
from theodolite.wording import counted, per_cent

MEMORISED = 0.99  # training accuracy from which a network counts as having memorised its labels


CHANCE = 1 / CLASSES
MARGIN = 0.02  # around chance: two test images of a hundred, a fifth of what guessing gets right


COPIES = "copies"  # the table of the null: labels copied from the nearest training image
NETWORK, COPY = "network", "nearest training image"


def tables(records: Records[RandomLabels]) -> list[Table]:
    """The dial: what became of the networks at each share of random labels."""
    runs = final_scores(records)
    limit = records.settings.epochs
    caption = (
        f"Over {counted(runs['seed'].nunique(), 'seed')}: runs that reach a training accuracy of {MEMORISED:g} within "
        f"{limit} "
        "epochs, the median of the first evaluated epoch there, and means at the end of training, each with its 95 % "
        f"interval. {covered(records)} The nearest training image: test error of who copies its label. A label drawn "
        f"at random is still the true one with probability {CHANCE:g}."
    )
    null = copied(records)
    rows = [
        _row(float(str(share)), group, null[null["share"] == share])
        for share, group in runs.groupby("share", sort=True)
    ]
    return [Table("dial", "What random labels do to training and test", pd.DataFrame(rows), caption)]


def figures(records: Records[RandomLabels]) -> list[Figure]:
    """Figure 9's two panels, and the dial: learning curves, epochs to memorise and test error over the share."""
    metrics, runs = records.table("metrics"), final_scores(records)
    seeds = runs["seed"].nunique()
    found = []
    if (metrics["share"] == ALL).any():
        found += [
            _figure_9(metrics, "loss", Axis("value", "loss (cross entropy, mean over samples)", log=True), seeds),
            _figure_9(metrics, "accuracy", Axis("value", "accuracy", domain=(0, 1), format=".0%"), seeds),
        ]
    found += _dial_figures(metrics, runs, copied(records), records.settings, seeds)
    return [replace(figure, caption=f"{figure.caption} {covered(records)}") for figure in found]


def _figure_9(metrics: pd.DataFrame, quantity: str, y: Axis, seeds: int) -> Figure:
    random = metrics[metrics["share"] == ALL].rename(
        columns={f"train_{quantity}": "training", f"test_{quantity}": "test"}
    )
    long = random.melt(["seed", "epoch"], ["training", "test"], "set", "value")
    rules = [
        Rule(CHANCE, "chance", claimed=(CHANCE - MARGIN, CHANCE + MARGIN)),
        Rule(MEMORISED, "memorised", claimed=(MEMORISED, 1.0)),
    ]
    rules = rules if quantity == "accuracy" else []
    chart = curves(long, x=Axis("epoch", "epoch"), y=y, series="set", rules=rules, carry=True)
    last = random.groupby("seed")[["training", "test"]].last().median()
    return Figure(
        f"figure-9-{quantity}",
        f"Figure 9: {quantity} while random labels are learnt",
        chart,
        f"Training labels drawn at random, test labels true. {counted(seeds, 'seed')}. {BAND} A run that has reached "
        "its criterion stays where it is.",
        f"With random training labels, {quantity} ends at {last['training']:.2g} on the training set and "
        f"{last['test']:.2g} on the test set (medians over seeds).",
        "The loss for the training set goes down consistently while the loss for the testing set goes up and vice "
        "versa for the training and testing accuracy.",
    )


def _dial_figures(
    metrics: pd.DataFrame, runs: pd.DataFrame, null: pd.DataFrame, settings: RandomLabels, seeds: int
) -> list[Figure]:
    shares = metrics.assign(labels=metrics["share"].map(lambda share: f"{per_cent(share)} random"))
    learning = curves(
        shares,
        x=Axis("epoch", "epoch"),
        y=Axis("train_loss", "training loss (cross entropy)", log=True),
        series="labels",
        carry=True,
    )
    over = runs.assign(
        later=runs["memorised_epoch"].fillna(runs["epochs"]),
        censored=runs["memorised_epoch"].isna(),
        percent=runs["share"].map(lambda share: round(100 * share)),
    )
    share = Axis("percent", "training labels drawn at random (%)")
    epochs = over_factor(over, x=share, y=Axis("later", "epochs to memorise", log=True), censored="censored")
    copies = null.assign(percent=null["share"].map(lambda share: round(100 * share)))
    error = over_factor(
        pd.concat([over.assign(of=NETWORK), copies.assign(of=COPY)]) if len(null) else over,
        x=share,
        y=Axis("test_error", "test error (share of images)", domain=(0, 1), format=".0%"),
        series="of" if len(null) else None,
        statistic="mean",
        rules=[Rule(1 - CHANCE, "chance")],
    )
    beside = " Beside it the error of who copies the label of the nearest training image." if len(null) else ""
    ends = over.groupby("percent")["later"].median().to_frame().join(over.groupby("percent")["test_error"].mean())
    least, most = ends.index[0], ends.index[-1]
    late = f" {CENSORED}" if over["censored"].any() else ""
    return [
        Figure(
            "dial-learning",
            "Training loss by the share of random labels",
            learning,
            f"{counted(seeds, 'seed')}. {BAND} A run ends at a training loss of {settings.convergence:g}, and a "
            "line where its last seed ends.",
            f"Training loss falls towards {settings.convergence:g} at every share of random labels shown.",
        ),
        Figure(
            "dial-epochs",
            "Epochs to memorise by the share of random labels",
            epochs,
            f"First evaluated epoch with a training accuracy of {MEMORISED:g}. {counted(seeds, 'seed')}. {MEDIAN}"
            f"{late}",
            f"Median epochs to memorise go from {ends.loc[least, 'later']:.3g} with {least} % random labels to "
            f"{ends.loc[most, 'later']:.3g} with {most} %.",
        ),
        Figure(
            "dial-test-error",
            "Test error by the share of random labels",
            error,
            f"At the end of training, on true test labels.{beside} {counted(seeds, 'seed')}. {dots('mean')}",
            f"Mean test error goes from {per_cent(ends.loc[least, 'test_error'])} with {least} % random labels to "
            f"{per_cent(ends.loc[most, 'test_error'])} with {most} %.",
        ),
    ]


def final_scores(records: Records[RandomLabels]) -> pd.DataFrame:
    """One row a run: its labels and cost, the epoch at which it had memorised, and its last evaluation."""
    metrics = records.table("metrics")
    memorised = metrics[metrics["train_accuracy"] >= MEMORISED].groupby("fingerprint")["epoch"].first()
    last = metrics.groupby("fingerprint").tail(1).set_index("fingerprint")
    columns = ["epoch", "train_loss", "test_loss", "train_accuracy", "test_accuracy"]
    ends = last[columns].assign(test_error=1 - last["test_accuracy"]).rename(columns={"epoch": "last_epoch"})
    runs = records.done.set_index("fingerprint").join(ends)
    return runs.assign(memorised_epoch=memorised).reset_index()


def copied(records: Records[RandomLabels]) -> pd.DataFrame:
    """A row for each seed and share: what the nearest training image's label knows; none in folders older than it."""
    null = records.analysis(COPIES)
    if null.empty:
        return pd.DataFrame(columns=["seed", "share", "test_accuracy", "test_error"], dtype="float64")
    return null.assign(test_error=1 - null["test_accuracy"])


def _row(share: float, runs: pd.DataFrame, null: pd.DataFrame) -> dict[str, object]:
    numbers: dict[str, Number] = {
        "epochs to memorise": (epochs_to_convergence(runs.assign(converged_epoch=runs["memorised_epoch"])), "median"),
        "training accuracy": ("train_accuracy", "mean"),
        "test error": ("test_error", "mean"),
        "test loss": ("test_loss", "mean"),
    }
    if len(null):
        numbers["of the nearest training image"] = (null.set_index("seed")["test_error"], "mean")
    memorised = f"{runs['memorised_epoch'].notna().sum()} of {len(runs)}"
    return {"random labels": per_cent(share), "memorised": memorised} | row(runs, numbers)
