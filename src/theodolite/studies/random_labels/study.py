"""Random labels: a perceptron learns MNIST whose training labels mean nothing; the test labels stay true.

The report's Figure 9, and beyond it a dial: the share of the training labels that are drawn at random. The report
gives data and labels only; the rest is chosen here, before any run, with the reason beside each setting.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from theodolite import data
from theodolite.claims import Claim, Evidence, rank_correlation, worded
from theodolite.data import DataSpec
from theodolite.store.records import Records
from theodolite.studies.classifiers import classifier, images, training_of
from theodolite.studies.random_labels.findings import (
    CHANCE,
    COPIES,
    MARGIN,
    MEMORISED,
    copied,
    figures,
    final_scores,
    tables,
)
from theodolite.studies.random_labels.schemas import SCHEMAS
from theodolite.studies.random_labels.settings import ALL, PRESETS, RandomLabels
from theodolite.studies.random_labels.words import WORDS
from theodolite.study import AnalysisSpec, RunSpec, Study
from theodolite.wording import per_cent

NAME = "random-labels"
ASKED = 2_000  # test images whose nearest training image is looked for; among all of MNIST they take a second
MOST = 0.5  # of the seeds: correlations are −1 or 1 in many, and equal numbers do not bound a mean
CONSISTENT = 0.9  # rank correlation with the epoch, from which a loss goes "consistently" one way


def expand(settings: RandomLabels) -> Iterator[RunSpec]:
    """Every share and seed; a seed's networks begin alike and see their samples in the same order at every share."""
    for share in settings.shares:
        for seed in range(settings.seeds):
            yield training_of(
                NAME,
                {"share": share},
                seed,
                _source(settings, share, seed),
                classifier(settings.data, settings.hidden),
                optimizer=settings.optimizer,
                learning_rate=settings.learning_rate,
                schedule=settings.schedule,
                batch_size=settings.batch_size,
                epochs=settings.epochs,
                evaluate_every=settings.evaluate_every,
                convergence=settings.convergence,
                stop_at_convergence=True,
            )


def analyses(settings: RandomLabels) -> Iterator[AnalysisSpec]:
    """For every seed the null: what is known of the test set by who copies labels and learns nothing."""
    for seed in range(settings.seeds):
        sources = {str(share): _source(settings, share, seed).model_dump(mode="json") for share in settings.shares}
        labels: dict[str, str | int | float] = {"null": "nearest_image"}
        yield AnalysisSpec(study=NAME, labels=labels, seed=seed, settings={"sources": sources, "asked": ASKED})


def analyse(spec: AnalysisSpec, trained: Sequence[Any]) -> Mapping[str, pd.DataFrame]:
    """Test accuracy of the label of the nearest training image, at each share; the images are the same at all."""
    import numpy as np
    from sklearn.neighbors import NearestNeighbors

    sets = {float(share): data.load(DataSpec(**source)) for share, source in spec.settings["sources"].items()}
    first = next(iter(sets.values()))
    images = len(first.test_targets)
    asked = np.linspace(0, images - 1, min(spec.settings["asked"], images)).astype(int)
    training = first.inputs_as(part="train").reshape(len(first.train_targets), -1)
    test = first.inputs_as(part="test")[asked].reshape(len(asked), -1)
    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(training)
    nearest = search.kneighbors(test, return_distance=False)[:, 0]
    right = {share: (own.train_targets[nearest] == own.test_targets[asked]).mean() for share, own in sets.items()}
    return {COPIES: pd.DataFrame({"share": list(right), "test_accuracy": list(right.values())})}


def _source(settings: RandomLabels, share: float, seed: int) -> DataSpec:
    own = seed if share else 0  # with true labels it decides nothing
    return images(settings.data, seed, train=settings.train, test=settings.test, random_labels=share, label_seed=own)


def _report(table: pd.DataFrame) -> pd.DataFrame:
    """The report's own experiment: all training labels random."""
    return table[table["share"] == ALL]


def _end(records: Records[RandomLabels], column: str) -> Evidence:
    return Evidence.exact(_report(final_scores(records)).set_index("seed")[column])


def _over_copying(records: Records[RandomLabels]) -> dict[str, Evidence]:
    """For each share between none and all, what a network has over the copy of the nearest image's label."""
    ends, null = final_scores(records), copied(records)
    between = [share for share in records.settings.shares if 0 < share < ALL]
    if not between:
        return {"": Evidence.exact(pd.Series(dtype="float64"))}
    network, copy = (
        {share: Evidence.exact(part.set_index("seed")["test_accuracy"]) for share, part in table.groupby("share")}
        for table in (ends, null)
    )
    missing = "" if len(null) else "The null was not measured; run the study again to add it."
    nothing = Evidence.exact(pd.Series(dtype="float64"), missing)
    return {f"{per_cent(share)} random": network.get(share, nothing) - copy.get(share, nothing) for share in between}


def _consistent(records: Records[RandomLabels], column: str, sign: int) -> Evidence:
    """Whether a seed's numbers go one way with the epoch; unknown where they have no correlation."""
    found = sign * rank_correlation(_report(records.table("metrics")), "epoch", column).low
    return Evidence.exact((found > CONSISTENT).astype("float64").where(found.notna()))


def _way(quantity: str, way: str) -> str:
    return (
        f"share of seeds whose Spearman correlation of {quantity} and epoch over the evaluated epochs is {way}, all "
        "labels random"
    )


FALLS, RISES = f"below −{CONSISTENT:g}", f"above {CONSISTENT:g}"


CLAIMS = (
    Claim(
        id="train-loss-falls",
        sentence="The loss for the training set goes down consistently.",
        source="report, Figure 9",
        statistic=_way("training loss", FALLS),
        kind="share",
        side="above",
        threshold=MOST,
        evidence=lambda records: _consistent(records, "train_loss", -1),
    ),
    Claim(
        id="test-loss-rises",
        sentence="The loss for the testing set goes up.",
        source="report, Figure 9",
        statistic=_way("test loss", RISES),
        kind="share",
        side="above",
        threshold=MOST,
        evidence=lambda records: _consistent(records, "test_loss", 1),
    ),
    Claim(
        id="train-accuracy-rises",
        sentence="... and vice versa for the training and testing accuracy: that of the training set goes up.",
        source="report, Figure 9",
        statistic=_way("training accuracy", RISES),
        kind="share",
        side="above",
        threshold=MOST,
        evidence=lambda records: _consistent(records, "train_accuracy", 1),
    ),
    Claim(
        id="test-accuracy-falls",
        sentence="... and vice versa for the training and testing accuracy: that of the testing set goes down.",
        source="report, Figure 9",
        statistic=_way("test accuracy", FALLS),
        kind="share",
        side="above",
        threshold=MOST,
        evidence=lambda records: _consistent(records, "test_accuracy", -1),
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
        # Nothing about the test set can be learnt from such labels, so this could fail only by a fault of the design.
        statistic=f"test accuracy at the end of training, all labels random; guessing has {CHANCE:g} (a control: true "
        "by construction)",
        kind="mean",
        side="within",
        threshold=(CHANCE - MARGIN, CHANCE + MARGIN),
        evidence=lambda records: _end(records, "test_accuracy"),
    ),
    Claim(
        id="better-than-copying",
        sentence="A network that has fitted partly random labels knows more of the test set than who copies the label "
        "of the nearest training image, random ones included.",
        source="beyond",
        # The report's reason, "learning on incorrect data", where it could be otherwise: what copies alone cannot do.
        statistic="test accuracy at the end of training minus that of the nearest training image's label, for each "
        "share of random labels between none and all",
        kind="mean",
        side="above",
        threshold=0.0,
        evidence=_over_copying,
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
    analyses=analyses,
    analyse=analyse,
    tables=tables,
    figures=figures,
    claims=worded(CLAIMS, WORDS),
    schemas=SCHEMAS,
    seconds={"smoke": 7, "quick": 29, "full": 3000},
    not_shown=(
        "One network, one optimizer and no regularisation: how fast labels are memorised depends on all three. That a "
        "network can memorise does not say that it does so where the labels are true. Below the full preset a subset "
        "is memorised, which is easier than the whole."
    ),
)
