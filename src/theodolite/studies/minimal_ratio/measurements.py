"""What the study of the minimal ratio measures, in a worker: critical points from three kinds of starts, controls."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from theodolite import train
from theodolite.measure.parts import CriticalPoint, CriticalPoints, landscape
from theodolite.streams import named_seed
from theodolite.studies.minimal_ratio.field import random_field
from theodolite.studies.minimal_ratio.findings import FIELD, POINTS, PROTOCOL, SOFT
from theodolite.studies.minimal_ratio.places import outcome_of, places, row
from theodolite.studies.minimal_ratio.reported import protocol
from theodolite.studies.minimal_ratio.spectra import predicted, spectra
from theodolite.studies.minimal_ratio.tasks import Problem, problem
from theodolite.study import AnalysisSpec, Training

FOLLOW = 60  # steps of a walk that follows a point from one weight decay to the next, where it lies near


def measured(spec: AnalysisSpec) -> Mapping[str, pd.DataFrame]:
    """Tables by name of one measurement."""
    settings = spec.settings
    if spec.labels["measured"] == FIELD:
        return {FIELD: random_field(settings, spec.seed)}
    task = problem(str(spec.labels["task"]), settings["widths"], settings["samples"], spec.seed)
    kinds: dict[str, Callable[..., Mapping[str, pd.DataFrame]]] = {POINTS: _points, PROTOCOL: protocol}
    return kinds[str(spec.labels["measured"])](task, settings, spec.seed)


def _points(task: Problem, settings: Mapping[str, Any], seed: int) -> Mapping[str, pd.DataFrame]:
    decay, snapshots = settings["weight_decay"], _snapshots(task, settings, seed)
    random = task.find(settings["random"], decay, symmetric=settings["symmetric"], steps=settings["steps"], seed=seed)
    walks = task.find(snapshots, decay, steps=settings["steps"], seed=named_seed(seed, "snapshots"))
    found = [*random, *walks]
    groups = CriticalPoints(tuple(found), decay, "").copies()
    by_start = [list({p.start: p for p in reversed(group)}.values()) for group in groups]  # the first of each start
    together = [point for own in by_start for point in own]
    once = [own[0] for own in by_start]
    counted = set(map(id, once))
    times = {id(p): len(group) for group, own in zip(groups, by_start, strict=True) for p in own}
    copies = _orbits(task, together)
    shares = predicted(task, together, decay)
    rows = [
        row(p) | {"counted": id(p) in counted, "predicted": q, "found": times[id(p)], "orbit": n}
        for p, q, n in zip(together, shares, copies, strict=True)
    ]
    outcomes = Counter((p.start, outcome_of(p)) for p in found)
    modules = [task.module(named_seed(seed, f"initial {i}")) for i in range(settings["initial"])]
    initial = [parameters_to_vector(module.parameters()) for module in modules]
    tables = {
        "points": pd.DataFrame(rows),
        "outcomes": pd.DataFrame([{"start": s, "outcome": o, "starts": n} for (s, o), n in outcomes.items()]),
        "initial": places(task, torch.stack(initial).detach(), decay),
        "approach": pd.DataFrame(
            {
                "positive": places(task, snapshots, decay)["positive"],
                "index": [p.index for p in walks],
                "outcome": list(map(outcome_of, walks)),
            }
        ),
    }
    if settings["decays"]:
        tables["dial"] = _dial(task, once, (decay, *settings["decays"]), min(FOLLOW, settings["steps"] or FOLLOW))
    if settings["spectra"]:
        tables["spectra"] = spectra(task, once, decay)
    return tables


def _orbits(task: Problem, points: Sequence[CriticalPoint]) -> list[int]:
    """How many copies each point has by permutation and sign of units, itself included."""
    surface = landscape(task.objective(), 0.0)
    return [surface.orbit_size(p.parameters) for p in points]


def _snapshots(task: Problem, settings: Mapping[str, Any], seed: int) -> Tensor:
    """Weights ``(trainings · snapshots, P)`` on the way of ordinary trainings, before the first step included."""
    training = Training(
        loss=task.loss,
        learning_rate=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
        epochs=settings["epochs"],
        evaluate_every=settings["epochs"],
        snapshot_every=max(1, settings["epochs"] // settings["snapshots"]),
        dtype="float64",
    )
    split = train.Split(task.inputs, task.targets)
    seeds = [named_seed(seed, f"training {i}") for i in range(settings["trainings"])]
    replicas = [train.Replica(own, own, settings["learning_rate"]) for own in seeds]
    outcomes = train.train_replicas(task.architecture, train.TrainingData(split, split), training, replicas)
    rows = [
        torch.cat([outcome.snapshots[epoch][name].flatten() for name, _ in task.module().named_parameters()])
        for outcome in outcomes
        for epoch in sorted(outcome.snapshots)[: settings["snapshots"]]
    ]
    return torch.stack(rows)


def _dial(task: Problem, points: Sequence[CriticalPoint], decays: Sequence[float], steps: int) -> pd.DataFrame:
    """Follow points as the weight decay goes down; one that is lost on the way is not looked for again."""
    vectors = torch.stack([p.parameters for p in points])
    origin, rows = torch.arange(len(points)), []
    for decay in decays:
        found = task.find(vectors, decay, steps=steps)
        for place, p in zip(origin.tolist(), found, strict=True):
            soft = float((p.eigenvalues.abs() <= max(p.tolerance, SOFT * decay)).double().mean())
            norm = float(p.parameters.norm())
            outcome = {
                "point": place,
                "decay": decay,
                "outcome": outcome_of(p),
                "soft": soft,
                "weights": norm,
            }
            rows.append(outcome | row(p))
        kept = torch.tensor([p.certified for p in found])
        vectors, origin = torch.stack([p.parameters for p in found])[kept], origin[kept]
        if not len(origin):
            break
    return pd.DataFrame(rows)
