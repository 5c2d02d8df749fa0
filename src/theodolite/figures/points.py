"""Numbers over seeds: dots with intervals over a factor, estimates with intervals, one number against another."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from theodolite.figures.theme import Axis, Rule


def over_factor(
    table: pd.DataFrame,
    *,
    x: Axis,
    y: Axis,
    series: str | None = None,
    seed: str = "seed",
    panel: str | None = None,
    censored: str | None = None,
    rules: Sequence[Rule] = (),
    width: int = 640,
    height: int = 280,
) -> alt.LayerChart | alt.FacetChart:
    """Every seed as a dot over a factor (depth, batch size), its median and the 95 % interval of the median beside them.

    Args:
        table: one row for each (factor, series, panel, seed).
        x: the factor, taken as ordered categories.
        y: the measured quantity.
        series: a column that sets groups apart by colour, shape and place.
        seed: the column of the unit of evidence.
        panel: a column that gets one chart a value, each with its own y axis.
        censored: a Boolean column, true where ``y`` is only a lower bound (not converged): drawn as an open triangle
            pointing up, and counted as at least that in median and interval.
        rules: straight lines across every panel.
        width: of the whole figure, in pixels.
        height: of a panel, in pixels.
    """
    raise NotImplementedError


def forest(
    table: pd.DataFrame,
    *,
    x: Axis,
    label: str = "label",
    low: str = "low",
    high: str = "high",
    rules: Sequence[Rule] = (),
    width: int = 640,
) -> alt.LayerChart:
    """Estimates with their intervals, one a row: columns ``x.column``, ``low``, ``high`` and ``label``; an end that is NaN is open."""
    raise NotImplementedError


def scatter(
    table: pd.DataFrame,
    *,
    x: Axis,
    y: Axis,
    series: str | None = None,
    seed: str = "seed",
    panel: str | None = None,
    rules: Sequence[Rule] = (),
    width: int = 640,
    height: int = 320,
) -> alt.LayerChart | alt.FacetChart:
    """One number against another, a point a row, the series by colour and shape."""
    raise NotImplementedError
