"""A survey that has just begun, one of which nothing was finite, and groups of which an axis can show no point."""

import numpy as np
import pandas as pd
import pytest
import vl_convert

from theodolite.figures import theme
from theodolite.figures.curves import curves
from theodolite.figures.histogram import histogram
from theodolite.figures.lines import lines
from theodolite.figures.paths import paths
from theodolite.figures.points import forest, over_factor, scatter
from theodolite.figures.scales import Axis
from theodolite.figures.spectra import spectra
from theodolite.figures.surface import surfaces

X, Y, LOG = Axis("x", "x"), Axis("y", "y"), Axis("x", "x", log=True)
FAMILIES = {
    "curves": lambda t: curves(t, x=X, y=Y, series="s"),
    "curves in panels": lambda t: curves(t, x=LOG, y=Y, series="s", panel="panel"),
    "over a factor": lambda t: over_factor(t, x=X, y=Y, series="s"),
    "over a factor in panels": lambda t: over_factor(t, x=X, y=Y, panel="panel", censored="censored"),
    "forest": lambda t: forest(t, x=X, label="s", low="y", high="y"),
    "scatter": lambda t: scatter(t, x=X, y=Y, series="s", detail=["seed"]),
    "lines": lambda t: lines(t, x=X, y=Y, series="s"),
    "histogram": lambda t: histogram(t["x"], x=X, counted="numbers"),
    "paths": lambda t: paths(t, x=X, y=Y, series="s", step="seed"),
    "spectra": lambda t: spectra(t, x=X, y=Y, panel="panel", series="s", linear=1.0),
    "surfaces": lambda t: surfaces(t, x=X, y=Y, z=Axis("z", "z", log=True), panel="panel"),
}  # fmt: skip


def table(rows, *, value=0.0):
    """Rows of one group; the seed tells them apart."""
    numbers = {name: np.full(rows, value) for name in ("x", "y", "z")}
    return pd.DataFrame({**numbers, "s": "a", "panel": "p", "censored": False, "seed": np.arange(rows)})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("made", [table(0), table(3, value=np.nan), table(3)], ids=["empty", "not finite", "zeros"])
def test_a_figure_without_a_point_that_can_be_shown_is_drawn_all_the_same(family, made):
    assert "<svg" in vl_convert.vegalite_to_svg(theme.specification(FAMILIES[family](made)))


def test_a_series_without_a_point_on_a_logarithmic_axis_leaves_the_others_as_they_are():
    shown = table(4, value=2.0).assign(x=[1.0, 2.0, 1.0, 2.0], seed=[0, 0, 1, 1])
    both = pd.concat([shown, table(2).assign(s="at zero only")])
    alone, beside = (curves(t, x=LOG, y=Y, series="s").to_dict()["datasets"] for t in (shown, both))
    assert list(beside.values()) == list(alone.values())


def test_a_panel_without_a_point_stays_beside_one_that_has_some():
    shown = table(4, value=2.0).assign(x=[1.0, 2.0, 1.0, 2.0], seed=[0, 0, 1, 1])
    both = pd.concat([shown, table(2).assign(panel="begun")])
    chart = curves(both, x=LOG, y=Y, series="s", panel="panel")
    assert [panel["title"] for panel in chart.to_dict()["hconcat"]] == ["p", "begun"]
    assert "<svg" in vl_convert.vegalite_to_svg(theme.specification(chart))
