"""Curves over seeds: a median line with a band. Learning curves, function fits, anything along an axis."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from theodolite.figures.theme import Axis, Rule

BAND = "Line: median over seeds; band: the middle 80 % of seeds."  # for captions


def curves(
    table: pd.DataFrame,
    *,
    x: Axis,
    y: Axis,
    series: str,
    seed: str = "seed",
    panel: str | None = None,
    rules: Sequence[Rule] = (),
    reference: pd.DataFrame | None = None,
    reference_label: str = "target",
    carry: bool = False,
    width: int = 640,
    height: int = 300,
) -> alt.LayerChart | alt.FacetChart:
    """Median curve of each series with a band over seeds; single seeds can be switched on where the page is live.

    Args:
        table: one row for each (series, panel, seed, x): what a study recorded, not yet thinned out.
        x: the axis that curves run along.
        y: the measured quantity; NaN or infinite values (diverged runs) count as infinitely high.
        series: the column that tells curves apart, such as ``model``.
        seed: the column of the unit of evidence.
        panel: a column that gets one chart a value, side by side, with shared axes.
        rules: straight lines across every panel, each with its label.
        reference: a curve without band, with the columns of both axes (and of ``panel``): the target function.
        reference_label: its name in the legend.
        carry: continue a curve that has ended (a run that stopped at convergence) at its last value, so that the
            median stays that of all seeds; the line ends where the last seed ends.
        width: of the whole figure, in pixels.
        height: of a panel, in pixels.
    """
    raise NotImplementedError
