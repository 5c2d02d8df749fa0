"""Spectra as densities: smoothed eigenvalues beside a predicted density, on an axis that is linear at zero only."""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from theodolite.figures.scales import Axis, colour, dash, inline, nothing, order
from theodolite.figures.theme import NEUTRAL, WIDTH

Array = NDArray[np.float64]
GRID, BANDWIDTH = 241, 0.25  # points of a curve; of the kernel, in units of asinh(λ / linear)


def spectra(
    table: pd.DataFrame,
    *,
    x: Axis,
    y: Axis,
    panel: str,
    series: str,
    linear: float,
    width: int = WIDTH,
    height: int = 150,
) -> Any:
    r"""Densities of eigenvalues, a panel a spectrum, one above the other; ticks below mark the eigenvalues themselves.

    The horizontal axis is :math:`u = \operatorname{asinh}(\lambda / s)`, linear up to about s and logarithmic beyond,
    on either side of zero, and the density is per unit of u, so that equal areas are equal shares of eigenvalues. All
    curves are smoothed by the same Gaussian in u, predicted ones too: so the two can be compared.

    Args:
        table: one row for each eigenvalue (``y`` missing) or each point of a predicted density (``y`` given).
        x: the eigenvalue.
        y: the density per unit of the eigenvalue, of predicted rows.
        panel: the column that tells spectra apart.
        series: the column that tells measured from predicted.
        linear: s.
        width: of the whole figure, in pixels.
        height: of a panel, in pixels.
    """
    names, panels = order(table[series]), order(table[panel])
    values = table.loc[table[y.column].isna(), x.column]
    if values.dropna().empty:
        return nothing(width, height)
    low, high = (float(np.arcsinh(v / linear)) for v in (values.min(), values.max()))
    grid = np.linspace(low - 4 * BANDWIDTH, high + 4 * BANDWIDTH, GRID)
    parts = [(str(p), str(s), rows) for (p, s), rows in table.groupby([panel, series], sort=False)]
    drawn = pd.concat([_curve(rows, x, y, grid, linear).assign(panel=p, series=s) for p, s, rows in parts])
    top = 1.05 * float(drawn["density"].max())
    ticks = _ticks(linear, grid[0], grid[-1])
    shown = [f"{t:g}".replace("-", "−") for t in ticks]
    labels = "".join(
        f"abs(datum.value - {np.arcsinh(t / linear):.6f}) < 1e-4 ? '{label}' : "
        for t, label in zip(ticks, shown, strict=True)
    )
    axis = alt.Axis(values=[float(np.arcsinh(t / linear)) for t in ticks], labelExpr=f"{labels}''", grid=False)
    marks = table[table[y.column].isna()].assign(u=np.arcsinh(values / linear))
    charts = []
    for number, value in enumerate(panels):
        last = number == len(panels) - 1
        at_x = alt.X(
            "u:Q", title=x.title if last else None, scale=alt.Scale(domain=[grid[0], grid[-1]], nice=False), axis=axis
        )
        at_y = alt.Y(
            "density:Q",
            stack=None,
            title=y.title,
            scale=alt.Scale(domain=[0, top], nice=False),
            axis=alt.Axis(tickCount=3),
        )
        hue, strokes = colour("series", names), dash("series", names)
        own = alt.Chart(inline(drawn[drawn["panel"] == value].drop(columns="panel")))
        lines = own.mark_line(clip=True, strokeWidth=2).encode(at_x, at_y, hue, strokes)
        area = own.mark_area(clip=True, opacity=0.15, tooltip=None).encode(at_x, at_y.copy(), hue)
        ink = alt.Chart(inline(marks.loc[marks[panel] == value, ["u", x.column]]))
        rug = ink.mark_tick(thickness=1, size=9, opacity=0.7, y="height", yOffset=-5, color=NEUTRAL.colour).encode(
            at_x, tooltip=[alt.Tooltip(f"{x.column}:Q", title=x.title, format=".3~g")]
        )
        zero = alt.Chart(inline(pd.DataFrame({"u": [0.0]}))).mark_rule(style="guide", tooltip=None).encode(at_x)
        charts.append(alt.layer(zero, area, lines, rug).properties(width=width - 64, height=height, title=str(value)))
    return charts[0] if len(charts) == 1 else alt.vconcat(*charts, spacing=14)


def _curve(rows: pd.DataFrame, x: Axis, y: Axis, grid: Array, linear: float) -> pd.DataFrame:
    at = np.arcsinh(rows[x.column].to_numpy(dtype=np.float64) / linear)
    if rows[y.column].isna().all():
        weights = np.full(len(at), 1 / len(at))
    else:  # density per u is density per λ times dλ/du; each point stands for its share of the axis
        per_u = rows[y.column].to_numpy(dtype=np.float64) * linear * np.cosh(at)
        weights = per_u * np.gradient(at)
    kernel = np.exp(-0.5 * ((grid[:, None] - at) / BANDWIDTH) ** 2) / (BANDWIDTH * np.sqrt(2 * np.pi))
    return pd.DataFrame({"u": grid, "density": kernel @ weights})


def _ticks(linear: float, low: float, high: float) -> list[float]:
    """Zero, and on either side a few powers of ten beyond the linear part, where they would stand beside zero."""
    first = int(np.ceil(np.log10(linear)))
    powers = [10.0**e for e in range(first, first + 9)]
    both = [-p for p in reversed(powers)] + [0.0] + powers
    return [t for t in both if low <= np.arcsinh(t / linear) <= high]
