"""Figures as files: PNG, SVG and PDF from one specification, written whole."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import vl_convert

from theodolite.figures.theme import specification
from theodolite.findings import Figure
from theodolite.store import files

_FROM_SVG: Mapping[str, Callable[[str], bytes]] = {  # the chart is laid out once, for all formats
    "png": lambda svg: bytes(vl_convert.svg_to_png(svg, scale=2)),
    "svg": lambda svg: svg.encode(),
    "pdf": lambda svg: bytes(vl_convert.svg_to_pdf(svg)),
}
FORMATS = tuple(_FROM_SVG)


def save(figure: Figure, folder: Path, formats: Sequence[str] = FORMATS, *, dark: bool = False) -> list[Path]:
    """Write a figure as ``<folder>/<name>.<format>``; the same figure gives the same bytes.

    Args:
        figure: what to draw.
        folder: made where it does not exist.
        formats: of ``png`` (two pixels a point), ``svg`` and ``pdf``.
        dark: for dark pages and slides.
    """
    svg = str(vl_convert.vegalite_to_svg(specification(figure.chart, dark=dark)))
    paths = []
    for name in formats:
        path = folder / f"{figure.name}.{name}"
        files.write(path, _FROM_SVG[name](svg))
        paths.append(path)
    return paths
