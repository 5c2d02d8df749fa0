import re

import altair as alt
import pandas as pd
import pytest

from theodolite.figures import theme
from theodolite.figures.curves import curves
from theodolite.figures.render import save
from theodolite.figures.scales import Axis
from theodolite.findings import Figure


def made_figure():
    table = pd.DataFrame(
        {"m": ["Model 1"] * 6, "seed": [0, 0, 0, 1, 1, 1], "x": [0, 1, 2] * 2, "y": [3, 2, 1, 4, 2, 1]}
    )
    return Figure("made", "Made", curves(table, x=Axis("x", "x"), y=Axis("y", "y"), series="m"), "", "")


def test_the_same_figure_gives_the_same_png_and_svg_anywhere(tmp_path):
    first, second = (save(made_figure(), tmp_path / name) for name in ("a", "b"))
    assert [path.name for path in first] == ["made.png", "made.svg", "made.pdf"]
    for a, b in zip(first[:2], second[:2], strict=True):
        assert a.read_bytes() == b.read_bytes()
    assert first[0].read_bytes().startswith(b"\x89PNG")
    assert b"Model 1" in first[1].read_bytes()
    assert first[2].read_bytes().startswith(b"%PDF")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["made.pdf", "made.png", "made.svg"]


def test_a_figure_drawn_again_in_its_place_leaves_every_file_as_it_was(tmp_path):
    before = [path.read_bytes() for path in save(made_figure(), tmp_path)]
    assert [path.read_bytes() for path in save(made_figure(), tmp_path)] == before


def test_a_figure_that_changed_or_lost_a_file_is_drawn_anew(tmp_path):
    png, _, pdf = save(made_figure(), tmp_path)
    light = png.read_bytes()
    assert save(made_figure(), tmp_path, dark=True)[0].read_bytes() != light
    pdf.unlink()
    save(made_figure(), tmp_path, dark=True)
    assert pdf.read_bytes().startswith(b"%PDF")


def test_a_dark_figure_holds_no_light_colour(tmp_path):
    svg = save(made_figure(), tmp_path, ["svg"], dark=True)[0].read_text()
    assert theme.PALETTE[0].dark in svg
    assert theme.PALETTE[0].colour not in svg
    assert "#ffffff" not in svg


def test_a_thing_keeps_its_colour_whatever_stands_beside_it():
    alone = theme.looks(["Model 2"])[0]
    assert alone == theme.looks(["Model 1", "Model 2", "other"])[1] == theme.looks(["other", "Model 2"])[1]
    assert theme.looks(["training"]) != theme.looks(["test"])


def test_a_batch_size_keeps_its_colour_whichever_others_a_study_has():
    sizes = [f"batch {size}" for size in (32, 64, 256, 512, 1024)]
    of = dict(zip(sizes, theme.looks(sizes), strict=True))
    assert len({look.colour for look in of.values()}) == len({look.shape for look in of.values()}) == 5
    assert theme.looks(["batch 1024", "batch 256"]) == [of["batch 1024"], of["batch 256"]]
    assert theme.looks(["batch 32", "batch 64", "batch 128"])[:2] == [of["batch 32"], of["batch 64"]]


def test_no_two_series_of_a_figure_look_alike():
    for names in (["Model 1", "training"], list("abcdefg"), ["a", "test", "Model 2"]):
        looks = theme.looks(names)
        assert len({look.colour for look in looks}) == len({look.dash for look in looks}) == len(names)


@pytest.mark.parametrize("dark", [False, True])
def test_every_colour_can_be_read_on_its_background(dark):
    background = theme.config(dark=dark)["background"]
    for look in (*theme.PALETTE, theme.REFERENCE):
        assert contrast(look.dark if dark else look.colour, background) >= 4.5
    axis = theme.config(dark=dark)["axis"]
    assert contrast(axis["labelColor"], background) >= 4.5


def contrast(a, b):
    """WCAG 2.1 contrast ratio of two colours."""

    def luminance(colour):
        parts = [int(part, 16) / 255 for part in re.findall("..", colour[1:])]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_any_altair_chart_can_be_dressed(tmp_path):
    chart = alt.Chart(alt.InlineData([{"a": 1}])).mark_point().encode(x="a:Q")
    assert save(Figure("own", "", chart, "", ""), tmp_path, ["svg"])[0].stat().st_size > 500
