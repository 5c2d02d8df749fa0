"""Capacity: perceptrons of a thousand to a million parameters on the same images, with true and with noisy labels.

The report's Figure 10, and beyond it label noise, where the test error can fall a second time past the size from which
every training label is fitted. The report gives neither sizes nor training; both are chosen here, before any verdict.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from theodolite.claims import (
    Claim,
    Evidence,
    each_seed,
    goodman_kruskal,
    halves,
    hump,
    past_the_best,
    tested_seeds,
    worded,
)
from theodolite.store.records import Records
from theodolite.studies.capacity.findings import (
    CLEAN,
    NOISY,
    figures,
    final_scores,
    first_fitted,
    tables,
)
from theodolite.studies.capacity.settings import PRESETS, Capacity
from theodolite.studies.capacity.words import WORDS
from theodolite.studies.classifiers import CLASSES, classifier, images, training_of
from theodolite.study import METRICS, RunSpec, Study

NAME = "capacity"
MONOTONE = 0.8  # γ with size from which a quantity "increases as the number of parameters increases": 9 pairs of 10
MOST = 0.5  # of the seeds: γ is exactly 1 in most, and equal numbers do not bound a mean, but six of six bound a share
HELPS = 0.01  # of the test accuracy: one image in a hundred is the least that counts as a help


def expand(settings: Capacity) -> Iterator[RunSpec]:
    """Every size, kind of labels and seed; a seed has the same images, noise and order of samples at every size."""
    for hidden in settings.hidden:
        model = classifier(settings.data, (hidden,))
        for labels in (CLEAN, NOISY) if settings.noise else (CLEAN,):
            for seed in range(settings.seeds):
                noisy = labels == NOISY
                source = images(
                    settings.data,
                    seed,
                    train=settings.train,
                    test=settings.test,
                    # One label in ten drawn at random is the true one: the share of wrong ones is `noise` on average.
                    random_labels=settings.noise * CLASSES / (CLASSES - 1) if noisy else 0.0,
                    label_seed=seed if noisy else 0,
                )
                yield training_of(
                    NAME,
                    {"hidden": hidden, "labels": labels},
                    seed,
                    source,
                    model,
                    learning_rate=settings.learning_rate,
                    schedule="cosine",
                    batch_size=settings.batch_size,
                    epochs=settings.epochs,
                    evaluate_every=settings.epochs,  # its end is what counts; before it would cost as much again
                )


def _part(records: Records[Capacity], labels: str) -> pd.DataFrame:
    """The runs that a claim is about; seeds of which a size is missing are left out until it is there."""
    ends = final_scores(records)
    part = ends[ends["labels"] == labels]
    complete = part.groupby("seed")["hidden"].transform("nunique") == len(records.settings.hidden)
    return part[complete]


def _by_size(records: Records[Capacity], labels: str, column: str) -> pd.DataFrame:
    """Sizes by seeds, for the numbers whose place half of the seeds pick."""
    part = _part(records, labels).astype({column: "float64"})
    return part.pivot(index="parameters", columns="seed", values=column).sort_index()


def _monotone(records: Records[Capacity], column: str, sign: int) -> Evidence:
    """Whether a seed's numbers go one way with size; unknown where they have no γ."""
    gamma = sign * each_seed(_part(records, CLEAN), "parameters", column, goodman_kruskal)
    return Evidence.exact((gamma > MONOTONE).astype("float64").where(gamma.notna(), np.nan))


def _accuracy_past_the_threshold(records: Records[Capacity]) -> Evidence:
    """Even seeds, at the size from which odd ones fit their labels."""
    picking, _ = halves(_by_size(records, CLEAN, "train_accuracy"))
    _, tested = halves(_by_size(records, CLEAN, "test_accuracy"))
    at = first_fitted(picking.median(axis=1))
    if at is None:
        unknown = pd.Series(np.nan, index=tested.columns, dtype="float64")
        return Evidence.exact(unknown, "No size fits its training labels, so there is no threshold.")
    return Evidence.exact(tested.iloc[-1] - tested.loc[at])


def _accuracy_past_the_best(records: Records[Capacity]) -> Evidence:
    largest, best = past_the_best(_by_size(records, CLEAN, "test_accuracy"), highest=True)
    return Evidence.exact(largest - best)


def _loss_past_the_best(records: Records[Capacity]) -> Evidence:
    largest, best = past_the_best(_by_size(records, CLEAN, "test_loss"), highest=False)
    return Evidence.exact(largest) / Evidence.exact(best)


def _tested(settings: Capacity) -> int:
    return tested_seeds(settings.seeds)


CLAIMS = (
    Claim(
        id="train-accuracy-rises",
        sentence="The training accuracy increases as the number of parameters increases.",
        source="report, Figure 10 left",
        # Not Spearman's: eight sizes of ten that fit all labels are ties, which leave at most 0.70 of it.
        statistic="share of seeds whose γ (ties left out) of final training accuracy and parameters over the sizes is "
        f"above {MONOTONE:g}, true labels",
        kind="share",
        side="above",
        threshold=MOST,
        evidence=lambda records: _monotone(records, "train_accuracy", 1),
    ),
    Claim(
        id="train-loss-falls",
        sentence="The training loss continues to decrease when the number of parameters are increased.",
        source="report, Figure 10 right",
        statistic="share of seeds whose γ of final training loss and parameters over the sizes is below "
        f"−{MONOTONE:g}, true labels",
        kind="share",
        side="above",
        threshold=MOST,
        evidence=lambda records: _monotone(records, "train_loss", -1),
    ),
    Claim(
        id="test-accuracy-falls-past-a-size",
        sentence="The testing accuracy actually decreases when the number of parameters gets too large.",
        source="report, Figure 10 left",
        statistic=(
            "test accuracy at the largest size minus that at the smaller size which is best for the other half of the "
            "seeds, true labels"
        ),
        kind="mean",
        side="below",
        threshold=0.0,
        evidence=_accuracy_past_the_best,
        seeds=_tested,
    ),
    Claim(
        id="test-loss-rises-past-a-size",
        sentence="The testing loss actually increases after a certain point.",
        source="report, Figure 10 right",
        statistic="test loss at the largest size over that at the smaller size which is best for the other half of the "
        "seeds, true labels",
        kind="ratio",
        side="above",
        threshold=1.0,
        evidence=_loss_past_the_best,
        seeds=_tested,
    ),
    Claim(
        id="stops-helping-past-a-size",
        sentence="Increasing the number of parameters helps to fit training data, but, after a certain threshold, does "
        "not help to generalize to data not seen during training.",
        source="report, conclusion of Figure 10",
        # The threshold that theory names: the size from which all training labels are fitted.
        statistic="test accuracy at the largest size minus that at the smallest size which fits the training labels of "
        "the other half of the seeds, true labels",
        kind="mean",
        side="below",
        threshold=HELPS,
        evidence=_accuracy_past_the_threshold,
        seeds=_tested,
    ),
    Claim(
        id="second-descent",
        sentence="With noisy labels the test error rises towards the interpolation threshold and falls again past it.",
        source="beyond",
        statistic=(
            "height of the hump of the test error over size, above the valley before it or the largest size, "
            "whichever is less; valley and peak where they are in the other half of the seeds; noisy labels"
        ),
        kind="mean",
        side="above",
        threshold=0.0,
        evidence=lambda records: Evidence.exact(hump(_by_size(records, NOISY, "test_error"))),
        seeds=_tested,
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
    settings_type=Capacity,
    presets=PRESETS,
    expand=expand,
    tables=tables,
    figures=figures,
    claims=worded(CLAIMS, WORDS),
    schemas={"metrics": METRICS},
    seconds={"smoke": 5, "quick": 37, "full": 650},
    not_shown=(
        "One hidden layer, one optimizer and the same number of epochs for every size, so a size that trains slowly "
        "ends less fitted; no regularisation and no early stopping. The threshold belongs to this training and this "
        "number of images, not to the architecture alone."
    ),
)
