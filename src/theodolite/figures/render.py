"""Figures as files: PNG, SVG and PDF from one specification, written whole."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import vl_convert

from theodolite.figures.theme import specification
from theodolite.findings import Figure
from theodolite.store import files

_FROM_SVG: Mapping[str, Callable[[str], bytes]] = {  # the chart is laid out once, for all formats
    "png": lambda svg: bytes(vl_convert.svg_to_png(svg, scale=2)),
    "svg": lambda svg: svg.encode(),
    "pdf": lambda svg: _sort(bytes(vl_convert.svg_to_pdf(svg))),
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
    svg = _renumber(str(vl_convert.vegalite_to_svg(specification(figure.chart, dark=dark))))
    paths = []
    for name in formats:
        path = folder / f"{figure.name}.{name}"
        files.write(path, _FROM_SVG[name](svg))
        paths.append(path)
    return paths


def _renumber(svg: str) -> str:
    """Name clip paths and gradients by their order here: Vega counts them through all charts of a process."""
    names = list(dict.fromkeys(re.findall(r'id="([a-z_]+\d+)"', svg)))
    new = {name: f"{name.rstrip('0123456789')}-{number}" for number, name in enumerate(names)}
    return re.sub(r'(id="|url\(#|href="#)([a-z_]+\d+)(?=["\)])', lambda m: m[1] + new.get(m[2], m[2]), svg)


def _sort(pdf: bytes) -> bytes:
    """Put the entries of each resource dictionary in order: they come in another one each time.

    Lines move only within their dictionary, so every offset in the file stays right.
    """
    entries = rb"(?:\n +/[a-z]+\d+ \d+ 0 R){2,}"
    return re.sub(entries, lambda m: b"\n" + b"\n".join(sorted(m[0][1:].split(b"\n"))), pdf)
