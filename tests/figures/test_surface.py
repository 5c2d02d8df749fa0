"""Maps: the cells where they belong, contours at round heights, true lengths."""

import io

import numpy as np
import pandas as pd
import pytest
import vl_convert

from theodolite.figures.scales import Axis
from theodolite.figures.surface import levels, surfaces
from theodolite.figures.theme import specification

AXES = {"x": Axis("x", "first"), "y": Axis("y", "second"), "z": Axis("loss", "loss", log=True)}


def bowl(width=11, height=6, panel="a"):
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(0, 1, height))
    loss = 0.01 + x.ravel() ** 2 + 3 * y.ravel() ** 2
    return pd.DataFrame({"x": x.ravel(), "y": y.ravel(), "loss": loss, "panel": panel})


def cells(spec):
    """The map's rows as the renderer works them out, from the specification alone."""
    layer = next(part for part in spec["layer"] if part["mark"]["type"] == "rect")
    values = pd.read_csv(io.StringIO(spec["datasets"][layer["data"]["name"]]))["z"].to_numpy()
    formulas = {t["as"]: t["calculate"] for t in layer["transform"] if "calculate" in t}
    number = np.arange(1, len(values) + 1)

    def run(formula):
        return eval(formula, {"floor": np.floor, "datum": type("Datum", (), {"cell": number})})  # noqa: S307 - our own

    return pd.DataFrame({"x": run(formulas["x"]), "y": run(formulas["y"]), "loss": values})


def test_every_cell_lies_around_its_own_point_of_the_grid():
    table = bowl().sample(frac=1, random_state=0)  # the order of rows does not matter
    drawn = cells(specification(surfaces(table, **AXES)))
    expected = bowl()
    np.testing.assert_allclose(drawn["x"] + 0.1, expected["x"], atol=1e-5)
    np.testing.assert_allclose(drawn["y"] + 0.1, expected["y"], atol=1e-5)
    np.testing.assert_allclose(drawn["loss"], expected["loss"], rtol=5e-3)


def test_both_axes_have_one_scale_so_that_lengths_are_true():
    spec = specification(surfaces(bowl(), **AXES))
    assert spec["height"] / spec["width"] == pytest.approx(0.5, abs=0.01)


def test_panels_share_colours_and_have_axes_of_their_own():
    far = bowl(panel="b").assign(x=lambda t: 10 + t["x"], loss=lambda t: 10 * t["loss"])
    spec = specification(surfaces(pd.concat([bowl(), far]), panel="panel", **AXES))
    maps = [part["layer"][0]["encoding"] for part in spec["hconcat"]]
    assert maps[0]["color"]["scale"] == maps[1]["color"]["scale"]
    assert maps[0]["x"]["scale"]["domain"] != maps[1]["x"]["scale"]["domain"]


@pytest.mark.parametrize(("low", "high"), [(0.03, 4.0), (1e-6, 1e3), (0.2, 0.9), (1.0, 1.5)])
def test_contour_levels_are_round_inside_and_not_too_many(low, high):
    found = levels(low, high, log=True)
    assert len(found) <= 14
    assert all(low < level < high and f"{level:.0e}"[0] in "1235" for level in found)


def test_paths_and_places_are_drawn_and_the_whole_is_rendered_light_and_dark():
    path = pd.DataFrame({"x": [-0.8, -0.2, 0.0], "y": [0.9, 0.3, 0.0]})
    places = pd.DataFrame({"x": [0.0], "y": [0.0], "label": ["the minimum"]})
    chart = surfaces(bowl(), paths=path, places=places, **AXES)
    for dark in (False, True):
        svg = vl_convert.vegalite_to_svg(specification(chart, dark=dark))
        assert "the minimum" in svg


def test_values_that_are_not_finite_take_the_colour_of_the_highest():
    table = bowl()
    table.loc[0, "loss"] = np.inf
    table.loc[1, "loss"] = np.nan
    drawn = cells(specification(surfaces(table, **AXES)))
    assert drawn["loss"].iloc[0] == drawn["loss"].iloc[1] >= table["loss"].replace(np.inf, np.nan).max()
