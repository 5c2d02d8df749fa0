"""Paths of training through weight space: principal components, and the distances that a plane of them hides."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from theodolite.errors import BadModel, SettingError, UnknownName
from theodolite.measure.linalg import principal
from theodolite.measure.problem.validation import checked
from theodolite.measure.results.base import Result

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[np.float64]
Run = Sequence[Mapping[str, Tensor]] | Tensor | npt.NDArray[np.floating]
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of BatchNorm: in a state dict, but not weights
# What PyTorch's own layers call their parameters; a tensor of another name may as well be a buffer.
PARAMETERS = re.compile(
    r"(weight|bias)(_[gv]|_orig|_(ih|hh|hr)_l\d+(_reverse)?)?|original\d*|in_proj_(weight|bias)|[qkv]_proj_weight|bias_[kv]"
)


@dataclass(frozen=True, slots=True)
class Trajectory(Result, kind="trajectory"):
    """Where R runs went in T recorded steps."""

    coordinates: Array  # (R, T, k), on the principal components of all runs together
    explained_variance: Array  # (k,), share of the variance along each component
    explained_variance_by_run: Array  # (R, k), of the components of each run alone: what the null speaks of
    random_walk: Array  # (k,), the null: shares 6 / (π j)² of an endless random walk in endless dimensions
    step_lengths: Array  # (R, T - 1), in the full space, unit of the weights
    distance_from_start: Array  # (R, T), in the full space
    pairwise_distance: Array  # (R (R - 1) / 2, T), between runs at the same time, in the full space
    pairs: tuple[tuple[int, int], ...]  # the runs of each row of pairwise_distance
    parameters: int  # dimensions of the full space

    def to_frame(self) -> "pd.DataFrame":
        """A row for each run and snapshot: coordinates, length of the step that led there, distance from start."""
        import pandas as pd

        runs, steps, components = self.coordinates.shape
        run, snapshot = np.divmod(np.arange(runs * steps), steps)
        columns = {f"component_{k + 1}": self.coordinates[:, :, k].ravel() for k in range(components)}
        columns["step_length"] = np.pad(self.step_lengths, ((0, 0), (1, 0)), constant_values=np.nan).ravel()
        columns["distance_from_start"] = self.distance_from_start.ravel()
        return pd.DataFrame({"run": run, "snapshot": snapshot, **columns})


@checked
def trajectory(
    weights: Run | Sequence[Run], layer: str = "all", *, components: int = 2, model: nn.Module | None = None
) -> Trajectory:
    r"""Reduce paths of weights to their principal components, and measure them in full.

    A plane can mislead: a pure random walk in many dimensions also draws a smooth curve, with a share of

    .. math:: \frac{6}{\pi^2 j^2} = 0.608,\ 0.152,\ \ldots

    of its variance on component j. So the shares of each run alone are given beside that null, and step lengths and
    distances come from the full space. Components are those of all runs together, by scikit-learn.

    Args:
        weights: one run or several of equal length; a run is a sequence of state dicts, in the order of training, or
            an array ``(T, P)``.
        layer: ``"all"``; ``"first"``, the weights and bias of the first layer that holds a matrix; or a name, of one
            tensor (``"0.weight"``) or of a module (``"0"``). Arrays have no names: leave it ``"all"``.
        components: k, at most T and P.
        model: the network that the state dicts are of, which tells weights from buffers; weights that are not in it are
            left out. Without it tensors must be called as PyTorch's own layers call theirs, or not move, since a state
            dict does not say which are buffers (one of ``state_dict(keep_vars=True)`` does); the statistics of
            BatchNorm are left out, and of tensors that move and are equal in every snapshot, as tied ones are, one
            counts.

    Raises:
        UnknownName: no such layer.
        BadModel: runs or snapshots that do not match, fewer than two snapshots, NaN, a path that stands still, or,
            without ``model``, a tensor that may be a buffer.

    Source: Antognini and Sohl-Dickstein 2018, "PCA of high dimensional random walks with comparison to neural
    network training".

    Example:
        >>> line = torch.arange(5.0)[:, None] * torch.tensor([[3.0, 4.0]])
        >>> path = trajectory(line)
        >>> path.explained_variance.round(6).tolist(), path.step_lengths.tolist()
        ([1.0, 0.0], [[5.0, 5.0, 5.0, 5.0]])
    """
    runs = np.stack(_same_shape([_matrix(run, layer, model) for run in _runs(weights)]))
    number, steps, size = runs.shape
    if steps < 2:
        raise BadModel(f"expected at least two snapshots of each run, got {steps}. Save weights more often.")
    if not np.isfinite(runs).all():
        raise BadModel("expected finite weights, but a snapshot holds NaN or infinity. Leave out diverged runs.")
    if not 1 <= components <= min(steps, size):
        raise SettingError(
            f"expected 1 to {min(steps, size)} components of {steps} snapshots of {size} weights, got {components}."
        )
    coordinates, shares = _components(runs.reshape(-1, size), components)
    pairs = tuple((i, j) for i in range(number) for j in range(i + 1, number))
    apart = [np.linalg.norm(runs[i] - runs[j], axis=1) for i, j in pairs]
    return Trajectory(
        coordinates=coordinates.reshape(number, steps, components),
        explained_variance=shares,
        explained_variance_by_run=np.stack([_components(run, components)[1] for run in runs]),
        random_walk=6 / (np.pi * np.arange(1, components + 1)) ** 2,
        step_lengths=np.linalg.norm(np.diff(runs, axis=1), axis=2),
        distance_from_start=np.linalg.norm(runs - runs[:, :1], axis=2),
        pairwise_distance=np.stack(apart) if apart else np.zeros((0, steps)),
        pairs=pairs,
        parameters=size,
    )


def _components(points: Array, components: int) -> tuple[Array, Array]:
    if not (points != points[0]).any():
        raise BadModel("expected weights that move, but all snapshots of a run are equal. Was it trained?")
    if points.shape[1] > points.shape[0]:  # a rotation into the few dimensions they span: 4 to 6 times faster
        points = cast(Array, np.linalg.qr((points - points.mean(0)).T, mode="r")).T
    axes, shares = principal.components(points, components)
    return (points - points.mean(0)) @ axes.T, shares


def _runs(weights: Run | Sequence[Run]) -> list[Run]:
    if isinstance(weights, (Tensor, np.ndarray)):
        return list(weights) if weights.ndim == 3 else [weights]
    if not isinstance(weights, Sequence) or not len(weights):
        got = "none" if isinstance(weights, (list, tuple)) else type(weights).__name__
        raise BadModel(f"expected at least one run, got {got}. Pass state dicts or an array (T, P).")
    return [weights] if isinstance(weights[0], Mapping) else list(weights)  # type: ignore[list-item,arg-type]


def _matrix(run: Run, layer: str, model: nn.Module | None) -> Array:
    """One run as ``(T, P)``."""
    if isinstance(run, (Tensor, np.ndarray)):
        if run.ndim != 2:
            raise BadModel(f"expected a run as an array (T, P), got shape {tuple(run.shape)}.")
        if layer != "all":
            raise UnknownName("layer of a plain array", layer, ["all"])
        if isinstance(run, np.ndarray) and run.dtype.kind not in "fiu":
            raise BadModel(f"expected a run of numbers, got an array of {run.dtype}. Pass weights (T, P).")
        return np.asarray(torch.as_tensor(run).detach().double().cpu())
    if not isinstance(run, Sequence) or not all(isinstance(state, Mapping) for state in run):
        raise BadModel(
            f"expected a run as state dicts or an array (T, P), got {type(run).__name__} of something else. Pass "
            "model.state_dict() of every moment."
        )
    if not len(run):
        raise BadModel("expected snapshots in every run, got an empty one. Leave it out.")
    names = _names(run[0], layer, model)
    if not names:
        raise BadModel("expected weights in every snapshot, got state dicts without any. Pass model.state_dict().")
    missing = [
        n
        for state in run
        for n in names
        if n not in state or not _is_weight(state[n]) or state[n].shape != run[0][n].shape
    ]
    if missing:
        raise BadModel(
            f"expected snapshots of one model, but '{missing[0]}' is missing in one or has another shape. Pass "
            "snapshots of one model."
        )
    names = names if model is not None else _once(run, _known(run, names))
    return np.stack([torch.cat([s[n].detach().double().cpu().flatten() for n in names]).numpy() for s in run])


def _known(run: Sequence[Mapping[str, Tensor]], names: list[str]) -> list[str]:
    """The names, if all that move are of weights."""
    if any(isinstance(run[0][name], nn.Parameter) for name in names):
        return [name for name in names if isinstance(run[0][name], nn.Parameter)]
    for name in names:
        if not PARAMETERS.fullmatch(name.rpartition(".")[2]) and _moves(run, name):
            raise BadModel(
                f"expected to tell weights from buffers, but '{name}' moves, and a state dict does not say whether it "
                "is a parameter or, like a running mean, a buffer. Pass model=, the network that they are of."
            )
    return names


def _moves(run: Sequence[Mapping[str, Tensor]], name: str) -> bool:
    return any(not torch.equal(state[name], run[0][name]) for state in run[1:])


def _once(run: Sequence[Mapping[str, Tensor]], names: list[str]) -> list[str]:
    """The names without those that hold what an earlier one does in every snapshot, and moves: tied weights."""
    kept: list[str] = []
    for name in names:
        alike = (n for n in kept if run[0][n].shape == run[0][name].shape)
        if not (_moves(run, name) and any(all(torch.equal(state[n], state[name]) for state in run) for n in alike)):
            kept.append(name)
    return kept


def _names(state: Mapping[str, Tensor], layer: str, model: nn.Module | None) -> list[str]:
    names = [n for n, t in state.items() if _is_weight(t) and n.rpartition(".")[2] not in STATISTICS]
    if model is not None:
        weights = dict(model.named_parameters())  # tied ones once
        names = [n for n in names if n in weights]
    if layer == "all":
        return names
    module = layer
    if layer == "first":
        module = next((n for n in names if state[n].ndim >= 2), "").rpartition(".")[0]
    chosen = [n for n in names if n == layer or n.rpartition(".")[0] == module or n.startswith(f"{module}.")]
    if not chosen:
        raise UnknownName("layer", layer, {*names, *(n.rpartition(".")[0] for n in names), "all", "first"} - {""})
    return chosen


def _is_weight(tensor: object) -> bool:
    return isinstance(tensor, Tensor) and tensor.is_floating_point()


def _same_shape(runs: list[Array]) -> list[Array]:
    for number, run in enumerate(runs):
        if run.shape != runs[0].shape:
            raise BadModel(
                f"expected runs of one model and length, but run {number} is {run.shape} and run 0 {runs[0].shape} "
                "(snapshots, weights). Pass runs that were recorded alike."
            )
    return runs
