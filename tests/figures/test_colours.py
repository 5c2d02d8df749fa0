"""Series are told apart by every reader, on either page."""

from itertools import combinations

import pytest

from sight import SIGHTS, apart, contrast, lab
from theodolite.figures import theme

SETS = {"palette": theme.PALETTE, "ramp": theme.RAMP}


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [  # Sharma, Wu and Dalal 2005, table 1
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, -1.3802, -84.2814), (50.0, 0.0, -82.7485), 1.0),
        ((50.0, 2.49, -0.001), (50.0, -2.49, 0.0011), 7.2195),
        ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
        ((22.7233, 20.0904, -46.694), (23.0331, 14.973, -42.5619), 2.0373),
        ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_distance_is_the_published_one(a, b, expected):
    assert apart(a, b) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("page", ["colour", "dark"])
@pytest.mark.parametrize("name", SETS)
def test_any_two_series_of_a_figure_and_what_lies_beneath_are_apart_for_every_sight(name, page, sight):
    seen = [lab(getattr(look, page), sight) for look in (*SETS[name], theme.BENEATH)]
    assert min(apart(a, b) for a, b in combinations(seen, 2)) >= 10


@pytest.mark.parametrize("page", ["colour", "dark"])
def test_lines_of_reference_have_a_contrast_of_three_and_names_of_series_one_of_four_and_a_half(page):
    paper = theme.config(dark=page == "dark")["background"]
    for look in (*theme.PALETTE, *theme.RAMP, theme.REFERENCE, theme.NEUTRAL):
        assert contrast(getattr(look, page), paper) >= 4.5
    assert contrast(getattr(theme.BENEATH, page), paper) >= 3


@pytest.mark.parametrize("page", ["colour", "dark"])
def test_the_ramp_goes_one_way(page):
    lightness = [lab(getattr(look, page))[0] for look in theme.RAMP]
    assert lightness == sorted(lightness, reverse=True)


def test_levels_of_an_ordered_factor_stand_along_the_ramp_whatever_order_they_come_in():
    assert theme.looks(["100 % random", "0 % random", "50 % random"]) == [theme.RAMP[5], theme.RAMP[0], theme.RAMP[2]]
    assert theme.looks(["4 layers", "10 layers"]) == [theme.RAMP[0], theme.RAMP[5]]
    assert theme.looks(["4 layers", "50 % random"]) == list(theme.PALETTE[:2])
    assert theme.looks(["Model 1", "Model 2"]) == list(theme.PALETTE[:2])  # names, not an order


def test_each_colour_stands_for_one_thing_when_the_dark_page_swaps_them():
    every = (*theme.PALETTE, *theme.RAMP, theme.REFERENCE, theme.BENEATH, theme.NEUTRAL)
    assert len({look.colour for look in every}) == len({look.dark for look in every}) == len(every)
    assert not {look.colour for look in every} & {look.dark for look in every}
