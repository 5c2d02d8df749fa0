"""Random labels: a perceptron learns MNIST whose training labels mean nothing; the test labels stay true.

The report's Figure 9, and beyond it a dial: the share of the training labels that are drawn at random. The report
gives data and labels only; the rest is chosen here, before any run, with the reason beside each setting.
"""

from collections.abc import Iterator

import pandas as pd

from theodolite.claims import Claim, Evidence, rank_correlation
from theodolite.data import DataSpec
from theodolite.store.records import Records
from theodolite.studies.classifiers import classifier, training_of
from theodolite.studies.random_labels.findings import (
    CHANCE,
    MEMORISED,
    figures,
    final_scores,
    tables,
)
from theodolite.studies.random_labels.settings import ALL, PRESETS, RandomLabels
from theodolite.study import RunSpec, Study

NAME = "random-labels"
MARGIN = 0.02  # around chance: two test images of a hundred, a fifth of what guessing gets right
CONSISTENT = 0.9  # rank correlation with the epoch, from which a loss goes "consistently" one way


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
            yield training_of(
                NAME,
                {"share": share},
                seed,
                source,
                classifier(settings.data, settings.hidden),
                learning_rate=settings.learning_rate,
                schedule=settings.schedule,
                batch_size=settings.batch_size,
                epochs=settings.epochs,
                evaluate_every=settings.evaluate_every,
                convergence=settings.convergence,
                stop_at_convergence=True,
            )


def _report(table: pd.DataFrame) -> pd.DataFrame:
    """The report's own experiment: all training labels random."""
    return table[table["share"] == ALL]


def _end(records: Records[RandomLabels], column: str) -> Evidence:
    return Evidence.exact(_report(final_scores(records)).set_index("seed")[column])


def _over_epochs(records: Records[RandomLabels], column: str) -> Evidence:
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
    settings_type=RandomLabels,
    presets=PRESETS,
    expand=expand,
    tables=tables,
    figures=figures,
    claims=CLAIMS,
    seconds={"smoke": 7, "quick": 29, "full": 26000},
    not_shown=(
        "One network, one optimizer and no regularisation: how fast labels are memorised depends on all three. That a "
        "network can memorise does not say that it does so where the labels are true. Below the full preset a subset "
        "is memorised, which is easier than the whole."
    ),
)
