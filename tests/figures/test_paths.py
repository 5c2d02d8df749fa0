"""Paths in a plane: what is drawn, in what order, and at one scale."""

import io

import numpy as np
import pandas as pd
import pytest

from theodolite.figures.paths import paths
from theodolite.figures.scales import Axis
from theodolite.figures.theme import specification

X, Y = Axis("a", "first"), Axis("b", "second")


def walks(names=("0", "1"), steps=4):
    draw = np.random.default_rng(3)
    return pd.concat(
        [
            pd.DataFrame(
                {"walk": name, "epoch": range(steps), "a": draw.normal(size=steps), "b": draw.normal(size=steps)}
            )
            for name in names
        ],
        ignore_index=True,
    )


def layers(chart):
    """Each layer with its data beside it, wherever the specification keeps them."""
    spec = specification(chart)
    return [{**layer, "values": spec["datasets"][layer["data"]["name"]]} for layer in spec["layer"]]


def rows(layer):
    return pd.read_csv(io.StringIO(layer["values"]), dtype={"series": str})


def channel(layer, name):
    return layer["encoding"][name]


def test_a_unit_is_as_long_across_as_upwards():
    chart = paths(walks().assign(b=lambda t: 5 * t["b"]), x=X, y=Y, series="walk", step="epoch")
    spec = specification(chart)
    across, up = (np.ptp(channel(spec["layer"][0], name)["scale"]["domain"]) for name in "xy")
    assert across / spec["width"] == pytest.approx(up / spec["height"], rel=0.01)


def test_points_are_joined_in_the_order_of_the_steps_not_of_the_rows():
    table = walks().sample(frac=1.0, random_state=0)
    line = layers(paths(table, x=X, y=Y, series="walk", step="epoch"))[0]
    assert channel(line, "order")["field"] == "step"
    assert all(part["step"].is_monotonic_increasing for _, part in rows(line).groupby("series"))


def test_start_and_end_are_the_first_and_the_last_step():
    table = walks().sample(frac=1.0, random_state=1)
    _, _, starts, ends, _ = layers(paths(table, x=X, y=Y, series="walk", step="epoch"))
    assert rows(starts)["step"].tolist() == [0, 0]
    assert rows(ends)["step"].tolist() == [3, 3]
    assert starts["mark"]["filled"] is False
    assert ends["mark"]["filled"] is True


def test_every_path_is_named_inside_the_panel():
    chart = paths(walks(names=[str(n) for n in range(8)]), x=X, y=Y, series="walk", step="epoch")
    *_, names = layers(chart)
    found = rows(names)
    assert sorted(found["series"]) == [str(n) for n in range(8)]
    spec = specification(chart)
    for at, size, sign in (("x", "width", 1), ("y", "height", -1)):
        low, high = channel(names, at)["scale"]["domain"]
        for drawn in (spec[size], 250 * spec[size] / spec["width"]):  # pixels: on the page, and in a paper's column
            place = found[at] + sign * found[f"d{at}"] * (high - low) / drawn
            assert place.between(low, high).all()


def test_a_name_stands_clear_of_the_end_it_names_however_small_the_figure():
    *_, ends, names = layers(paths(walks(), x=X, y=Y, series="walk", step="epoch"))
    radius = np.sqrt(ends["mark"]["size"] / np.pi)
    assert (np.hypot(rows(names)["dx"], rows(names)["dy"]) > radius + 6).all()
    assert {names["mark"][by]["expr"] for by in ("dx", "dy")} == {"datum.dx", "datum.dy"}


def test_eight_paths_have_eight_colours_light_and_dark():
    chart = paths(walks(names=[str(n) for n in range(8)]), x=X, y=Y, series="walk", step="epoch")
    light, dark = (
        specification(chart, dark=d)["layer"][0]["encoding"]["color"]["scale"]["range"] for d in (False, True)
    )
    assert len(set(light)) == len(set(dark)) == 8
    assert not set(light) & set(dark)


def test_points_without_numbers_are_left_out():
    table = walks()
    table.loc[table["epoch"] == 3, "a"] = np.nan
    line = layers(paths(table, x=X, y=Y, series="walk", step="epoch"))[0]
    assert rows(line)["step"].max() == 2
