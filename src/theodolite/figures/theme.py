"""One look for every figure: fonts, sizes, and colours that stay with a thing wherever it is drawn.

A chart is made in light colours and without configuration; :func:`specification` dresses it, light or dark.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
WIDTH = 640  # pixels of a whole figure: the text column of the page
SQUARE = {"square": True}  # a note in a chart whose lengths are true on both axes: height goes with width


@dataclass(frozen=True, slots=True)
class Look:
    """How one series is drawn. Dash and shape say again what the colour says."""

    colour: str  # on white: at least 4.5 : 1, so that it serves for text too
    dark: str  # the same thing on the dark page
    dash: tuple[float, ...]
    shape: str


# Any two are told apart by readers of normal, protan, deutan and tritan sight, on either page: CIEDE2000 of at least 10
# after Machado, Oliveira and Fernandes 2009, at severity 1 (tests/figures/test_colours.py).
PALETTE = (
    Look("#0064bb", "#94cffe", (1, 0), "circle"),
    Look("#ca3d00", "#f69d59", (8, 3), "square"),
    Look("#02644e", "#2bba94", (2, 2), "triangle-up"),
    Look("#8d3b7f", "#d19bc4", (10, 3, 2, 3), "diamond"),
    Look("#847149", "#ffd41d", (5, 2), "triangle-down"),
    Look("#6a6f74", "#9a98f5", (14, 4), "cross"),
    Look("#971937", "#ff667e", (3, 3, 8, 3), "triangle-right"),
)
RAMP = tuple(  # of an ordered factor: each step darker, or on the dark page deeper
    Look(colour, dark, look.dash, look.shape)
    for (colour, dark), look in zip(
        (
            ("#7d7a00", "#fef049"),
            ("#5f6e41", "#c2e793"),
            ("#006755", "#87dbb4"),
            ("#003bca", "#48b0a7"),
            ("#263b72", "#7692bb"),
            ("#1d005d", "#886de5"),
        ),
        PALETTE,
        strict=False,
    )
)
REFERENCE = Look("#1c2127", "#e8eaed", (1, 0), "stroke")  # the target function, chance, what others are held against
BENEATH = Look("#8e9297", "#6d737b", (1, 0), "stroke")  # the same as a wide line under others, in its legend too
NEUTRAL = Look("#5b6470", "#aab4c0", (1, 0), "stroke")  # what is of no series: shapes in a legend, ticks of a rug
FIXED = {  # the same colour in every study and preset
    "Model 1": 0,
    "Model 2": 1,
    "Model 3": 2,
    "training": 0,
    "test": 1,
    "random weights": 0,  # the ways to start a walk to a critical point
    "weights of a training": 1,
    "symmetric weights": 2,
}
BATCHES = {f"batch {32 << step}": step for step in range(len(RAMP))}  # a step a doubling, whichever there are
ORDERED = re.compile(r"batch (\d+)|(\d+) % random.*|(\d+) layers|(\d+) % wrong.*|(\d+) dimensions")

_SWAP = {look.colour: look.dark for look in (*PALETTE, *RAMP, REFERENCE, BENEATH, NEUTRAL)}
_LIGHT = {
    "ink": "#1c2127",
    "soft": "#565e68",
    "line": "#c3c8ce",
    "grid": "#e9ebee",
    "paper": "#ffffff",
    "claimed": "#00694f",
}
_DARK = {
    "ink": "#e8eaed",
    "soft": "#a6aeb8",
    "line": "#555d68",
    "grid": "#2b3038",
    "paper": "#15181d",
    "claimed": "#58d6ab",
}


def looks(names: Sequence[str]) -> list[Look]:
    """A look for each series: levels of an ordered factor along the ramp, fixed ones, and others in order.

    >>> [look.shape for look in looks(["test", "SGD", "Adam"])]
    ['square', 'circle', 'triangle-up']
    >>> looks(["batch 32", "batch 1024"]) == [RAMP[0], RAMP[-1]]
    True
    """
    if len(names) > len(PALETTE):
        raise ValueError(f"expected at most {len(PALETTE)} series, got {len(names)}. Use panels or a colour scale.")
    steps = _steps(names)
    if steps:
        return [RAMP[step] for step in steps]
    wanted = {name: FIXED[name] for name in names if name in FIXED}
    taken = {name: slot for name, slot in wanted.items() if list(wanted.values()).count(slot) == 1}
    free = (slot for slot in range(len(PALETTE)) if slot not in taken.values())
    return [PALETTE[taken[name] if name in taken else next(free)] for name in names]


def _steps(names: Sequence[str]) -> list[int]:
    """Where on the ramp each name stands, if all are levels of one ordered factor; nothing otherwise."""
    if all(name in BATCHES for name in names):
        return [BATCHES[name] for name in names]
    found = [ORDERED.fullmatch(name) for name in names]
    levels = [(match.lastindex, int(match[match.lastindex])) for match in found if match and match.lastindex]
    if len(levels) != len(names) or len({factor for factor, _ in levels}) != 1 or not 1 < len(names) <= len(RAMP):
        return []
    order = sorted(levels)
    return [round(order.index(level) * (len(RAMP) - 1) / (len(levels) - 1)) for level in levels]


def specification(chart: Any, *, dark: bool = False, fonts: float = 1.0) -> dict[str, Any]:
    """The Vega-Lite specification of a chart with its theme, complete in itself; ``fonts`` scales them."""
    spec = plain(chart)
    if dark:
        text = json.dumps(spec)
        for light, replacement in _SWAP.items():
            text = text.replace(light, replacement)
        spec = json.loads(text)
    spec["config"] = _scaled(config(dark=dark), fonts)
    return spec


def plain(chart: Any) -> dict[str, Any]:
    """A chart as a specification without a theme: plain data, which another process can be given.

    From a chart, or from what this made of one; the caller may change what it gets.
    """
    spec = chart if isinstance(chart, dict) else chart.to_dict(validate=False)  # tests check each family by the schema
    found: dict[str, Any] = _in_one_line({key: value for key, value in spec.items() if key != "config"})
    return found


def _scaled(part: Any, share: float) -> Any:
    if not isinstance(part, dict):
        return part
    return {k: v * share if k.lower().endswith("fontsize") else _scaled(v, share) for k, v in part.items()}


def _in_one_line(part: Any) -> Any:
    """Titles without line breaks of any kind, which Vega-Lite would put raw into the code of a tooltip."""
    if isinstance(part, dict):
        return {
            key: " ".join(value.split())
            if key == "title" and isinstance(value, str)
            else value
            if key in ("datasets", "values")
            else _in_one_line(value)
            for key, value in part.items()
        }
    return [_in_one_line(value) for value in part] if isinstance(part, list) else part


def swaps() -> dict[str, str]:
    """Light colour to dark colour, for the page that switches without drawing twice."""
    return dict(_SWAP)


def config(*, dark: bool = False) -> dict[str, Any]:
    """Vega-Lite configuration of the theme."""
    c = _DARK if dark else _LIGHT
    return {
        "background": c["paper"],
        "aria": False,  # the figure's own alternative text says more than a label on each of a thousand marks
        "font": FONT,
        "padding": 8,
        "view": {"stroke": None},
        "axis": {
            "domainColor": c["line"],
            "tickColor": c["line"],
            "gridColor": c["grid"],
            "labelColor": c["soft"],
            "titleColor": c["ink"],
            "labelFontSize": 12,
            "titleFontSize": 13,
            "titleFontWeight": "normal",
            "titlePadding": 8,
            "labelPadding": 5,
            "tickSize": 4,
            "labelOverlap": True,
            "labelSeparation": 6,  # pixels: nearer to each other, two numbers read as one
        },
        "axisX": {"grid": False, "labelFlush": True},
        "legend": {
            "orient": "top",
            "direction": "horizontal",
            "labelColor": c["ink"],
            "titleColor": c["soft"],
            "labelFontSize": 13,
            "titleFontSize": 13,
            "titleFontWeight": "normal",
            "symbolStrokeWidth": 2.5,
            "symbolSize": 200,
            "symbolOpacity": 1,
            "labelLimit": 420,
            "columnPadding": 18,
            "offset": 10,
            "layout": {"top": {"anchor": "start", "direction": "horizontal", "margin": 24}},  # two legends are two
        },
        "title": {"color": c["ink"], "fontSize": 14, "fontWeight": 600, "anchor": "start", "offset": 10},
        "header": {"labelColor": c["ink"], "labelFontSize": 13},
        "concat": {"spacing": 28},
        "style": {
            "guide": {"color": c["soft"], "strokeWidth": 1, "strokeDash": [4, 3]},
            "claimed": {"color": c["claimed"], "opacity": 0.12},
            "guide-note": {"color": c["soft"], "fontSize": 12},
            "end-label": {"fontSize": 13, "fontWeight": 600},
        },
    }
