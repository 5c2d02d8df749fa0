"""Curves over seeds: a median line with a band. Learning curves, function fits, anything along an axis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from theodolite.figures import walk
from theodolite.figures.scales import MOVES, Axis, Rule, colour, dash, faded, inline, nothing, order
from theodolite.figures.scales import rules as guide_layers
from theodolite.figures.theme import REFERENCE, WIDTH

BAND = "Line: median over seeds; band: the middle 80 % of seeds."  # for captions
POINTS = 200  # of a line: more than a screen shows
SEED_ROWS = 3000  # of all single seeds together, so that the page stays small
SUMMARY = ["series", "x", "y", "low", "high", "seeds"]
MARGIN = 64  # pixels beside a panel for its axis
GAP = 28  # pixels between panels


def curves(
    table: pd.DataFrame,
    *,
    x: Axis,
    y: Axis,
    series: str,
    seed: str = "seed",
    panel: str | None = None,
    rules: Sequence[Rule] = (),
    reference: pd.DataFrame | None = None,
    reference_label: str = "target",
    marks: pd.DataFrame | None = None,
    stops: Sequence[float] = (),
    carry: bool = False,
    part: str = "",
    width: int = WIDTH,
    height: int = 300,
) -> Any:
    """Median curve of each series with a band over seeds; the page can show single seeds in its place.

    Args:
        table: one row for each (series, panel, seed, x): what a study recorded, not yet thinned out.
        x: the axis that curves run along.
        y: the measured quantity; NaN or infinite values (diverged runs) count as infinitely high.
        series: the column that tells curves apart, such as ``model``.
        seed: the column of the unit of evidence.
        panel: a column that gets one chart a value, side by side, with shared axes.
        rules: straight lines across every panel, each with its label.
        reference: a curve without band, with the columns of both axes (and of ``panel``): the target function.
        reference_label: its name in the legend.
        marks: points with the columns of both axes, ``series`` (and ``panel``) and a ``label``, which may be empty;
            also ``low`` and ``high``, the ends of an interval along x, infinite where nothing bounds it.
        stops: where on the x axis each step of a slider is (see :mod:`theodolite.figures.walk`).
        carry: continue a curve that has ended (a run that stopped at convergence) at its last value, so that the
            median stays that of all seeds; the line ends where the last seed ends.
        part: a name, where the chart becomes one part of a figure: its own zoom and selection then go by that name.
        width: of the whole figure, in pixels.
        height: of a panel, in pixels.

    Returns:
        An Altair chart without configuration; :func:`theodolite.figures.theme.specification` dresses it.
    """
    if table.empty:
        return nothing(width, height)
    parts = [(str(value), part) for value, part in table.groupby(panel, sort=False)] if panel else [("", table)]
    spans = {value: _summary(part, x, y, series, seed, carry) for value, part in parts}
    single = {value: _thin_seeds(part, x, y, series, seed, len(parts)) for value, part in parts}
    targets = {value: _reference(reference, x, y, panel, value, reference_label) for value, _ in parts}
    drawn = pd.concat([*spans.values(), *(t for t in targets.values() if t is not None)])
    if drawn.empty:
        return nothing(width, height)
    with_points = set(drawn["series"])
    names = [name for name in map(str, order(table[series])) if name in with_points]
    ruled = [rule.value for rule in rules if rule.axis == "y"]
    x_limits = x.span(drawn["x"])
    y_limits = y.limits([*drawn["low"], *drawn["high"], *ruled])
    plot = (width - MARGIN - (len(parts) - 1) * (GAP + MARGIN // 2)) // len(parts)
    ends = drawn.groupby("series", sort=False).last().reset_index()
    direct = len(parts) == 1 and _apart(ends, x, y, x_limits, y_limits, height)
    room = 8 * max(map(len, ends["series"])) if direct else 0  # pixels right of the panel for the labels
    frame = _Frame(x, y, x_limits, y_limits, names, rules, ends if direct else None, part, stops)
    points = {value: _marks(marks, frame, series, panel, value) for value, _ in parts}
    label = reference_label if reference is not None else None
    panels = [
        _panel(frame, spans[value], single[value], targets[value], label, points[value], number).properties(
            width=plot - room, height=height, **({"title": value} if value else {})
        )
        for number, (value, _) in enumerate(parts)
    ]
    chart = panels[0] if len(panels) == 1 else alt.hconcat(*panels, spacing=GAP)
    return chart.add_params(alt.param(name="seeds", value=False))  # the page has a switch for it


@dataclass(frozen=True, slots=True)
class _Frame:
    """What all panels of a figure share."""

    x: Axis
    y: Axis
    x_limits: tuple[float, float]
    y_limits: tuple[float, float]
    names: Sequence[str]
    rules: Sequence[Rule]
    ends: pd.DataFrame | None  # where lines end, if they are labelled there; None: a legend
    part: str  # of a figure: what its selections are told apart by
    stops: Sequence[float]  # of a slider, along x


def _apart(
    ends: pd.DataFrame, x: Axis, y: Axis, x_limits: tuple[float, float], y_limits: tuple[float, float], height: int
) -> bool:
    """Whether all lines reach the right edge, far enough apart for a label beside each."""
    at = np.sort(y.position(ends["y"], y_limits)) * height
    edge = x.position(ends["x"], x_limits)
    return bool(
        np.isfinite(at).all() and (edge > 0.98).all() and (np.diff(at) > 16).all() and at[0] >= 0 <= height - at[-1]
    )


def _panel(
    frame: _Frame,
    span: pd.DataFrame,
    single: pd.DataFrame,
    target: pd.DataFrame | None,
    label: str | None,
    points: pd.DataFrame,
    number: int,
) -> Any:
    at_x = frame.x.encode(alt.X, "x:Q", frame.x_limits)
    at_y = frame.y.encode(alt.Y, "y:Q", frame.y_limits, titled=number == 0)
    legend = frame.ends is None
    hue = colour("series", frame.names, label, legend=legend)
    strokes = dash("series", frame.names, label, legend=legend)
    pick = alt.selection_point(
        name=f"pick{frame.part}{number}", fields=["series"], **({"bind": "legend"} if legend else {})
    )
    near = alt.selection_point(
        name=f"near{frame.part}{number}", on="pointerover", empty=False, clear="pointerout", fields=["x", "series"]
    )
    zoom = alt.selection_interval(name=f"zoom{frame.part}{number}", **MOVES)
    low = at_y.copy()
    low.shorthand = "low:Q"
    data = inline(span)
    band = (
        alt.Chart(data)
        .mark_area(clip=True, tooltip=None)
        .transform_filter("!seeds")
        .encode(at_x, low, alt.Y2("high:Q"), hue, opacity=faded(pick, 0.17, 0.03))
    )
    each = (
        alt.Chart(inline(single))
        .mark_line(clip=True, strokeWidth=0.8)
        .transform_filter("seeds")
        .encode(at_x, at_y, hue, detail="seed:N", opacity=faded(pick, 0.45, 0.03))
    )
    middle = (
        alt.Chart(data)
        .mark_line(clip=True, strokeWidth=2.25)
        .encode(at_x, at_y, hue, strokes, opacity=faded(pick, 1, 0.12))
    )
    dots = (
        alt.Chart(data)
        .mark_circle(
            clip=True, size=55, opacity=1, stroke="transparent", strokeWidth=14
        )  # the stroke widens the target
        .encode(
            at_x,
            at_y,
            hue,
            fillOpacity=faded(near, 1, 0, alt.FillOpacityValue),
            tooltip=[
                alt.Tooltip("series:N", title="series"),
                alt.Tooltip("x:Q", title=frame.x.title, format=",.6~g"),
                alt.Tooltip("y:Q", title="median", format=".3~g"),
                alt.Tooltip("low:Q", title="10 % of seeds below", format=".3~g"),
                alt.Tooltip("high:Q", title="10 % of seeds above", format=".3~g"),
                alt.Tooltip("seeds:Q", title="seeds"),
            ],
        )
        .add_params(near, zoom, *([pick] if legend else []))
    )
    under = [] if target is None else [_underline(target, at_x, at_y, hue)]
    lines = [
        (frame.x.position(line["x"], frame.x_limits), frame.y.position(line[edge], frame.y_limits))
        for line, edges in ((span, ("y", "low", "high")), (target, ("y",)))
        if line is not None
        for edge in edges
    ]
    guides = guide_layers(frame.rules, (frame.x_limits, frame.y_limits), (at_x, at_y), drawn=lines)
    labels = [] if frame.ends is None else [_labels(frame.ends, at_x, at_y, hue, pick)]
    moving = [walk.rule(frame.stops, at_x)] if len(frame.stops) else []
    return alt.layer(*under, band, each, *guides, *moving, middle, *_marked(points, at_x, at_y, hue), dots, *labels)


def _marks(marks: pd.DataFrame | None, frame: _Frame, series: str, panel: str | None, value: str) -> pd.DataFrame:
    """The points to mark in one panel, their intervals no longer than the panel."""
    if marks is None or marks.empty:
        return pd.DataFrame()
    own = marks[marks[panel].astype(str) == value] if panel and panel in marks else marks
    at = own[frame.x.column]
    found = pd.DataFrame({"x": at, "y": own[frame.y.column], "series": own[series].astype(str), "label": own["label"]})
    ends = {end: own.get(end, at).clip(*frame.x_limits) for end in ("low", "high")}
    return found.assign(**ends)


def _marked(points: pd.DataFrame, at_x: Any, at_y: Any, hue: Any) -> list[Any]:
    """Diamonds with what they are, and their intervals."""
    if points.empty:
        return []
    chart = alt.Chart(inline(points)).encode(at_x, at_y)
    low = at_x.copy()
    low.shorthand = "low:Q"
    bars = alt.Chart(inline(points.dropna(subset=["low", "high"])))
    spans = (points["low"] != points["high"]).any()
    ends = [
        alt.Tooltip(f"{end}:Q", title=name, format=",.4~g")
        for end, name in (("low", "95 % interval from"), ("high", "to"))
    ]
    tips = [alt.Tooltip("series:N", title="series"), alt.Tooltip("x:Q", title=at_x["title"], format=",.4~g")]
    tips += ends if spans else [alt.Tooltip("y:Q", title=at_y["title"] or "value", format=".4~g")]
    text = {"align": "center", "baseline": "bottom", "dy": -8, "tooltip": None, "clip": True}
    return [
        bars.mark_rule(strokeWidth=5, opacity=0.45, clip=True, tooltip=None).encode(low, alt.X2("high:Q"), at_y, hue),
        chart.mark_point(shape="diamond", size=95, filled=True, opacity=1, clip=True).encode(hue, tooltip=tips),
        chart.mark_text(style="guide-note", **text).encode(text="label:N"),
    ]


def _labels(ends: pd.DataFrame, at_x: Any, at_y: Any, hue: Any, pick: Any) -> Any:
    """Names at the line ends, while these are in sight; a click on one picks its line, as a click on a legend does.

    The name of the reference, which is of no seeds, is in ink: its line is too pale to be read in.
    """
    ink = alt.condition("datum.seeds === null", alt.value(REFERENCE.colour), hue)
    seen = "inrange(datum.x, domain('x')) && inrange(datum.y, domain('y'))"
    return (
        alt.Chart(inline(ends))
        .mark_text(style="end-label", align="left", dx=7, cursor="pointer", tooltip=None, clip=False)
        .encode(at_x, at_y, color=ink, text="series:N", opacity=faded(seen, 1, 0))
        .add_params(pick)
    )


def _underline(target: pd.DataFrame, at_x: Any, at_y: Any, hue: Any) -> Any:
    """The reference as a wide pale line beneath, so that curves on top of it stay visible."""
    return alt.Chart(inline(target)).mark_line(clip=True, strokeWidth=6).encode(at_x, at_y, hue)


def _grid(table: pd.DataFrame, x: Axis, y: Axis, keys: list[str], carry: bool) -> pd.DataFrame:
    """A row an x, a column a curve; between recorded points the last value holds, diverged is infinite."""
    known = table.assign(**{y.column: table[y.column].astype("float64").fillna(np.inf)})
    if x.log:
        known = known[known[x.column] > 0]
    grid = known.pivot_table(index=x.column, columns=keys, values=y.column, aggfunc="last").sort_index()
    ended = grid[::-1].notna().cummax()[::-1]  # false after a curve's last point
    return grid.ffill() if carry else grid.ffill().where(ended)


def _thin(grid: pd.DataFrame, x: Axis, points: int) -> pd.DataFrame:
    """Rows about evenly spaced on the screen, the first and the last among them; values are kept as they are."""
    if len(grid) <= points:
        return grid
    at = np.log(grid.index) if x.log else grid.index.to_numpy(dtype=np.float64)
    chosen = np.searchsorted(at, np.linspace(at[0], at[-1], points))
    return grid.iloc[np.unique(np.clip(chosen, 0, len(grid) - 1))]


def _summary(table: pd.DataFrame, x: Axis, y: Axis, series: str, seed: str, carry: bool) -> pd.DataFrame:
    parts = [pd.DataFrame(columns=SUMMARY, dtype="float64").astype({"series": "str"})]
    for name, part in table.groupby(series, sort=False):
        grid = _thin(_grid(part, x, y, [seed], carry), x, POINTS)
        if grid.empty:  # nothing recorded where a logarithmic axis could show it
            continue
        finite = grid.replace(np.inf, np.finfo(np.float64).max)  # keeps its rank, and quantiles free of inf - inf
        values = finite.quantile([0.1, 0.5, 0.9], axis=1, interpolation="linear").T
        values = values.mask(values > 1e300)
        parts.append(
            pd.DataFrame(
                {
                    "series": str(name),
                    "x": grid.index.to_numpy(dtype=np.float64),
                    "y": values[0.5].to_numpy(),
                    "low": values[0.1].to_numpy(),
                    "high": values[0.9].to_numpy(),
                    "seeds": grid.notna().sum(axis=1).to_numpy(),
                }
            )
        )
    return pd.concat(parts[1:] or parts, ignore_index=True)


def _thin_seeds(table: pd.DataFrame, x: Axis, y: Axis, series: str, seed: str, panels: int) -> pd.DataFrame:
    lines = max(1, table.groupby([series, seed]).ngroups * panels)
    grid = _thin(_grid(table, x, y, [series, seed], carry=False), x, int(np.clip(SEED_ROWS / lines, 20, 100)))
    names, seeds = (grid.columns.get_level_values(level).repeat(len(grid)) for level in (0, 1))
    at = np.tile(grid.index.to_numpy(dtype=np.float64), grid.shape[1])  # pandas' melt takes an object a column
    long = pd.DataFrame({"x": at, "series": names.astype(str), "seed": seeds, "y": grid.to_numpy().T.ravel()})
    return pd.DataFrame(long[np.isfinite(long["y"])])


def _reference(
    reference: pd.DataFrame | None, x: Axis, y: Axis, panel: str | None, value: str, label: str
) -> pd.DataFrame | None:
    if reference is None:
        return None
    own = reference[reference[panel].astype(str) == value] if panel in reference else reference
    own = _thin(own.set_index(x.column).sort_index(), x, POINTS)
    line = own[y.column].to_numpy(dtype=np.float64)
    return pd.DataFrame(
        {"series": label, "x": own.index.to_numpy(dtype=np.float64), "y": line, "low": line, "high": line}
    )
