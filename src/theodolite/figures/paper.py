"""Figures at the width of a paper's column, with fonts that stay readable there."""

import itertools
import json
import re
from collections.abc import Iterable
from typing import Any

import vl_convert

from theodolite.errors import SettingError
from theodolite.figures import theme
from theodolite.figures.scales import LETTER, in_lines

PIXELS = {"px": 1.0, "in": 96.0, "cm": 96 / 2.54, "mm": 96 / 25.4}  # CSS's: an inch has 96 pixels
NARROWEST, WIDEST = 180.0, 2000.0  # pixels: about 48 mm, and half a metre
FONTS = 0.82  # of the page's: 12 and 13 pixels become 7.4 and 8 points
STACK = 520  # pixels: panels side by side are stacked where it is narrower, as on the page
ROW = 60 * PIXELS["mm"]  # of a figure of several rows: what one takes at most, with its axes


def pixels(width: str) -> float:
    """A width with its unit, in pixels of which an inch has 96.

    >>> [round(pixels(w), 1) for w in ("85mm", "8.5 cm", "3.3in", "640px")]
    [321.3, 321.3, 316.8, 640.0]

    Raises:
        SettingError: it is not a number with one of these units, or out of reason.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(px|in|cm|mm)\s*", width)
    wanted = float(found[1]) * PIXELS[found[2]] if found else 0.0
    if not NARROWEST <= wanted <= WIDEST:
        raise SettingError(
            f"expected a width between 48mm and 529mm in mm, cm, in or px, got '{width}'. "
            "For example: --figure-width 85mm"
        )
    return wanted


def svg(chart: Any, width: float, *, dark: bool = False) -> str:
    """A chart as SVG of just this width: panels share what axes and labels leave, which is measured on the drawing."""
    beside, tall = 70.0, 1.0
    for _ in range(8):
        spec = fitted(theme.specification(chart, dark=dark, fonts=FONTS), width, beside, tall)
        drawing = str(vl_convert.vegalite_to_svg(spec))
        taken, height = (float(size) for size in re.findall(r'(?:width|height)="([\d.]+)"', drawing)[:2])
        over = _over(spec, height)
        lower = tall < 1 and _square(spec)  # then what they leave of the width stays free
        wide = lower or abs(taken - width) <= 1
        if wide and over <= 0:
            break
        if not wide:
            beside += taken - width
        if over > 0 and (wide or not _square(spec)):
            tall *= max(0.3, 1 - (over + 1) / sum(row[0]["height"] for row in _rows(spec)))
    # The last pixels, and long legends, by scale; in the middle of what is free.
    whole = max(taken, width) if lower else taken
    left = (taken - whole) / 2
    exact = f'width="{width:.2f}" height="{height * width / whole:.2f}" viewBox="{left:.2f} 0 {whole:.2f} {height:.2f}"'
    if left:  # the ground is as wide as what is drawn on it
        drawing = re.sub(r'<rect width="[\d.]+"', f'<rect x="{left:.2f}" width="{whole:.2f}"', drawing, count=1)
    return re.sub(r'width="[\d.]+" height="[\d.]+" viewBox="[^"]+"', exact, drawing, count=1)


def _over(spec: dict[str, Any], height: float) -> float:
    """Pixels by which rows below each other are too high together."""
    rows = len(list(_rows(spec)))
    return 0.0 if rows < 2 else height - rows * ROW


def fitted(spec: dict[str, Any], width: float, beside: float, tall: float = 1.0) -> dict[str, Any]:
    """Panels that share the width beside their axes; heights shrink less, or as much where lengths are true.

    Marks and lines shrink as the heights do; ``tall`` is a further share of heights, and of widths with them where
    lengths are true.
    """
    if width < STACK:
        _stack(spec)
        spec["config"]["legend"]["layout"] = {"top": {"anchor": "start", "direction": "vertical"}}
    square = _square(spec)
    shrink = (width / theme.WIDTH) ** 0.5
    for row in _rows(spec):
        panels = list(row)
        for panel in panels:
            each = max(60.0, (width - beside) / len(panels)) * (tall if square else 1.0)
            panel["height"] = round(panel.get("height", 300) * (each / panel["width"] if square else shrink * tall))
            panel["width"] = round(each, 1)
            if isinstance(panel.get("title"), str):
                panel["title"] = in_lines(panel["title"], int(0.9 * (each + 20) / (LETTER * FONTS)))
            for layer in panel.get("layer", [panel]):
                _shrink(layer.get("mark"), shrink)
                scale = layer.get("encoding", {}).get("fill", {}).get("legend") or {}
                if "gradientLength" in scale:  # with its numbers no wider than the panels and their axes
                    scale["gradientLength"] = min(scale["gradientLength"], round(0.6 * width))
                _break_factors(layer.get("encoding", {}).get("x", {}), each)
                for side, room in (("x", each + 40), ("y", panel["height"] + 30)):
                    axis = layer.get("encoding", {}).get(side, {})
                    if isinstance(axis.get("title"), str):  # in lines, or it would take the panel's place
                        axis["title"] = in_lines(axis["title"], int(room / (LETTER * FONTS)))
    spec["config"]["legend"] |= {"columns": _columns(spec, width - 50), "labelLimit": width - 60}
    return spec


def _shrink(mark: Any, share: float) -> None:
    """A point's area and a mark's line, so much smaller; ticks have a length for a size, and keep it."""
    if isinstance(mark, dict) and mark.get("type") != "tick":
        for name, power in (("size", 2), ("strokeWidth", 1)):
            if isinstance(mark.get(name), int | float):
                mark[name] = round(mark[name] * share**power, 2)


def _break_factors(x: dict[str, Any], width: float) -> None:
    """Names of factors in lines as wide as each has room for: Vega leaves out what would overlap."""
    if x.get("type") != "ordinal" or not x.get("sort"):
        return
    letters = int(width / len(x["sort"]) / (LETTER * FONTS))
    lines = {str(factor): in_lines(str(factor), letters) for factor in x["sort"]}
    if any(isinstance(line, list) for line in lines.values()):
        shown = {"labelExpr": f"{json.dumps(lines)}[datum.label] || datum.label", "labelLimit": 0}
        x["axis"] = (x.get("axis") or {}) | shown


def _square(spec: dict[str, Any]) -> bool:
    return bool(spec.get("usermeta", {}).get("square"))


def _stack(spec: dict[str, Any]) -> None:
    """Panels side by side one below the other; of several rows, the panels that stood below each other together."""
    rows = [row.get("hconcat", [row]) for row in spec.get("vconcat", [spec])]
    if all(len(row) == 1 for row in rows):
        return
    for row in rows:
        _title_all(row)
    spec.pop("hconcat", None)
    spec["vconcat"] = [panel for column in itertools.zip_longest(*rows) for panel in column if panel is not None]


def _title_all(panels: list[dict[str, Any]]) -> None:
    """Side by side, the first panel's title says what all axes upwards show; one below the other, each says it."""
    upwards = [[y for part in p.get("layer", [p]) if (y := part.get("encoding", {}).get("y"))] for p in panels]
    title = next((y["title"] for y in upwards[0] if y.get("title")), None)
    for y in itertools.chain.from_iterable(upwards):
        if "title" in y and y["title"] is None:
            y["title"] = title


def _columns(spec: dict[str, Any], room: float) -> int:
    """Names of a legend in one row where there is room, else in columns as wide as the longest."""
    wide = [len(name) * (LETTER + 0.6) * FONTS + 42 for name in _named(spec)]
    return max(len(wide), 1) if sum(wide) <= room else max(int(room / max(wide)), 1)


def _named(part: Any) -> set[str]:
    """Names of the series that a specification's legends show."""
    if isinstance(part, list):
        return set().union(*map(_named, part))
    if not isinstance(part, dict):
        return set()
    domain = part["scale"].get("domain") if part.get("scale") and part.get("legend") else None
    own = {name for name in domain if isinstance(name, str)} if isinstance(domain, list) else set()
    return own.union(*(_named(value) for key, value in part.items() if key not in ("datasets", "data")))


def _rows(spec: dict[str, Any]) -> Iterable[list[dict[str, Any]]]:
    for row in spec.get("vconcat", [spec]):
        yield row.get("hconcat", [row])
