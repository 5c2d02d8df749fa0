"""Maps: the cells where they belong, contours at round heights, true lengths."""

import io
import json

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


def painted(spec):
    """The outlines as the renderer joins them, with the height of each, from the specification alone."""
    layer = next(part for part in spec["layer"] if part["encoding"].get("fill"))
    points = pd.read_csv(io.StringIO(spec["datasets"][layer["data"]["name"]]))
    heights = json.loads(layer["transform"][0]["calculate"].removesuffix("[datum.outline]"))
    return [(heights[n], own[["x", "y"]].to_numpy()) for n, own in points.groupby("outline", sort=False)]


def seen_at(outlines, x, y):
    """The height of the last outline painted over a point: even or odd crossings of a ray."""
    found = None
    for height, line in outlines:
        (ax, ay), (bx, by) = line[:-1].T, line[1:].T
        over = (ay > y) != (by > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            if (over & (x < ax + (y - ay) / (by - ay) * (bx - ax))).sum() % 2:
                found = height
    return found


def test_every_point_has_the_colour_of_the_band_that_its_height_lies_in():
    table = bowl(21, 21).sample(frac=1, random_state=0)  # the order of rows does not matter
    outlines = painted(specification(surfaces(table, **AXES)))
    ends = [0.0, *levels(table["loss"].min(), table["loss"].max(), log=True), np.inf]
    inner = bowl(21, 21).query("abs(x) < 0.99 and 0.01 < y < 0.99")
    for x, y, loss in inner[["x", "y", "loss"]].to_numpy():
        if min(abs(np.log(loss / end)) for end in ends[1:-1]) > 0.1:  # else the colour of the band beside is right too
            assert np.digitize(seen_at(outlines, x, y), ends) == np.digitize(loss, ends)


def test_both_axes_have_one_scale_so_that_lengths_are_true():
    spec = specification(surfaces(bowl(), **AXES))
    assert spec["height"] / spec["width"] == pytest.approx(0.5, abs=0.01)


def test_panels_share_colours_and_have_axes_of_their_own():
    far = bowl(panel="b").assign(x=lambda t: 10 + t["x"], loss=lambda t: 10 * t["loss"])
    spec = specification(surfaces(pd.concat([bowl(), far]), panel="panel", **AXES))
    maps = [part["layer"][0]["encoding"] for part in spec["hconcat"]]
    assert maps[0]["fill"]["scale"] == maps[1]["fill"]["scale"]
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


def test_values_that_are_not_finite_lie_in_the_highest_band():
    table = bowl(21, 21)
    table.loc[table.index[-3:], "loss"] = [np.inf, np.nan, np.inf]  # at the upper right
    outlines = painted(specification(surfaces(table, **AXES)))
    assert seen_at(outlines, 0.97, 0.999) == max(height for height, _ in outlines)


def test_a_path_that_leaves_the_map_is_drawn_whole():
    path = pd.DataFrame({"x": [0.0, 0.0], "y": [0.2, -0.7]})
    spec = specification(surfaces(bowl(), paths=path, **AXES))
    assert spec["layer"][0]["encoding"]["y"]["scale"]["domain"][0] < -0.7
    across, up = (np.ptp(spec["layer"][0]["encoding"][axis]["scale"]["domain"]) for axis in "xy")
    assert spec["height"] / spec["width"] == pytest.approx(up / across, abs=0.01)


def test_heights_are_written_on_their_contours_and_keep_clear_of_each_other():
    spec = specification(surfaces(bowl(21, 21), **AXES))
    layer = next(part for part in spec["layer"] if part["mark"]["type"] == "text")
    labels = pd.read_csv(io.StringIO(spec["datasets"][layer["data"]["name"]]))
    assert len(labels) >= 3
    heights = 0.01 + labels["x"] ** 2 + 3 * labels["y"] ** 2
    np.testing.assert_allclose(heights, labels["label"], rtol=0.03)
    shown = labels[["x", "y"]].to_numpy() * spec["width"] / 2  # pixels: two units across
    apart = np.abs(shown[:, None] - shown[None]) + 100 * np.eye(len(shown))[:, :, None]
    assert ((apart[..., 0] > 30) | (apart[..., 1] > 12)).all()
