"""Sensitivity: how strongly the loss of a trained perceptron reacts to its input, by batch size.

The report's Figure 12, and beyond it the report's explanation put to the test: the same batch sizes at equal numbers of
steps; and the simplest other one, at equal training loss. At a constant learning rate a longer training passes through
the shorter ones, so all come from one run: its weights are kept on the way, after its epochs and after its steps.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import gcd
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from theodolite.claims import Claim, Evidence, factor_per_doubling, interval, rank_correlation, worded
from theodolite.store.records import Records
from theodolite.studies.classifiers import classifier, images, training_of
from theodolite.studies.sensitivity.findings import (
    EPOCHS,
    LOSS,
    OLD,
    STEPS,
    bracket,
    compared,
    distinct,
    figures,
    tables,
)
from theodolite.studies.sensitivity.schemas import SCHEMAS
from theodolite.studies.sensitivity.settings import PRESETS, Sensitivity
from theodolite.studies.sensitivity.words import WORDS
from theodolite.study import RunSpec, Study

if TYPE_CHECKING:
    from theodolite.train import Outcome

NAME = "sensitivity"
LEFT = 0.25  # share of the trend that may be left, on either side, where steps explain it
KEPT = 12  # measurements on the way of a training, about
CHUNK = 1024  # samples measured at once


def expand(settings: Sensitivity) -> Iterator[RunSpec]:
    """Every batch size and seed, trained as long as the longer of both comparisons needs."""
    own = settings.model_dump(include={"sharpness_samples", "loss", "jump"})
    for size in settings.batch_sizes:
        at = {EPOCHS: settings.epochs, STEPS: settings.epochs * size // settings.middle}
        for seed in range(settings.seeds):
            yield training_of(
                NAME,
                {"batch_size": size},
                seed,
                images(settings.data, seed, train=settings.train, test=settings.test),
                classifier(settings.data, settings.hidden),
                learning_rate=settings.learning_rate,
                batch_size=size,
                epochs=max(at.values()),
                evaluate_every=_every(at),
                snapshot_every=_every(at),
                measure={"epochs": at[EPOCHS], "steps": at[STEPS], **own},
            )


def _every(at: Mapping[str, int]) -> int:
    """Epochs between two measurements: both comparisons fall on one, and about a dozen show the way there."""
    return gcd(at[EPOCHS], at[STEPS], max(1, max(at.values()) // KEPT))


def measure(spec: RunSpec, outcome: "Outcome") -> Mapping[str, pd.DataFrame]:
    """Sensitivity on both sets at every kept epoch; sharpness where comparisons are made, jumps where networks end."""
    from torch.nn.functional import cross_entropy

    from theodolite import data, train
    from theodolite.measure.sensitivity import sensitivity

    sets = train.tensors(data.load(spec.data))
    module = outcome.module()
    compared_at = {spec.measure["epochs"], spec.measure["steps"]}
    around = set(bracket(outcome.metrics["epoch"], outcome.metrics["train_loss"], spec.measure["loss"]))
    rows, sharp, jumps = [], [], []
    for epoch, weights in outcome.snapshots.items():
        if epoch == 0 or epoch == outcome.diverged_epoch:  # untrained; not a number
            continue
        module.load_state_dict(weights)
        for name, part in (("training", sets.train), ("test", sets.test)):
            inputs = part.inputs.flatten(1)
            batches = list(zip(inputs.split(CHUNK), part.targets.split(CHUNK), strict=True))
            found = sensitivity(module, cross_entropy, batches)
            rows.append((epoch, name, found.mean, found.standard_error, found.value, len(inputs)))
        if epoch in compared_at | around:
            kept = slice(spec.measure["sharpness_samples"])
            pair = sets.train.inputs[kept].flatten(1), sets.train.targets[kept]
            sharp.append((epoch, *_sharpness(module, pair)))
        if epoch in compared_at:
            jumps.append((epoch, _jumps(module, sets.test.inputs.flatten(1), sets.test.targets, spec.measure["jump"])))
    columns = ["epoch", "set", "sensitivity", "standard_error", "of_mean_loss", "samples"]
    return {
        "sensitivity": pd.DataFrame(rows, columns=columns),
        "sharpness": pd.DataFrame(sharp, columns=["epoch", "keskar", "sam"]),
        "jumps": pd.DataFrame(jumps, columns=["epoch", "jumps"]),
    }


def _jumps(module: Any, inputs: Any, targets: Any, length: float) -> float:
    """The share of images whose predicted class changes where each is moved so far up the gradient of its own loss."""
    import torch
    from torch.nn.functional import cross_entropy

    x = inputs.clone().requires_grad_()
    outputs = module(x)
    (slope,) = torch.autograd.grad(cross_entropy(outputs, targets, reduction="sum"), x)
    with torch.no_grad():
        tiny = torch.finfo(x.dtype).tiny  # a loss that has underflowed leaves an image where it is
        moved = module(x + length * slope / slope.norm(dim=1, keepdim=True).clamp_min(tiny))
    return float((moved.argmax(1) != outputs.argmax(1)).double().mean())


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


def _beside(
    records: Records[Sensitivity], comparison: str, column: str, others: Mapping[str, tuple[str, str]]
) -> Evidence:
    """The factor of one quantity in one comparison, and in its note what those of others are, by their words."""
    said = []
    for what, (elsewhere, other) in others.items():
        found = interval(_factor(records, elsewhere, other), "ratio")
        said.append(f"{what} the factor is {found.estimate:.3g} [{found.low:.3g}, {found.high:.3g}].")
    return replace(_factor(records, comparison, column), note=" ".join(said))


def _share_left(records: Records[Sensitivity], comparison: str) -> Evidence:
    if _at(records, comparison).empty:
        return _lacking(records)
    left, whole = (np.log2(_factor(records, which, "test").low) for which in (comparison, EPOCHS))
    return Evidence.exact((left / whole).replace([np.inf, -np.inf], np.nan))


def _jumping(records: Records[Sensitivity]) -> Evidence:
    rows = distinct(compared(records))
    return rank_correlation(rows, "test", "jumps") if "jumps" in rows else _lacking(records)


def _sharper(records: Records[Sensitivity]) -> Evidence:
    if _at(records, LOSS).empty:
        return _lacking(records)
    others = {"At equal epochs": (EPOCHS, "keskar"), "At equal loss by SAM's measure": (LOSS, "sam")}
    return _beside(records, LOSS, "keskar", others)


def _lacking(records: Records[Sensitivity]) -> Evidence:
    """No evidence, and why: no seed is complete yet, or an older version measured without it."""
    return Evidence.exact(pd.Series(dtype="float64"), note=OLD if len(compared(records)) else "")


CLAIMS = (
    Claim(
        id="falls-with-batch-size",
        sentence="As batch size increases, the sensitivity of the model decreases.",
        source="report, Figure 12",
        statistic="factor of the sensitivity on the test set for a doubling of the batch size, equal epochs",
        kind="ratio",
        side="below",
        threshold=1.0,
        evidence=lambda records: _beside(records, EPOCHS, "test", {"On the training set": (EPOCHS, "training")}),
    ),
    Claim(
        id="more-robust-for-training-data",
        sentence="More optimization steps […] would make the model much more robust for the training data.",
        source="report, Figure 12",
        statistic="factor of the sensitivity on the training set for a doubling of the batch size, equal epochs",
        kind="ratio",
        side="above",
        threshold=1.0,  # smaller batches, with more steps, react less
        evidence=lambda records: _factor(records, EPOCHS, "training"),
    ),
    Claim(
        id="steps-explain-it",
        sentence="The number of steps explains it: at equal numbers of steps nothing is left of the trend with the "
        "batch size.",
        source='report, Figure 12 ("a lower batch size corresponds to more optimization steps")',
        statistic=(
            "share of the trend that is left at equal steps: logarithm of the factor for a doubling there over that "
            "at equal epochs; negative where the trend turns round"
        ),
        kind="median",
        side="within",
        threshold=(-LEFT, LEFT),
        evidence=lambda records: _share_left(records, STEPS),
    ),
    Claim(
        id="loss-explains-it",
        sentence="How far training has come explains it: at equal training loss nothing is left of the trend with the "
        "batch size.",
        source="beyond",
        statistic="share of the trend that is left at equal training loss, as at equal steps",
        kind="median",
        side="within",
        threshold=(-LEFT, LEFT),  # the rival of the report's explanation, by the same measure
        evidence=lambda records: _share_left(records, LOSS),
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
        id="sensitive-ones-jump-classes",
        sentence="High sensitivity […], in which small changes in a certain class of image could cause the model to "
        "jump classes in its prediction.",
        source="report, Figure 12",
        statistic="Spearman's correlation of test sensitivity and the share of test images whose predicted class a "
        "step of one deviation of a pixel, up the gradient of their own loss, changes, over all networks compared",
        kind="correlation",
        side="above",
        threshold=0.0,
        evidence=_jumping,
    ),
    Claim(
        id="sharpness-grows",
        sentence="Larger batches end in sharper minima (Keskar et al. 2017).",
        source="beyond",
        statistic="factor of Keskar's sharpness for a doubling of the batch size, at equal training loss",
        kind="ratio",
        side="above",
        threshold=1.0,
        # At equal epochs large batches have a loss a hundred times as high, and are not at a minimum at all.
        evidence=_sharper,
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
    claims=worded(CLAIMS, WORDS),
    schemas=SCHEMAS,
    seconds={"smoke": 6, "quick": 45, "full": 1800},
    not_shown=(
        "The learning rate is the same for every batch size, as in the report; one that grows with the batch changes "
        "the trend. At equal steps larger batches see the data more often, so the number of steps is held fixed there "
        "and the number of epochs is not: no design holds both, and at equal loss neither is held. That sensitivity "
        "goes with overfitting over batch sizes does not say that it causes it. The report does not say whether it "
        "took the derivative of a batch's mean loss, which falls with the size of the batch whatever the network."
    ),
)
