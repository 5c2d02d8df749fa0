"""Spectra as densities: areas are shares of eigenvalues, measured and predicted alike."""

import io
import re

import numpy as np
import pandas as pd
import pytest
import vl_convert

from theodolite.figures.scales import Axis
from theodolite.figures.spectra import spectra
from theodolite.figures.theme import specification

X, Y = Axis("eigenvalue", "eigenvalue"), Axis("density", "density")
LINEAR = 0.1


def table(eigenvalues, grid=None, density=None):
    rows = pd.DataFrame({"point": "a", "kind": "measured", "eigenvalue": eigenvalues, "density": np.nan})
    if grid is None:
        return rows
    return pd.concat([rows, pd.DataFrame({"point": "a", "kind": "predicted", "eigenvalue": grid, "density": density})])


def curves(made):
    """The curves that the specification holds, by series."""
    chart = spectra(made, x=X, y=Y, panel="point", series="kind", linear=LINEAR)
    drawn = (pd.read_csv(io.StringIO(text)) for text in specification(chart)["datasets"].values())
    found = next(rows for rows in drawn if "density" in rows)
    return dict(list(found.groupby("series")))


def test_the_area_left_of_zero_is_the_share_of_negative_eigenvalues():
    eigenvalues = [-2.0, -1.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    curve = curves(table(eigenvalues))["measured"]
    assert np.trapezoid(curve["density"], curve["u"]) == pytest.approx(1, abs=1e-3)
    left = curve[curve["u"] <= 0]
    assert np.trapezoid(left["density"], left["u"]) == pytest.approx(2 / 8, abs=1e-3)


def test_a_predicted_density_is_drawn_as_many_of_its_own_draws_would_be():
    chance = np.random.default_rng(0)
    draws = chance.normal(1.0, 0.5, 200_000)
    grid = np.linspace(-3, 5, 4001)
    density = np.exp(-0.5 * ((grid - 1) / 0.5) ** 2) / (0.5 * np.sqrt(2 * np.pi))
    found = curves(table(draws, grid, density))
    measured, predicted = (found[name]["density"].to_numpy() for name in ("measured", "predicted"))
    np.testing.assert_allclose(measured, predicted, atol=0.01 * predicted.max())


def test_several_spectra_stand_one_above_the_other_on_one_axis():
    made = pd.concat([table([-1.0, 1.0, 2.0]), table([0.0, 5.0]).assign(point="b")])
    chart = spectra(made, x=X, y=Y, panel="point", series="kind", linear=LINEAR)
    panels = specification(chart, dark=True)["vconcat"]
    assert [panel["title"] for panel in panels] == ["a", "b"]
    domains = {tuple(layer["encoding"]["x"]["scale"]["domain"]) for panel in panels for layer in panel["layer"]}
    assert len(domains) == 1


def test_measured_and_predicted_are_told_apart_without_colour_and_named_once():
    made = table([-1.0, 1.0, 2.0], [0.0, 1.0], [0.5, 0.5])
    made = pd.concat([made, made.assign(point="b")])
    spec = specification(spectra(made, x=X, y=Y, panel="point", series="kind", linear=LINEAR))
    lines = [
        layer["encoding"] for panel in spec["vconcat"] for layer in panel["layer"] if layer["mark"]["type"] == "line"
    ]
    dashes = [line["strokeDash"]["scale"]["range"] for line in lines]
    assert all(first != second for first, second in dashes)
    svg = vl_convert.vegalite_to_svg(spec)
    assert svg.count(">predicted<") == 1


def test_zero_is_named_and_no_tick_of_the_linear_part_stands_in_its_way():
    chart = spectra(table([-30.0, -1.0, 0.0, 50.0]), x=X, y=Y, panel="point", series="kind", linear=0.02)
    svg = vl_convert.vegalite_to_svg(specification(chart))
    shown = [word for word in re.findall(r">([^<>]+)</text>", svg) if re.fullmatch(r"[−-]?(0|1|10|0\.0?1)", word)]
    assert shown[:7] == ["−10", "−1", "−0.1", "0", "0.1", "1", "10"]  # then those upwards
