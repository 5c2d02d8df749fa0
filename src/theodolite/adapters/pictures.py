"""What trackers show beside scalars: spectra as histograms, and the report's figures as files."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from theodolite.figures import recorded, render
from theodolite.record import Measurement

BINS = 50


@dataclass(frozen=True, slots=True)
class Histogram:
    """How much lies between which edges."""

    edges: npt.NDArray[np.float64]  # (B + 1,), ascending
    counts: npt.NDArray[np.float64]  # (B,), of entries; of a density, shares

    @property
    def middles(self) -> npt.NDArray[np.float64]:
        """(B,)."""
        return (self.edges[1:] + self.edges[:-1]) / 2


def histograms(measurement: Measurement) -> dict[str, Histogram]:
    """Spectra of a measurement by name: of eigenvalues their counts, of a density the share in each bin."""
    vectors = measurement.vectors
    found = {
        name: Histogram(*reversed(np.histogram(values[np.isfinite(values)], BINS)))
        for name, values in vectors.items()
        if name not in recorded.ABOUT | {"grid", "density"} and np.isfinite(values).any()
    }
    if {"grid", "density"} <= vectors.keys():
        found["density"] = _shares(vectors["grid"], vectors["density"])
    return found


def _shares(grid: npt.NDArray[np.float64], density: npt.NDArray[np.float64]) -> Histogram:
    """The integral of a density over each bin, by the trapezoidal rule."""
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(grid))])
    edges = np.linspace(grid[0], grid[-1], BINS + 1)
    return Histogram(edges, np.diff(np.interp(edges, grid, below)))


@contextmanager
def drawn(tables: Mapping[str, pd.DataFrame], *formats: str) -> Iterator[list[Path]]:
    """The figures that a report would make of one recording, as files in a folder that lasts for the block."""
    figures = recorded.draw({name: table.assign(training="") for name, table in tables.items()})
    with tempfile.TemporaryDirectory() as folder:
        yield [path for figure in figures for path in render.save(figure, Path(folder), formats)]
