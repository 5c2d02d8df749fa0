"""Figures as files: PNG, SVG and PDF from one specification, written whole."""

from collections.abc import Sequence
from pathlib import Path

from theodolite.findings import Figure

FORMATS = ("png", "svg", "pdf")


def save(figure: Figure, folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write a figure as ``<folder>/<name>.<format>``; the same figure gives the same bytes."""
    raise NotImplementedError
