"""How often numbers of one kind occur: spectra, and norms of single samples."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from theodolite.figures.scales import Axis, Rule, inline
from theodolite.figures.scales import rules as guide_layers
from theodolite.figures.theme import PALETTE, WIDTH

BINS = 60
MARGIN = 64  # pixels beside the panel for its axis


def histogram(
    values: Any,
    *,
    x: Axis,
    counted: str,
    rules: Sequence[Rule] = (),
    width: int = WIDTH,
    height: int = 280,
) -> Any:
    """Counts of numbers in 60 bins of equal width, on a logarithmic axis where the largest bin holds over a hundred.

    Args:
        values: ``(N,)`` numbers; those that are not finite are left out.
        x: the axis of the numbers; its column is not used.
        counted: what a bar counts, in words: ``"eigenvalues"``.
        rules: straight lines across the panel.
        width: of the whole figure, in pixels.
        height: of the panel, in pixels.

    Returns:
        An Altair chart without configuration; :func:`theodolite.figures.theme.specification` dresses it.
    """
    numbers = np.asarray(values, dtype=np.float64).ravel()
    numbers = numbers[np.isfinite(numbers)]
    ruled = [rule.value for rule in rules if rule.axis == "x"]
    limits = x.domain or _limits([*numbers, *ruled])
    counts, edges = np.histogram(numbers, BINS, limits)
    axis = Axis("count", f"number of {counted}", log=bool(len(counts)) and int(counts.max()) > 100)
    bottom = 0.5 if axis.log else 0.0  # a bar of one is seen on a logarithmic axis too
    bars = pd.DataFrame({"from": edges[:-1], "to": edges[1:], "count": counts, "bottom": bottom})
    bars = bars[bars["count"] > 0]
    top = max(float(counts.max()), 1.0)
    y_limits = (bottom, 1.4 * top if axis.log else 1.05 * top)
    at_x, at_y = x.encode(alt.X, "from:Q", limits), axis.encode(alt.Y, "bottom:Q", y_limits)
    if not axis.log:
        at_y.axis.tickMinStep = 1
    drawn = (
        alt.Chart(inline(bars))
        .mark_rect(clip=True, color=PALETTE[0].colour, stroke=PALETTE[0].colour, strokeWidth=0.5)
        .encode(
            at_x,
            alt.X2("to:Q"),
            at_y,
            alt.Y2("count:Q"),
            tooltip=[
                alt.Tooltip("from:Q", format=".4~g"),
                alt.Tooltip("to:Q", format=".4~g"),
                alt.Tooltip("count:Q", title=counted),
            ],
        )
    )
    guides = guide_layers(rules, (limits, y_limits), (at_x, at_y))
    return alt.layer(drawn, *guides).properties(width=width - MARGIN, height=height)


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.02 * (high - low) or 0.05 * abs(high) or 0.5
    return low - room, high + room
