"""What the study of weight trajectories measures in a worker: first layers, paths, and lines between ends."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from theodolite.streams import named_generator
from theodolite.studies.weight_trajectory.ends import AS_TRAINED, ITSELF, MATCHED
from theodolite.studies.weight_trajectory.findings import FIRST, LAYERS
from theodolite.study import AnalysisSpec, RunSpec

if TYPE_CHECKING:
    from torch import nn

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
    """Paths in the plane and in full space; and of disjoint pairs of trainings what lies between and in their ends."""
    epochs = sorted(trained[0].snapshots)
    if any(sorted(run.snapshots) != epochs or run.spec.training.epochs not in epochs for run in trained):
        return {}  # one diverged: the group gives no number, which the claims take at its worst
    found: dict[str, list[pd.DataFrame]] = {"paths": [], "apart": [], "shares": []}
    for layer in LAYERS:
        for table, rows in _paths(trained, epochs, layer, spec.seed).items():
            rows.insert(0, "layer", layer)
            found[table].append(rows)
    joined = {table: pd.concat(parts, ignore_index=True) for table, parts in found.items()}
    return {**joined, **_ends(spec, trained)}


def _paths(trained: Sequence["Trained"], epochs: Sequence[int], layer: str, seed: int) -> dict[str, pd.DataFrame]:
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
                "undirected": _undirected(trained, layer, path.distance_from_start, seed),
            }
        ),
    }


def _undirected(trained: Sequence["Trained"], layer: str, distances: Any, seed: int) -> float:
    """Variance along PCA 1 at the start over the end, of paths from the same starts as far in random directions."""
    from theodolite.measure.trajectory import trajectory

    starts = np.stack([_flat(run, layer) for run in trained])
    ways = named_generator(seed, "random directions").normal(size=starts.shape)
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    along = trajectory(starts[:, None] + distances[:, :, None] * ways[:, None]).coordinates[:, :, 0]
    return float(along[:, 0].var() / along[:, -1].var())


def _flat(run: "Trained", layer: str) -> Any:
    """The weights of a layer before training ``(P,)``."""
    start = run.snapshots[0]
    first = next(name for name, tensor in start.items() if tensor.ndim == 2).rpartition(".")[0]
    names = [name for name in start if layer != FIRST or name.rpartition(".")[0] == first]
    return np.concatenate([start[name].double().numpy().ravel() for name in names])


def _ends(spec: AnalysisSpec, trained: Sequence["Trained"]) -> dict[str, pd.DataFrame]:
    """Of each pair: the lines between its ends, and who of the two is right where; and how far one is from a minimum.

    The lines are from the first to the second as trained, to the second with its units matched to the first's, and to
    the first itself with its units in another order: what the same minimum gives where it is not recognised.
    """
    from torch.nn.functional import cross_entropy

    from theodolite.measure.align import align
    from theodolite.measure.interpolate import interpolate
    from theodolite.measure.parts import shuffled
    from theodolite.train import measured_batches

    model, source = trained[0].spec.model, trained[0].spec.data
    on_train, on_test = (measured_batches(model, source, part) for part in ("train", "test"))
    lines, tested, stationary = [], [], []
    for first in range(0, len(trained) - 1, 2):
        one, other = (run.module() for run in trained[first : first + 2])
        place = {"first": first, "second": first + 1}
        others = {
            AS_TRAINED: other,
            MATCHED: align(one, other, data=on_train, seed=spec.seed).model,
            ITSELF: shuffled(one, named_generator(spec.seed, f"order of units {first}")),
        }
        for kind, end in others.items():
            trains, tests = (
                interpolate(one, end, cross_entropy, part, spec.settings["alphas"]) for part in (on_train, on_test)
            )
            line = {
                "kind": kind, **place, "alpha": spec.settings["alphas"], "barrier": trains.barrier_above_line,
                "error_barrier": trains.error_barrier, "training": trains.loss.numpy(), "test": tests.loss.numpy(),
            }  # fmt: skip
            lines.append(pd.DataFrame(line))
        right, also = (_right(network, on_test) for network in (one, other))
        tested.append({**place, "only_first": int((right & ~also).sum()), "only_second": int((also & ~right).sum())})
        stationary.append({"training": first, **_distance(one, on_train)})
    return {
        "lines": pd.concat(lines, ignore_index=True),
        "tested": pd.DataFrame(tested),
        "stationary": pd.DataFrame(stationary),
    }


def _right(model: "nn.Module", batches: Sequence[Any]) -> Any:
    import torch

    with torch.no_grad():
        return torch.cat([model(inputs).argmax(1) == targets for inputs, targets in batches]).numpy()


def _distance(model: "nn.Module", batches: Sequence[Any]) -> dict[str, float]:
    r"""The gradient norm, the largest curvature and the norm of the weights.

    Where curvature stays below the largest, the nearest point of zero gradient is at least ‖g‖ / λ_max away.
    """
    from torch.nn.functional import cross_entropy

    from theodolite.measure.gradient_norm import gradient_norm
    from theodolite.measure.hessian_eigenvalues import hessian_eigenvalues

    curvature = hessian_eigenvalues(model, cross_entropy, batches, k=1, which="both", tolerance=1e-2).eigenvalues
    return {
        "gradient_norm": gradient_norm(model, cross_entropy, batches).value,
        "curvature": float(curvature.abs().max()),
        "weights": float(sum(p.detach().double().square().sum() for p in model.parameters()) ** 0.5),
    }
