"""Lines that are one measurement each, with a band where it has an error: what a single result gives."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from theodolite.figures import walk
from theodolite.figures.scales import MOVES, Axis, Rule, colour, dash, faded, inline, nothing, order
from theodolite.figures.scales import rules as guide_layers
from theodolite.figures.theme import WIDTH

MARGIN = 64  # pixels beside the panel for its axis


def lines(
    table: pd.DataFrame,
    *,
    x: Axis,
    y: Axis,
    series: str,
    low: str | None = None,
    high: str | None = None,
    rules: Sequence[Rule] = (),
    stops: Sequence[float] = (),
    titled: bool = True,
    part: str = "",
    width: int = WIDTH,
    height: int = 300,
) -> Any:
    """Draw one line for each series, in the look of :func:`theodolite.figures.curves.curves`.

    Args:
        table: one row for each (series, x); rows whose y is not finite are left out.
        x: the axis that lines run along.
        y: the measured quantity.
        series: the column that tells lines apart.
        low: column with the band's lower edge, if there is one.
        high: the same for the upper edge.
        rules: straight lines across the panel.
        stops: where on the x axis each step of a slider is (see :mod:`theodolite.figures.walk`).
        titled: whether the y axis says what it shows; panels side by side say it once.
        part: a name, where the chart becomes one part of a figure: its zoom and selection then go by that name.
        width: of the whole figure, in pixels.
        height: of the panel, in pixels.

    Returns:
        An Altair chart without configuration; :func:`theodolite.figures.theme.specification` dresses it.
    """
    points = pd.DataFrame({"x": table[x.column], "y": table[y.column], "series": table[series].astype(str)})
    points = points.assign(low=table[low] if low else points["y"], high=table[high] if high else points["y"])
    points = points.replace([np.inf, -np.inf], np.nan).dropna()
    if points.empty:
        return nothing(width, height)
    names = order(points["series"])
    several = len(names) > 1
    ruled = [rule.value for rule in rules if rule.axis == "y"]
    x_limits = x.span(points["x"])
    y_limits = y.limits([*points["low"], *points["high"], *ruled])
    at_x, at_y = x.encode(alt.X, "x:Q", x_limits), y.encode(alt.Y, "y:Q", y_limits, titled=titled)
    lower = at_y.copy()
    lower.shorthand = "low:Q"
    hue, strokes = colour("series", names, legend=several), dash("series", names, legend=several)
    pick = alt.selection_point(name=f"pick{part}", fields=["series"], **({"bind": "legend"} if several else {}))
    near = alt.selection_point(
        name=f"near{part}", on="pointerover", empty=False, clear="pointerout", fields=["x", "series"]
    )
    zoom = alt.selection_interval(name=f"zoom{part}", **MOVES)
    base = alt.Chart(inline(points))
    band = base.mark_area(clip=True, tooltip=None, opacity=0.2).encode(at_x, lower, alt.Y2("high:Q"), hue)
    line = base.mark_line(clip=True, strokeWidth=2.25, tooltip=None).encode(
        at_x, at_y, hue, strokes, opacity=faded(pick, 1, 0.12)
    )
    tips = [
        *([alt.Tooltip("series:N", title="series")] if several else []),
        alt.Tooltip("x:Q", title=x.title, format=".4~g"),
        alt.Tooltip("y:Q", title=y.title, format=".4~g"),
    ]
    dots = (
        base.mark_circle(clip=True, size=55, opacity=1, stroke="transparent", strokeWidth=14)  # a wide target
        .encode(at_x, at_y, hue, fillOpacity=faded(near, 1, 0, alt.FillOpacityValue), tooltip=tips)
        .add_params(near, zoom, pick)
    )
    places = (x.position(points["x"], x_limits), y.position(points["y"], y_limits))
    guides = guide_layers(rules, (x_limits, y_limits), (at_x, at_y), drawn=[places])
    moving = [walk.rule(stops, at_x)] if len(stops) else []
    drawn = [*([band] if low else []), *guides, *moving, line, dots]
    return alt.layer(*drawn).properties(width=width - MARGIN, height=height)
