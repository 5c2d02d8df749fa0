"""Paths through a plane: points joined in the order in which they were passed, a colour each."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from theodolite.figures.scales import MOVES, Axis, faded, inline, nothing, order
from theodolite.figures.theme import PALETTE, REFERENCE, SQUARE, WIDTH

MARKS = "Open circle: start; small dots: on the way; large dot with the path's number: end."  # for captions
MARGIN = 64  # pixels beside the panel for its axis
LOWEST, HIGHEST = 240, 520  # pixels of the panel's height
BEYOND = 16  # pixels from an end to its name, however small the figure is drawn
NARROW = 250  # pixels of a panel in a column of a paper, where names must have room too


def paths(table: pd.DataFrame, *, x: Axis, y: Axis, series: str, step: str, width: int = WIDTH) -> Any:
    """Draw paths in one plane, with the same scale on both axes, so that distances on the figure are distances.

    Args:
        table: one row for each (series, step).
        x: first coordinate.
        y: second coordinate, in the same unit.
        series: the column that tells paths apart, named beside each end. Beyond eight, colours come again.
        step: the column that orders the points of a path, such as ``epoch``.
        width: of the whole figure, in pixels.

    Returns:
        An Altair chart without configuration; :func:`theodolite.figures.theme.specification` dresses it.
    """
    ordered = table.sort_values(step, kind="stable")
    points = pd.DataFrame(
        {"x": ordered[x.column], "y": ordered[y.column], "step": ordered[step], "series": ordered[series].astype(str)}
    ).dropna()
    if points.empty:
        return nothing(width, LOWEST)
    names = sorted(order(points["series"]), key=lambda name: (len(name), name))
    first, last = (points.drop_duplicates("series", keep=which) for which in ("first", "last"))
    labels = _labels(points)
    pixel = max(np.ptp(points["x"]), np.ptp(points["y"])) / NARROW
    room = {"x": labels["x"] + pixel * labels["dx"], "y": labels["y"] - pixel * labels["dy"]}
    wanted = [axis.limits([*points[at], *room[at]]) for at, axis in (("x", x), ("y", y))]
    x_limits, y_limits, height = _equal(wanted[0], wanted[1], width - MARGIN)
    at_x, at_y = x.encode(alt.X, "x:Q", x_limits), y.encode(alt.Y, "y:Q", y_limits)
    hue = alt.Color("series:N", legend=None, scale=alt.Scale(domain=names, range=_colours(names)))
    pick = alt.selection_point(name="pick", fields=["series"])
    zoom = alt.selection_interval(name="zoom", **MOVES)
    seen = faded(pick, 1, 0.1)
    tips = [
        alt.Tooltip("series:N", title=series),
        alt.Tooltip("step:Q", title=step),
        alt.Tooltip("x:Q", title=x.title, format=".3~g"),
        alt.Tooltip("y:Q", title=y.title, format=".3~g"),
    ]
    lines = (
        alt.Chart(inline(points))
        .mark_line(clip=True, strokeWidth=1.6, tooltip=None)
        .encode(at_x, at_y, hue, order="step:Q", opacity=seen)
    )
    way = _dots(points, at_x, at_y, hue, seen, tips, size=16, filled=True).add_params(pick, zoom)
    starts = _dots(first, at_x, at_y, hue, seen, tips, size=95, filled=False, strokeWidth=2)
    ends = _dots(last, at_x, at_y, hue, seen, tips, size=95, filled=True)
    named = (
        alt.Chart(inline(labels))
        .mark_text(
            style="end-label",
            baseline="middle",
            tooltip=None,
            dx=alt.ExprRef("datum.dx"),
            dy=alt.ExprRef("datum.dy"),
        )
        .encode(at_x, at_y, hue, text="series:N", opacity=seen)
    )
    chart = alt.layer(lines, way, starts, ends, named)
    return chart.properties(width=width - MARGIN, height=height, usermeta=SQUARE)


def _dots(points: pd.DataFrame, at_x: Any, at_y: Any, hue: Any, seen: Any, tips: Sequence[Any], **mark: Any) -> Any:
    chart = alt.Chart(inline(points)).mark_point(clip=True, shape="circle", **mark)
    return chart.encode(at_x, at_y, hue, opacity=seen, tooltip=list(tips))


def _labels(points: pd.DataFrame) -> pd.DataFrame:
    """Where names stand: so many pixels beyond each end, in the direction in which its path goes."""
    rows = []
    for name, path in points.groupby("series", sort=False):
        here = path[["x", "y"]].to_numpy(dtype=np.float64)
        onwards = here[-1] - here[0]
        across, up = BEYOND * onwards / (float(np.hypot(*onwards)) or 1.0)
        rows.append((name, *here[-1], across, -up))
    return pd.DataFrame(rows, columns=["series", "x", "y", "dx", "dy"])


def _equal(
    x: tuple[float, float], y: tuple[float, float], width: int
) -> tuple[tuple[float, float], tuple[float, float], int]:
    """Limits and height at which a unit is as long on both axes; the shorter axis is widened where it must.

    >>> _equal((0.0, 10.0), (0.0, 5.0), 600)
    ((0.0, 10.0), (0.0, 5.0), 300)
    >>> _equal((0.0, 10.0), (0.0, 1.0), 600)
    ((0.0, 10.0), (-1.5, 2.5), 240)
    """
    across, up = x[1] - x[0], y[1] - y[0]
    height = min(max(round(width * up / across), LOWEST), HIGHEST)
    unit = max(across / width, up / height)  # of the coordinates, a pixel
    return _widened(x, unit * width), _widened(y, unit * height), height


def _widened(limits: tuple[float, float], span: float) -> tuple[float, float]:
    more = (span - (limits[1] - limits[0])) / 2
    return (limits[0] - more, limits[1] + more) if more > 1e-9 * span else limits


def _colours(names: Sequence[str]) -> list[str]:
    looks = [*PALETTE, REFERENCE]  # nothing else is drawn here, so ink serves as the eighth colour
    return [looks[number % len(looks)].colour for number in range(len(names))]
