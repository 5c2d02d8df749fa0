"""What the study of weight trajectories measures in a worker: first layers, paths, and lines between ends."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from theodolite.studies.weight_trajectory.findings import LAYERS
from theodolite.study import AnalysisSpec, RunSpec

if TYPE_CHECKING:
    from theodolite.runs import Trained
    from theodolite.train import Outcome


def measure(spec: RunSpec, outcome: "Outcome") -> Mapping[str, pd.DataFrame]:
    """The first layer after every few epochs: a row a weight and epoch; as CSV the report's file, a row a weight."""
    if not spec.measure.get("first_layer"):
        return {}
    first = next(name for name, tensor in outcome.weights.items() if tensor.ndim == 2).rpartition(".")[0]
    weight, bias = (f"{first}.{part}" for part in ("weight", "bias"))
    units, inputs = outcome.weights[weight].shape
    place = pd.DataFrame(
        {
            "unit": [*np.repeat(np.arange(units), inputs), *range(units)],
            "input": pd.array([*np.tile(np.arange(inputs), units), *[None] * units], dtype="Int64"),  # none: the bias
        }
    )
    after = {
        epoch: np.concatenate([state[weight].numpy().ravel(), state[bias].numpy()])
        for epoch, state in outcome.snapshots.items()
    }
    rows = [place.assign(epoch=epoch, weight=weights) for epoch, weights in after.items()]
    wide = place.assign(**{f"epoch {epoch}": weights for epoch, weights in after.items()})
    return {"first_layer": pd.concat(rows, ignore_index=True), "first_layer.csv": wide}


def analyse(spec: AnalysisSpec, trained: Sequence["Trained"]) -> Mapping[str, pd.DataFrame]:
    """Paths in the plane and in full space; loss on the line between the ends of disjoint pairs of trainings."""
    epochs = sorted(trained[0].snapshots)
    if any(sorted(run.snapshots) != epochs or run.spec.training.epochs not in epochs for run in trained):
        return {}  # one diverged: the group gives no number, which the claims take at its worst
    found: dict[str, list[pd.DataFrame]] = {"paths": [], "apart": [], "shares": []}
    for layer in LAYERS:
        for table, rows in _paths(trained, epochs, layer).items():
            rows.insert(0, "layer", layer)
            found[table].append(rows)
    joined = {table: pd.concat(parts, ignore_index=True) for table, parts in found.items()}
    return {**joined, "lines": _lines(trained, spec.settings["alphas"])}


def _paths(trained: Sequence["Trained"], epochs: Sequence[int], layer: str) -> dict[str, pd.DataFrame]:
    from theodolite.measure.trajectory import trajectory

    path = trajectory([list(run.snapshots.values()) for run in trained], layer)
    steps = path.to_frame().rename(columns={"run": "training"})
    steps["epoch"] = np.asarray(epochs)[steps.pop("snapshot")]
    first, second = np.transpose(path.pairs)
    apart = {"first": np.repeat(first, len(epochs)), "second": np.repeat(second, len(epochs))}
    return {
        "paths": steps,
        "apart": pd.DataFrame(
            {**apart, "epoch": np.tile(epochs, len(first)), "distance": path.pairwise_distance.ravel()}
        ),
        "shares": pd.DataFrame(
            {
                "component": np.arange(1, len(path.random_walk) + 1),
                "together": path.explained_variance,
                "alone": path.explained_variance_by_run.mean(0),
                "random_walk": path.random_walk,
                "parameters": path.parameters,
            }
        ),
    }


def _lines(trained: Sequence["Trained"], alphas: Sequence[float]) -> pd.DataFrame:
    from torch.nn.functional import cross_entropy

    from theodolite import data, train
    from theodolite.measure.interpolate import interpolate

    sets = train.tensors(data.load(trained[0].spec.data))
    parts = []
    for first in range(0, len(trained) - 1, 2):
        one, other = (run.module() for run in trained[first : first + 2])
        on_train, on_test = (
            interpolate(one, other, cross_entropy, (split.inputs.flatten(1), split.targets), alphas)
            for split in (sets.train, sets.test)
        )
        line = {"first": first, "second": first + 1, "alpha": alphas, "barrier": on_train.barrier_above_line}
        losses = {"training": on_train.loss.numpy(), "test": on_test.loss.numpy()}
        parts.append(pd.DataFrame({**line, **losses}))
    return pd.concat(parts, ignore_index=True)
