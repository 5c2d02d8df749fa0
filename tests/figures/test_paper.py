"""Figures for a paper: their size by the file's own statement, their fonts by poppler's pdffonts."""

import re
import shutil
import subprocess

import pandas as pd
import pytest
from PIL import Image

import made
from theodolite.errors import SettingError
from theodolite.figures import paper, render, theme
from theodolite.figures.curves import curves
from theodolite.figures.points import over_factor
from theodolite.figures.scales import Axis

FIGURES = made.findings(planes=True)[0].figures


@pytest.mark.parametrize("width", ["85mm", "6.7in"])
def test_every_figure_is_as_wide_as_the_column_in_every_format(tmp_path, width):
    pixels = paper.pixels(width)
    for figure in FIGURES:
        png, svg, pdf = render.save(figure, tmp_path, width=pixels)
        assert float(re.search(r'width="([\d.]+)"', svg.read_text())[1]) == pytest.approx(pixels, abs=0.01)
        with Image.open(png) as picture:
            assert picture.width == pytest.approx(pixels / 96 * 300, abs=2)
        box = re.search(rb"/MediaBox\s*\[\s*0 0 ([\d.]+)", pdf.read_bytes())
        assert float(box[1]) == pytest.approx(pixels / 96 * 72, abs=0.5)


def test_no_letter_is_smaller_than_six_and_a_half_points(tmp_path):
    for figure in FIGURES:
        svg = render.save(figure, tmp_path, ["svg"], width=paper.pixels("85mm"))[0].read_text()
        sizes = {float(size) for size in re.findall(r'font-size="([\d.]+)(?:px)?"', svg)}
        assert min(sizes) * 0.75 >= 6.5, figure.name


def test_long_names_and_titles_leave_a_column_its_panel():
    names = [f"{n}, matched by the activations of hidden units" for n in range(3)]
    table = pd.concat(pd.DataFrame({"of": name, "seed": 0, "x": [0.0, 1.0], "y": [1.0, 1.0]}) for name in names)
    chart = curves(
        table,
        x=Axis("x", "share of the way from the small batch's network to the large one's"),
        y=Axis("y", "y"),
        series="of",
    )
    svg = paper.svg(chart, paper.pixels("85mm"))
    panel = max(float(across) for across in re.findall(r'd="M0,[\d.]+L([\d.]+),', svg))  # a curve from side to side
    assert panel > 0.7 * paper.pixels("85mm")
    assert all(f">{name}<" in svg for name in names)  # whole


def test_panels_that_are_stacked_each_say_what_their_axis_shows():
    table = pd.DataFrame({"x": [1, 2] * 2, "y": [1.0, 2.0] * 2, "of": ["left"] * 2 + ["right"] * 2})
    chart = over_factor(table, x=Axis("x", "x"), y=Axis("y", "height"), panel="of")
    titles = [paper.svg(chart, paper.pixels(width)).count(">height<") for width in ("85mm", "180mm")]
    assert titles == [2, 1]


def test_names_of_factors_are_all_there_in_a_column():
    factors = [f"{name} long factor" for name in ("one", "two", "three", "four")]  # beside each other on the page
    table = pd.DataFrame({"x": factors, "y": [1.0, 2.0, 3.0, 4.0]})
    svg = paper.svg(over_factor(table, x=Axis("x", "factor"), y=Axis("y", "y")), paper.pixels("85mm"))
    seen = re.findall(r'opacity="1">(?:<tspan>)?(\w+) long', svg)  # Vega writes names that would overlap too, unseen
    assert set(seen) == {"one", "two", "three", "four"}


def test_ticks_of_single_eigenvalues_stay_in_their_panel():
    figure = next(figure for figure in FIGURES if figure.name == "spectra")
    svg = paper.svg(figure.chart, paper.pixels("85mm"))
    panel = max(float(high) for high in re.findall(r'class="background"[^>]* d="M0,0h[\d.]+v([\d.]+)', svg))
    ticks = [float(top) for top in re.findall(r'd="M[\d.]+,([\d.]+)h1v9h-1Z"', svg)]
    assert len(ticks) == 62  # of two spectra
    assert max(ticks) + 9 <= panel


def test_every_font_of_a_pdf_is_embedded(tmp_path):
    if shutil.which("pdffonts") is None:
        pytest.skip("needs pdffonts: apt-get install poppler-utils")
    pdf = render.save(FIGURES[0], tmp_path, ["pdf"], width=paper.pixels("85mm"))[0]
    listed = subprocess.run(["pdffonts", str(pdf)], capture_output=True, text=True, check=True).stdout.splitlines()[2:]
    assert listed
    assert all(line.split()[-5] == "yes" for line in listed)  # emb, sub, uni, and the two numbers of the object


@pytest.mark.parametrize("width", ["85", "mm", "1mm", "9m", "-85mm", "85 mm wide"])
def test_a_width_without_unit_or_reason_is_refused_by_name(width):
    with pytest.raises(SettingError, match=re.escape(width)):
        paper.pixels(width)


def test_two_panels_below_each_other_stay_within_a_third_of_a_page_and_marks_shrink():
    column = paper.pixels("85mm")
    for figure in FIGURES:
        svg = paper.svg(figure.chart, column)
        if figure.name in ("depth", "surface"):  # two panels, side by side on the page
            height = float(re.search(r'height="([\d.]+)"', svg)[1])
            assert height <= paper.pixels("120mm")
    depth = next(figure for figure in FIGURES if figure.name == "depth")
    fitted = paper.fitted(theme.specification(depth.chart), column, 70.0)
    sizes = [layer["mark"]["size"] for layer in fitted["vconcat"][0]["layer"] if "size" in layer["mark"]]
    whole = [
        layer["mark"]["size"] for layer in theme.plain(depth.chart)["hconcat"][0]["layer"] if "size" in layer["mark"]
    ]
    assert sizes == pytest.approx([size * column / 640 for size in whole], abs=0.01)


def test_lower_maps_keep_true_lengths_and_stand_in_the_middle_of_the_column():
    figure = next(figure for figure in FIGURES if figure.name == "surface")
    svg = paper.svg(figure.chart, paper.pixels("85mm"))
    sides = re.findall(r'class="background"[^>]* d="M0,0h([\d.]+)v([\d.]+)', svg)
    panels = sorted(((float(across), float(up)) for across, up in sides), reverse=True)[1:3]  # the first is the whole
    assert all(100 < across == pytest.approx(up, rel=0.02) for across, up in panels)  # as on the page
    left, _, width, _ = map(float, re.search(r'viewBox="([^"]+)"', svg)[1].split())
    assert width == pytest.approx(paper.pixels("85mm"), abs=1)
    assert width / 3 > -left > 0  # as much beside both sides
    ground = re.search(r'<rect x="([^"]+)" width="([^"]+)"', svg)
    assert (float(ground[1]), float(ground[2])) == (left, width)


def test_panels_that_stood_below_each_other_stay_together_when_all_are_stacked():
    rows = [{"hconcat": [{"width": 100, "title": f"{row}{column}"} for column in "ab"]} for row in (1, 2)]
    spec = paper.fitted({"vconcat": rows, "config": {"legend": {}}}, paper.pixels("85mm"), 60)
    assert [panel["title"] for panel in spec["vconcat"]] == ["1a", "2a", "1b", "2b"]
