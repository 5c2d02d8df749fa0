"""Paths of training through weight space: one network trained eight times, seen in a plane and measured in full.

The report's Figure 5. It gives optimizer, loss, epochs, the layer and how often it is saved; the rest is chosen here,
before any run, with the reason beside each setting.

A seed of this study is a group of trainings: ``trainings`` independent ones, as in the report, each with initial
weights and a data order of its own, and among the first ``crossed`` of them every initial weights with every order.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from theodolite.claims import Claim, Evidence, rank_correlation
from theodolite.data import DataSpec
from theodolite.store.records import Records
from theodolite.streams import named_seed
from theodolite.studies.classifiers import classifier, training_of
from theodolite.studies.weight_trajectory.findings import (
    FIRST,
    GUESSING,
    LARGE,
    RENAMED,
    SHOWN,
    figures,
    split_variance,
    spreads,
    tables,
)
from theodolite.studies.weight_trajectory.measurements import analyse, measure
from theodolite.studies.weight_trajectory.settings import PRESETS, WeightTrajectory
from theodolite.study import AnalysisSpec, RunSpec, Seeds, Study

NAME = "weight-trajectory"
ALPHAS = tuple(i / 20 for i in range(21))  # of the line between two ends


def expand(settings: WeightTrajectory) -> Iterator[RunSpec]:
    """The independent trainings of every group, with snapshots; then what the crossed design needs beside them."""
    for group in range(settings.seeds):
        yield from _independent(settings, group)
    for group in range(settings.seeds):
        for weights in range(settings.crossed):
            for order in range(settings.crossed):
                if weights != order:
                    yield _spec(settings, group, weights, order)


def analyses(settings: WeightTrajectory) -> Iterator[AnalysisSpec]:
    """One a group, of its independent trainings."""
    for group in range(settings.seeds):
        inputs = tuple(spec.fingerprint() for spec in _independent(settings, group))
        yield AnalysisSpec(study=NAME, labels={}, seed=group, inputs=inputs, settings={"alphas": ALPHAS})


def _starts(records: Records[WeightTrajectory], space: str) -> Evidence:
    spread = records.derived(spreads)
    return _each_group(records, spread.loc[spread["layer"] == FIRST].set_index("seed")[space])


def _steps(records: Records[WeightTrajectory]) -> Evidence:
    """One number a training: its weights and its order are its own."""
    walks = records.analysis("paths")
    runs = records.done[records.done["weights"] == records.done["order"]]
    names = runs["seed"].astype(str) + "-" + runs["weights"].astype(str)
    if not len(walks):
        return _unknown(names[runs["diverged_epoch"].notna()])
    walks = walks[(walks["layer"] == FIRST) & walks["step_length"].notna()]
    found = rank_correlation(
        walks.assign(seed=walks["seed"].astype(str) + "-" + walks["training"].astype(str)), "epoch", "step_length"
    )
    lost = runs["seed"].isin(_diverged(records))
    return Evidence.exact(pd.concat([found.low, _unknown(names[lost]).low]))


def _barrier(records: Records[WeightTrajectory]) -> Evidence:
    """One number a pair; no training is in two pairs."""
    lines = records.analysis("lines")
    pairs = [
        f"{group}:{first}" for group in _diverged(records) for first in range(0, records.settings.trainings - 1, 2)
    ]
    lost = _unknown(pd.Series(pairs, dtype="str")).low
    if not len(lines):
        return Evidence.exact(lost)
    heights = lines.groupby(lines["seed"].astype(str) + ":" + lines["first"].astype(str))["barrier"].first() / GUESSING
    return Evidence.exact(pd.concat([heights, lost]))


def _luck(records: Records[WeightTrajectory]) -> Evidence:
    return Evidence.exact(split_variance(records, "test_loss")["weights"])


CLAIMS = (
    Claim(
        id="starts-close",
        sentence="Each model's starting first layer weights had very little variation between the other models' "
        "starting first layer weights, shown by the closeness of proximity on the PCA 1 axis.",
        source="report, Figure 5",
        statistic="variance between the trainings of a group along PCA 1 of the first layer, at the start over at "
        "the end",
        kind="ratio",
        side="below",
        threshold=0.1,
        evidence=lambda records: _starts(records, "plane"),
    ),
    Claim(
        id="starts-close-in-full-space",
        sentence="The starting first layer weights are close to each other in the full weight space too.",
        source="beyond",
        statistic="mean squared distance between the first layers of a group's trainings, at the start over at the end",
        kind="ratio",
        side="below",
        threshold=0.1,
        evidence=lambda records: _starts(records, "full_space"),
    ),
    Claim(
        id="steps-shrink",
        sentence="Throughout the optimization process, the model parameters change less and less with each epoch.",
        source="report, Figure 5",
        statistic="Spearman's correlation of epoch and length of the step between snapshots of the first layer, in "
        "full space, a number a training",
        kind="correlation",
        side="below",
        threshold=0.0,
        evidence=_steps,
    ),
    Claim(
        id="different-minima",
        sentence="The weights of each model eventually converged to their respective local minimums.",
        source="report, Figure 5",
        statistic="highest training loss on the line between the ends of two trainings above the line of their "
        "losses, over the loss of guessing, a number for each of disjoint pairs",
        kind="mean",
        side="above",
        threshold=0.02,  # the margin below which Frankle et al. 2020 count a barrier as noise; zero it is by definition
        evidence=_barrier,
    ),
    Claim(
        id="initial-weights-matter",
        sentence='This also highlights the importance of "lucky" initial weight values.',
        source="beyond",
        statistic="share of the variance of the final test loss that goes with the initial weights whatever the "
        "data order, in a crossed design",
        kind="mean",
        side="above",
        threshold=LARGE,
        evidence=_luck,
    ),
)


def _independent(settings: WeightTrajectory, group: int) -> Iterator[RunSpec]:
    for training in range(settings.trainings):
        yield _spec(settings, group, training, training)


def _spec(settings: WeightTrajectory, group: int, weights: int, order: int) -> RunSpec:
    own = weights == order
    return training_of(
        NAME,
        {"weights": weights, "order": order},
        group,
        DataSpec(source=settings.source, train=settings.train, test=settings.test),
        classifier(settings.source, settings.hidden),
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        evaluate_every=settings.every,
        snapshot_every=settings.every if own else None,
        seeds=Seeds(weights=named_seed(group, f"weights {weights}"), order=named_seed(group, f"order {order}")),
        measure={"first_layer": True} if own and group == SHOWN else {},
    )


def _diverged(records: Records[WeightTrajectory]) -> list[int]:
    """Groups of which an independent training diverged."""
    runs = records.done
    lost = runs["diverged_epoch"].notna() & (runs["weights"] == runs["order"])
    return sorted(runs.loc[lost, "seed"].unique())


def _unknown(names: pd.Series) -> Evidence:
    return Evidence.exact(pd.Series(np.nan, index=pd.Index(names), dtype="float64"))


def _each_group(records: Records[WeightTrajectory], values: pd.Series) -> Evidence:
    lost = [group for group in _diverged(records) if group not in values.index]
    return Evidence.exact(values.reindex([*values.index, *lost]))


STUDY = Study(
    name=NAME,
    title="Paths of training through weight space",
    question=(
        "Where do trainings of one network start and end, do their steps shrink, and how much of the result is "
        "decided by the initial weights?"
    ),
    source="Figure 5",
    settings_type=WeightTrajectory,
    presets=PRESETS,
    expand=expand,
    measure=measure,
    tables=tables,
    figures=figures,
    claims=CLAIMS,
    analyses=analyses,
    analyse=analyse,
    renamed=RENAMED,
    seconds={"smoke": 8, "quick": 35, "full": 700},
    not_shown=(
        "Whether two ends are different functions: hidden units can be permuted without changing the network, and a "
        "barrier on the straight line may vanish once they are matched (the study of interpolation tests that). "
        "Whether the ends are minima at all: Adam with a constant rate does not stop in one. All groups share one "
        "training set, so what another sample of the data would change is not in the variance."
    ),
)
