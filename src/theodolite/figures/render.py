"""Figures as files: PNG, SVG and PDF from one specification, written whole."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import vl_convert

from theodolite.errors import SettingError
from theodolite.figures import paper, raster
from theodolite.figures.theme import specification
from theodolite.findings import Figure
from theodolite.store import files

DPI = 300  # of a PNG for a paper
_FROM_SVG: Mapping[str, Callable[[str, float], bytes]] = {  # the chart is laid out once, for all formats
    "png": raster.png,
    "svg": lambda svg, _: svg.encode(),
    "pdf": lambda svg, _: bytes(vl_convert.svg_to_pdf(_in_points(svg))),
}
FORMATS = tuple(_FROM_SVG)
PAGE = "html"


def save(
    figure: Figure,
    folder: Path,
    formats: Sequence[str] = FORMATS,
    *,
    dark: bool = False,
    width: float | None = None,
) -> list[Path]:
    """Write a figure as ``<folder>/<name>.<format>``, unless the files there are of this very figure.

    PNG and SVG have the same bytes wherever the same figure is drawn. A PDF has not (its fonts are numbered in a new
    order each time), so what is there already is left: a report built twice leaves every file as it was.

    Args:
        figure: what to draw.
        folder: made where it does not exist.
        formats: of ``png`` (drawn at twice its size, or for a paper at 300 dots an inch), ``svg`` and ``pdf``.
        dark: for dark pages and slides.
        width: of a paper's column, in pixels of which an inch has 96 (see :mod:`theodolite.figures.paper`); None: the
            chart's own.
    """
    svg = _renumber(
        str(vl_convert.vegalite_to_svg(specification(figure.chart, dark=dark)))
        if width is None
        else paper.svg(figure.chart, width, dark=dark)
    )
    paths = {name: folder / f"{figure.name}.{name}" for name in formats}
    drawing = folder / f"{figure.name}.svg"
    if drawing.exists() and drawing.read_bytes() == svg.encode() and all(path.exists() for path in paths.values()):
        return list(paths.values())
    for name in sorted(formats, key="svg".__eq__):  # the SVG last: where it is new, the others are
        files.write(paths[name], _FROM_SVG[name](svg, 2.0 if width is None else DPI / 96))
    return list(paths.values())


def check(path: Path) -> None:
    """Refuse a file name whose ending no figure can have, before anything is measured for it.

    Raises:
        SettingError: it ends in something else.
    """
    if path.suffix[1:] not in (*FORMATS, PAGE):
        endings = ", ".join(f".{name}" for name in (*FORMATS, PAGE))
        raise SettingError(f"expected a figure as one of {endings}, got {path.name}. Choose such a name.")


def write(chart: Any, path: Path) -> None:
    """Draw one chart into one file, by its ending: a picture, or a page that is live and works offline."""
    check(path)
    if path.suffix[1:] == PAGE:
        files.write(path, str(vl_convert.vegalite_to_html(specification(chart), bundle=True)).encode())
        return
    svg = _renumber(str(vl_convert.vegalite_to_svg(specification(chart))))
    files.write(path, _FROM_SVG[path.suffix[1:]](svg, 2.0))


def _in_points(svg: str) -> str:
    """The drawing three quarters as large: an inch has 96 pixels and 72 points, which a PDF takes for the same."""
    size = re.search(r'width="([\d.]+)" height="([\d.]+)"', svg)
    if size is None:
        return svg
    smaller = f'width="{0.75 * float(size[1]):.2f}" height="{0.75 * float(size[2]):.2f}"'
    return svg[: size.start()] + smaller + svg[size.end() :]


def _renumber(svg: str) -> str:
    """Name clip paths and gradients by their order here: Vega counts them through all charts of a process."""
    names = list(dict.fromkeys(re.findall(r'id="([a-z_]+\d+)"', svg)))
    new = {name: f"{name.rstrip('0123456789')}-{number}" for number, name in enumerate(names)}
    return re.sub(r'(id="|url\(#|href="#)([a-z_]+\d+)(?=["\)])', lambda m: m[1] + new.get(m[2], m[2]), svg)
