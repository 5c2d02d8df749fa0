"""Numbers over seeds: dots with intervals over a factor, estimates with intervals, one number against another."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from theodolite.claims import Evidence, Statistic, interval
from theodolite.figures.scales import LETTER, MOVES, Axis, Rule, colour, faded, in_lines, inline, nothing, order, shape
from theodolite.figures.scales import rules as guide_layers
from theodolite.figures.theme import NEUTRAL, PALETTE, WIDTH

MIDDLES: dict[Statistic, str] = {  # for captions: what a large mark is
    "median": "median",
    "mean": "mean",
    "ratio": "geometric mean",
    "correlation": "mean (of Fisher's z)",
}


def dots(statistic: Statistic = "median") -> str:
    """What the marks of :func:`over_factor` are, for captions.

    >>> dots("mean")
    'Small marks: single seeds; large marks and bars: mean with its 95 % interval.'
    """
    return f"Small marks: single seeds; large marks and bars: {MIDDLES[statistic]} with its 95 % interval."


MEDIAN = dots()
CENSORED = "Open triangles: not within the epochs of training."
MARGIN, GAP = 64, 28  # pixels beside a panel for its axis, and between panels
BESIDE = (": seeds before", ": seeds after")  # they stand on both sides of their median
MOST = 5000  # points of a scatter: each is an element of the page
ALL = "all"  # name of the one series where none is given


def over_factor(
    table: pd.DataFrame,
    *,
    x: Axis,
    y: Axis,
    series: str | None = None,
    panel: str | None = None,
    censored: str | None = None,
    statistic: Statistic = "median",
    looks: str | None = None,
    factors: Sequence[Any] = (),
    trend: pd.DataFrame | None = None,
    rules: Sequence[Rule] = (),
    width: int = WIDTH,
    height: int = 280,
) -> Any:
    """Every seed as a dot over a factor (depth, batch size), and the middle of all with its 95 % interval.

    Args:
        table: one row for each (factor, series, panel, seed); diverged runs, which have no number, as NaN.
        x: the factor, taken as ordered categories.
        y: the measured quantity.
        series: a column that sets groups apart by colour, shape and place.
        panel: a column that gets one chart a value, side by side, with the same y axis.
        censored: a Boolean column, true where ``y`` is only a lower bound (not converged): drawn as an open triangle,
            and counted as at least that in median and interval, which may then have no upper end.
        statistic: the middle, and what the interval is of: that which is tested, where a claim is shown.
        looks: the name of each factor where factors have colours of their own: ``"batch {}"``.
        factors: places along x, those without rows too; none: those that have some.
        trend: a line through each panel, as the columns of both axes (and of ``panel``), a row for each factor.
        rules: straight lines across every panel.
        width: of the whole figure, in pixels.
        height: of a panel, in pixels.

    Returns:
        An Altair chart without configuration; :func:`theodolite.figures.theme.specification` dresses it.
    """
    dots = pd.DataFrame(
        {
            "factor": table[x.column],
            "y": table[y.column].astype("float64"),
            "series": table[series].astype(str) if series else ALL,
            "panel": table[panel].astype(str) if panel else "",
            "censored": table[censored].astype(bool) if censored else False,
        }
    )
    if not np.isfinite(dots["y"]).any():
        return nothing(width, height)
    keys = ["panel", "series", "factor"]
    middles = pd.DataFrame(
        [dict(zip(keys, key, strict=True)) | _middle(p, statistic) for key, p in dots.groupby(keys, sort=False)]
    )
    dots, middles = (
        part.assign(look=part["series"] if looks is None else [looks.format(factor) for factor in part["factor"]])
        for part in (dots, middles)
    )
    ruled = [rule.value for rule in rules if rule.axis == "y"]
    limits = y.limits([*dots["y"], *middles["low"], *middles["high"], *ruled])
    middles["top"], middles["bottom"] = middles["high"].clip(upper=limits[1]), middles["low"].clip(lower=limits[0])
    panels = order(dots["panel"])
    beside = max((round(LETTER * len(rule.label)) + 8 for rule in rules if rule.label), default=0)
    plot = (width - MARGIN - beside - (len(panels) - 1) * (GAP + MARGIN // 2)) // len(panels)
    charts = [
        _factor_panel(
            dots[dots["panel"] == value],
            middles[middles["panel"] == value],
            x,
            y,
            limits,
            (order(dots["series"]), order(dots.sort_values("factor")["look"]) if looks else order(dots["look"])),
            _line(trend, x, y, panel, value),
            sorted({*factors, *dots["factor"]}) if factors else [],
            [rule if value == panels[-1] else replace(rule, label="") for rule in rules],
            number,
            plot,
        ).properties(width=plot, height=height, **({"title": value} if value else {}))
        for number, value in enumerate(panels)
    ]
    return charts[0] if len(charts) == 1 else alt.hconcat(*charts, spacing=GAP)


def _middle(part: pd.DataFrame, statistic: Statistic) -> dict[str, float]:
    values = part["y"].reset_index(drop=True)
    highest = values.mask(part["censored"].reset_index(drop=True), math.inf)
    found = interval(Evidence(values, highest), statistic)
    return {"y": found.estimate, "low": found.low, "high": found.high, "seeds": len(part)}


def _line(trend: pd.DataFrame | None, x: Axis, y: Axis, panel: str | None, value: str) -> pd.DataFrame:
    if trend is None:
        return pd.DataFrame()
    own = trend[trend[panel].astype(str) == value] if panel else trend
    return pd.DataFrame({"factor": own[x.column], "y": own[y.column]})


def _factor_panel(
    dots: pd.DataFrame,
    middles: pd.DataFrame,
    x: Axis,
    y: Axis,
    limits: tuple[float, float],
    named: tuple[Sequence[str], Sequence[str]],
    trend: pd.DataFrame,
    factors: Sequence[Any],
    marks: Sequence[Rule],
    number: int,
    width: int,
) -> Any:
    names, looks = named  # places beside each other, and what colours say: the same, or the factors
    one = len(names) == 1
    factors = list(factors) or sorted(dots["factor"].unique().tolist())
    names_of = {str(factor): in_lines(str(factor), int(width / len(factors) / LETTER)) for factor in factors}
    wrapped = any(isinstance(lines, list) for lines in names_of.values())
    axis = alt.Axis(
        labelAngle=0,
        **({"labelExpr": f"{json.dumps(names_of)}[datum.label] || datum.label", "labelLimit": 0} if wrapped else {}),
    )
    at_x = alt.X("factor:O", title=x.title, sort=factors, axis=axis, scale=alt.Scale(domain=factors))
    at_y = y.encode(alt.Y, "y:Q", limits, titled=number == 0)
    hue, form = colour("look", looks, legend=not one, symbols=True), shape("look", looks, legend=not one)
    places = [f"{name}{place}" for name in names for place in (BESIDE[0], "", BESIDE[1])]
    beside = {"xOffset": alt.XOffset("place:N", sort=places, scale=alt.Scale(paddingOuter=0.6))}
    pick = alt.selection_point(name=f"pick{number}", fields=["series"], **({} if one else {"bind": "legend"}))
    faint = faded(pick, 0.65, 0.08)
    clear = faded(pick, 1, 0.12)
    place = {"x": at_x, **beside}
    tips = [alt.Tooltip("factor:O", title=x.title), *([] if one else [alt.Tooltip("series:N", title="series")])]
    value = alt.Tooltip("y:Q", title=y.title, format=".4~g")
    sides = dots.groupby(["series", "factor"]).cumcount().mod(2).map(dict(enumerate(BESIDE)))
    dots, middles = dots.assign(place=dots["series"] + sides), middles.assign(place=middles["series"])
    known, open_ended = (dots[dots["censored"] == c].drop(columns="panel").dropna() for c in (False, True))
    seeds = (
        alt.Chart(inline(known))
        .mark_point(size=16, filled=True, clip=True)
        .encode(y=at_y, color=hue, shape=form, opacity=faint, tooltip=[*tips, value], **place)
        .add_params(pick)
    )
    at_least = (
        alt.Chart(inline(open_ended))
        .mark_point(size=34, filled=False, shape="triangle-up", strokeWidth=1.2, yOffset=-5)
        .encode(
            y=at_y,
            color=hue,
            opacity=clear,
            tooltip=[*tips, alt.Tooltip("y:Q", title="more than", format=".4~g")],
            **place,
        )
    )
    bars = (
        alt.Chart(
            inline(middles[np.isfinite(middles["bottom"])][["factor", "series", "look", "place", "bottom", "top"]])
        )
        .mark_rule(strokeWidth=2)
        .encode(y=_of(at_y, "bottom"), y2="top:Q", color=hue, opacity=clear, **place)
    )
    off = {"bottom": ~(middles["low"] >= limits[0]), "top": ~(middles["high"] <= limits[1])}
    arrows = [  # an interval that goes on beyond the panel, or that nothing bounds there
        alt.Chart(inline(middles[off[side]][["factor", "series", "look", "place", side]]))
        .mark_point(size=70, filled=True, shape=f"triangle-{way}", yOffset=inwards)
        .encode(y=_of(at_y, side), color=hue, opacity=clear, **place)
        for side, way, inwards in (("bottom", "down", -4), ("top", "up", 4))
    ]
    found = middles.assign(low=_text(middles["low"]), high=_text(middles["high"]))
    centres = (
        alt.Chart(inline(found[np.isfinite(found["y"])].drop(columns=["panel", "top", "bottom"])))
        .mark_point(size=70, filled=True)
        .encode(
            y=at_y,
            color=hue,
            shape=form,
            opacity=clear,
            tooltip=[
                *tips,
                alt.Tooltip("y:Q", title="middle of all seeds", format=".4~g"),
                alt.Tooltip("low:N", title="95 % interval from"),
                alt.Tooltip("high:N", title="to"),
                alt.Tooltip("seeds:Q", title="seeds"),
            ],
            **place,
        )
    )
    level = [rule for rule in marks if rule.axis == "y"]
    guides = guide_layers(level, (limits, limits), (None, at_y), beside=True)
    through = [] if trend.empty else [_through(trend, at_x, at_y)]
    return alt.layer(*guides, *through, seeds, at_least, bars, *arrows, centres)


def _through(trend: pd.DataFrame, at_x: Any, at_y: Any) -> Any:
    """A line from factor to factor, in the middle of what stands at each."""
    line = alt.Chart(inline(trend.dropna())).mark_line(strokeWidth=1.8, color=NEUTRAL.colour, tooltip=None, clip=True)
    return line.encode(at_x, at_y)


def _of(channel: Any, field: str) -> Any:
    """The same axis for another column."""
    other = channel.copy()
    other.shorthand = f"{field}:Q"
    return other


def _text(ends: pd.Series) -> pd.Series:
    return ends.map(lambda end: f"{end:.4g}" if math.isfinite(end) else "no end")


def forest(
    table: pd.DataFrame, *, x: Axis, label: str, low: str, high: str, rules: Sequence[Rule] = (), width: int = WIDTH
) -> Any:
    """Estimates with their intervals, a row each.

    Args:
        table: one row for each estimate (``x.column``, NaN where there is none).
        x: the axis of the estimates.
        label: column with the name of a row; rows stay in the order given.
        low: column with the interval's lower end; NaN or infinite: open, drawn to the edge with an arrow.
        high: the same for the upper end.
        rules: upright lines, such as the threshold.
        width: of the whole figure, in pixels.
    """
    rows = pd.DataFrame(
        {"label": table[label].astype(str), "x": table[x.column], "low": table[low], "high": table[high]}
    ).replace([math.inf, -math.inf], np.nan)
    if rows.empty:
        return nothing(width, 46)
    limits = x.limits([*rows["x"], *rows["low"], *rows["high"], *(r.value for r in rules)])
    rows = rows.assign(left=rows["low"].fillna(limits[0]), right=rows["high"].fillna(limits[1]))
    at_y = alt.Y(
        "label:N", title=None, sort=order(rows["label"]), axis=alt.Axis(labelLimit=260, ticks=False, domain=False)
    )
    at_x = x.encode(alt.X, "x:Q", limits)
    left = x.encode(alt.X, "left:Q", limits)
    ink = alt.value(PALETTE[0].colour)
    tips = [
        alt.Tooltip("label:N", title="of"),
        alt.Tooltip("x:Q", title="estimate", format=".4~g"),
        alt.Tooltip("low:Q", title="95 % interval from", format=".4~g"),
        alt.Tooltip("high:Q", title="to", format=".4~g"),
    ]
    bars = (
        alt.Chart(inline(rows)).mark_rule(strokeWidth=2).encode(left, alt.X2("right:Q"), at_y, color=ink, tooltip=tips)
    )
    points = alt.Chart(inline(rows.dropna(subset="x"))).mark_point(size=95, filled=True, opacity=1)
    arrows = [
        alt.Chart(inline(rows[rows[end].isna()]))
        .mark_point(size=70, filled=True, opacity=1, shape=f"triangle-{side}", xOffset=inwards)
        .encode(x.encode(alt.X, f"{side}:Q", limits), at_y, color=ink)
        for end, side, inwards in (("low", "left", 5), ("high", "right", -5))  # clear of the names of the rows
    ]
    guides = guide_layers([rule for rule in rules if rule.axis == "x"], (limits, limits), (at_x, None), above=True)
    names = max(map(len, rows["label"]))
    chart = alt.layer(
        *guides,
        bars.encode(left, alt.X2("right:Q"), at_y, color=ink, tooltip=tips),
        points.encode(at_x, at_y, color=ink, tooltip=tips),
        *arrows,
    )
    return chart.properties(width=width - min(7 * names, 260) - 20, height=30 * len(rows) + 16)


def scatter(
    table: pd.DataFrame,
    *,
    x: Axis,
    y: Axis,
    series: str | None = None,
    marks: str | None = None,
    detail: Sequence[str] = (),
    rules: Sequence[Rule] = (),
    spread: float = 0.0,
    width: int = WIDTH,
    height: int = 320,
    size: int = 42,
) -> Any:
    """One number against another, a point a row, the series by colour and shape.

    Of more than 5,000 points so many are drawn, by a lot that falls the same way each time, and the figure says so.

    Args:
        table: one row for each point; rows without both numbers are left out.
        x: the number across.
        y: the number upwards.
        series: a column that sets groups apart.
        marks: a second column, of two values: filled marks for that which comes first, hollow ones for the other.
        detail: other columns for the tooltip.
        rules: straight lines along either axis.
        spread: how far at most a point is moved up or down, by lot, where many have the same y.
        width: of the whole figure, in pixels.
        height: of the panel, in pixels.
        size: of a point, in square pixels: smaller where there are thousands.
    """
    points = table[list(detail)].assign(
        x=table[x.column], y=table[y.column], series=table[series].astype(str) if series else ALL
    )
    if marks:
        points = points.assign(mark=table[marks].astype(str))
    points = points[np.isfinite(points["x"].astype("float64")) & np.isfinite(points["y"].astype("float64"))]
    if points.empty:
        return nothing(width, height)
    points = points.assign(drawn=points["y"] + spread * np.random.default_rng(0).uniform(-1, 1, len(points)))
    names = order(points["series"])
    one = len(names) < 2
    hue = colour("series", names, legend=not one, symbols=True)
    kinds = order(points["mark"]) if marks else []
    fills = {
        "fill": alt.Fill("series:N", scale=hue["scale"], legend=alt.Undefined),
        "fillOpacity": faded(f"datum.mark === {json.dumps(kinds[0])}", 1, 0, alt.FillOpacityValue),
    } if kinds else {}  # fmt: skip
    x_limits, y_limits = (
        axis.limits([*points[{"x": "x", "y": "drawn"}[name]], *(rule.value for rule in rules if rule.axis == name)])
        for name, axis in (("x", x), ("y", y))
    )
    at_x, at_y = x.encode(alt.X, "x:Q", x_limits), y.encode(alt.Y, "drawn:Q", y_limits)
    notes = [f"filled: {kinds[0]}; hollow: {kinds[1]}"] if len(kinds) > 1 else []
    if len(points) > MOST:
        notes.append(f"{MOST:,} of {len(points):,} points, drawn by lot")
        lot = np.random.default_rng(0).choice(len(points), MOST, replace=False)
        points = points.iloc[np.sort(lot)]
    title = {"title": alt.TitleParams("; ".join(notes), style="guide-note")} if notes else {}
    pick = alt.selection_point(name="pick", fields=["series"], **({} if one else {"bind": "legend"}))
    zoom = alt.selection_interval(name="zoom", **MOVES)
    dots = (
        alt.Chart(inline(points))
        .mark_point(size=size, clip=True, filled=not marks, strokeWidth=1.3 if marks else 0)
        .encode(
            at_x,
            at_y,
            hue,
            shape("series", names, legend=not one),
            **fills,
            opacity=faded(pick, 0.75, 0.08),
            tooltip=[
                *([] if one else [alt.Tooltip("series:N", title="series")]),
                *([alt.Tooltip("mark:N", title=marks)] if marks else []),
                alt.Tooltip("x:Q", title=x.title, format=".4~g"),
                alt.Tooltip("y:Q", title=y.title, format=".4~g"),
                *(alt.Tooltip(f"{name}:N", title=name) for name in detail),
            ],
        )
        .add_params(pick, zoom)
    )
    places = (x.position(points["x"], x_limits), y.position(points["drawn"], y_limits))
    guides = guide_layers(rules, (x_limits, y_limits), (at_x, at_y), drawn=[places])
    return alt.layer(*guides, dots, width=width - MARGIN, height=height, **title)
