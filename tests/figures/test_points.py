import io
import math
import re

import numpy as np
import pandas as pd
import pytest
import vl_convert
from scipy import stats

from theodolite.figures import theme
from theodolite.figures.points import forest, over_factor, scatter
from theodolite.figures.scales import Axis, Rule

X, Y = Axis("layers", "layers"), Axis("epochs", "epochs", log=True)


def made_runs(seeds=12):
    epochs = np.random.default_rng(5).permutation(np.arange(1, seeds + 1)) * 10.0
    return pd.DataFrame({"layers": 4, "seed": range(seeds), "epochs": epochs, "late": False})


def tables(chart):
    spec = chart.to_dict()
    return [
        (layer["mark"], pd.read_csv(io.StringIO(spec["datasets"][layer.get("data", spec.get("data"))["name"]])))
        for layer in spec["layer"]
    ]


def middle(chart):
    """The row of the median: the table that has a column of its own for the upper end."""
    return next(table for _, table in tables(chart) if {"high", "seeds"} <= set(table)).iloc[0]


def test_the_median_stands_with_an_interval_that_covers_ninety_five_per_cent():
    found = middle(over_factor(made_runs(), x=X, y=Y))
    assert found["y"] == 65.0
    # Between the third and the second order statistics of twelve, whose coverages bracket 95 %.
    assert 1 - 2 * stats.binom.cdf(2, 12, 0.5) > 0.95 > 1 - 2 * stats.binom.cdf(3, 12, 0.5)
    assert 30 <= found["low"] <= 40
    assert 90 <= found["high"] <= 100


def test_runs_that_did_not_converge_are_drawn_apart_and_leave_the_interval_open():
    runs = made_runs()
    runs.loc[runs["epochs"] > 80, "late"] = True
    chart = over_factor(runs.assign(epochs=runs["epochs"].clip(upper=80)), x=X, y=Y, censored="late")
    triangles = [table for mark, table in tables(chart) if mark.get("shape") == "triangle-up"]
    assert len(triangles[0]) == 4
    assert middle(chart)["y"] == 65.0
    assert middle(chart)["high"] == "no end"


def test_a_diverged_run_leaves_both_ends_of_a_small_survey_open_and_is_counted():
    runs = made_runs(5).assign(epochs=[10.0, 20.0, 30.0, 40.0, np.nan])
    found = tables(over_factor(runs, x=X, y=Y))
    assert sum(len(table) for mark, table in found if mark.get("size") == 16) == 4
    chart = over_factor(runs, x=X, y=Y)
    assert (middle(chart)["low"], middle(chart)["high"], middle(chart)["seeds"]) == ("no end", "no end", 5)


def test_an_end_that_nothing_bounds_has_an_arrow_at_the_edge_and_one_that_is_bounded_has_none():
    runs = made_runs(5).assign(epochs=[10.0, 20.0, 30.0, 40.0, np.nan])
    bounded = made_runs().assign(layers=6)
    found = tables(over_factor(pd.concat([runs, bounded]), x=X, y=Axis("epochs", "epochs", domain=(0, 150))))
    arrows = {mark["shape"]: table for mark, table in found if str(mark.get("shape", "")).startswith("triangle")}
    assert arrows["triangle-down"][["factor", "bottom"]].to_numpy().tolist() == [[4, 0]]
    assert arrows["triangle-up"][["factor", "top"]].to_numpy().tolist() == [[4, 150]]


def test_an_interval_that_goes_on_beyond_the_panel_has_an_arrow_there_too():
    chart = over_factor(made_runs(), x=X, y=Axis("epochs", "epochs", domain=(0, 80)))
    arrows = {mark["shape"]: len(table) for mark, table in tables(chart) if "triangle" in str(mark.get("shape"))}
    assert arrows == {"triangle-up": 1, "triangle-down": 0}


def test_the_name_of_a_level_line_stands_beside_the_panel_where_no_interval_is():
    runs = pd.concat([made_runs().assign(layers=n, of=of) for n in range(6) for of in "ab"])
    chart = over_factor(runs, x=X, y=Y, panel="of", rules=[Rule(40.0, "the threshold")]).to_dict()
    names = [
        [layer["mark"] for layer in panel["layer"] if layer["mark"].get("style") == "guide-note"]
        for panel in chart["hconcat"]
    ]
    assert names[0] == []  # said once
    assert (names[1][0]["x"], names[1][0]["align"]) == ("width", "left")
    assert 2 * chart["hconcat"][1]["width"] < 640 - 64 - len("the threshold") * 6


def test_factors_stand_in_their_own_order_not_that_of_the_table():
    runs = pd.concat([made_runs().assign(layers=n) for n in (8, 2, 10)])
    spec = over_factor(runs, x=X, y=Y).to_dict()
    orders = [layer["encoding"]["x"]["sort"] for layer in spec["layer"]]
    assert all(order == [2, 8, 10] for order in orders)


def test_an_open_end_of_a_forest_row_has_an_arrow_at_the_edge():
    rows = pd.DataFrame({"name": ["a", "b"], "x": [1.0, 2.0], "low": [0.5, 1.5], "high": [1.5, math.inf]})
    chart = forest(
        rows, x=Axis("x", "ratio", domain=(0, 4)), label="name", low="low", high="high", rules=[Rule(1, "one", "x")]
    )
    arrows = {mark["shape"]: table for mark, table in tables(chart) if "shape" in mark}
    assert len(arrows["triangle-left"]) == 0
    assert arrows["triangle-right"][["label", "right"]].to_numpy().tolist() == [["b", 4.0]]
    inwards = {mark["shape"]: mark["xOffset"] for mark, _ in tables(chart) if "shape" in mark}
    assert inwards["triangle-left"] > 0 > inwards["triangle-right"]  # clear of the names of the rows


@pytest.mark.parametrize("series", [None, "kind"])
def test_a_scatter_shows_every_point_that_has_two_numbers(series):
    points = pd.DataFrame({"a": [1.0, 2.0, np.nan], "b": [3.0, np.inf, 5.0], "kind": ["p", "q", "p"]})
    chart = scatter(points, x=Axis("a", "a"), y=Axis("b", "b"), series=series)
    assert [len(table) for mark, table in tables(chart) if mark["type"] == "point"] == [1]


def test_a_scatter_with_marks_fills_one_kind_leaves_the_other_hollow_and_says_so():
    points = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0], "kind": ["p", "q"], "structure": ["free", "tied"]})
    chart = scatter(points, x=Axis("a", "a"), y=Axis("b", "b"), series="kind", marks="structure")
    svg = vl_convert.vegalite_to_svg(theme.specification(chart))
    assert "filled: free; hollow: tied" in svg
    hollow = re.findall(r'<path[^>]*fill-opacity="0"[^>]*stroke="(#\w+)"', svg)
    assert hollow == [theme.PALETTE[1].colour]
    encoding = next(layer["encoding"] for layer in chart.to_dict()["layer"] if layer["mark"]["type"] == "point")
    assert encoding["fillOpacity"]["condition"] == {"test": 'datum.mark === "free"', "value": 1}


def test_points_that_are_moved_apart_keep_their_number_and_stay_within_the_spread():
    points = pd.DataFrame({"a": np.arange(200.0), "b": np.repeat([1.0, 2.0], 100)})
    [drawn] = [table for _, table in tables(scatter(points, x=Axis("a", "a"), y=Axis("b", "b"), spread=0.25))]
    assert drawn["y"].tolist() == points["b"].tolist()
    away = (drawn["drawn"] - drawn["y"]).abs()
    assert away.max() <= 0.25 < 1.1 * away.max()


@pytest.mark.parametrize(
    ("statistic", "expected"), [("mean", stats.tmean), ("ratio", stats.gmean), ("median", np.median)]
)
def test_the_middle_is_that_which_is_tested(statistic, expected):
    runs = made_runs()
    assert middle(over_factor(runs, x=X, y=Y, statistic=statistic))["y"] == pytest.approx(
        expected(runs["epochs"]), rel=1e-4
    )


def test_seeds_stand_on_both_sides_of_their_middle():
    found = tables(over_factor(made_runs(), x=X, y=Y))
    sides = pd.concat(table for mark, table in found if mark.get("size") == 16)["place"].value_counts()
    assert sides.tolist() == [6, 6]


def test_factors_without_rows_keep_their_place_and_factors_have_colours_of_their_own():
    runs = pd.concat([made_runs().assign(layers=size) for size in (32, 128)])
    line = pd.DataFrame({"layers": [32, 64, 128], "epochs": [50.0, 60.0, 70.0]})
    spec = over_factor(runs, x=X, y=Y, looks="batch {}", factors=[32, 64, 128], trend=line).to_dict()
    assert all(layer["encoding"]["x"]["scale"]["domain"] == [32, 64, 128] for layer in spec["layer"])
    point = next(layer["encoding"] for layer in spec["layer"] if layer["mark"]["type"] == "point")
    assert point["color"]["scale"]["range"] == [theme.RAMP[0].colour, theme.RAMP[2].colour]
    assert "xOffset" in point
    trend = next(layer["encoding"] for layer in spec["layer"] if layer["mark"]["type"] == "line")
    assert "xOffset" not in trend  # in the middle of each place


def test_of_too_many_points_some_are_drawn_by_lot_and_the_figure_says_how_many():
    many = pd.DataFrame({"a": np.arange(12_001.0), "b": np.arange(12_001.0)})
    chart = scatter(many, x=Axis("a", "a"), y=Axis("b", "b")).to_dict()
    assert chart["title"]["text"] == "5,000 of 12,001 points, drawn by lot"
    [drawn] = [table for mark, table in tables(scatter(many, x=Axis("a", "a"), y=Axis("b", "b")))]
    assert len(drawn) == 5000
    assert drawn["x"].is_monotonic_increasing
    assert abs(drawn["x"].mean() / 6000 - 1) < 0.02  # 1.2 standard errors: the lot takes no part before another
    assert chart["layer"][0]["encoding"]["x"]["scale"]["domain"][1] > 12_000  # of all, drawn or not
