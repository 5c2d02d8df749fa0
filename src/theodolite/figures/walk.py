"""A slider that walks through a figure: where it is at one step, marked in every panel.

The page has the slider, beside the figure; files and paper show no mark. What a step means is said in words too.
"""

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from theodolite.figures.scales import Axis, inline
from theodolite.figures.theme import REFERENCE

AT = "at_step"  # the parameter of the step shown, from 0; -1: none
SHOWN = f"datum.step === {AT}"


def slider(chart: Any, label: str, said: Sequence[str]) -> Any:
    """A chart with a slider.

    Args:
        chart: whose marks are of :func:`marks` and :func:`rule`.
        label: what the slider moves: "epoch".
        said: what there is to read at each step, in words.
    """
    noted = {} if chart.usermeta is alt.Undefined else dict(chart.usermeta)
    return chart.add_params(alt.param(name=AT, value=-1)).properties(
        usermeta=noted | {"slider": {"label": label, "said": list(said)}}
    )


def marks(stops: pd.DataFrame, x: Axis, y: Axis, at_x: Any, at_y: Any) -> list[Any]:
    """A ring at the points of the step shown, readable on every ground; ``stops`` has a column ``step``."""
    if stops.empty:
        return []
    points = pd.DataFrame({"x": stops[x.column], "y": stops[y.column], "step": stops["step"]})
    chart = alt.Chart(inline(points)).transform_filter(SHOWN).encode(at_x, at_y)
    ring = {"size": 170, "filled": False, "clip": True, "tooltip": None, "opacity": 1}
    return [
        chart.mark_point(color="#ffffff", strokeWidth=5, **ring),
        chart.mark_point(color=REFERENCE.colour, strokeWidth=2.5, **ring),
    ]


def rule(values: Sequence[float], at_x: Any) -> Any:
    """An upright line at the value of the step shown."""
    stops = pd.DataFrame({"x": list(values), "step": range(len(values))})
    chart = alt.Chart(inline(stops)).transform_filter(SHOWN)
    return chart.mark_rule(color=REFERENCE.colour, strokeWidth=1.5, clip=True, tooltip=None).encode(at_x)
