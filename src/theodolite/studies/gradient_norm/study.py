"""Gradient norm and loss through training: on a function and on MNIST, of the whole training set and of mini-batches.

The report's Figures 6 and 7. It gives the norm (Frobenius) and no setting; all are chosen here, before any run, with
the reason beside each.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from theodolite.claims import Claim, Evidence, worded
from theodolite.data import DataSpec
from theodolite.models import MLP
from theodolite.store.records import Records
from theodolite.streams import named_seed
from theodolite.studies.classifiers import classifier, images
from theodolite.studies.gradient_norm.findings import (
    correlation_of_logs,
    figures,
    norms_of,
    start_and_end,
    tables,
)
from theodolite.studies.gradient_norm.schemas import SCHEMAS
from theodolite.studies.gradient_norm.settings import PRESETS, GradientNorm
from theodolite.studies.gradient_norm.words import WORDS
from theodolite.study import RunSpec, Seeds, Study, Training

if TYPE_CHECKING:
    from theodolite.measure.parts import Objective
    from theodolite.train import Outcome, Weights

NAME = "gradient-norm"
PART = 1_000  # samples whose gradient is computed at once; the sum over parts is exact
FITTED = MLP(inputs=1, hidden=(15, 19, 16), outputs=1)  # the report's model 1, of 671 parameters


def expand(settings: GradientNorm) -> Iterator[RunSpec]:
    """Every seed on the function, then every seed on the classes."""
    function = DataSpec(
        source=f"function:{settings.function}", train=settings.points, test=settings.points, domain=settings.domain
    )
    for seed in range(settings.seeds):
        yield _spec(settings, settings.function, seed, function)
    for seed in range(settings.seeds):
        classes = images(settings.source, seed, train=settings.train, test=settings.test)
        yield _spec(settings, settings.source, seed, classes)


def measure(spec: RunSpec, outcome: "Outcome") -> Mapping[str, pd.DataFrame]:
    """Loss and gradient norms at every snapshot: of the whole training set, and of mini-batches drawn from it."""
    import torch

    from theodolite import data, train
    from theodolite.measure.parts import objective
    from theodolite.train import mean_of

    loss = mean_of(spec.training.loss)
    split = train.tensors(data.load(spec.data), getattr(torch, spec.training.dtype)).train
    inputs, targets = split.inputs.flatten(1), split.targets
    size = min(spec.training.batch_size or len(split), len(split))
    draw = torch.Generator().manual_seed(named_seed(spec.seeds.order, "measured batches"))
    parts = list(zip(inputs.split(PART), targets.split(PART), strict=True))
    whole, rows = objective(outcome.module(), loss, parts), []  # checked once, not once a snapshot
    for epoch, weights in outcome.snapshots.items():
        if epoch == outcome.diverged_epoch:  # there is no loss to measure; :func:`norms` says so
            break
        value, norm = _loss_and_norm(whole, weights)
        drawn = [torch.randperm(len(split), generator=draw)[:size] for _ in range(spec.measure["batches"])]
        batches = (whole.over([(inputs[batch], targets[batch])]) for batch in drawn)
        norms = np.array([_loss_and_norm(batch, weights)[1] for batch in batches])
        rows.append(
            {
                "epoch": epoch,
                "loss": value,
                "norm": norm,
                "batch_norm": norms[0],  # what a script shows that takes the gradient left by the last step
                "batch_square": (norms**2).mean(),  # its expectation is the whole norm's square plus the sampling noise
            }
        )
    return {"norms": pd.DataFrame(rows)}


def _loss_and_norm(whole: "Objective", weights: "Weights") -> tuple[float, float]:
    """What :func:`theodolite.measure.gradient_norm` gives, at these weights."""
    from theodolite.measure.parts import loss_and_gradient

    loss, gradient = loss_and_gradient(whole, weights)
    return loss, float(sum(part.double().square().sum() for part in gradient.values())) ** 0.5


def _fall(norms: pd.DataFrame) -> pd.Series:
    start, end = start_and_end(norms)
    return end / start


def _each_task(records: Records[GradientNorm], number: Callable[[pd.DataFrame], pd.Series]) -> dict[str, Evidence]:
    """A number of each seed for each task by itself: the worse of both, seed by seed, is the number of neither."""
    norms = norms_of(records)
    return {str(task): Evidence.exact(number(part)) for task, part in norms.groupby("task", sort=False)}


CLAIMS = (
    Claim(
        id="falls-with-loss",
        sentence="There is a direct relationship between loss and the gradient norm: as the loss decreases, so does "
        "the gradient norm.",
        source="report, Figure 6",
        # On logarithms: by ranks, snapshots at even distances weigh the plateau, in which most of them lie, and not
        # the fall of both over decades before it.
        statistic="correlation of the logarithms of training loss and norm of its gradient over the snapshots of a "
        "run, for each of the two tasks",
        kind="correlation",
        side="above",
        threshold=0.5,  # where Cohen 1988 lets a large correlation begin: "a direct relationship" is more than a trace
        evidence=lambda records: _each_task(records, correlation_of_logs),
    ),
    Claim(
        id="smaller-at-the-end",
        sentence="As the loss decreases the model is approaching a local minimum, which means the slope will begin "
        "to decrease as it gets closer and closer to the minimum.",
        source="report, Figure 6",
        statistic="norm of the gradient of the training loss in the last 10 % of the epochs over that before "
        "training, for each of the two tasks",
        kind="ratio",
        side="below",
        threshold=1.0,
        evidence=lambda records: _each_task(records, _fall),
    ),
)


def _spec(settings: GradientNorm, task: str, seed: int, source: DataSpec) -> RunSpec:
    squared = source.source != settings.source
    epochs = settings.function_epochs if squared else settings.epochs
    every = max(1, epochs // settings.snapshots)
    return RunSpec(
        study=NAME,
        labels={"task": task},
        seed=seed,
        data=source,
        model=FITTED if squared else classifier(settings.source, settings.hidden),
        training=Training(
            loss="mse" if squared else "cross_entropy",
            optimizer="adam",
            learning_rate=settings.learning_rate,
            batch_size=settings.batch_size,
            epochs=epochs,
            evaluate_every=every,
            snapshot_every=every,
        ),
        seeds=Seeds(weights=seed, order=seed),
        measure={"batches": settings.batches},
    )


STUDY = Study(
    name=NAME,
    title="Gradient norm and loss through training",
    question="Does the gradient of the training loss shrink with the loss, and what does a mini-batch's gradient "
    "show of it?",
    source="Figures 6 and 7",
    settings_type=GradientNorm,
    presets=PRESETS,
    expand=expand,
    measure=measure,
    tables=tables,
    figures=figures,
    claims=worded(CLAIMS, WORDS),
    schemas=SCHEMAS,
    seconds={"smoke": 4, "quick": 12, "full": 230},
    not_shown=(
        "That a small norm is a minimum: it is as small near a saddle and on a plateau, and only certified points "
        "(the study of the minimal ratio) tell them apart. One optimizer, one learning rate and one size of batch: "
        "all three change where the norm levels off."
    ),
)
