"""Paths of training through weight space: one network trained eight times, seen in a plane and measured in full.

The report's Figure 5. It gives optimizer, loss, epochs, the layer and how often it is saved; the rest is chosen here,
before any run, with the reason beside each setting.

A seed of this study is a group of trainings: ``trainings`` independent ones, as in the report, each with initial
weights and a data order of its own, and among the first ``crossed`` of them every initial weights with every order.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from theodolite.claims import Claim, Evidence, rank_correlation, worded
from theodolite.store.records import Records
from theodolite.streams import named_seed
from theodolite.studies.classifiers import classifier, images, training_of
from theodolite.studies.weight_trajectory.ends import MATCHED, disagreement, stillness
from theodolite.studies.weight_trajectory.findings import (
    FIRST,
    LARGE,
    OLD,
    RENAMED,
    SHOWN,
    figures,
    pace,
    split_variance,
    spreads,
    tables,
)
from theodolite.studies.weight_trajectory.measurements import analyse, measure
from theodolite.studies.weight_trajectory.schemas import SCHEMAS
from theodolite.studies.weight_trajectory.settings import PRESETS, WeightTrajectory
from theodolite.studies.weight_trajectory.words import WORDS
from theodolite.study import AnalysisSpec, RunSpec, Seeds, Study
from theodolite.wording import counted

NAME = "weight-trajectory"
ALPHAS = tuple(i / 20 for i in range(21))  # of the line between two ends
ENDS = 2  # enters the name of an analysis: 2 measures ends also after matching, on the test set and for convergence


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
        yield AnalysisSpec(study=NAME, labels={}, seed=group, inputs=inputs, settings={"alphas": ALPHAS, "ends": ENDS})


def _starts(records: Records[WeightTrajectory], space: str) -> Evidence:
    spread = records.derived(spreads)
    return _each_group(records, spread.loc[spread["layer"] == FIRST].set_index("seed")[space])


def _steps(records: Records[WeightTrajectory]) -> Evidence:
    """One number a group: its trainings share their images."""
    walks = records.analysis("paths")
    if not len(walks):
        return _each_group(records, pd.Series(dtype="float64"))
    walks = walks[(walks["layer"] == FIRST) & walks["step_length"].notna()]
    group, training = walks["seed"].astype(str), walks["training"].astype(str)
    found = rank_correlation(walks.assign(seed=group + "-" + training), "epoch", "step_length").low
    means = found.groupby(found.index.str.partition("-").get_level_values(0).astype(int)).agg(_mean)
    return _each_group(records, means)


def _mean(values: pd.Series) -> float:
    """NaN where one is."""
    return float(values.mean(skipna=False))


def _closer(records: Records[WeightTrajectory], space: str) -> Evidence:
    """How close starts are, by the ends, over how close the null has them."""
    spread = records.derived(spreads)
    ratios = spread[spread["layer"] == FIRST].set_index("seed")
    if space == "full_space":
        return _each_group(records, ratios[space] / ratios["right_angles"])
    shares = records.analysis("shares")
    if "undirected" not in shares:
        return _lacking(records)
    null = shares[shares["layer"] == FIRST].groupby("seed")["undirected"].first()
    return _each_group(records, ratios[space] / null)


def _barrier(records: Records[WeightTrajectory]) -> Evidence:
    """Error barrier once units are matched, mean over the pairs of a group."""
    lines = records.analysis("lines")
    if "error_barrier" not in lines:
        return _lacking(records)
    matched = lines[lines["kind"] == MATCHED].groupby(["seed", "first"])["error_barrier"].first()
    return _each_group(records, matched.groupby("seed").mean())


def _of_ends(records: Records[WeightTrajectory], table: str, number: Callable[[Any], pd.Series]) -> Evidence:
    return _each_group(records, number(records)) if len(records.analysis(table)) else _lacking(records)


def _luck(records: Records[WeightTrajectory]) -> Evidence:
    shares = split_variance(records, "test_loss")["weights"]
    k, groups = records.settings.crossed, max(1, len(shares))
    error = (2 / (k * (k - 1) ** 2) / groups) ** 0.5  # of a share that is zero; Searle et al. 1992, chapter 4
    return Evidence.exact(
        shares,
        note=f"Known beforehand: by {k} × {k} trainings in {counted(groups, 'group')} a share has a standard error of "
        f"{error:.2f} or more, so it can be told from {LARGE:g} only where it lies far from it.",
    )


CLAIMS = (
    Claim(
        id="starts-close",
        sentence="That starting first layer weights had very little variation is shown by the closeness of proximity "
        "on the PCA 1 axis: they are closer there than paths in random directions would leave them.",
        source="report, Figure 5",
        statistic="variance between the trainings of a group along PCA 1 of the first layer, at the start over at "
        "the end, over the same of paths from the same starts, as far in random directions",
        kind="ratio",
        side="below",
        # The axis is where the ends lie farthest apart, so starts are close along it whatever is trained: only more
        # closeness than that is evidence.
        threshold=1.0,
        evidence=lambda records: _closer(records, "plane"),
    ),
    Claim(
        id="starts-close-in-full-space",
        sentence="In the full weight space, too, starting first layer weights are closer, measured by the ends, than "
        "paths at right angles to each other would leave them.",
        source="beyond",
        statistic="mean squared distance between the first layers of a group's trainings, at the start over at the "
        "end, over the same of paths from the same starts, as long and at right angles to each other",
        kind="ratio",
        side="below",
        threshold=1.0,  # in many dimensions independent draws are at right angles, so the null is no path at all
        evidence=lambda records: _closer(records, "full_space"),
    ),
    Claim(
        id="quickly-diverged",
        sentence="The weights of each model quickly diverged from the middle.",
        source="report, Figure 5",
        statistic="distance of the first layer from its start after a fifth of the epochs over that at the end, over "
        "the same of a random walk, mean over the trainings of a group",
        kind="ratio",
        side="above",
        threshold=1.0,  # "quickly": faster than what a walk without aim does, which is at the root of the time
        evidence=lambda records: _of_ends(records, "paths", pace),
    ),
    Claim(
        id="steps-shrink",
        sentence="Throughout the optimization process, the model parameters change less and less with each epoch.",
        source="report, Figure 5",
        statistic="Spearman's correlation of epoch and length of the step between snapshots of the first layer, in "
        "full space, mean over the trainings of a group",
        kind="correlation",
        side="below",
        threshold=0.0,
        evidence=_steps,
    ),
    Claim(
        id="converged",
        sentence="The weights of each model eventually converged to their respective local minimums.",
        source="report, Figure 5",
        statistic="norm of the gradient of the training loss over its largest curvature, over the norm of the weights, "
        "at the end, geometric mean over trainings of a group",
        kind="ratio",
        side="below",
        threshold=1e-6,  # no zero of the gradient is nearer than that, and float32 knows weights to 6e-8 of their size
        evidence=lambda records: _of_ends(records, "stationary", stillness),
    ),
    Claim(
        id="different-minima",
        sentence="The weights of each model eventually converged to their respective local minimums: different ones, "
        "not one under other names of its hidden units.",
        source="report, Figure 5",
        statistic="error barrier on the training set between two trainings after matching the hidden units of one to "
        "the other's by weights, mean over a group's pairs",
        kind="mean",
        side="above",
        threshold=0.02,  # below this barrier of the error Frankle et al. 2020 call two networks connected
        evidence=_barrier,
    ),
    Claim(
        id="performance-varies",
        sentence="The performance of this model will vary depending on which local minimum it converges to.",
        source="report, Figure 5",
        statistic="McNemar's statistic of two trainings on the test images (which are right where only one is), mean "
        "over a group's pairs",
        kind="mean",
        side="above",
        threshold=1.0,  # its expectation where both are equally good, whatever the number of images
        evidence=lambda records: _of_ends(records, "tested", disagreement),
    ),
    Claim(
        id="initial-weights-matter",
        sentence='This also highlights the importance of "lucky" initial weight values.',
        source="report, Figure 5",
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
        images(settings.source, group, train=settings.train, test=settings.test),
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


def _lacking(records: Records[WeightTrajectory]) -> Evidence:
    """No evidence, and why: no group is measured yet, or an older version measured without it."""
    return Evidence.exact(pd.Series(dtype="float64"), note=OLD if len(records.analysis("paths")) else "")


def _each_group(records: Records[WeightTrajectory], values: pd.Series) -> Evidence:
    lost = [group for group in _diverged(records) if group not in values.index]
    return Evidence.exact(values.reindex([*values.index, *lost]).astype("float64"))


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
    claims=worded(CLAIMS, WORDS),
    analyses=analyses,
    analyse=analyse,
    renamed=RENAMED,
    schemas=SCHEMAS,
    seconds={"smoke": 9, "quick": 50, "full": 1900},
    not_shown=(
        "That no permutation of hidden units removes a barrier: matching finds a local optimum. Which minimum is the "
        "global one, of which the report speaks: nobody can tell for a network of this size. That a gradient near zero "
        "is near a minimum: the distance given is the least it can be. In full space any two independent draws are "
        "nearly at right angles, so a picture of paths that leave one another says little."
    ),
)
