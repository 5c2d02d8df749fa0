"""The page as a reader meets it; what is expected comes from the made findings, or from what was there before."""

import io
import math
import re
import shutil
import subprocess
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.base import AXE_FILE_PATH
from PIL import Image
from playwright.sync_api import TimeoutError as Late

import made
from theodolite.figures import render
from theodolite.figures.curves import curves
from theodolite.figures.points import scatter
from theodolite.figures.scales import Axis
from theodolite.findings import Figure
from theodolite.report.page import html

FIGURES = [(study.name, figure) for study in made.findings(planes=True) for figure in study.figures]


def bring_into_view(chart):
    chart.evaluate(
        "chart => chart.scrollIntoView({ block: 'center', behavior: 'instant' })"
    )  # at once, though the page still grows


def point_at(page, mark):
    """Until its numbers show: a figure further up may be drawn meanwhile, and move the mark from under the pointer."""
    for _ in range(30):
        page.mouse.move(0, 0)
        mark.hover(force=True)
        with suppress(Late):
            return page.locator(".tip").wait_for(timeout=2000)
    raise AssertionError("nothing was shown")


def draw_all(page):
    for chart in page.query_selector_all(".chart"):
        bring_into_view(chart)
        chart.wait_for_selector("svg.marks")
    page.wait_for_timeout(100)


def boxes(page):
    return page.evaluate("""() => [...document.querySelectorAll('.chart svg.marks')].map((svg) => {
        const chart = svg.closest('.chart');
        const marks = [...svg.querySelectorAll('.mark-line path, .mark-symbol path, .mark-rect path, .mark-rule line')];
        const large = marks.filter((m) => { const b = m.getBoundingClientRect(); return b.width + b.height > 2; });
        return [chart.dataset.figure, large.length, svg.getBoundingClientRect().width, chart.clientWidth];
    })""")


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1024, "dark"), (1920, "light")])
def test_every_figure_draws_in_its_column_and_the_page_is_silent_and_asks_for_nothing(visit, report, width, scheme):
    seen = visit(report, width, scheme)
    draw_all(seen.page)
    found = boxes(seen.page)
    assert len(found) == len(FIGURES)
    for name, marks, drawn, column in found:
        assert marks >= 4, name
        assert drawn <= column + 1, name
        assert drawn > 0.5 * min(column, 640), name
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    assert seen.said == []
    assert seen.asked == [report.as_uri()]


def test_pointing_at_a_mark_shows_its_numbers(visit, report):
    page = visit(report).page
    name = "made-function-figure-1-learning"
    chart = page.locator(f".chart[data-figure={name}]")
    bring_into_view(chart)
    chart.locator("svg.marks").wait_for()
    dots = chart.locator(".mark-symbol path")
    assert page.locator(".tip").is_hidden()
    point_at(page, dots.nth(dots.count() // 6))
    text = page.locator(".tip").inner_text()
    assert re.search(r"series\s+Model \d", text)
    assert re.search(r"median\s+[\d.]", text)
    assert re.search(r"seeds\s+8", text)


@pytest.mark.parametrize(("theme", "paper"), [("dark", "rgb(21, 24, 29)"), ("light", "rgb(255, 255, 255)")])
def test_the_first_figure_draws_where_a_theme_was_chosen_before(visit, tmp_path, theme, paper):
    x = np.arange(50.0)
    runs = pd.concat(
        pd.DataFrame({"of": f"the line number {n}, named at its end", "seed": 0, "x": x, "y": n + 0 * x})
        for n in (1, 2)
    )
    chart = curves(runs, x=Axis("x", "x"), y=Axis("y", "y"), series="of")  # fits after its margins were measured
    path = tmp_path / "report.html"
    figures = [Figure("long", "Long names", chart, "", "")]
    path.write_text(html([replace(made.findings()[1], figures=figures)]), encoding="utf-8")
    other = "light" if theme == "dark" else "dark"
    page = visit(path, scheme=other, before=f"location.hash = '#{theme}'").page
    page.locator(".chart svg.marks").wait_for()
    page.wait_for_timeout(1000)  # for a drawing that was overtaken
    backs = page.locator(".chart svg.marks").evaluate_all("all => all.map((s) => getComputedStyle(s).backgroundColor)")
    assert backs == [paper]


def test_numbers_beside_a_mark_are_written_as_on_the_axes(visit, tmp_path):
    points = pd.DataFrame({"size": [38_410.0, 40_000.0], "norm": [1.2e-7, 3.4e9]})
    chart = scatter(points, x=Axis("size", "size"), y=Axis("norm", "norm", log=True))
    figures = [Figure("far", "Far apart", chart, "", "")]
    path = tmp_path / "report.html"
    path.write_text(html([replace(made.findings()[1], figures=figures)]), encoding="utf-8")
    page = visit(path).page
    dots = page.locator(".chart .mark-symbol path")
    for number, written in enumerate(("1.2e−7", "3.4e9")):
        point_at(page, dots.nth(number))
        assert re.search(rf"norm\s+{written}$", page.locator(".tip").inner_text())


def test_the_switch_shows_single_seeds_instead_of_the_band(visit, report):
    page = visit(report).page
    chart = page.locator(".chart[data-figure=made-function-figure-1-learning]")
    bring_into_view(chart)
    chart.locator("svg.marks").wait_for()

    def shown():
        lines = chart.locator(".mark-line path").evaluate_all("all => all.filter(p => p.getAttribute('d')).length")
        bands = chart.locator(".mark-area path").evaluate_all("all => all.filter(p => p.getAttribute('d')).length")
        return lines, bands

    assert shown() == (3, 3)
    page.locator("[data-for=made-function-figure-1-learning] [data-act=seeds]").check()
    page.wait_for_timeout(200)
    assert shown() == (3 + 3 * 8, 0)
    page.locator("#all-seeds").check()
    page.locator("#all-seeds").uncheck()
    page.wait_for_timeout(200)
    assert shown() == (3, 3)
    assert page.locator("[data-for=made-function-estimates] [data-act=seeds]").is_hidden()  # it has no single seeds


def test_zooming_changes_what_the_axis_shows_and_a_double_click_brings_it_back(visit, report):
    page = visit(report).page
    chart = page.locator(".chart[data-figure=made-function-figure-1-learning]")
    bring_into_view(chart)
    labels = chart.locator(".role-axis-label text")
    labels.first.wait_for()
    before = sorted(labels.all_text_contents())
    box = chart.locator("svg.marks").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 3)
    page.keyboard.down("Shift")
    page.mouse.wheel(0, -600)
    page.keyboard.up("Shift")
    page.wait_for_timeout(300)
    assert sorted(labels.all_text_contents()) != before
    page.mouse.dblclick(box["x"] + box["width"] / 2, box["y"] + box["height"] / 3)
    page.wait_for_timeout(300)
    assert sorted(labels.all_text_contents()) == before


def test_a_figure_zooms_moves_and_comes_back_by_keyboard_and_says_so(visit, report):
    page = visit(report).page
    chart = page.locator(".chart[data-figure=made-function-figure-1-learning]")
    bring_into_view(chart)
    chart.locator("svg.marks").wait_for()
    line = chart.locator(".mark-line path").first
    said = page.locator("output.said")
    whole = line.get_attribute("d")
    top = page.evaluate("scrollY")
    chart.focus()
    page.keyboard.press("ArrowUp")  # nothing is zoomed: the page's own
    page.wait_for_timeout(300)
    assert page.evaluate("scrollY") < top
    assert line.get_attribute("d") == whole
    seen = []
    for key, words in (
        ("+", "Shown: epoch from "),
        ("ArrowRight", "Shown: "),
        ("-", "Shown: "),
        ("0", "Whole figure: "),
    ):
        before = said.text_content()
        page.keyboard.press(key)
        page.wait_for_timeout(200)
        assert said.text_content() != before
        assert said.text_content().startswith(words)
        seen.append(line.get_attribute("d"))
    assert len({whole, *seen[:3]}) == 4
    assert seen[3] == whole
    low, high = (float(end) for end in re.search(r"epoch from (\S+) to (\S+);", said.text_content()).groups())
    page.keyboard.press("+")
    page.wait_for_timeout(200)
    near, far = (float(end) for end in re.search(r"epoch from (\S+) to (\S+);", said.text_content()).groups())
    assert math.log(far / near) == pytest.approx(2 / 3 * math.log(high / low), rel=0.02)  # a logarithmic axis
    assert "zoom" in page.locator(f"#{chart.get_attribute('aria-describedby')}").inner_text()


def test_a_column_sorts_up_and_down_and_back_by_value(visit, report):
    page = visit(report).page
    table = page.locator("table.data").first
    cells = lambda: table.locator("tbody tr td:nth-child(5)").all_inner_texts()  # noqa: E731
    head = table.locator("thead th:nth-child(5)")
    assert cells() == ["1204", "498", "∞"]
    orders = []
    for _ in range(3):
        head.get_by_role("button").press("Enter")  # by keyboard
        orders.append((head.get_attribute("aria-sort"), cells()))
    assert orders == [
        ("ascending", ["498", "1204", "∞"]),
        ("descending", ["∞", "1204", "498"]),
        (None, ["1204", "498", "∞"]),
    ]


def test_the_verdicts_are_filtered_by_kind_study_and_text(visit, report):
    page = visit(report).page
    verdicts = made.findings()[0].verdicts
    rows = page.locator(".forest li:visible")
    assert rows.count() == len(verdicts)
    page.locator("#filter [value=holds]").uncheck()
    assert rows.count() == sum(v.verdict != "holds" for v in verdicts)
    page.locator("#filter [value=holds]").check()
    page.locator("#filter [name=text]").fill("two LAYERS are")  # of the sentence
    assert rows.locator(".label").evaluate_all("all => all.map((one) => one.firstChild.data.trim())") == [
        "Two layers are enough"
    ]
    page.locator("#verdicts summary").click()
    assert page.locator("table.verdicts tbody tr:visible").count() == 1
    assert page.locator("#filter output").inner_text() == f"1 of {len(verdicts)} claims"
    page.locator("#filter [name=text]").fill("")
    page.locator("#filter [name=study]").select_option("made-function")
    assert rows.count() == len(verdicts)
    assert page.locator("#filter option").count() == 2  # all, and the one that claims something


def test_downloads_arrive_and_the_figure_is_the_one_that_lies_beside_the_page(visit, report, tmp_path):
    page = visit(report, scheme="dark").page
    study, figure = FIGURES[1]
    got = {}
    for kind in ("svg", "png"):
        with page.expect_download() as download:
            page.locator(f"[data-for={study}-{figure.name}] [data-act={kind}]").click()
        got[kind] = download.value.path().read_bytes()
        assert download.value.suggested_filename == f"{study}-{figure.name}.{kind}"
    beside = render.save(figure, tmp_path, ["svg"])[0].read_text()
    drawn = got["svg"].decode()
    for wanted in (r'<path aria-label="[^"]*" d="([^"]*)"', r'stroke="(#[0-9a-f]{6})"', r"<text[^>]*>([^<]*)</text>"):
        assert sorted(set(re.findall(wanted, drawn))) == sorted(set(re.findall(wanted, beside)))
    assert line_shapes(drawn) == line_shapes(beside) != []
    picture = Image.open(io.BytesIO(got["png"]))
    assert picture.width > 1100
    assert len(picture.convert("RGB").getcolors(1 << 20)) > 20
    assert picture.convert("RGB").getpixel((2, 2)) == (255, 255, 255)  # light, whatever the page is


def line_shapes(svg):
    """Every line of a figure as its numbers, which do not depend on the fonts beside them."""
    return sorted(d for d in re.findall(r'd="(M[-\d.,L]{200,})"', svg))


def test_a_table_arrives_with_all_its_digits(visit, report):
    page = visit(report).page
    with page.expect_download() as download:
        page.locator("[data-act=csv]").first.click()
    assert pd.read_csv(download.value.path())["final loss"].tolist()[:2] == [1.2345e-4, 9.87654e-5]


def test_a_figure_can_be_enlarged_and_put_back_by_keyboard(visit, report):
    page = visit(report).page
    page.locator("[data-act=enlarge]").first.press("Enter")
    large = page.locator("dialog svg.marks")
    large.wait_for()
    assert large.bounding_box()["height"] > 500
    assert page.locator("#large-title").inner_text() == FIGURES[0][1].title
    assert page.locator("#large-caption").inner_text() == FIGURES[0][1].caption
    page.keyboard.press("Escape")
    assert page.locator("dialog").is_hidden()


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1024, "light"), (1440, "dark"), (1920, "light")])
def test_axe_finds_nothing_moderate_or_worse(visit, report, width, scheme):
    page = visit(report, width, scheme).page
    draw_all(page)
    page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    page.evaluate(AXE_FILE_PATH.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")
    assert len(found["passes"]) > 20  # it has looked
    faults = [
        (fault["id"], [node["html"][:200] for node in fault["nodes"]][:3])
        for fault in found["violations"]
        if fault["impact"] in ("moderate", "serious", "critical")
    ]
    assert faults == []


def test_headings_follow_one_another_and_every_figure_says_what_it_shows(visit, report):
    page = visit(report).page
    levels = page.evaluate(
        "[...document.querySelectorAll('body > :not(dialog) :is(h1,h2,h3,h4)')].map(h => +h.tagName[1])"
    )
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.locator(".chart").evaluate_all("all => all.map(c => c.ariaLabel)") == [f.alt for _, f in FIGURES]


PRINTED = """addEventListener('afterprint', () => { window.printed = [
    document.querySelectorAll('.chart svg.marks').length,
    [...document.querySelectorAll('.chart')].map((chart) => chart.dataset.look.split(' ')[1]),
]; });"""


def test_on_paper_every_figure_is_there_every_fold_is_open_and_long_tables_have_their_head_on_each_page(
    visit, report, tmp_path
):
    page = visit(report, scheme="dark", before=PRINTED).page
    rows = 150  # more than two pages hold
    page.locator("table.sortable.data").first.evaluate(
        "(table, rows) => { for (let i = 0; i < rows; i++) table.tBodies[0].append(table.rows[1].cloneNode(true)); }",
        rows,
    )
    path = tmp_path / "page.pdf"
    page.pdf(path=path, print_background=True)
    drawn, dark = page.evaluate("window.printed")
    assert drawn == len(FIGURES)
    assert {look.split()[0] for look in dark} == {"false"}
    assert page.locator("details[open]").count() == 0  # and closed again on the screen
    sheets = printed(path)
    for title in (figure.title for _, figure in FIGURES):
        assert any(title in words for words in sheets), title
    with_rows = [words for words in sheets if "1-15-19-16-1" in words]
    assert len(with_rows) >= 3
    assert all("parameters layers shape" in words for words in with_rows)


def printed(path):
    """The words of each page of a PDF, in their order."""
    if shutil.which("pdftotext") is None:
        pytest.skip("needs pdftotext: apt-get install poppler-utils")
    found = subprocess.run(["pdftotext", "-layout", path, "-"], check=True, capture_output=True, text=True).stdout
    return [" ".join(sheet.split()) for sheet in found.split("\f")]


SPLIT = """(table) => { // what of a table with ten more columns stands in two lines, though it is one word
    for (const row of table.rows) for (let i = 0; i < 10; i++) row.append(row.cells[2].cloneNode(true));
    const broken = [];
    for (const cell of table.querySelectorAll('th, td')) {
        const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) for (const word of walker.currentNode.data.matchAll(/[\\w.]+/g)) {
            const range = document.createRange();
            range.setStart(walker.currentNode, word.index);
            range.setEnd(walker.currentNode, word.index + word[0].length);
            if (new Set([...range.getClientRects()].map((box) => box.top)).size > 1) broken.push(word[0]);
        }
    }
    return broken;
}"""


def test_a_sheet_of_paper_is_no_narrow_screen_tables_stay_tables_and_nothing_is_to_press_or_cut(visit, report):
    width = 660  # A4 less its margins
    page = visit(report, width=width).page
    row = page.locator(".data tbody tr").first
    page.emulate_media(media="print")
    assert row.evaluate("row => getComputedStyle(row).display") == "table-row"
    page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    broken = page.locator("main table.data").first.evaluate(SPLIT)
    assert broken == []
    right = page.locator("main :is(table, figure, dl, pre)").evaluate_all(
        "all => all.map((part) => part.getBoundingClientRect().right)"
    )
    assert len(right) > len(FIGURES)
    assert max(right) <= width
    shown = "all => all.filter((part) => part.checkVisibility() && !part.closest('thead')).length"
    assert page.locator("button, input, select, nav, .said").evaluate_all(shown) == 0


def test_markup_in_names_errors_and_series_shows_as_text(visit, hostile):
    seen = visit(hostile)
    draw_all(seen.page)
    chart = seen.page.locator(".chart[data-figure=made-function-depth]")
    point_at(seen.page, chart.locator(".mark-symbol path").first)
    assert "<img src=x onerror" in seen.page.locator(".tip").inner_text()
    assert seen.page.locator("main img, main script, .tip img").count() == 0
    text = seen.page.locator("body").inner_text()
    assert text.count('<script>alert("1")</script>') >= 8
    assert "onerror=alert(2)>" in seen.page.locator("ul.errors").inner_text()
    seen.page.locator("[data-act=enlarge]").first.click()
    assert "<img src=x" in seen.page.locator("#large-title").inner_text()
    assert seen.said == []
    assert seen.asked == [hostile.as_uri()]
