"""How the page is read: the first screen, links that land, fingers that scroll, figures as large as the screen."""

from dataclasses import replace

import pytest

import made
from theodolite.report import page as report

LEARNING = "made-function-figure-1-learning"


def swipe(debugger, x, y, up):
    """A finger that moves up on the screen, as a touch screen tells of it."""
    debugger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for moved in range(10, up, 10):
        debugger.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x, "y": y - moved}]})
    debugger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


@pytest.fixture
def tall(tmp_path):
    """A page with many studies, so that figures of one are drawn on the way to another."""
    first, last = made.findings(planes=True)
    studies = [replace(first, name=f"made-{n}") for n in range(6)]
    studies = [replace(s, verdicts=[v.model_copy(update={"study": s.name}) for v in s.verdicts]) for s in studies]
    path = tmp_path / "report.html"
    path.write_text(report.html([*studies, last]), encoding="utf-8")
    return path


def test_the_first_figure_is_reached_within_two_screens_and_the_verdicts_within_one(visit, report):
    page = visit(report, 1440).page
    assert page.locator(".forest li").first.evaluate("row => row.getBoundingClientRect().bottom") < 900
    assert page.locator("figure").first.evaluate("figure => figure.getBoundingClientRect().top") < 1800


def settled(page):
    """Nothing was scrolled or drawn for half a second, which is what comes on the way included."""
    page.evaluate("""async () => {
        const state = () => [scrollY, document.documentElement.scrollHeight,
            document.querySelectorAll("svg.marks *").length, document.querySelector("dialog svg.marks")?.clientWidth
        ].join();
        let [before, calm] = [state(), 0];
        while (calm < 5) {
            await new Promise((go) => setTimeout(go, 100));
            [before, calm] = [state(), state() === before ? calm + 1 : 0];
        }
    }""")


@pytest.mark.sampled(2)
@pytest.mark.parametrize("width", [390, 1024, 1440])
def test_a_link_lands_where_it_says_though_figures_above_it_are_not_drawn_yet(visit, tall, width):
    page = visit(tall, width).page
    for target in ("#made-4", "#made-3-deeper-twice-as-fast", "#figure-made-5-cloud"):
        link = page.locator(f"a[href='{target}']").first
        if link.count():
            link.evaluate("link => link.click()")
        else:
            page.evaluate("hash => { location.hash = hash; }", target)
        settled(page)
        padding = page.evaluate("parseFloat(getComputedStyle(document.documentElement).scrollPaddingTop)")
        top = page.locator(target).evaluate("part => part.getBoundingClientRect().top")
        assert abs(top - padding) <= 8, target


def test_a_figure_takes_no_more_room_than_was_kept_for_it(visit, tall):
    for width in (390, 1024):
        page = visit(tall, width).page
        kept = page.locator(".chart").evaluate_all("all => all.map((chart) => parseFloat(chart.style.minHeight))")
        for chart in page.query_selector_all(".chart")[:8]:
            chart.evaluate("chart => chart.scrollIntoView({ block: 'center', behavior: 'instant' })")
            chart.wait_for_selector("svg.marks")
        page.wait_for_timeout(300)
        drawn = page.locator(".chart").evaluate_all(
            "all => all.slice(0, 8).map((chart) => chart.firstElementChild.getBoundingClientRect().height)"
        )
        assert [round(height - room) for height, room in zip(drawn, kept, strict=False) if height > room + 8] == []
        assert all(height > 0.6 * room for height, room in zip(drawn, kept, strict=False))


def test_the_contents_are_there_at_every_width_and_mark_the_section_that_is_read(visit, tall):
    for width in (390, 1440):
        page = visit(tall, width).page
        assert page.locator("nav [aria-current]").inner_text() == "All verdicts"
        page.locator("nav a[href='#made-3']").click()
        settled(page)
        assert page.locator("nav [aria-current]").get_attribute("href") == "#made-3"
        box = page.locator("nav [aria-current]").bounding_box()
        assert 0 <= box["x"] <= width
        assert 0 <= box["y"] <= 900


def test_a_finger_that_scrolls_across_a_figure_moves_the_page_and_not_the_figure(browser, report):
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(report.as_uri())
    chart = page.locator(f".chart[data-figure={LEARNING}]")
    chart.evaluate("chart => chart.scrollIntoView({ block: 'center', behavior: 'instant' })")
    chart.locator("svg.marks").wait_for()
    page.wait_for_timeout(500)
    labels = chart.locator(".role-axis-label text")
    before, top = labels.all_text_contents(), page.evaluate("scrollY")
    shown = chart.bounding_box()
    debugger = context.new_cdp_session(page)
    swipe(debugger, 200, int(shown["y"] + shown["height"] / 2), up=200)
    page.wait_for_timeout(500)
    assert page.evaluate("scrollY") > top + 100
    assert labels.all_text_contents() == before
    assert page.locator(f"[data-for={LEARNING}] [data-act=reset]").is_hidden()
    context.close()


def test_once_zoomed_a_button_brings_the_whole_figure_back(visit, report):
    page = visit(report).page
    chart = page.locator(f".chart[data-figure={LEARNING}]")
    chart.evaluate("chart => chart.scrollIntoView({ block: 'center', behavior: 'instant' })")
    chart.locator("svg.marks").wait_for()
    reset = page.locator(f"[data-for={LEARNING}] [data-act=reset]")
    whole = chart.locator(".mark-line path").first.get_attribute("d")
    assert reset.is_hidden()
    chart.focus()
    page.keyboard.press("+")
    reset.wait_for(state="visible")
    assert chart.locator(".mark-line path").first.get_attribute("d") != whole
    reset.click()
    reset.wait_for(state="hidden")
    assert chart.locator(".mark-line path").first.get_attribute("d") == whole


@pytest.mark.sampled(2)
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("name", ["paths", "surface"])
def test_enlarged_figures_keep_true_lengths_fit_the_screen_and_have_larger_letters(visit, report, name, width):
    page = visit(report, width).page
    place = page.locator(f".chart[data-figure=made-function-{name}]")
    place.evaluate("chart => chart.scrollIntoView({ block: 'center', behavior: 'instant' })")
    place.locator("svg.marks").wait_for()
    panel = "svg => [...svg.querySelectorAll('.role-scope > g > .background, .role-frame > g > .background')].map((p) => p.getBoundingClientRect()).map((b) => b.width / b.height)"  # noqa: E501
    small = place.locator("svg.marks").evaluate(panel)
    letters = "svg => parseFloat(svg.querySelector('.role-axis-label text').getAttribute('font-size'))"
    size = place.locator("svg.marks").evaluate(letters)
    page.locator(f"[data-for=made-function-{name}] [data-act=enlarge]").click()
    large = page.locator("dialog svg.marks")
    large.wait_for()
    settled(page)
    assert large.evaluate(panel) == pytest.approx(small, rel=0.02)
    frame = page.locator("dialog .frame").evaluate("frame => [frame.clientWidth, frame.clientHeight]")
    box = large.bounding_box()
    assert box["width"] <= frame[0] + 1
    if width == 1440:
        assert box["height"] <= frame[1] + 1
        assert large.evaluate(letters) > 1.2 * size


def test_figures_and_claims_lead_to_each_other(visit, report):
    page = visit(report, 1440).page
    claim = page.locator("#made-function-deeper-twice-as-fast")
    figure = page.locator(f"#figure-{LEARNING}")
    assert claim.locator(f"a[href='#figure-{LEARNING}']").count() == 1
    chips = figure.locator(".chips a")
    assert chips.evaluate_all("all => all.map((one) => one.hash)") == [
        "#made-function-deeper-twice-as-fast",
        "#made-function-same-depth-alike",
    ]
    assert figure.locator("h3").inner_text().startswith("The deeper one needs ")  # the finding, not the topic
    assert figure.locator(".eyebrow").inner_text() == "Learning curves"


def test_no_identifier_of_a_claim_or_study_is_read_on_the_page(visit, report):
    page = visit(report, 1440).page
    page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    page.evaluate("document.querySelectorAll('pre').forEach((command) => command.remove())")
    read = page.locator("body").inner_text()
    for study in made.findings():
        assert study.name not in read
        for verdict in study.verdicts:
            assert verdict.id not in read
