"""Axes, rules and series as Vega-Lite encodings: what all families of charts share."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from theodolite.figures import theme

NARROW = 250  # pixels of a panel on a telephone, or in a column of a paper
LETTER = 6.6  # pixels of one in the page's figures, about
HIGH = 0.08  # of a panel's height: what a label takes
STEP = 24  # pixels: the same of a panel of 300
MOVES = {  # of what is zoomed: by the mouse alone, since a finger that moves across a figure scrolls the page
    "bind": "scales",
    "translate": "[mousedown, window:mouseup] > window:mousemove!",
    "zoom": "wheel![event.shiftKey]",
}
PLAIN = "format(datum.value, ',~g')"  # labels of ticks: 0.01, 1, 10,000
POWERS = (  # 1e−5, 1e−1, 1, 100
    "datum.value >= 1 && datum.value < 1e6 ? format(datum.value, ',~g')"
    " : replace(replace(format(datum.value, '~e'), '-', '−'), '+', '')"
)


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a chart: a column of the table and how it is shown."""

    column: str
    title: str  # with the unit: "loss (mean squared error)"
    log: bool = False
    domain: tuple[float, float] | None = None  # None: from the data
    format: str | None = None  # d3: ".0%", "~s"
    linear: float | None = None  # a logarithmic axis on both sides of zero, and straight within so much of it

    def limits(self, values: Iterable[float]) -> tuple[float, float]:
        """Where the axis begins and ends: its domain, or what the values span and a little more."""
        if self.domain is not None:
            return self.domain
        x = np.asarray(list(values), dtype=np.float64)
        x = x[np.isfinite(x) & ((x > 0) | (not self.log))]
        if self.linear and len(x):
            low, high = (math.asinh(end / self.linear) for end in (x.min(), x.max()))
            room = 0.04 * (high - low)
            return (
                float(self.linear * math.sinh(low - room)) if x.min() < 0 else 0.0,
                float(self.linear * math.sinh(high + room)) or self.linear,
            )
        if not len(x):
            return (0.1, 1.0) if self.log else (0.0, 1.0)
        low, high = (np.log10(x.min()), np.log10(x.max())) if self.log else (x.min(), x.max())
        room = 0.04 * (high - low) or (0.5 if self.log else abs(low) / 2 or 0.5)
        low, high = low - room, high + room
        if not self.log and x.min() >= 0 > low:
            low = 0.0  # counts and losses do not go below zero
        return (float(10**low), float(10**high)) if self.log else (float(low), float(high))

    def span(self, values: Any) -> tuple[float, float]:
        """Limits with no room beside what is drawn, unless that is a single place.

        >>> Axis("x", "x").span([1.0, 3.0]), Axis("x", "x", log=True).span([4.0])[0] < 4
        ((1.0, 3.0), True)
        """
        low, high = float(np.min(values)), float(np.max(values))
        return self.domain or ((low, high) if low < high else self.limits(values))

    def position(self, values: Any, limits: tuple[float, float]) -> Any:
        """Share of the axis, from 0 at its beginning to 1 at its end."""
        forward = np.log if self.log else self._symmetric if self.linear else np.asarray
        with np.errstate(divide="ignore", invalid="ignore"):
            low, high = forward(limits[0]), forward(limits[1])
            return (forward(np.asarray(values, dtype=np.float64)) - low) / (high - low)

    def _symmetric(self, values: Any) -> Any:
        """Vega's symlog: straight about zero, logarithmic away from it."""
        x = np.asarray(values, dtype=np.float64) / (self.linear or 1.0)
        return np.sign(x) * np.log1p(np.abs(x))

    def encode(self, channel: Any, field: str, limits: tuple[float, float], *, titled: bool = True) -> Any:
        """This axis as a channel, with exactly these limits."""
        kind: dict[str, Any] = {"type": "log"} if self.log else {"zero": False}
        if self.linear:
            kind = {"type": "symlog", "constant": self.linear}
        scale = alt.Scale(domain=list(limits), nice=False, **kind)
        return channel(field, title=self.title if titled else None, scale=scale, axis=self._ticks(limits))

    def _ticks(self, limits: tuple[float, float]) -> Any:
        """Ticks at round numbers; on a logarithmic axis at powers of ten, or 1-2-5 where it spans few of them."""
        if self.linear:
            ticks = symmetric_ticks(*limits, self.linear)
            form = {"format": self.format} if self.format else {"labelExpr": PLAIN}
            return alt.Axis(values=ticks, **form)
        if not self.log:
            return alt.Axis(tickCount=6, **({"format": self.format} if self.format else {}))
        ticks = log_ticks(*limits)
        return alt.Axis(values=ticks, **({"format": self.format} if self.format else {"labelExpr": log_label(ticks)}))


@dataclass(frozen=True, slots=True)
class Rule:
    """A straight line across a chart: a convergence, the limits of a domain, a threshold."""

    value: float
    label: str
    axis: Literal["x", "y"] = "y"
    claimed: tuple[float, float] | None = None  # what a claim says of this axis, shaded; an infinite end: to the edge


def log_ticks(low: float, high: float, most: int = 8) -> list[float]:
    """At most so many powers of ten, or 1-2-5 steps where fewer than three fit, or even steps where no two of those do.

    >>> log_ticks(0.5, 20)
    [0.5, 1.0, 2.0, 5.0, 10.0, 20.0]
    >>> log_ticks(1e-6, 2.0)
    [1e-06, 1e-05, 0.0001, 0.001, 0.01, 0.1, 1.0]
    >>> log_ticks(0.32, 0.57)
    [0.35, 0.4, 0.45, 0.5, 0.55]
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    powers = [float(f"1e{e}") for e in range(first, last + 1) if low <= float(f"1e{e}") <= high]
    if len(powers) >= 3:
        step = -(-len(powers) // most)
        return powers[::step]
    steps = [float(f"{d}e{e}") for e in range(first, last + 1) for d in (1, 2, 5)]
    fits = [s for s in steps if low <= s <= high]
    return fits if len(fits) >= 2 else _even(low, high)


def symmetric_ticks(low: float, high: float, linear: float) -> list[float]:
    """Zero, and powers of ten on either side from where an axis is logarithmic.

    >>> symmetric_ticks(-20.0, 500.0, 1.0)
    [-10.0, -1.0, 0.0, 1.0, 10.0, 100.0]
    """
    first, last = math.ceil(math.log10(linear)), math.floor(math.log10(max(abs(low), abs(high), linear)))
    powers = [float(f"1e{e}") for e in range(first, last + 1)]
    return [tick for tick in (*(-p for p in reversed(powers)), 0.0, *powers) if low <= tick <= high]


def log_label(ticks: Sequence[float]) -> str:
    """How ticks of a logarithmic axis are written: all as powers where the zeros of one would have to be counted."""
    return POWERS if ticks and (min(ticks) < 1e-3 or max(ticks) >= 1e6) else PLAIN


def _even(low: float, high: float) -> list[float]:
    """At least three round numbers at even steps, the widest of 1, 2 and 5 times a power of ten that allow it."""
    largest = math.floor(math.log10(high - low))
    for exponent, digit in ((e, d) for e in (largest, largest - 1) for d in (5, 2, 1)):
        step = digit * 10.0**exponent
        first, last = math.ceil(low / step), math.floor(high / step)
        if last - first >= 2:
            break
    return [float(f"{number * digit}e{exponent}") for number in range(first, last + 1)]


def rules(
    marks: Sequence[Rule],
    limits: Sequence[tuple[float, float]],
    channels: Sequence[Any],
    *,
    above: bool = False,
    beside: bool = False,
    drawn: Sequence[tuple[Any, Any]] = (),
) -> list[Any]:
    """Lines with labels in the soft ink: across the chart labelled at the right end, upright ones at the top.

    Where what is drawn, or the chart's edge, is in a label's way, it stands at another end or side of its line.

    Args:
        marks: what to draw; a rule outside the limits is left out.
        limits: of the x and the y axis.
        channels: the chart's own x and y, whose scales and axes the rules share.
        above: names of upright lines over the panel, where what is drawn reaches its top.
        beside: names of level lines right of the panel, where what is drawn may be all along them.
        drawn: x and y of points along what is drawn, as shares of the axes from 0 to 1.
    """
    dots = np.hstack([np.empty((2, 0)), *(np.stack(pair).astype(np.float64) for pair in drawn)])
    layers = []
    marks = [rule for rule in marks if limits[rule.axis == "y"][0] <= rule.value <= limits[rule.axis == "y"][1]]
    upright = np.empty((2, 0))
    for rule in marks:
        at = _share(rule.value, limits[rule.axis == "y"], channels[rule.axis == "y"])
        if rule.axis == "y":
            dots = _with(dots, (0.0, 1.0), (at, at))
        else:  # names of upright lines keep clear of the others by themselves
            upright = np.hstack([upright, np.stack([np.full(100, at), np.linspace(0, 1, 100)])])
    layers += [_region(rule, limits, channels) for rule in marks if rule.claimed]
    for rule in marks:
        channel = channels[rule.axis == "y"].copy()
        channel.shorthand = "v:Q"
        level = (False, 0.25 if beside else 1.0)  # of the panel's width: a longer name comes in lines on the page
        on_left, room = level if rule.axis == "y" else _side(rule, marks, limits[0], channel)
        data = inline(pd.DataFrame({"v": [rule.value], "label": [rule.label], "room": [room]}))
        layers.append(alt.Chart(data).mark_rule(style="guide", clip=True, tooltip=None).encode(channel))
        if not rule.label:
            continue
        at = _share(rule.value, limits[rule.axis == "y"], channel)
        long = len(rule.label) * LETTER / NARROW
        if rule.axis == "y" and beside:
            place = {"align": "left", "x": "width", "dx": 5, "baseline": "middle"}
        elif rule.axis == "y":
            spans, sides = [(1 - long, 1.0), (0.0, long)], [(at, at + HIGH), (at - HIGH, at)]
            end, side = _freest(np.hstack([dots, upright]), spans, sides)
            dots = _with(dots, spans[end], sides[side])
            place = ({"align": "right", "x": "width", "dx": -4}, {"align": "left", "x": 0, "dx": 4})[end]
            place |= ({"baseline": "bottom", "dy": -4}, {"baseline": "top", "dy": 5})[side]
        else:
            place = {"align": "right" if on_left else "left", "dx": -5 if on_left else 5}
            span = (at - min(long, room), at) if on_left else (at, at + min(long, room))
            high = HIGH * math.ceil(long / room)  # in lines, where there is not room for one
            ends = [(1 - high, 1.0), (0.0, high), *((1 - high - down * HIGH, 1 - down * HIGH) for down in (1, 2, 3))]
            if above:
                place |= {"baseline": "bottom", "y": 0, "dy": -3}
            else:
                _, end = _freest(dots, [span], ends)
                dots = _with(dots, span, ends[end])
                below = {"baseline": "bottom", "y": "height", "dy": -3}
                place |= below if end == 1 else {"baseline": "top", "y": 2 + STEP * max(end - 1, 0)}
        layers.append(alt.Chart(data).mark_text(style="guide-note", **place).encode(channel, text="label:N"))
    return layers


def _region(rule: Rule, limits: Sequence[tuple[float, float]], channels: Sequence[Any]) -> Any:
    """The claimed part of an axis, across the whole panel."""
    axis = rule.axis == "y"
    low, high = (float(np.clip(end, *limits[axis])) for end in rule.claimed or limits[axis])
    channel = channels[axis].copy()
    channel.shorthand = "v:Q"
    data = inline(pd.DataFrame({"v": [low], "v2": [high]}))
    return (
        alt.Chart(data).mark_rect(style="claimed", tooltip=None).encode(channel, (alt.Y2 if axis else alt.X2)("v2:Q"))
    )


def _with(dots: NDArray[np.float64], across: tuple[float, float], up: tuple[float, float]) -> NDArray[np.float64]:
    """The points, and others all over what has been drawn now."""
    return np.hstack([dots, np.stack(np.meshgrid(np.linspace(*across, 30), np.linspace(*up, 3))).reshape(2, -1)])


def _freest(
    dots: NDArray[np.float64], across: Sequence[tuple[float, float]], up: Sequence[tuple[float, float]]
) -> tuple[int, int]:
    """Which span across, and which upwards, of the place with least in it; earlier ones come first."""
    places = {(i, k): (x, y) for k, y in enumerate(up) for i, x in enumerate(across)}
    room = {key: (x, y) for key, (x, y) in places.items() if y[0] >= -0.01 and y[1] <= 1.01} or places

    def inside(key: tuple[int, int]) -> int:
        (left, right), (low, high) = room[key]
        return int(((left <= dots[0]) & (dots[0] <= right) & (low <= dots[1]) & (dots[1] <= high)).sum())

    return min(room, key=inside)


def _side(rule: Rule, marks: Sequence[Rule], limits: tuple[float, float], channel: Any) -> tuple[bool, float]:
    """Whether the name of an upright line stands left of it, where more is free, and what share of the axis that is.

    Between two lines with names each has half of what lies between them.
    """
    at = _share(rule.value, limits, channel)
    gaps = [
        (_share(other.value, limits, channel) - at, 0.5 if other.label else 1.0)
        for other in marks
        if other.axis == "x" and other.value != rule.value
    ]
    left = min((-gap * share for gap, share in gaps if gap < 0), default=at)
    right = min((gap * share for gap, share in gaps if gap > 0), default=1 - at)
    on_left = bool(left > right if abs(left - right) > 0.02 else at > 0.5)
    return on_left, round(float(left if on_left else right), 3)


def _share(value: float, limits: tuple[float, float], channel: Any) -> float:
    """Where a value stands on a channel's axis, from 0 to 1."""
    scale = channel["scale"]
    linear = scale["constant"] if scale["type"] == "symlog" else None
    return float(Axis("", "", log=scale["type"] == "log", linear=linear).position(value, limits))


def in_lines(text: str, letters: int) -> str | list[str]:
    """A text as it is, or broken into lines of at most so many letters where it is longer."""
    lines = textwrap.wrap(text, max(letters, 1), break_long_words=False, break_on_hyphens=False)
    return lines if len(lines) > 1 else text


def colour(
    series: str, names: Sequence[str], reference: str | None = None, *, legend: bool = True, symbols: bool = False
) -> Any:
    """Colours of the series in the order given, the reference pale; ``symbols``: a legend of shapes, not lines."""
    return alt.Color(
        f"{series}:N", title=None, scale=_by(names, reference, "colour"), legend=_legend(legend, symbols=symbols)
    )


def dash(series: str, names: Sequence[str], reference: str | None = None, *, legend: bool = True) -> Any:
    """Dashes of the series, which the legend shows with the colours."""
    return alt.StrokeDash(f"{series}:N", title=None, scale=_by(names, reference, "dash"), legend=_legend(legend))


def shape(series: str, names: Sequence[str], *, legend: bool = True) -> Any:
    """Shapes of the series, which the legend shows with the colours."""
    return alt.Shape(f"{series}:N", title=None, scale=_by(names, None, "shape"), legend=_legend(legend, symbols=True))


def faded(when: Any, shown: float, elsewhere: float, channel: Any = alt.OpacityValue) -> Any:
    """One opacity where a selection or an expression says so, and another elsewhere.

    As the channel's own type: to find the type of the dictionary that ``alt.condition`` gives takes Altair 30 ms.
    """
    found = alt.condition(when, alt.value(shown), alt.value(elsewhere))
    return channel(found["value"], condition=found["condition"])


def _by(names: Sequence[str], reference: str | None, field: str) -> Any:
    all_looks = [*([theme.BENEATH] if reference else []), *theme.looks(names)]
    domain = [*([reference] if reference else []), *names]
    return alt.Scale(domain=domain, range=[getattr(look, field) for look in all_looks])


def _legend(wanted: bool, *, symbols: bool = False) -> Any:
    if not wanted:
        return None
    return alt.Legend(symbolSize=80) if symbols else alt.Legend(symbolType="stroke")


def inline(table: pd.DataFrame) -> Any:
    """A table inside the specification, as CSV (a third of the size of JSON), at five significant digits.

    Text columns are read back as text whatever they look like: a series may be called "2".
    """
    kinds = {
        str(name): "number"
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
        else "string"
        for name, column in table.items()
    }
    text = table.to_csv(index=False, float_format="%.5g", lineterminator="\n")
    return alt.InlineData(values=text, format=alt.CsvDataFormat(type="csv", parse=kinds))


def order(values: pd.Series) -> list[Any]:
    """The distinct values in the order in which they come."""
    return values.unique().tolist()


def nothing(width: int, height: int) -> Any:
    """What stands in place of a figure without a point: a survey that has just begun, or where nothing was finite."""
    said = alt.Chart(inline(pd.DataFrame({"said": ["Nothing to draw yet."]})))
    return said.mark_text(style="guide-note", tooltip=None).encode(text="said:N").properties(width=width, height=height)
