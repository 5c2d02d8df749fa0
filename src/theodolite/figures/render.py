"""Figures as files: PNG, SVG and PDF from one specification, written whole."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import vl_convert

from theodolite.figures.theme import specification
from theodolite.findings import Figure
from theodolite.store import files

_DRAW: Mapping[str, Callable[[dict[str, Any]], bytes]] = {
    "png": lambda spec: bytes(vl_convert.vegalite_to_png(spec, scale=2)),
    "svg": lambda spec: str(vl_convert.vegalite_to_svg(spec)).encode(),
    "pdf": lambda spec: bytes(vl_convert.vegalite_to_pdf(spec)),
}
FORMATS = tuple(_DRAW)


def save(figure: Figure, folder: Path, formats: Sequence[str] = FORMATS, *, dark: bool = False) -> list[Path]:
    """Write a figure as ``<folder>/<name>.<format>``; the same figure gives the same bytes.

    Args:
        figure: what to draw.
        folder: made where it does not exist.
        formats: of ``png`` (two pixels a point), ``svg`` and ``pdf``.
        dark: for dark pages and slides.
    """
    spec = specification(figure.chart, dark=dark)
    paths = []
    for name in formats:
        path = folder / f"{figure.name}.{name}"
        files.write(path, _DRAW[name](spec))
        paths.append(path)
    return paths
