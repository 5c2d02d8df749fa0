"""One look for every figure: fonts, sizes, and colours that stay with a thing wherever it is drawn.

A chart is made in light colours and without configuration; :func:`specification` dresses it, light or dark.
"""

import json
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


# Hues of Okabe and Ito 2008 (told apart by colour-blind readers), darkened or lightened until text is readable in them.
PALETTE = (
    Look("#0b62a8", "#62b5f5", (1, 0), "circle"),
    Look("#b8470b", "#ff9b5e", (8, 3), "square"),
    Look("#00785a", "#3ecfa0", (2, 2), "triangle-up"),
    Look("#97417f", "#e69ac9", (10, 3, 2, 3), "diamond"),
    Look("#836100", "#e5c04a", (5, 2), "triangle-down"),
    Look("#5b6470", "#aab4c0", (14, 4), "cross"),
    Look("#a11d3a", "#ff8a9e", (3, 3, 8, 3), "triangle-right"),
)
REFERENCE = Look("#1c2127", "#e8eaed", (1, 0), "stroke")  # the target function, chance, what others are held against
BENEATH = Look("#bfc1c3", "#505357", (1, 0), "stroke")  # the same as a wide line under others: pale, in its legend too
FIXED = {  # the same colour in every study and preset
    "Model 1": 0,
    "Model 2": 1,
    "Model 3": 2,
    "training": 0,
    "test": 1,
    "batch 32": 0,
    "batch 64": 1,
    "batch 256": 2,
    "batch 512": 3,
    "batch 1024": 4,
    "batch 128": 5,
    "random-index-k": 0,  # the ways to start a walk to a critical point
    "snapshot": 1,
    "symmetric": 2,
}

_SWAP = {look.colour: look.dark for look in (*PALETTE, REFERENCE, BENEATH)}
_LIGHT = {"ink": "#1c2127", "soft": "#565e68", "line": "#c3c8ce", "grid": "#e9ebee", "paper": "#ffffff"}
_DARK = {"ink": "#e8eaed", "soft": "#a6aeb8", "line": "#555d68", "grid": "#2b3038", "paper": "#15181d"}


def looks(names: Sequence[str]) -> list[Look]:
    """A look for each series: fixed ones first, the others take what is left, in order.

    >>> [look.shape for look in looks(["test", "SGD", "Adam"])]
    ['square', 'circle', 'triangle-up']
    """
    if len(names) > len(PALETTE):
        raise ValueError(f"expected at most {len(PALETTE)} series, got {len(names)}. Use panels or a colour scale.")
    wanted = {name: FIXED[name] for name in names if name in FIXED}
    taken = {name: slot for name, slot in wanted.items() if list(wanted.values()).count(slot) == 1}
    free = (slot for slot in range(len(PALETTE)) if slot not in taken.values())
    return [PALETTE[taken[name] if name in taken else next(free)] for name in names]


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
            "guide-note": {"color": c["soft"], "fontSize": 12},
            "end-label": {"fontSize": 13, "fontWeight": 600},
        },
    }
