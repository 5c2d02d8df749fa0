"""What the study of the error surface measures on finished networks, in a worker: planes, a path, a curve, widths."""

import math
from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from theodolite.measure import path_plane, random_plane, three_point_plane
from theodolite.measure.connect import connect
from theodolite.measure.parts import Plane
from theodolite.measure.surface import surface
from theodolite.runs import Trained
from theodolite.streams import named_seed
from theodolite.studies.error_surface.findings import (
    CURVE,
    LARGE,
    LINE,
    MINIMA,
    OTHER,
    PATH,
    RANDOM,
    SMALL,
    STOPPED,
    WIDTH,
)
from theodolite.study import AnalysisSpec
from theodolite.train import measured_batches

CURVE_BATCH = 128  # samples of a step in which the curve is trained, between the two batch sizes


def measured(spec: AnalysisSpec, trained: Sequence[Trained]) -> Mapping[str, pd.DataFrame]:
    """Tables by name of one measurement, all of the training loss."""
    return MEASUREMENTS[spec.settings["kind"]](spec, trained)


def _random_plane(spec: AnalysisSpec, trained: Sequence[Trained]) -> Mapping[str, pd.DataFrame]:
    model = trained[0].module()
    return {"surface": _surface(spec, trained[0], model, random_plane(model, seed=spec.seed))[0]}


def _three_minima(spec: AnalysisSpec, trained: Sequence[Trained]) -> Mapping[str, pd.DataFrame]:
    a, b, c = (network.module() for network in trained)
    grid, points = _surface(spec, trained[0], a, three_point_plane(a, b, c))
    return {"surface": grid, "places": points.assign(label=[SMALL, LARGE, OTHER])}


def _path(spec: AnalysisSpec, trained: Sequence[Trained]) -> Mapping[str, pd.DataFrame]:
    """Where each checkpoint lies on the plane of the path, how far off it, and what its loss is really."""
    model, snapshots = trained[0].module(), trained[0].snapshots
    plane = path_plane(model, [snapshots[epoch] for epoch in sorted(snapshots)])
    grid, points = _surface(spec, trained[0], model, plane)
    shares = plane.explained_variance or (math.nan, math.nan)
    path = points.assign(epoch=sorted(snapshots), share_x=shares[0], share_y=shares[1])
    return {"path": path, **({"surface": grid} if spec.settings["plane"] else {})}


def _curve(spec: AnalysisSpec, trained: Sequence[Trained]) -> Mapping[str, pd.DataFrame]:
    """Train a curve between the two networks; for the first seed also the plane that it lies in."""
    a, b = (network.module() for network in trained)
    data = measured_batches(trained[0].spec.model, trained[0].spec.data, size=CURVE_BATCH)
    found = connect(a, b, cross_entropy, data, epochs=spec.settings["curve_epochs"], seed=spec.seed)
    along = {"t": found.t.numpy(), CURVE: found.loss.numpy(), LINE: found.line_loss.numpy()}
    tables = {"curve": pd.DataFrame(along).melt("t", var_name="path", value_name="loss")}
    if not spec.settings["plane"]:
        return tables
    control = trained[0].module()
    control.load_state_dict(dict(found.control))
    grid, points = _surface(spec, trained[0], a, three_point_plane(a, b, control))
    t = torch.linspace(0, 1, 41, dtype=torch.float64)
    at_a, at_b, at_control = torch.tensor(points[["x", "y"]].to_numpy())
    bent = torch.outer((1 - t) ** 2, at_a) + torch.outer(2 * t * (1 - t), at_control) + torch.outer(t**2, at_b)
    walks = [pd.DataFrame({"path": CURVE, "x": bent[:, 0], "y": bent[:, 1]})]
    walks.append(pd.DataFrame({"path": LINE, "x": points["x"][:2], "y": points["y"][:2]}))
    ends = points[:2].assign(label=[SMALL, LARGE])
    return {**tables, "surface": grid, "places": ends, "walk": pd.concat(walks, ignore_index=True)}


def _width(spec: AnalysisSpec, trained: Sequence[Trained]) -> Mapping[str, pd.DataFrame]:
    """Loss at growing distance along random directions, of both networks and of the small batch's at equal loss."""
    data = measured_batches(trained[0].spec.model, trained[0].spec.data)
    small, large = trained
    losses = {epoch: _loss(small.module(epoch), data) for epoch in small.snapshots}
    final = _loss(large.module(), data)
    equal = min(losses, key=lambda epoch: abs(math.log(losses[epoch] / final)))
    networks = {SMALL: small.module(), LARGE: large.module(), STOPPED: small.module(equal)}
    steps = torch.linspace(0, spec.settings["reach"], spec.settings["radii"] + 1, dtype=torch.float64)
    there_and_back = torch.cat([-steps[1:].flip(0), steps])
    rows = []
    for network, model in networks.items():
        for direction in range(spec.settings["directions"]):
            plane = random_plane(model, seed=named_seed(spec.seed, f"direction {direction}"))
            found = surface(model, cross_entropy, data, plane, x=there_and_back, y=[0.0])
            place = {"network": network, "direction": direction}
            rows.append(pd.DataFrame({**place, "radius": found.x.abs().numpy(), "loss": found.loss[0].numpy()}))
    return {"width": pd.concat(rows, ignore_index=True)}


def _surface(spec: AnalysisSpec, trained: Trained, model: nn.Module, plane: Plane) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The loss on a grid of the plane, of one point where no map is wanted, and at what the plane was laid through."""
    data = measured_batches(trained.spec.model, trained.spec.data)
    x, y = (torch.linspace(*extent, spec.settings["grid"], dtype=torch.float64) for extent in plane.extent)
    if not spec.settings["plane"]:
        x = y = torch.zeros(1, dtype=torch.float64)
    found = surface(model, cross_entropy, data, plane, x=x, y=y)
    points = {"x": found.points[:, 0], "y": found.points[:, 1], "off_plane": found.points_distance}
    points |= {"loss": found.points_loss, "plane_loss": found.points_plane_loss} if len(found.points) else {}
    return found.to_frame().drop(columns="accuracy"), pd.DataFrame({k: v.numpy() for k, v in points.items()})


def _loss(model: nn.Module, data: Sequence[tuple[Tensor, Tensor]]) -> float:
    with torch.no_grad():
        total = sum(float(cross_entropy(model(inputs), targets, reduction="sum")) for inputs, targets in data)
    return total / sum(len(targets) for _, targets in data)


Measurement = Callable[[AnalysisSpec, Sequence[Trained]], Mapping[str, pd.DataFrame]]
MEASUREMENTS: dict[str, Measurement] = {
    WIDTH: _width,
    RANDOM: _random_plane,
    PATH: _path,
    MINIMA: _three_minima,
    CURVE: _curve,
}
