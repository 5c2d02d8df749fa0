"""A slider walks through a figure by keyboard, says where it is, and is not there where motion is unwelcome."""

import pytest

WALK = "made-function-walk"


def there(page):
    chart = page.locator(f".chart[data-figure={WALK}]")
    chart.evaluate("chart => chart.scrollIntoView({ block: 'center', behavior: 'instant' })")
    chart.locator("svg.marks").wait_for()
    return chart, page.locator(f"[data-for={WALK}] .walk")


def marked(chart):
    """Where along x the step shown is marked, as a share of the panel; nothing where none is."""
    return chart.evaluate("""chart => {
        const axis = chart.view.scale('x');
        const [low, high] = axis.range();
        const rules = [...chart.querySelectorAll('.mark-rule.role-mark line')];
        return rules.map((line) => (line.transform.baseVal.getItem(0).matrix.e - low) / (high - low));
    }""")


def test_the_arrow_keys_walk_along_the_figure_and_each_step_is_said(visit, report):
    page = visit(report).page
    chart, slider = there(page)
    assert marked(chart) == []  # as in files and on paper
    slider.locator("input").focus()
    for step, said in enumerate(["1: loss 4", "2: loss 2", "3: loss 1"], start=1):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(200)
        assert slider.locator("output").inner_text() == said
        assert slider.locator("input").get_attribute("aria-valuetext") == said
        assert marked(chart) == pytest.approx([step / 3], abs=0.01)


def test_the_mark_stays_when_the_figure_is_drawn_anew_and_stands_in_the_enlarged_one(visit, report):
    page = visit(report).page
    chart, slider = there(page)
    slider.locator("input").fill("2")
    page.locator("#theme").click()
    page.wait_for_timeout(1000)
    assert marked(chart) == pytest.approx([2 / 3], abs=0.01)
    page.locator(f"[data-for={WALK}] [data-act=enlarge]").click()
    page.locator("dialog svg.marks").wait_for()
    page.wait_for_timeout(1000)
    assert len(marked(page.locator("dialog .chart"))) == 1


def test_where_motion_is_unwelcome_there_is_no_slider_and_nothing_is_marked(browser, report):
    context = browser.new_context(viewport={"width": 1024, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    page.goto(report.as_uri())
    chart, slider = there(page)
    assert slider.is_hidden()
    assert marked(chart) == []
    context.close()
