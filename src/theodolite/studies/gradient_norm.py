"""Gradient norm and loss through training: on a function and on MNIST, of the whole training set and of mini-batches.

The report's Figures 6 and 7. It gives the norm (Frobenius) and no setting; all are chosen here, before any run, with
the reason beside each.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field, PositiveFloat, PositiveInt

from theodolite.claims import Claim, Evidence, Kind, interval, rank_correlation
from theodolite.data import DataSpec
from theodolite.figures.curves import BAND, curves
from theodolite.figures.points import scatter
from theodolite.figures.scales import Axis
from theodolite.findings import Figure, Table
from theodolite.models.description import MLP
from theodolite.store.records import Records
from theodolite.studies.classifiers import classifier
from theodolite.study import RunSpec, Seeds, Settings, Study, Training

if TYPE_CHECKING:
    from theodolite.measure.objective import Objective
    from theodolite.train import Outcome
    from theodolite.train.outcome import Weights

NAME = "gradient-norm"
WHOLE, BATCH = "whole training set", "one mini-batch"
LATE = 0.9  # share of the epochs at which "the end" begins: Adam's steps keep the norm from settling at one number
PART = 1_000  # samples whose gradient is computed at once; the sum over parts is exact
FITTED = MLP(inputs=1, hidden=(15, 19, 16), outputs=1)  # the report's model 1, of 671 parameters


class GradientNorm(Settings):
    """Dials of the study, at ``quick``."""

    seeds: PositiveInt = 8
    function: str = "cos"  # the report's first
    domain: tuple[float, float] = (-np.pi, np.pi)  # one whole period
    points: Annotated[int, Field(ge=8)] = 512  # training points, evenly spaced
    function_epochs: PositiveInt = 500  # of eight steps each: the training loss then falls a thousandfold
    source: str = "mnist"  # the data set of the report's other networks of this part
    train: PositiveInt | None = 10_000  # a subset
    test: PositiveInt | None = 2_000
    hidden: tuple[PositiveInt, ...] = (32, 32)
    epochs: PositiveInt = 30
    learning_rate: PositiveFloat = 1e-3  # Adam's default
    batch_size: PositiveInt = 64  # of training, and of the mini-batches measured
    batches: PositiveInt = 8  # mini-batches measured at each snapshot
    snapshots: PositiveInt = 30  # of each run, evenly spaced, beside that before training


PRESETS = {
    "smoke": GradientNorm(
        seeds=3,
        points=128,
        function_epochs=120,
        source="digits",
        train=None,
        test=None,
        epochs=20,
        batches=2,
        snapshots=10,
    ),
    "quick": GradientNorm(),
    "full": GradientNorm(seeds=10, function_epochs=2_500, train=None, test=None, epochs=51, batches=32, snapshots=51),
}


def expand(settings: GradientNorm) -> Iterator[RunSpec]:
    """Every seed on the function, then every seed on the classes."""
    function = DataSpec(
        source=f"function:{settings.function}", train=settings.points, test=settings.points, domain=settings.domain
    )
    classes = DataSpec(source=settings.source, train=settings.train, test=settings.test)
    for seed in range(settings.seeds):
        yield _spec(settings, settings.function, seed, function)
    for seed in range(settings.seeds):
        yield _spec(settings, settings.source, seed, classes)


def measure(spec: RunSpec, outcome: "Outcome") -> Mapping[str, pd.DataFrame]:
    """Loss and gradient norms at every snapshot: of the whole training set, and of mini-batches drawn from it."""
    import torch

    from theodolite import data, train
    from theodolite.measure.objective import objective
    from theodolite.train.loop import LOSSES

    loss = LOSSES[spec.training.loss]
    split = train.tensors(data.load(spec.data), getattr(torch, spec.training.dtype)).train
    inputs, targets = split.inputs.flatten(1), split.targets
    size = min(spec.training.batch_size or len(split), len(split))
    draw = torch.Generator().manual_seed(spec.seeds.order)
    parts = list(zip(inputs.split(PART), targets.split(PART), strict=True))
    whole, rows = objective(outcome.module(), loss, parts), []  # checked once, not once a snapshot
    for epoch, weights in outcome.snapshots.items():
        if epoch == outcome.diverged_epoch:  # there is no loss to measure; :func:`_norms` says so
            break
        value, norm = _loss_and_norm(whole, weights)
        drawn = [torch.randperm(len(split), generator=draw)[:size] for _ in range(spec.measure["batches"])]
        batches = (replace(whole, data=[(inputs[batch], targets[batch])], samples=size) for batch in drawn)
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
    from theodolite.measure.gradient_norm import loss_and_gradient

    loss, gradient = loss_and_gradient(whole, weights)
    return loss, float(sum(part.double().square().sum() for part in gradient.values())) ** 0.5


def tables(records: Records) -> list[Table]:
    """For each task, how the norm goes with the loss, where it ends, and how much of a mini-batch's is noise."""
    seeds = records.done["seed"].nunique()
    share = 1 - LATE
    return [
        Table(
            "figure-6-numbers",
            "Gradient norm and loss in numbers",
            pd.DataFrame([_row(str(task), norms) for task, norms in _norms(records).groupby("task", sort=False)]),
            f"Over {seeds} seeds, with 95 % intervals. Spearman's correlation of norm and training loss within a "
            f"run; norm in the last {share:.0%} of the epochs (geometric mean) over the norm before training; at the "
            "end, share of a mini-batch's squared gradient norm that is sampling noise, and not the gradient of the "
            "training loss.",
        )
    ]


def figures(records: Records) -> list[Figure]:
    """Figure 6 for each task: norm against loss, and both norms over the epochs."""
    found = []
    for task, norms in _norms(records).groupby("task", sort=False):
        found += _figures(str(task), norms, records.plan.settings)
    return found


def _figures(task: str, norms: pd.DataFrame, settings: Mapping[str, Any]) -> list[Figure]:
    seeds = norms["seed"].nunique()
    long = norms.rename(columns={"norm": WHOLE, "batch_norm": BATCH}).melt(
        ["seed", "epoch", "loss"], [WHOLE, BATCH], "of", "norm"
    )
    unit = "mean squared error" if task == settings["function"] else "cross entropy"
    loss = Axis("loss", f"training loss ({unit})", log=True)
    norm = Axis("norm", "norm of the gradient", log=True)
    about = (
        f"Frobenius norm of the gradient of the loss on {task} (Figure 7: the root of the sum of its squares), of the "
        f"whole training set and of one batch of {settings['batch_size']}"
    )
    correlation = rank_correlation(norms, "loss", "norm").low
    start, end = _ends(norms)
    return [
        Figure(
            f"figure-6-{task}",
            f"Figure 6: gradient norm against loss on {task}",
            scatter(long, x=loss, y=norm, series="of", detail=("seed", "epoch")),
            f"{about}. A point a snapshot, {seeds} seeds; training goes from right to left.",
            "Norm of the whole training set's gradient and loss: rank correlation within a run "
            f"{correlation.mean():.2g} on average.",
            "This graph shows a direct relationship between loss and the gradient norm: as the loss decreases, so "
            "does the gradient norm.",
        ),
        Figure(
            f"norm-over-epochs-{task}",
            f"Gradient norm through training on {task}",
            curves(long, x=Axis("epoch", "epoch"), y=norm, series="of"),
            f"{about}. {seeds} seeds. {BAND}",
            f"The median norm of the whole training set's gradient goes from {start.median():.2g} before training to "
            f"{end.median():.2g} at the end.",
            "the slope will begin to decrease as it gets closer and closer to the minimum",
        ),
    ]


def _norms(records: Records) -> pd.DataFrame:
    """All snapshots; a diverged run has a last row without numbers, so that what is made of it has none either."""
    norms = records.table("norms")
    runs = records.done.set_index("fingerprint")
    lost = runs.loc[runs["diverged_epoch"].notna(), ["seed", "task", "diverged_epoch"]]
    ends = lost.rename(columns={"diverged_epoch": "epoch"}).reset_index()
    return pd.concat([norms, ends], ignore_index=True) if len(ends) else norms


def _ends(norms: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """For each seed the norm before training and in the last epochs, NaN where it diverged."""
    last = norms.groupby("seed")["epoch"].transform("max")
    late = norms[norms["epoch"] >= LATE * last].groupby("seed")["norm"]
    start = norms[norms["epoch"] == 0].set_index("seed")["norm"]
    return start, late.agg(lambda values: float(np.exp(np.log(values).mean(skipna=False))))


def _fall(norms: pd.DataFrame) -> pd.Series:
    start, end = _ends(norms)
    return end / start


def _noise(norms: pd.DataFrame) -> pd.Series:
    """Share of noise in a mini-batch's squared norm, over the last epochs: 1 - |g|² / E|g_batch|²."""
    last = norms.groupby("seed")["epoch"].transform("max")
    late = norms[norms["epoch"] >= LATE * last].groupby("seed")[["norm", "batch_square"]]
    return late.apply(
        lambda rows: float(1 - (rows["norm"] ** 2).sum(skipna=False) / rows["batch_square"].sum(skipna=False))
    )


def _worst(records: Records, how: str) -> Evidence:
    """The number of the task where the statement does worse, seed by seed."""
    parts = [
        rank_correlation(norms, "loss", "norm").low if how == "min" else _fall(norms)
        for _, norms in _norms(records).groupby("task", sort=False)
    ]
    together = pd.concat(parts, axis=1, join="inner")
    return Evidence.exact(getattr(together, how)(axis=1, skipna=False))


def _row(task: str, norms: pd.DataFrame) -> dict[str, object]:
    start, end = _ends(norms)
    numbers: dict[str, tuple[pd.Series, Kind]] = {
        "correlation with loss": (rank_correlation(norms, "loss", "norm").low, "correlation"),
        "norm before": (start, "ratio"),
        "norm at the end": (end, "ratio"),
        "end over before": (end / start, "ratio"),
        "noise in a mini-batch": (_noise(norms), "mean"),
    }
    row: dict[str, object] = {"task": task}
    for name, (values, kind) in numbers.items():
        found = interval(Evidence.exact(values), kind)
        row |= found.columns(name)
    return row


CLAIMS = (
    Claim(
        id="falls-with-loss",
        sentence="There is a direct relationship between loss and the gradient norm: as the loss decreases, so does "
        "the gradient norm.",
        source="report, Figure 6",
        statistic="Spearman's correlation of training loss and norm of its gradient over the snapshots of a run, "
        "the lower of the two tasks",
        kind="correlation",
        side="above",
        threshold=0.5,  # where Cohen 1988 lets a large correlation begin: "a direct relationship" is more than a trace
        evidence=lambda records: _worst(records, "min"),
    ),
    Claim(
        id="smaller-at-the-end",
        sentence="As the loss decreases the model is approaching a local minimum, which means the slope will begin "
        "to decrease as it gets closer and closer to the minimum.",
        source="report, Figure 6",
        statistic="norm of the gradient of the training loss in the last 10 % of the epochs over that before "
        "training, the higher of the two tasks",
        kind="ratio",
        side="below",
        threshold=1.0,
        evidence=lambda records: _worst(records, "max"),
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
    presets=PRESETS,
    expand=expand,
    measure=measure,
    tables=tables,
    figures=figures,
    claims=CLAIMS,
    seconds={"smoke": 4, "quick": 16},
    not_shown=(
        "That a small norm is a minimum: it is as small near a saddle and on a plateau, and only certified points "
        "(the study of the minimal ratio) tell them apart. One optimizer, one learning rate and one size of batch: "
        "all three change where the norm levels off."
    ),
)
