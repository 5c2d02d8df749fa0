"""Height over a plane: a heat map with contour lines, and on it a path and named places. Error surfaces."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from theodolite.figures.contours import contour
from theodolite.figures.scales import LOG_LABEL, Axis, inline, log_ticks, nothing, order
from theodolite.figures.theme import SQUARE, WIDTH

LINES = (
    "White lines: contours at powers of ten, and between them at 2 and 5, or 3, where there is room."  # for captions
)
MOST = 14  # contour levels of a panel: beyond it they run together
OVERLAP = 1.3  # cells wide that a cell is drawn, under the next: no hairlines between them
MAP = 440  # pixels that one map is wide at most
MARGIN, GAP = 62, 24  # pixels left of a panel for its axis, and between panels
EDGE = 0.15  # share of a side from which a name grows inwards
LIGHT, DARK = "#ffffff", "#101418"  # readable together on every colour of the map, on light pages and dark ones


def surfaces(
    table: pd.DataFrame,
    *,
    x: Axis,
    y: Axis,
    z: Axis,
    panel: str | None = None,
    paths: pd.DataFrame | None = None,
    places: pd.DataFrame | None = None,
    width: int = WIDTH,
) -> Any:
    """Heat maps with contours, one beside the other; both axes of a panel have one scale, so that lengths are true.

    Args:
        table: a row for each point of each grid, with the columns of the three axes; every panel has a whole grid.
        x: across.
        y: upwards.
        z: the height; logarithmic as a rule, since a loss spans decades.
        panel: a column that gets one map a value; panels share the colours, not the axes.
        paths: points in the order of a path, with the columns of x and y (and of ``panel``); a column ``path`` tells
            several apart.
        places: points with the columns of x and y and a ``label`` (and of ``panel``).
        width: of the whole figure, in pixels.

    Returns:
        An Altair chart without configuration; :func:`theodolite.figures.theme.specification` dresses it.
    """
    values = order(table[panel]) if panel else [None]
    heights = table[z.column].replace([np.inf, -np.inf], np.nan)
    if heights.dropna().empty:
        return nothing(width, MAP)
    limits = z.limits(heights) if z.domain is None else z.domain
    plot = min((width - (len(values) - 1) * GAP) // len(values) - MARGIN, MAP)
    charts = [
        _panel(_of(table, panel, value), (x, y, z), limits, _of(paths, panel, value), _of(places, panel, value), number)
        .properties(**_size(_of(table, panel, value), x, y, plot), **({} if value is None else {"title": str(value)}))
        for number, value in enumerate(values)
    ]  # fmt: skip
    chart = charts[0] if len(charts) == 1 else alt.hconcat(*charts, spacing=GAP)
    return chart.properties(usermeta=SQUARE)


def levels(low: float, high: float, *, log: bool) -> list[float]:
    """Heights of contour lines between two numbers: 1, 2, 5 times powers of ten, fewer where that is too many.

    >>> levels(0.03, 4.0, log=True)
    [0.05, 0.1, 0.2, 0.5, 1.0, 2.0]
    """
    if not log:
        return [float(level) for level in np.linspace(low, high, MOST + 2)[1:-1]]
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        found = [float(f"{digit}e{power}") for power in powers for digit in digits]
        found = [level for level in found if low < level < high]
        if len(found) <= MOST:
            break
    return found


def _of(table: pd.DataFrame | None, panel: str | None, value: Any) -> pd.DataFrame:
    if table is None:
        return pd.DataFrame()
    return table[table[panel] == value] if panel and panel in table else table


def _size(table: pd.DataFrame, x: Axis, y: Axis, plot: int) -> dict[str, int]:
    across, up = (table[axis.column].max() - table[axis.column].min() for axis in (x, y))
    return {"width": plot, "height": int(np.clip(plot * (up / across if across else 1), plot / 3, 1.5 * plot))}


def _panel(
    table: pd.DataFrame,
    axes: tuple[Axis, Axis, Axis],
    limits: tuple[float, float],
    path: pd.DataFrame,
    places: pd.DataFrame,
    number: int,
) -> Any:
    x, y, z = axes
    grid = table.pivot_table(index=y.column, columns=x.column, values=z.column, dropna=False).sort_index()
    across, up = grid.columns.to_numpy(dtype=np.float64), grid.index.to_numpy(dtype=np.float64)
    x_limits, y_limits = _edges(across), _edges(up)
    at_x = x.encode(alt.X, "x:Q", x_limits)
    at_y = y.encode(alt.Y, "y:Q", y_limits)
    map_ = _map(grid.to_numpy(dtype=np.float64), across, up, axes, limits, (x_limits, y_limits), number)
    lines = _contours(grid.to_numpy(dtype=np.float64), across, up, z, limits)
    thin = alt.Chart(inline(lines)).mark_line(strokeWidth=0.8, opacity=0.75, clip=True, tooltip=None)
    contours = thin.encode(at_x, at_y, detail="line:N", order="step:Q", color=alt.value(LIGHT))
    return alt.layer(
        map_,
        contours,
        *_walk(path, x, y, at_x, at_y),
        *_named(places, path, (x, y), (x_limits, y_limits), (at_x, at_y)),
    )


def _edges(points: Any) -> tuple[float, float]:
    """Where the outermost cells end."""
    half = (points[1] - points[0]) / 2 if len(points) > 1 else 0.5
    return float(points[0] - half), float(points[-1] + half)


def _map(
    z: Any, across: Any, up: Any, axes: tuple[Axis, Axis, Axis], limits: tuple[float, float], sides: Any, number: int
) -> Any:
    """Cells by number alone: where each lies is worked out when it is drawn, which keeps the page a third as large."""
    (left, right), (bottom, top) = sides
    dx, dy = (right - left) / len(across), (top - bottom) / len(up)
    shown = np.clip(np.where(np.isfinite(z), z, limits[1]), *limits)
    scale = alt.Scale(type="log" if axes[2].log else "linear", domain=list(limits), scheme="viridis", clamp=True)
    ticks = {"values": log_ticks(*limits, most=5)} if axes[2].log else {}
    form = {"labelExpr": LOG_LABEL} if axes[2].log else {"format": "~g"}
    legend = alt.Legend(type="gradient", gradientLength=260, gradientThickness=10, titleLimit=300, **form, **ticks)
    cells = pd.DataFrame({"z": [f"{value:.3g}" for value in shown.ravel()]}).astype("float64")
    return (
        alt.Chart(inline(cells))
        .transform_window(cell="row_number()")
        .transform_calculate(
            x=f"{left:.6g} + {dx:.6g} * ((datum.cell - 1) % {len(across)})",
            y=f"{bottom:.6g} + {dy:.6g} * floor((datum.cell - 1) / {len(across)})",
            x2=f"datum.x + {OVERLAP * dx:.6g}",
            y2=f"datum.y + {OVERLAP * dy:.6g}",
        )
        .mark_rect(clip=True)
        .encode(
            axes[0].encode(alt.X, "x:Q", sides[0]),
            axes[1].encode(alt.Y, "y:Q", sides[1], titled=number == 0),
            alt.X2("x2:Q"),
            alt.Y2("y2:Q"),
            color=alt.Color("z:Q", title=axes[2].title, scale=scale, legend=legend),  # panels share it
            tooltip=[alt.Tooltip("z:Q", title=axes[2].title, format=".3~g")],
        )
    )


def _contours(z: Any, across: Any, up: Any, axis: Axis, limits: tuple[float, float]) -> pd.DataFrame:
    parts = [pd.DataFrame(columns=["x", "y", "line", "step"], dtype="float64")]
    finite = z[np.isfinite(z) & ((z > 0) | (not axis.log))]
    if not len(finite):
        return parts[0]
    low, high = max(limits[0], float(finite.min())), min(limits[1], float(finite.max()))
    for level in levels(low, high, log=axis.log):
        height = np.log(level) if axis.log else level
        for line in contour(across, up, np.log(z) if axis.log else z, float(height)):
            parts.append(pd.DataFrame(line, columns=["x", "y"]).assign(line=len(parts), step=range(len(line))))
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)


def _walk(path: pd.DataFrame, x: Axis, y: Axis, at_x: Any, at_y: Any) -> Sequence[Any]:
    """A path as a light line on a dark one, with a dot at each point."""
    if path.empty:
        return []
    points = pd.DataFrame(
        {
            "x": path[x.column].to_numpy(),
            "y": path[y.column].to_numpy(),
            "path": path["path"].astype(str).to_numpy() if "path" in path else "",
            "step": np.arange(len(path)),
        }
    )
    chart = alt.Chart(inline(points)).encode(at_x, at_y, detail="path:N", order="step:Q")
    return [
        chart.mark_line(strokeWidth=4, color=DARK, opacity=0.75, clip=True, tooltip=None),
        chart.mark_line(strokeWidth=1.6, color=LIGHT, clip=True, tooltip=None),
        chart.mark_circle(size=22, color=LIGHT, stroke=DARK, strokeWidth=0.8, opacity=1, clip=True, tooltip=None),
    ]


def _named(places: pd.DataFrame, path: pd.DataFrame, axes: Any, limits: Any, channels: Any) -> Sequence[Any]:
    """Crosses with names that keep inside the map, above their cross or, where the path goes up from it, below."""
    if places.empty:
        return []
    points = pd.DataFrame({"x": places[axes[0].column], "y": places[axes[1].column]})
    across, up = (axis.position(points[at], ends) for axis, at, ends in zip(axes, "xy", limits, strict=True))
    higher = (path[axes[1].column].mean() > points["y"]) if len(path) else pd.Series(data=False, index=points.index)
    points = points.assign(
        label=places["label"].astype(str),
        align=np.select([across < EDGE, across > 1 - EDGE], ["left", "right"], "center"),
        dx=np.select([across < EDGE, across > 1 - EDGE], [-6, 6], 0),
        dy=np.where((higher & (up > EDGE)) | (up > 1 - EDGE / 2), 16, -13),
    )
    chart = alt.Chart(inline(points)).encode(*channels)
    cross = chart.mark_point(shape="cross", size=90, filled=True, opacity=1, color=LIGHT, stroke=DARK, strokeWidth=1.2)
    text: dict[str, Any] = {name: {"expr": f"datum.{name}"} for name in ("align", "dx", "dy")}
    text |= {"fontSize": 12, "fontWeight": 600, "clip": False}
    return [
        cross,
        chart.mark_text(stroke=DARK, strokeWidth=3, strokeJoin="round", color=DARK, **text).encode(text="label:N"),
        chart.mark_text(color=LIGHT, **text).encode(text="label:N"),
    ]
