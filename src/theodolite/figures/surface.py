"""Height over a plane: coloured bands between labelled contours, and on them a path and named places."""

import json
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from scipy.ndimage import zoom

from theodolite.figures import walk
from theodolite.figures.contours import bands, thinned
from theodolite.figures.scales import LETTER, MOVES, Axis, inline, log_label, log_ticks, nothing, order
from theodolite.figures.theme import SQUARE, WIDTH
from theodolite.wording import signed

LINES = "Lines: contours at the heights written on them; between grid points the height is smoothed."  # for captions
MOST = 14  # contour levels of a panel: beyond it they run together
FINER = 3  # times the grid, by cubic splines: contours without corners
FINE = 1 / 1200  # of the map's width: how far a contour may lie from where it is
MAP = 440  # pixels that one map is wide at most
MARGIN, GAP = 62, 24  # pixels left of a panel for its axis, and between panels
EDGE = 0.15  # share of a side from which a name grows inwards
ROOM = np.array([48.0, 21.0])  # pixels that the height written on a contour keeps to others, with some for small maps
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
    stops: pd.DataFrame | None = None,
    width: int = WIDTH,
) -> Any:
    """Maps with contours, one beside the other; both axes of a panel have one scale, so that lengths are true.

    Args:
        table: a row for each point of each grid, with the columns of the three axes; every panel has a whole grid.
        x: across.
        y: upwards.
        z: the height; logarithmic as a rule, since a loss spans decades.
        panel: a column that gets one map a value; panels share the colours, not the axes.
        paths: points in the order of a path, with the columns of x and y (and of ``panel``); a column ``path`` tells
            several apart.
        places: points with the columns of x and y and a ``label`` (and of ``panel``).
        stops: points of a slider (see :mod:`theodolite.figures.walk`), with the columns of x and y and ``step``.
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
        _panel(
            _of(table, panel, value),
            (x, y, z),
            limits,
            _of(paths, panel, value),
            _of(places, panel, value),
            (number, plot),
            _of(stops, panel, value),
        ).properties(**({} if value is None else {"title": str(value)}))
        for number, value in enumerate(values)
    ]
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


def _panel(
    table: pd.DataFrame,
    axes: tuple[Axis, Axis, Axis],
    limits: tuple[float, float],
    path: pd.DataFrame,
    places: pd.DataFrame,
    numbered: tuple[int, int],
    stops: pd.DataFrame,
) -> Any:
    x, y, z = axes
    number, plot = numbered
    grid = table.pivot_table(index=y.column, columns=x.column, values=z.column, dropna=False).sort_index()
    across, up = grid.columns.to_numpy(dtype=np.float64), grid.index.to_numpy(dtype=np.float64)
    x_limits, y_limits = (_limits(points, path, axis) for points, axis in ((across, x), (up, y)))
    spans = np.ptp(x_limits), np.ptp(y_limits)
    height = int(np.clip(plot * spans[1] / spans[0], plot / 3, 1.5 * plot))
    at_x = x.encode(alt.X, "x:Q", x_limits)
    at_y = y.encode(alt.Y, "y:Q", y_limits, titled=number == 0)
    outlines = _outlines(across, up, grid.to_numpy(dtype=np.float64), z, limits)
    sides = (x_limits, y_limits)
    named = _names(places, path, (x, y), sides)
    return alt.layer(
        _map(outlines, z, limits, at_x, at_y).add_params(alt.selection_interval(name=f"zoom{number}", **MOVES)),
        *_walk(path, x, y, at_x, at_y),
        *_crosses(named, (at_x, at_y)),
        *_labels(outlines, path, named, (x, y), sides, plot, (at_x, at_y)),
        *walk.marks(stops, x, y, at_x, at_y),
    ).properties(width=plot, height=height)


def _limits(points: Any, path: pd.DataFrame, axis: Axis) -> tuple[float, float]:
    """As far as the map goes, or a little farther than the path where that leaves it."""
    ends = [float(points[0]), float(points[-1])]
    if ends[0] == ends[1]:
        ends = [ends[0] - 0.5, ends[1] + 0.5]
    if len(path):
        low, high = float(path[axis.column].min()), float(path[axis.column].max())
        room = 0.03 * (max(ends[1], high) - min(ends[0], low))
        ends = [min(ends[0], low - room), max(ends[1], high + room)]
    return ends[0], ends[1]


Outline = tuple[float, float, Any]  # its lowest height, its highest, its points; painted one over the other


def _outlines(across: Any, up: Any, z: Any, axis: Axis, limits: tuple[float, float]) -> list[Outline]:
    """Bands between round heights; what is not finite, or beyond the limits, counts as the limit."""
    known = np.clip(np.where(np.isfinite(z), z, limits[1]), *limits)
    heights = np.log(known) if axis.log else known
    if min(z.shape) > 3:
        heights = zoom(heights, FINER, order=3, mode="nearest", grid_mode=False)
        across, up = (np.linspace(at[0], at[-1], FINER * len(at)) for at in (across, up))
    found = levels(float(known.min()), float(known.max()), log=axis.log)
    ends = [limits[0], *found, limits[1]]
    painted = bands(across, up, heights, [float(np.log(level)) if axis.log else level for level in found])
    fine = FINE * (across[-1] - across[0])
    return [(ends[band], ends[band + 1], thinned(line, fine)) for band, line in painted]


def _map(outlines: Sequence[Outline], axis: Axis, limits: tuple[float, float], at_x: Any, at_y: Any) -> Any:
    middle = (lambda low, high: float(np.sqrt(low * high))) if axis.log else (lambda low, high: (low + high) / 2)
    parts = [pd.DataFrame(line, columns=["x", "y"]).assign(outline=n) for n, (_, _, line) in enumerate(outlines)]
    heights = [float(f"{middle(low, high):.3g}") for low, high, _ in outlines]
    scale = alt.Scale(type="log" if axis.log else "linear", domain=list(limits), scheme="viridis", clamp=True)
    ticks = log_ticks(*limits, most=5) if axis.log else []
    form = {"labelExpr": log_label(ticks), "values": ticks} if axis.log else {"format": "~g"}
    legend = alt.Legend(type="gradient", gradientLength=260, gradientThickness=10, titleLimit=300, **form)
    return (
        alt.Chart(inline(pd.concat(parts, ignore_index=True)))
        .transform_calculate(z=f"{json.dumps(heights)}[datum.outline]")
        .mark_line(clip=True, strokeWidth=0.8, strokeOpacity=0.75, strokeJoin="round", order=False)
        .encode(
            at_x,
            at_y,
            alt.Fill("z:Q", title=axis.title, scale=scale, legend=legend),  # panels share it
            stroke=alt.value(LIGHT),
            detail="outline:N",
            tooltip=[alt.Tooltip("z:Q", title=f"{axis.title}, about", format=".2~g")],
        )
    )


def _height(level: float) -> str:
    return signed(f"{level:.0e}" if level < 1e-3 or level >= 1e6 else f"{level:.3g}")


def _labels(
    outlines: Sequence[Outline],
    path: pd.DataFrame,
    named: pd.DataFrame,
    axes: Any,
    limits: Any,
    plot: int,
    channels: Any,
) -> list[Any]:
    """Heights on their contours, each where it is farthest from paths, names and other heights, if that is enough."""
    pixels = np.array([plot, plot * np.ptp(limits[1]) / np.ptp(limits[0])]) / ROOM

    def places(points: Any) -> Any:
        return np.stack([axis.position(points[:, k], limits[k]) for k, axis in enumerate(axes)]).T

    used = [places(path[[axis.column for axis in axes]].to_numpy())] if len(path) else []
    for x, y, label, align, dx, dy in named.to_numpy():
        shift = {"left": 0.5, "center": 0.0, "right": -0.5}[align]
        letters = (np.linspace(-0.5, 0.5, 2 * len(label)) + shift) * LETTER * len(label) + dx
        used.append(
            places(np.array([[x, y]], dtype=np.float64)) + np.stack([letters, 0 * letters - dy]).T / pixels / ROOM
        )
    away_from, rows = np.vstack([np.full((1, 2), 9.0), *used]), []
    lines: dict[float, list[Any]] = {}
    for low, _, line in outlines[1:]:
        lines.setdefault(low, []).append(line)
    for level, parts in sorted(lines.items(), key=lambda item: -max(map(len, item[1]))):  # the longest first
        points = np.vstack(parts)
        at = places(points)
        free = np.abs((at[:, None] - away_from) * pixels).max(axis=2).min(axis=1)
        free = np.where(((at > EDGE / 2) & (at < 1 - EDGE / 2)).all(axis=1), free, 0.0)
        best = int(free.argmax())
        if free[best] >= 1:
            rows.append((*points[best], _height(level)))
            away_from = np.vstack([away_from, at[best]])
    if not rows:
        return []
    chart = alt.Chart(inline(pd.DataFrame(rows, columns=["x", "y", "label"]))).encode(*channels, text="label:N")
    return _haloed(chart, fontSize=10, fontWeight=400)


def _haloed(chart: Any, **text: Any) -> list[Any]:
    """A text that can be read on every colour of the map."""
    text = {"clip": True, "tooltip": None} | text
    return [
        chart.mark_text(stroke=DARK, strokeWidth=2.6, strokeJoin="round", color=DARK, **text),
        chart.mark_text(color=LIGHT, **text),
    ]


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


def _names(places: pd.DataFrame, path: pd.DataFrame, axes: Any, limits: Any) -> pd.DataFrame:
    """Where names stand, inside the map: above their cross or, where the path goes up from it, below."""
    if places.empty:
        return pd.DataFrame()
    points = pd.DataFrame({"x": places[axes[0].column], "y": places[axes[1].column]})
    across, up = (axis.position(points[at], ends) for axis, at, ends in zip(axes, "xy", limits, strict=True))
    higher = (path[axes[1].column].mean() > points["y"]) if len(path) else pd.Series(data=False, index=points.index)
    return points.assign(
        label=places["label"].astype(str),
        align=np.select([across < EDGE, across > 1 - EDGE], ["left", "right"], "center"),
        dx=np.select([across < EDGE, across > 1 - EDGE], [-6, 6], 0),
        dy=np.where((higher & (up > EDGE)) | (up > 1 - EDGE / 2), 16, -13),
    )


def _crosses(points: pd.DataFrame, channels: Any) -> list[Any]:
    """Named places."""
    if points.empty:
        return []
    chart = alt.Chart(inline(points)).encode(*channels)
    cross = chart.mark_point(shape="cross", size=90, filled=True, opacity=1, color=LIGHT, stroke=DARK, strokeWidth=1.2)
    text: dict[str, Any] = {name: {"expr": f"datum.{name}"} for name in ("align", "dx", "dy")}
    return [cross, *_haloed(chart.encode(text="label:N"), fontSize=12, fontWeight=600, clip=False, **text)]
