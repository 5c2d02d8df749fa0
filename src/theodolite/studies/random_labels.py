"""Random labels: a perceptron learns MNIST whose training labels mean nothing; the test labels stay true.

The report's Figure 9, and beyond it a dial: the share of the training labels that are drawn at random. The report
gives data and labels only; the rest is chosen here, before any run, with the reason beside each setting.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
from pydantic import Field, PositiveFloat, PositiveInt

from theodolite.claims import Claim, Evidence, Kind, epochs_to_convergence, interval, rank_correlation
from theodolite.data import DataSpec
from theodolite.figures.curves import BAND, curves
from theodolite.figures.points import CENSORED, MEDIAN, over_factor
from theodolite.figures.scales import Axis, Rule
from theodolite.findings import Figure, Table
from theodolite.store.records import Records
from theodolite.studies.classifiers import CLASSES, classifier
from theodolite.study import RunSpec, Seeds, Settings, Study, Training

if TYPE_CHECKING:
    from theodolite.train import Outcome

NAME = "random-labels"
MEMORISED = 0.99  # training accuracy from which a network counts as having memorised its labels
CHANCE = 1 / CLASSES
MARGIN = 0.02  # around chance: two test images of a hundred, a fifth of what guessing gets right
CONSISTENT = 0.9  # rank correlation with the epoch, from which a loss goes "consistently" one way
ALL = 1.0  # the share in the report's experiment


class RandomLabels(Settings):
    """Dials of the study, at ``quick``."""

    seeds: PositiveInt = 8
    data: str = "mnist"
    train: PositiveInt | None = 2000  # a subset: epochs to memorise grow with the samples, and so does each epoch
    test: PositiveInt | None = 2000  # enough to know an accuracy of 0.1 to 0.007
    shares: tuple[Annotated[float, Field(ge=0, le=1)], ...] = (0.0, 0.25, 0.5, 0.75, ALL)  # 1 is the report's
    hidden: tuple[PositiveInt, ...] = (128, 128)  # 118,282 parameters, 59 a label: enough to memorise
    learning_rate: PositiveFloat = 1e-3  # Adam's default
    batch_size: PositiveInt = 64
    epochs: PositiveInt = 200  # at most; three times what random labels took in a trial with four other networks
    evaluate_every: PositiveInt = 2  # and so "epochs to memorise" are known to two
    convergence: PositiveFloat = 0.02  # training loss at which a run ends: a mean probability of 0.98 for its labels


PRESETS = {
    "smoke": RandomLabels(seeds=3, data="digits", train=256, test=None, hidden=(64, 64), batch_size=32, epochs=150),
    "quick": RandomLabels(),
    "full": RandomLabels(
        seeds=10, train=None, test=None, hidden=(512, 256), batch_size=128, epochs=300, evaluate_every=5
    ),
}


def expand(settings: RandomLabels) -> Iterator[RunSpec]:
    """Every share and seed; a seed's networks begin alike and see their samples in the same order at every share."""
    for share in settings.shares:
        for seed in range(settings.seeds):
            source = DataSpec(
                source=settings.data,
                train=settings.train,
                test=settings.test,
                random_labels=share,
                label_seed=seed if share else 0,  # with true labels it decides nothing
            )
            yield RunSpec(
                study=NAME,
                labels={"share": share},
                seed=seed,
                data=source,
                model=classifier(settings.data, settings.hidden),
                training=Training(
                    loss="cross_entropy",
                    learning_rate=settings.learning_rate,
                    batch_size=settings.batch_size,
                    epochs=settings.epochs,
                    evaluate_every=settings.evaluate_every,
                    convergence=settings.convergence,
                    stop_at_convergence=True,
                ),
                seeds=Seeds(weights=seed, order=seed),
            )


def measure(spec: RunSpec, outcome: "Outcome") -> Mapping[str, pd.DataFrame]:
    """Nothing beyond the metrics of the training."""
    return {}


def tables(records: Records) -> list[Table]:
    """The dial: what became of the networks at each share of random labels."""
    runs = _ends(records)
    limit = records.plan.settings["epochs"]
    caption = (
        f"Over {runs['seed'].nunique()} seeds: runs that reach a training accuracy of {MEMORISED:g} within {limit} "
        "epochs, the median of the first evaluated epoch there, and means at the end of training, each with its 95 % "
        f"interval. A label drawn at random is still the true one with probability {CHANCE:g}."
    )
    rows = [_row(float(str(share)), group) for share, group in runs.groupby("share", sort=True)]
    return [Table("dial", "What random labels do to training and test", pd.DataFrame(rows), caption)]


def figures(records: Records) -> list[Figure]:
    """Figure 9's two panels, and the dial: learning curves, epochs to memorise and test error over the share."""
    metrics, runs = records.table("metrics"), _ends(records)
    seeds = runs["seed"].nunique()
    found = []
    if (metrics["share"] == ALL).any():
        found += [
            _figure_9(metrics, "loss", Axis("value", "loss (cross entropy, mean over samples)", log=True), seeds),
            _figure_9(metrics, "accuracy", Axis("value", "accuracy", domain=(0, 1), format=".0%"), seeds),
        ]
    return found + _dial_figures(metrics, runs, records.plan.settings, seeds)


def _figure_9(metrics: pd.DataFrame, quantity: str, y: Axis, seeds: int) -> Figure:
    random = metrics[metrics["share"] == ALL].rename(
        columns={f"train_{quantity}": "training", f"test_{quantity}": "test"}
    )
    long = random.melt(["seed", "epoch"], ["training", "test"], "set", "value")
    rules = [Rule(CHANCE, "chance")] if quantity == "accuracy" else []
    chart = curves(long, x=Axis("epoch", "epoch"), y=y, series="set", rules=rules, carry=True)
    last = random.groupby("seed")[["training", "test"]].last().median()
    return Figure(
        f"figure-9-{quantity}",
        f"Figure 9: {quantity} while random labels are learnt",
        chart,
        f"Training labels drawn at random, test labels true. {seeds} seeds. {BAND} A run that has reached its "
        "criterion stays where it is.",
        f"With random training labels, {quantity} ends at {last['training']:.2g} on the training set and "
        f"{last['test']:.2g} on the test set (medians over seeds).",
        "The loss for the training set goes down consistently while the loss for the testing set goes up and vice "
        "versa for the training and testing accuracy.",
    )


def _dial_figures(metrics: pd.DataFrame, runs: pd.DataFrame, settings: Mapping[str, Any], seeds: int) -> list[Figure]:
    shares = metrics.assign(labels=metrics["share"].map(lambda share: f"{share:.0%} random"))
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
    error = over_factor(
        over,
        x=share,
        y=Axis("test_error", "test error (share of images)", domain=(0, 1), format=".0%"),
        rules=[Rule(1 - CHANCE, "chance")],
    )
    ends = over.groupby("percent")[["later", "test_error"]].median()
    least, most = ends.index[0], ends.index[-1]
    dots = f"{seeds} seeds. {MEDIAN}"
    return [
        Figure(
            "dial-learning",
            "Training loss by the share of random labels",
            learning,
            f"{seeds} seeds. {BAND} A run ends at a training loss of {settings['convergence']:g}; its line goes on "
            "at its last value.",
            f"Training loss falls towards {settings['convergence']:g} at every share of random labels shown.",
        ),
        Figure(
            "dial-epochs",
            "Epochs to memorise by the share of random labels",
            epochs,
            f"First evaluated epoch with a training accuracy of {MEMORISED:g}. {dots} {CENSORED}",
            f"Median epochs to memorise go from {ends.loc[least, 'later']:.3g} with {least} % random labels to "
            f"{ends.loc[most, 'later']:.3g} with {most} %.",
        ),
        Figure(
            "dial-test-error",
            "Test error by the share of random labels",
            error,
            f"At the end of training, on true test labels. {dots}",
            f"Median test error goes from {ends.loc[least, 'test_error']:.0%} with {least} % random labels to "
            f"{ends.loc[most, 'test_error']:.0%} with {most} %.",
        ),
    ]


def _ends(records: Records) -> pd.DataFrame:
    """One row a run: its labels and cost, the epoch at which it had memorised, and its last evaluation."""
    metrics = records.table("metrics")
    memorised = metrics[metrics["train_accuracy"] >= MEMORISED].groupby("fingerprint")["epoch"].first()
    last = metrics.groupby("fingerprint").tail(1).set_index("fingerprint")
    columns = ["epoch", "train_loss", "test_loss", "train_accuracy", "test_accuracy"]
    ends = last[columns].assign(test_error=1 - last["test_accuracy"]).rename(columns={"epoch": "last_epoch"})
    runs = records.done.set_index("fingerprint").join(ends)
    return runs.assign(memorised_epoch=memorised).reset_index()


def _row(share: float, runs: pd.DataFrame) -> dict[str, object]:
    row: dict[str, object] = {
        "random labels": f"{share:.0%}",
        "memorised": f"{runs['memorised_epoch'].notna().sum()} of {len(runs)}",
    }
    epochs = epochs_to_convergence(runs.assign(converged_epoch=runs["memorised_epoch"]))
    ends = runs.set_index("seed")
    numbers: dict[str, tuple[Evidence, Kind]] = {
        "epochs to memorise": (epochs, "median"),
        "training accuracy": (Evidence.exact(ends["train_accuracy"]), "mean"),
        "test error": (Evidence.exact(ends["test_error"]), "mean"),
        "test loss": (Evidence.exact(ends["test_loss"]), "mean"),
    }
    for name, (evidence, kind) in numbers.items():
        found = interval(evidence, kind)
        row |= found.columns(name)
    return row


def _report(table: pd.DataFrame) -> pd.DataFrame:
    """The report's own experiment: all training labels random."""
    return table[table["share"] == ALL]


def _end(records: Records, column: str) -> Evidence:
    return Evidence.exact(_report(_ends(records)).set_index("seed")[column])


def _over_epochs(records: Records, column: str) -> Evidence:
    return rank_correlation(_report(records.table("metrics")), "epoch", column)


CLAIMS = (
    Claim(
        id="train-loss-falls",
        sentence="The loss for the training set goes down consistently.",
        source="report, Figure 9",
        statistic="Spearman's correlation of training loss and epoch over the evaluated epochs, all labels random",
        kind="correlation",
        side="below",
        threshold=-CONSISTENT,
        evidence=lambda records: _over_epochs(records, "train_loss"),
    ),
    Claim(
        id="test-loss-rises",
        sentence="The loss for the testing set goes up.",
        source="report, Figure 9",
        statistic="Spearman's correlation of test loss and epoch over the evaluated epochs, all labels random",
        kind="correlation",
        side="above",
        threshold=CONSISTENT,
        evidence=lambda records: _over_epochs(records, "test_loss"),
    ),
    Claim(
        id="memorises",
        sentence="Neural networks are great at fitting whatever data is presented to them.",
        source="report, Figure 9",
        statistic="training accuracy at the end of training, all labels random",
        kind="mean",
        side="above",
        threshold=MEMORISED,
        evidence=lambda records: _end(records, "train_accuracy"),
    ),
    Claim(
        id="test-at-chance",
        sentence="The model is learning on incorrect data, so it will not be able to correctly interpret the testing "
        "data.",
        source="report, Figure 9",
        statistic=f"test accuracy at the end of training, all labels random; guessing has {CHANCE:g}",
        kind="mean",
        side="within",
        threshold=(CHANCE - MARGIN, CHANCE + MARGIN),
        evidence=lambda records: _end(records, "test_accuracy"),
    ),
)


STUDY = Study(
    name=NAME,
    title="Random labels: what a network can memorise",
    question=(
        "Does a network fit training labels that mean nothing, what does that do to its answers on the test set, and "
        "how do both change with the share of random labels?"
    ),
    source="Figure 9",
    presets=PRESETS,
    expand=expand,
    measure=measure,
    tables=tables,
    figures=figures,
    claims=CLAIMS,
    seconds={"smoke": 7, "quick": 50},
    not_shown=(
        "One network, one optimizer and no regularisation: how fast labels are memorised depends on all three. That a "
        "network can memorise does not say that it does so where the labels are true. At quick a subset of MNIST is "
        "memorised, which is easier than the whole."
    ),
)
