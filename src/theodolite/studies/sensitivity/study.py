"""Sensitivity: how strongly the loss of a trained perceptron reacts to its input, by batch size.

The report's Figure 12, and beyond it the report's explanation put to the test: the same batch sizes at equal numbers of
steps. At a constant learning rate a longer training passes through the shorter one, so both come from one run: its
weights are kept where it has had its epochs and where it has had its steps.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import gcd
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from theodolite.claims import Claim, Evidence, factor_per_doubling, interval, rank_correlation
from theodolite.data import DataSpec
from theodolite.store.records import Records
from theodolite.studies.classifiers import classifier, training_of
from theodolite.studies.sensitivity.findings import (
    EPOCHS,
    STEPS,
    compared,
    distinct,
    figures,
    tables,
)
from theodolite.studies.sensitivity.settings import PRESETS, Sensitivity
from theodolite.study import RunSpec, Study

if TYPE_CHECKING:
    from theodolite.train import Outcome

NAME = "sensitivity"
LEFT = 0.25  # share of the trend that may be left, on either side, where steps explain it
CHUNK = 1024  # samples measured at once


def expand(settings: Sensitivity) -> Iterator[RunSpec]:
    """Every batch size and seed, trained as long as the longer of both comparisons needs."""
    for size in settings.batch_sizes:
        at = {EPOCHS: settings.epochs, STEPS: settings.epochs * size // settings.middle}
        for seed in range(settings.seeds):
            yield training_of(
                NAME,
                {"batch_size": size},
                seed,
                DataSpec(source=settings.data, train=settings.train, test=settings.test),
                classifier(settings.data, settings.hidden),
                learning_rate=settings.learning_rate,
                batch_size=size,
                epochs=max(at.values()),
                evaluate_every=_every(at),
                snapshot_every=_every(at),
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


def _at(records: Records[Sensitivity], comparison: str) -> pd.DataFrame:
    rows = compared(records)
    return rows[rows["comparison"] == comparison]


def _factor(records: Records[Sensitivity], comparison: str, column: str) -> Evidence:
    return factor_per_doubling(_at(records, comparison), "batch_size", column)


def _beside(records: Records[Sensitivity], column: str, what: str, other: str) -> Evidence:
    """The factor of one quantity at equal epochs, and in its note what that of another is."""
    found = interval(_factor(records, EPOCHS, other), "ratio")
    return replace(
        _factor(records, EPOCHS, column),
        note=f"{what} the factor is {found.estimate:.3g} [{found.low:.3g}, {found.high:.3g}].",
    )


def _share_left(records: Records[Sensitivity]) -> Evidence:
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
        evidence=lambda records: rank_correlation(distinct(compared(records)), "gap", "test"),
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
    settings_type=Sensitivity,
    presets=PRESETS,
    expand=expand,
    measure=measure,
    tables=tables,
    figures=figures,
    claims=CLAIMS,
    seconds={"smoke": 5, "quick": 30, "full": 1800},
    not_shown=(
        "The learning rate is the same for every batch size, as in the report; one that grows with the batch changes "
        "the trend. At equal steps larger batches see the data more often, so the number of steps is held fixed there "
        "and the number of epochs is not: no design holds both. That sensitivity goes with overfitting over batch "
        "sizes does not say that it causes it."
    ),
)
