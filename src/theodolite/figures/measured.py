"""The chart of each instrument's result, from its table and numbers alone: what ``result.plot()`` shows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from theodolite.errors import SettingError
from theodolite.figures.composed import above
from theodolite.figures.dressed import dressed
from theodolite.figures.histogram import histogram
from theodolite.figures.lines import lines
from theodolite.figures.paths import paths
from theodolite.figures.points import forest, scatter
from theodolite.figures.scales import Axis, Rule
from theodolite.figures.surface import surfaces

CURVATURE = "eigenvalue (loss per squared parameter)"
LOSS = "loss (mean over samples)"
WIDE = 1e3  # largest over smallest number from which an axis is logarithmic


def chart(result: Any, draw: Callable[[Any], Any], *, theme: bool = True, color: str | None = None) -> Any:
    """Draw a frozen result by one of the functions below; see :func:`theodolite.figures.dressed.dressed`.

    Example:
        >>> import torch
        >>> from theodolite.measure import hessian_trace
        >>> data = torch.eye(2), torch.zeros(2, 1)
        >>> found = hessian_trace(torch.nn.Linear(2, 1), torch.nn.MSELoss(), data)
        >>> chart(found, trace).to_dict()["config"]["background"]
        '#ffffff'
    """
    return dressed(draw(result), theme=theme, color=color)


def general(result: Any) -> Any:
    """Vectors as lines over their entries, a panel each, or, where there are none, numbers as dots."""
    table = result.to_frame()
    table = table[[name for name in table if is_numeric_dtype(table[name])]]
    if table.empty:
        raise SettingError(
            f"expected numbers or vectors to draw, but {type(result).__name__} holds none. Give its class a plot()."
        )
    vectors = [name for name in table if np.ndim(getattr(result, name, 0.0)) == 1]
    if not vectors:
        return _rows(table.iloc[0].to_dict(), "value")
    panels = [
        lines(
            table[[name]].assign(entry=range(len(table)), of=name),
            x=Axis("entry", "entry"),
            y=Axis(name, name),
            series="of",
            part=f"_{number}",
            height=200,
        )
        for number, name in enumerate(vectors)
    ]
    return above(*panels)


def gradient_norm(result: Any) -> Any:
    """The norm of each parameter tensor's gradient."""
    return _rows(dict(result.norms), "norm of the gradient (loss per unit of weight)")


def gradient_noise_scale(result: Any) -> Any:
    """The noise scale of each parameter tensor by itself."""
    scales = {name: value for name, value in result.scales.items() if np.isfinite(value)}
    return _rows(scales or {"variance": result.variance}, "noise scale (samples)")


def eigenpairs(result: Any) -> Any:
    """Eigenvalues with their residuals."""
    values, residuals = np.asarray(result.eigenvalues.cpu()), np.asarray(result.residuals.cpu())
    table = pd.DataFrame({"name": [f"λ{n}" for n in range(len(values), 0, -1)], "value": values})
    table = table.assign(low=values - residuals, high=values + residuals)[::-1]
    zero = [Rule(0.0, "", "x")] if values.min() < 0 < values.max() else []
    return forest(table, x=Axis("value", CURVATURE), label="name", low="low", high="high", rules=zero)


def edge_of_stability(result: Any) -> Any:
    """The largest eigenvalue that the steps meet with its residual, beside the edge."""
    value, residual = result.eigenvalue, result.residual
    table = pd.DataFrame(
        {"name": [result.optimizer], "value": [value], "low": [value - residual], "high": [value + residual]}
    )
    across = Axis("value", "largest eigenvalue times the learning rate, preconditioned")
    return forest(table, x=across, label="name", low="low", high="high", rules=[Rule(result.edge, "edge", "x")])


def diagonal(result: Any) -> Any:
    """A histogram of the diagonal's entries."""
    entries = result.diagonal.cpu()
    return histogram(entries, x=Axis("", "second derivative (loss per squared parameter)"), counted="parameters")


def hessian_blocks(result: Any) -> Any:
    """The mean eigenvalue of each block with its standard error."""
    names, sizes = list(result.sizes), np.array(list(result.sizes.values()))
    mean, error = (np.asarray(each.cpu()) / sizes for each in (result.traces, result.trace_standard_errors))
    table = pd.DataFrame({"name": names, "value": mean, "low": mean - error, "high": mean + error})
    return forest(
        table, x=Axis("value", "mean eigenvalue (loss per squared parameter)"), label="name", low="low", high="high"
    )


def spectrum(result: Any) -> Any:
    """A histogram of all eigenvalues."""
    values = result.eigenvalues.cpu()
    return histogram(values, x=Axis("", CURVATURE), counted="eigenvalues", rules=[Rule(0.0, "", "x")])


def density(result: Any) -> Any:
    """The density with its standard error."""
    table = pd.DataFrame({"grid": result.grid.cpu(), "density": result.density.cpu()})
    error = np.asarray(result.standard_error.cpu())
    floor = 1e-4 * float(table["density"].max())  # four decades show the bulk and what lies far from it
    table = table.assign(
        density=table["density"].clip(floor),
        low=(table["density"] - error).clip(floor),
        high=(table["density"] + error).clip(floor),
        of="density",
    )
    across, up = Axis("grid", CURVATURE), Axis("density", "density (share per unit of eigenvalue)", log=True)
    return lines(table, x=across, y=up, series="of", low="low", high="high", rules=[Rule(0.0, "", "x")])


def trace(result: Any) -> Any:
    """The trace with its standard error."""
    value, error = result.value, result.standard_error
    table = pd.DataFrame({"name": ["trace"], "value": [value], "low": [value - error], "high": [value + error]})
    room = max(1.2 * error, 0.05 * abs(value)) or 1.0  # an exact one has no error that could set the scale
    axis = Axis("value", "trace ± standard error (loss per squared parameter)", domain=(value - room, value + room))
    return forest(table, x=axis, label="name", low="low", high="high")


def minimal_ratio(result: Any) -> Any:
    """Shares of the signs."""
    counts = {"λ > tolerance": result.positive, "within": result.zero, "λ < −tolerance": result.negative}
    total = sum(counts.values())
    shares = {f"{name} ({count:,})": count / total for name, count in counts.items()}
    return _rows(shares, "share of eigenvalues", (0.0, 1.0))


def critical_points(result: Any) -> Any:
    """Loss over minimal ratio, a mark for each point."""
    table = result.to_frame()
    table["kind"] = np.where(table["certified"], "certified", "not certified")
    axes = Axis("minimal_ratio", "minimal ratio (share of eigenvalues > 0)"), Axis("loss", LOSS)
    return scatter(table, x=axes[0], y=axes[1], series="kind", detail=("index", "gradient_norm", "reason"))


def interpolation(result: Any) -> Any:
    """Loss and accuracy along the line."""
    return _with_accuracy(
        result.to_frame(), Axis("alphas", "α (0: first model, 1: second)"), {"line": ("loss", "accuracy")}
    )


def curve(result: Any) -> Any:
    """Loss and accuracy along the curve, and along the line."""
    of = {"curve": ("loss", "accuracy"), "straight line": ("line_loss", "line_accuracy")}
    return _with_accuracy(result.to_frame(), Axis("t", "t (0: first model, 1: second)"), of)


def surface(result: Any) -> Any:
    """The loss on the plane, with what the plane was laid through."""
    table = result.to_frame()
    x, y = Axis("x", "first direction"), Axis("y", "second direction")
    points = pd.DataFrame({"x": np.asarray(result.points[:, 0]), "y": np.asarray(result.points[:, 1])})
    path = points if "path" in result.kind else None
    places = None
    if path is None:
        places = (
            points.assign(label=[str(n + 1) for n in range(len(points))])
            if len(points)
            else pd.DataFrame({"x": [0.0], "y": [0.0], "label": ["model"]})
        )
    return surfaces(
        table, x=x, y=y, z=Axis("loss", LOSS, log=bool((table["loss"] > 0).all())), paths=path, places=places
    )


def sensitivity(result: Any) -> Any:
    """A histogram over samples, or the one number."""
    title = "norm of ∂loss/∂input (loss per unit of input)"
    if result.per_sample is None:
        return _rows({"all inputs": result.value}, title)
    rules = [Rule(result.mean, "mean", "x")]
    return histogram(result.per_sample.cpu(), x=Axis("", f"{title}, of each sample"), counted="samples", rules=rules)


def sharpness(result: Any) -> Any:
    """The loss at the weights and the highest nearby."""
    return _rows({"at the weights": result.loss, "highest found nearby": result.highest_loss}, LOSS)


def trajectory(result: Any) -> Any:
    """The path on its first two components."""
    table = result.to_frame().assign(run=lambda t: (t["run"] + 1).astype(str))
    if "component_2" not in table:
        axes = Axis("snapshot", "snapshot"), Axis("component_1", _component(result, 0))
        return lines(table, x=axes[0], y=axes[1], series="run")
    axes = Axis("component_1", _component(result, 0)), Axis("component_2", _component(result, 1))
    return paths(table, x=axes[0], y=axes[1], series="run", step="snapshot")


def alignment(result: Any) -> Any:
    """The distance before and after."""
    distances = {"before": result.distance_before, "aligned": result.distance}
    return _rows(distances, "distance between the models (unit of the weights)")


def _component(result: Any, number: int) -> str:
    return f"component {number + 1} ({result.explained_variance[number]:.0%} of the variance)"


def _rows(numbers: dict[str, float], title: str, domain: tuple[float, float] | None = None) -> Any:
    """A dot for each named number, in the order given."""
    table = pd.DataFrame({"name": list(numbers), "value": [float(v) for v in numbers.values()]})
    table = table.assign(low=table["value"], high=table["value"])
    positive = table["value"][table["value"] > 0]
    log = domain is None and len(positive) == len(table) and positive.max() > WIDE * positive.min()
    return forest(table, x=Axis("value", title, log=log, domain=domain), label="name", low="low", high="high")


def _with_accuracy(frame: pd.DataFrame, x: Axis, of: dict[str, tuple[str, str]]) -> Any:
    """Loss over the share of samples classified rightly, where targets are classes."""
    ends = [Rule(float(n), "", "x") for n in (0, 1)]
    panels = []
    for number, y in enumerate((Axis("y", LOSS), Axis("y", "accuracy", format=".0%"))):
        parts = [pd.DataFrame({x.column: frame[x.column], "y": frame[c[number]], "of": n}) for n, c in of.items()]
        table = pd.concat(parts, ignore_index=True)
        if table["y"].notna().any():
            panels.append(lines(table, x=x, y=y, series="of", rules=ends, part=f"_{number}", height=200))
    return above(*panels)
