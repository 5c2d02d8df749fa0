"""Expected values: quantiles by numpy on the raw table, and counts."""

import io
import re

import altair as alt
import numpy as np
import pandas as pd
import pytest
import vl_convert

from theodolite.figures import theme
from theodolite.figures.curves import POINTS, curves
from theodolite.figures.scales import Axis, Rule, log_ticks

X, Y = Axis("epoch", "epoch"), Axis("loss", "loss", log=True)


def made_runs(lengths=(50, 50, 50), model="Model 1"):
    generator = np.random.default_rng(3)
    parts = [
        pd.DataFrame({"model": model, "seed": seed, "epoch": range(n), "loss": generator.lognormal(size=n)})
        for seed, n in enumerate(lengths)
    ]
    return pd.concat(parts, ignore_index=True)


def drawn(chart, *, mark):
    """The inline tables of all layers with a mark, in one."""
    spec = chart.to_dict()
    layers = [layer for panel in spec.get("hconcat", [spec]) for layer in panel["layer"]]
    names = [layer["data"]["name"] for layer in layers if layer["mark"]["type"] == mark]
    return pd.concat([pd.read_csv(io.StringIO(spec["datasets"][name])) for name in dict.fromkeys(names)])


def test_the_line_is_the_median_and_the_band_the_middle_eighty_per_cent():
    table = made_runs(lengths=(50,) * 7)
    found = drawn(curves(table, x=X, y=Y, series="model"), mark="area")
    raw = table.pivot_table(index="epoch", columns="seed", values="loss")
    for share, column in ((0.1, "low"), (0.5, "y"), (0.9, "high")):
        np.testing.assert_allclose(found[column], np.quantile(raw, share, axis=1), rtol=1e-4)
    assert set(found["seeds"]) == {7}


def test_a_run_that_stopped_keeps_its_last_value_when_carried():
    table = made_runs(lengths=(10, 50, 50))
    last = table[(table["seed"] == 0) & (table["epoch"] == 9)]["loss"].item()
    others = table[(table["seed"] > 0) & (table["epoch"] == 40)]["loss"].tolist()
    carried = drawn(curves(table, x=X, y=Y, series="model", carry=True), mark="area").set_index("x").loc[40]
    left_out = drawn(curves(table, x=X, y=Y, series="model"), mark="area").set_index("x").loc[40]
    assert carried["y"] == pytest.approx(np.median([last, *others]), rel=1e-4)
    assert left_out["y"] == pytest.approx(np.median(others), rel=1e-4)
    assert (carried["seeds"], left_out["seeds"]) == (3, 2)


def test_a_diverged_run_counts_as_infinitely_high():
    table = made_runs(lengths=(20,) * 3)
    table.loc[(table["seed"] == 0) & (table["epoch"] >= 5), "loss"] = np.nan
    found = drawn(curves(table, x=X, y=Y, series="model"), mark="area").set_index("x")
    others = table[(table["seed"] > 0) & (table["epoch"] == 10)]["loss"]
    assert found.loc[10, "y"] == pytest.approx(others.max(), rel=1e-4)  # the middle of three, one of them infinite
    assert np.isnan(found.loc[10, "high"])
    assert found.loc[10, "seeds"] == 3


@pytest.mark.parametrize("log", [False, True])
def test_long_curves_are_thinned_to_what_a_screen_shows_and_keep_both_ends(log):
    table = made_runs(lengths=(5000, 5000))
    found = drawn(curves(table, x=Axis("epoch", "epoch", log=log), y=Y, series="model"), mark="area")
    assert 50 < len(found) <= POINTS
    assert (found["x"].min(), found["x"].max()) == (1 if log else 0, 4999)


def test_single_seeds_are_all_there_and_few_points_each():
    table = pd.concat([made_runs((4000,) * 16, model) for model in ("Model 1", "Model 2", "Model 3")])
    chart = curves(table, x=X, y=Y, series="model").to_dict()
    layer = next(layer for layer in chart["layer"] if layer.get("transform") == [{"filter": "seeds"}])
    found = pd.read_csv(io.StringIO(chart["datasets"][layer["data"]["name"]]))
    assert found.groupby(["series", "seed"]).ngroups == 48
    assert len(found) <= 3100


def test_lines_that_end_apart_are_named_there_and_lines_that_end_together_get_a_legend():
    apart = pd.concat([made_runs().assign(model=f"M{k}", loss=10.0**k) for k in range(3)])
    together = apart.assign(loss=lambda t: 1 + t["model"].str[1].astype(int) * 1e-4)

    def legends(chart):
        return [layer["encoding"].get("color", {}).get("legend", 0) for layer in chart.to_dict()["layer"]]

    assert drawn(curves(apart, x=X, y=Y, series="model"), mark="text")["series"].tolist() == ["M0", "M1", "M2"]
    assert set(legends(curves(apart, x=X, y=Y, series="model"))) == {None}
    wide = Axis("loss", "loss", log=True, domain=(1e-3, 1e3))
    assert {"symbolType": "stroke"} in legends(curves(together, x=X, y=wide, series="model"))


def test_panels_share_their_axes_and_each_has_its_own_rules_and_data():
    both = pd.concat([made_runs().assign(f="cos"), made_runs((30, 30)).assign(f="exp", loss=1e-3)])
    chart = curves(both, x=X, y=Y, series="model", panel="f", rules=[Rule(0.01, "convergence")]).to_dict()
    assert [panel["title"] for panel in chart["hconcat"]] == ["cos", "exp"]
    domains = {
        str(layer["encoding"]["y"]["scale"]["domain"])
        for panel in chart["hconcat"]
        for layer in panel["layer"]
        if "y" in layer["encoding"]
    }
    assert len(domains) == 1
    assert [sum(layer["mark"]["type"] == "rule" for layer in p["layer"]) for p in chart["hconcat"]] == [1, 1]


@pytest.mark.parametrize(
    ("x", "at", "aligned"),
    [
        (Axis("epoch", "epoch"), [16, 33], ["right", "left"]),  # away from each other: thirds of the axis
        (Axis("epoch", "epoch"), [5, 44], ["left", "right"]),  # inwards, where more is free
        (Axis("epoch", "epoch", log=True), [20], ["right"]),  # in the left half by its number, in the right on the axis
    ],
)
def test_the_name_of_an_upright_line_stands_where_more_is_free(x, at, aligned):
    chart = curves(made_runs(), x=x, y=Y, series="model", rules=[Rule(v, f"at {v}", "x") for v in at]).to_dict()
    notes = [layer["mark"] for layer in chart["layer"] if layer["mark"].get("style") == "guide-note"]
    assert [mark["align"] for mark in notes] == aligned


def test_a_rule_outside_the_axis_is_left_out():
    chart = curves(made_runs(), x=X, y=Y, series="model", rules=[Rule(1e9, "far", "x")]).to_dict()
    assert not [layer for layer in chart["layer"] if layer["mark"]["type"] == "rule"]


@pytest.mark.parametrize(("limits", "ticks"), [((0.9, 1.1), 2), ((1e-30, 1.0), 8), ((3, 4), 4)])
def test_a_logarithmic_axis_always_has_two_to_eight_ticks_inside_its_limits(limits, ticks):
    found = log_ticks(*limits)
    assert 2 <= len(found) <= 8
    assert all(limits[0] <= tick <= limits[1] for tick in found)


@pytest.mark.parametrize("limits", [(0.32, 0.57), (0.0119, 0.0168), (0.26, 0.41), (1.02, 1.03), (30_100.0, 30_900.0)])
def test_ticks_of_a_short_logarithmic_axis_are_round_numbers_at_even_steps(limits):
    found = log_ticks(*limits)
    assert 3 <= len(found) <= 8
    steps = {f"{step:.5e}" for step in np.diff(found)}
    assert len(steps) == 1
    assert steps.pop()[:7] in ("1.00000", "2.00000", "5.00000")
    assert all(limits[0] <= tick <= limits[1] for tick in found)


def test_the_legend_shows_the_reference_as_pale_as_its_line():
    target = pd.DataFrame({"epoch": [1.0, 40.0], "loss": [1.0, 1.0]})
    layers = curves(made_runs(), x=X, y=Y, series="model", reference=target).to_dict()["layer"]
    line, scale = layers[0], layers[0]["encoding"]["color"]["scale"]
    assert line["mark"].get("opacity", 1) == 1  # else the legend, which knows no opacity, would show another colour
    assert dict(zip(scale["domain"], scale["range"], strict=True))["target"] == theme.BENEATH.colour
    assert {str(layer["encoding"]["color"]["scale"]) for layer in layers if "color" in layer["encoding"]} == {
        str(scale)
    }


@pytest.mark.parametrize("dark", [False, True])
def test_the_name_of_the_reference_at_its_line_is_in_ink(dark):
    apart = pd.concat([made_runs().assign(model=f"M{k}", loss=10.0**k) for k in range(3)])
    target = pd.DataFrame({"epoch": [1.0, 49.0], "loss": [0.1, 0.1]})
    chart = curves(apart, x=X, y=Y, series="model", reference=target)
    svg = vl_convert.vegalite_to_svg(theme.specification(chart, dark=dark))
    filled = dict(re.findall(r'<text [^>]*fill="(#[0-9a-f]{6})"[^>]*>(target|M0)<', svg))
    names = {name: colour for colour, name in filled.items()}
    ink, first = (look.dark if dark else look.colour for look in (theme.REFERENCE, theme.PALETTE[0]))
    assert names == {"target": ink, "M0": first}


def place_of(chart, label):
    """The mark that writes the name of a rule, and nothing else."""
    spec = chart.to_dict()
    [mark] = [
        layer["mark"]
        for layer in spec["layer"]
        if layer["mark"]["type"] == "text" and label in spec["datasets"][layer["data"]["name"]]
    ]
    return mark


@pytest.mark.parametrize(
    ("level", "of", "align", "baseline"),
    [
        (0.5, lambda x: 0 * x, "right", "bottom"),  # nothing in the way
        (0.5, lambda x: (x > 50) * (0.5 + 0.04 * (-1) ** x), "left", "bottom"),  # the curve is all about its right end
        (0.5, lambda x: 0 * x + 0.53, "right", "top"),  # it runs just above all of the line
        (0.98, lambda x: 0 * x, "right", "top"),  # no room above
    ],
)
def test_the_name_of_a_line_stands_where_no_curve_is(level, of, align, baseline):
    x = np.arange(101.0)
    table = pd.DataFrame({"model": "a", "seed": 0, "x": x, "y": of(x)})
    chart = curves(table, x=Axis("x", "x"), y=Axis("y", "y", domain=(0, 1)), series="model", rules=[Rule(level, "on")])
    mark = place_of(chart, "on")
    assert (mark["align"], mark["baseline"]) == (align, baseline)


@pytest.mark.parametrize(("height", "baseline"), [(0.2, "top"), (0.97, "bottom")])
def test_the_name_of_an_upright_line_goes_to_the_bottom_where_curves_are_at_the_top(height, baseline):
    table = pd.DataFrame({"model": "a", "seed": 0, "x": np.arange(101.0), "y": height})
    axes = {"x": Axis("x", "x"), "y": Axis("y", "y", domain=(0, 1))}
    chart = curves(table, series="model", rules=[Rule(40.0, "turn", "x")], **axes)
    assert place_of(chart, "turn")["baseline"] == baseline


def test_the_name_of_an_upright_line_goes_below_the_curves_where_a_level_line_is_at_the_bottom():
    table = pd.DataFrame({"model": "a", "seed": 0, "x": np.arange(101.0), "y": 0.97})
    axes = {"x": Axis("x", "x"), "y": Axis("y", "y", domain=(0, 1))}
    rules = [Rule(40.0, "a name as long as the axis has room for", "x"), Rule(0.04, "")]
    mark = place_of(curves(table, series="model", rules=rules, **axes), "a name")
    assert mark["baseline"] == "top"
    assert 0.08 < mark["y"] / 300 < 0.5


def test_the_name_of_a_level_line_keeps_clear_of_upright_lines():
    table = pd.DataFrame({"model": "a", "seed": 0, "x": np.arange(101.0), "y": 0.97})
    axes = {"x": Axis("x", "x"), "y": Axis("y", "y", domain=(0, 1))}
    for at, align in ((90.0, "left"), (10.0, "right")):
        chart = curves(table, series="model", rules=[Rule(at, "", "x"), Rule(0.3, "level")], **axes)
        assert place_of(chart, "level")["align"] == align


def test_the_names_of_two_lines_that_cross_do_not_lie_on_one_another():
    heights = {"a": 0.97, "b": 0.89, "c": 0.81, "d": 0.73}  # all over the upper part of the panel
    table = pd.concat(
        [pd.DataFrame({"model": m, "seed": 0, "x": np.arange(101.0), "y": y}) for m, y in heights.items()]
    )
    axes = {"x": Axis("x", "x"), "y": Axis("y", "y", domain=(0, 1))}
    rules = [Rule(60.0, "upright line", "x"), Rule(0.03, "level line")]
    chart = curves(table, series="model", rules=rules, **axes)
    assert place_of(chart, "upright line")["align"] == "right"  # left of its line, at the bottom
    assert place_of(chart, "level line")["align"] == "right"  # at the right end, beyond that
    chart = curves(table, series="model", rules=[Rule(45.0, "upright line", "x"), rules[1]], **axes)
    assert place_of(chart, "upright line")["align"] == "left"
    assert place_of(chart, "level line")["align"] == "left"


def test_the_name_of_a_line_stands_beside_a_band_too():
    seeds = {0: 0.5, 1: 0.9, 2: 0.95}  # the median is far above the lowest, where the band is
    parts = [
        pd.DataFrame({"model": "m", "seed": seed, "x": np.arange(101.0), "y": np.linspace(0.95, end, 101)})
        for seed, end in seeds.items()
    ]
    axes = {"x": Axis("x", "x"), "y": Axis("y", "y", domain=(0, 1))}
    chart = curves(pd.concat(parts), series="model", rules=[Rule(0.58, "level")], **axes).to_dict()
    (label,) = [layer["mark"] for layer in chart["layer"] if layer["mark"].get("style") == "guide-note"]
    assert label["align"] == "left"


def test_numbers_of_a_logarithmic_axis_are_read_without_counting_zeros():
    x = np.geomspace(1e-5, 100, 50)
    table = pd.DataFrame({"model": "m", "seed": 0, "epoch": x, "loss": x})
    svg = vl_convert.vegalite_to_svg(theme.specification(curves(table, x=X, y=Y, series="model")))
    shown = set(re.findall(r">([^<>]+)</text>", svg))
    assert {"1e−5", "1e−4", "1e−3", "1e−1", "1", "100"} <= shown  # one notation below one
    assert "0.001" not in shown
    assert not [label for label in shown if "e+" in label or "e-" in label]


def test_an_axis_on_both_sides_of_zero_is_straight_within_its_linear_part_and_logarithmic_beyond():
    axis = Axis("y", "y", linear=1.0)
    limits = axis.limits([-20.0, 500.0])
    assert limits[0] < -20 < 500 < limits[1]
    at = axis.position([-0.01, 0.0, 0.01, 100.0, 1000.0, 10000.0], limits)
    assert at[1] - at[0] == pytest.approx(at[2] - at[1])
    assert at[5] - at[4] == pytest.approx(at[4] - at[3], rel=0.01)
    spec = axis.encode(alt.Y, "y:Q", limits).to_dict()
    assert (spec["scale"]["type"], spec["scale"]["constant"]) == ("symlog", 1.0)
    assert spec["axis"]["values"] == [-10.0, -1.0, 0.0, 1.0, 10.0, 100.0]


def test_a_marked_point_stands_with_its_interval_which_ends_with_the_panel():
    table = pd.DataFrame({"model": "m", "seed": 0, "epoch": [1.0, 10.0], "loss": [1.0, 0.1]})
    marks = pd.DataFrame({"model": ["m"], "epoch": [5.0], "loss": [0.2], "label": [""], "low": [2.0], "high": [np.inf]})
    spec = curves(table, x=Axis("epoch", "epoch"), y=Axis("loss", "loss"), series="model", marks=marks).to_dict()
    bar = next(layer for layer in spec["layer"] if layer["mark"]["type"] == "rule")
    drawn = pd.read_csv(io.StringIO(spec["datasets"][bar["data"]["name"]])).iloc[0]
    assert (drawn["x"], drawn["low"], drawn["high"]) == (5.0, 2.0, 10.0)
