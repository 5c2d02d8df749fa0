"""The straight line between two trained networks: loss and accuracy on it, before and after matching hidden units.

The report's Figure 11. It gives batch sizes, epochs and the range of alpha; the rest is chosen here, before any run,
with the reason beside each setting.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from theodolite.claims import Claim, Evidence, worded
from theodolite.data import SOURCES
from theodolite.models import CNN
from theodolite.store.records import Records
from theodolite.streams import named_generator, named_seed
from theodolite.studies.classifiers import CLASSES, classifier, images, training_of
from theodolite.studies.interpolation.findings import (
    AS_TRAINED,
    BY_ACTIVATIONS,
    BY_WEIGHTS,
    CONV,
    DNN,
    ITSELF,
    ITSELF_MATCHED,
    MARGIN,
    OLD,
    OWN,
    RENAMED,
    SHARED,
    STABLE,
    TEST,
    TRAIN,
    claimed,
    ends_and_elsewhere,
    exact,
    figures,
    gain,
    tables,
)
from theodolite.studies.interpolation.schemas import SCHEMAS
from theodolite.studies.interpolation.settings import PRESETS, Interpolation
from theodolite.studies.interpolation.words import WORDS
from theodolite.study import AnalysisSpec, RunSpec, Seeds, Study

if TYPE_CHECKING:
    from torch import Tensor

    from theodolite.runs import Trained

    Batches = list[tuple[Tensor, Tensor]]

NAME = "interpolation"
HALVES = 2  # of the test images: on one the best mixture is picked, on the other judged


# As specs of analyses have them, whose names are made of them.
SPECIFIED = {
    AS_TRAINED: "as trained",
    BY_WEIGHTS: "matched by weights",
    BY_ACTIVATIONS: "matched by activations",
    ITSELF: "itself in another order",
    ITSELF_MATCHED: "itself, matched by weights",
}


def expand(settings: Interpolation) -> Iterator[RunSpec]:
    """Two networks a seed, and a third from the initial weights of the first where wanted."""
    for model, seeds in ((DNN, settings.seeds), (CONV, settings.cnn_seeds)):
        for start in _starts(settings, model):
            for number in (0, 1) if start == OWN else (1,):
                for seed in range(seeds):
                    yield _spec(settings, model, start, number, seed)


def analyses(settings: Interpolation) -> Iterator[AnalysisSpec]:
    """One a pair of networks: the line between them, on both sets, with and without matching."""
    for model, seeds, alphas in (
        (DNN, settings.seeds, settings.alphas),
        (CONV, settings.cnn_seeds, settings.cnn_alphas),
    ):
        for start in _starts(settings, model):
            matchings = list(SPECIFIED) if start == OWN else [AS_TRAINED]
            for seed in range(seeds):
                pair = _spec(settings, model, OWN, 0, seed), _spec(settings, model, start, 1, seed)
                yield AnalysisSpec(
                    study=NAME,
                    labels={"model": model, "start": start},
                    seed=seed,
                    inputs=tuple(spec.fingerprint() for spec in pair),
                    settings={
                        "alphas": alphas,
                        "matchings": [SPECIFIED[m] for m in matchings],
                        "halves": HALVES,
                    },
                )


def analyse(spec: AnalysisSpec, trained: Sequence["Trained"]) -> Mapping[str, pd.DataFrame]:
    """Loss and accuracy on the line, and its barriers; BatchNorm statistics are renewed at every alpha.

    The null is the line from the first network to itself with hidden units in another order: the whole barrier is then
    one of names, and matching must remove all of it.
    """
    from torch.nn.functional import cross_entropy

    from theodolite.measure.align import align
    from theodolite.measure.interpolate import on_lines
    from theodolite.measure.parts import shuffled
    from theodolite.train import measured_batches

    first, second = (network.module() for network in trained)
    model, source = trained[0].spec.model, trained[0].spec.data
    data = {TRAIN: measured_batches(model, source, "train"), TEST: measured_batches(model, source, "test")}
    train = data[TRAIN] if isinstance(model, CNN) else None
    alphas = _alphas(spec.settings["alphas"])
    lines, barriers, halves = [], [], []
    for matching in (m for m, words in SPECIFIED.items() if words in spec.settings["matchings"]):
        end = second
        if matching in (ITSELF, ITSELF_MATCHED):
            end = shuffled(first, named_generator(spec.seed, "order of units"))
        if matching in (BY_WEIGHTS, BY_ACTIVATIONS, ITSELF_MATCHED):
            method: Literal["weights", "activations"] = "activations" if matching == BY_ACTIVATIONS else "weights"
            end = align(first, end, method=method, data=data[TRAIN], seed=spec.seed).model
        parts = [_half(data[TEST], half) for half in range(spec.settings["halves"])] if matching == AS_TRAINED else []
        found = on_lines(first, end, cross_entropy, [*data.values(), *parts], alphas, update_bn=train)
        for name, on in zip(data, found[: len(data)], strict=True):
            place = {"matching": matching, "set": name}
            columns = {"alpha": on.alphas.numpy(), "loss": on.loss.numpy(), "accuracy": on.accuracy.numpy()}
            lines.append(pd.DataFrame({**place, **columns}))
            barriers.append({**place, "barrier": on.barrier, "error_barrier": on.error_barrier})
        for half, on in enumerate(found[len(data) :]):
            accuracy = {"alpha": on.alphas.numpy(), "accuracy": on.accuracy.numpy()}
            halves.append(pd.DataFrame({"half": half, **accuracy}))
    return {
        "line": pd.concat(lines, ignore_index=True),
        "barriers": pd.DataFrame(barriers),
        "halves": pd.concat(halves, ignore_index=True),
    }


def _half(batches: "Batches", half: int) -> "Batches":
    """One of two halves of a test set, which has no order."""
    return [(inputs[half::HALVES], targets[half::HALVES]) for inputs, targets in batches]


def _accuracy_lead(records: Records[Interpolation]) -> dict[str, Evidence]:
    pairs = ends_and_elsewhere(claimed(records, "line"), "accuracy", "max", records.settings.batch_sizes)
    return {task: Evidence.exact(at_end - elsewhere) for task, (at_end, elsewhere) in pairs.items()}


def _loss_ratio(records: Records[Interpolation]) -> dict[str, Evidence]:
    pairs = ends_and_elsewhere(claimed(records, "line"), "loss", "min", records.settings.batch_sizes)
    return {task: Evidence.exact(elsewhere / at_end) for task, (at_end, elsewhere) in pairs.items()}


def _gain(records: Records[Interpolation]) -> Evidence:
    halves, lines = records.analysis("halves"), claimed(records, "line")
    if halves.empty:
        return Evidence.exact(pd.Series(dtype="float64"), note=OLD if len(lines) else "")
    found = gain(halves[(halves["model"] == DNN) & (halves["start"] == OWN)]).low
    return Evidence.exact(found.reindex(lines["seed"].unique()))  # NaN where a pair could not be measured


def _barrier(records: Records[Interpolation], column: str, matching: str = AS_TRAINED) -> Evidence:
    return exact(claimed(records, "barriers", matching), column, TEST)


CLAIMS = (
    Claim(
        id="ends-are-best-accuracy",
        sentence="At these alpha values [0 and 1], the model had the highest accuracy.",
        source="report, Figure 11",
        statistic="accuracy of a network less the highest on its half of the line more than 0.1 in alpha away from it, "
        "for both networks on both sets",
        kind="mean",
        side="above",
        threshold=0.0,
        evidence=_accuracy_lead,
    ),
    Claim(
        id="ends-are-lowest-loss",
        sentence="At these alpha values [0 and 1], the model had the lowest loss.",
        source="report, Figure 11",
        statistic="lowest loss on a network's half of the line more than 0.1 in alpha away from it over the loss of "
        "the network, for both networks on both sets",
        kind="ratio",
        side="above",
        threshold=1.0,
        evidence=_loss_ratio,
    ),
    Claim(
        id="barrier",
        sentence="In between these values, however, the model struggled to make correct predictions.",
        source="report, Figure 11",
        statistic="error barrier on the test set: highest share of wrong answers between the networks less the mean "
        "of the two; Frankle et al. 2020 call networks connected below 0.02",
        kind="mean",
        side="above",
        threshold=STABLE,
        evidence=lambda records: _barrier(records, "error_barrier"),
    ),
    Claim(
        id="mixing-never-helps",
        sentence="Combination of various models will not increase the prediction ability of a model.",
        source="report, Figure 11",
        statistic="test accuracy of the best alpha between 0.1 and 0.9 less that of the better network, both picked on "
        "one half of the test images and measured on the other",
        kind="mean",
        side="below",
        # The best of many alphas on the images that judge it is above the better network by chance alone, the more so
        # the finer the grid; judged on other images it is not, and what is left must be a gain that one would notice.
        threshold=MARGIN,
        evidence=_gain,
    ),
    Claim(
        id="alignment-lowers-barrier",
        sentence="Matching the hidden units of one network to those of the other lowers the barrier between them.",
        source="beyond",
        statistic="loss barrier on the test set after matching by weights over that before",
        kind="ratio",
        side="below",
        threshold=1.0,
        evidence=lambda records: _barrier(records, "barrier", BY_WEIGHTS) / _barrier(records, "barrier"),
    ),
    Claim(
        id="alignment-removes-barrier",
        sentence="Matching the hidden units of one network to those of the other removes the barrier between them.",
        source="beyond",
        statistic="error barrier on the test set after matching by weights; Frankle et al. 2020 call networks "
        "connected below 0.02",
        kind="mean",
        side="below",
        threshold=STABLE,  # that matching lowers a barrier is what it is made for; that none is left could fail
        evidence=lambda records: _barrier(records, "error_barrier", BY_WEIGHTS),
    ),
)


def _starts(settings: Interpolation, model: str) -> tuple[str, ...]:
    return (OWN, SHARED) if settings.shared_start and model == DNN else (OWN,)


def _alphas(number: int) -> list[float]:
    """From -1 to 2; 0 and 1 come out exactly."""
    return [float(alpha) for alpha in (3 * np.arange(number) - (number - 1)) / (number - 1)]


def _spec(settings: Interpolation, model: str, start: str, number: int, seed: int) -> RunSpec:
    second = named_seed(seed, "second network")  # the two share nothing but their data
    own = number == 1 and start == OWN
    return training_of(
        NAME,
        {"model": model, "start": start, "batch_size": settings.batch_sizes[number]},
        seed,
        images(settings.source, seed, train=settings.cnn_images if model == CONV else settings.images, test=None),
        _cnn(settings) if model == CONV else classifier(settings.source, settings.hidden),
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_sizes[number],
        epochs=settings.epochs,
        evaluate_every=5,
        seeds=Seeds(weights=second if own else seed, order=second if number else seed),
    )


def _cnn(settings: Interpolation) -> CNN:
    channels, height, width = (int(side) for side in SOURCES[settings.source].inputs.split("x"))
    return CNN(
        image=(channels, height, width),
        channels=settings.cnn_channels,
        hidden=settings.cnn_hidden,
        outputs=CLASSES,
        batch_norm=True,
    )


STUDY = Study(
    name=NAME,
    title="The line between two trained networks",
    question="Is anything on the straight line between two trained networks as good as the networks themselves?",
    source="Figure 11",
    settings_type=Interpolation,
    presets=PRESETS,
    expand=expand,
    analyses=analyses,
    analyse=analyse,
    tables=tables,
    figures=figures,
    claims=worded(CLAIMS, WORDS),
    renamed=RENAMED,
    schemas=SCHEMAS,
    seconds={"smoke": 7, "quick": 35, "full": 2400},
    not_shown=(
        "Mixing means averaging weights on a straight line: averages of predictions (ensembles), of checkpoints of "
        "one run or of networks fine-tuned from one are other things and often do help. A barrier on the line does "
        "not mean that no path is low; the error surface study trains one. Matching by weights finds a local "
        "optimum; a better one may exist. The two batch sizes take different numbers of steps in the same epochs."
    ),
)
