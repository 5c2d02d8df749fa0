"""A figure with long names on a narrow screen: what a reader has room to see."""

from dataclasses import replace

import numpy as np
import pandas as pd

import made
from theodolite.figures.curves import curves
from theodolite.figures.points import over_factor
from theodolite.figures.scales import Axis, Rule
from theodolite.findings import Figure
from theodolite.report import page as report


def test_long_names_leave_a_narrow_figure_its_panel_and_none_is_cut(visit, tmp_path):
    long = "a name that is longer than half of a narrow screen"
    x = np.arange(1.0, 51.0)
    runs = pd.concat(
        pd.DataFrame({"of": f"{n} {long}"[:34], "seed": 0, "x": x, "y": 1 + n / 100 / x}) for n in range(3)
    )
    axes = {"x": Axis("x", f"x axis of {long}"), "y": Axis("y", "y", domain=(0.0, 3.0))}
    over = pd.DataFrame({"x": [f"{n} of three long factors" for n in "abc"], "y": [1.0, 2.0, 3.0]})
    charts = {
        "lines": curves(runs, series="of", rules=[Rule(17.0, long, "x"), Rule(34.0, long[::-1], "x")], **axes),
        "factors": over_factor(over, x=Axis("x", "factor"), y=Axis("y", "y")),
        "panels": over_factor(over.assign(of=list("aab")), x=Axis("x", "factor"), y=Axis("y", "height"), panel="of"),
    }
    figures = [Figure(name, name, chart, "", "") for name, chart in charts.items()]
    path = tmp_path / "report.html"
    path.write_text(report.html([replace(made.findings()[1], figures=figures)]), encoding="utf-8")
    page = visit(path, 390).page
    for chart in page.locator(".chart").all():
        chart.evaluate("chart => chart.scrollIntoView({ block: 'center' })")
        chart.locator("svg.marks").wait_for()
    for name in charts:
        chart = page.locator(f"[data-figure=made-empty-{name}]")
        column = chart.bounding_box()
        panel = chart.locator(
            ".mark-group.role-scope > g > path.background, .mark-group.role-frame > g > path.background"
        )
        assert panel.first.bounding_box()["width"] > 0.6 * column["width"]
        for text in chart.locator("svg.marks text").all():
            box = text.bounding_box()
            assert column["x"] - 1 <= box["x"], text.text_content()
            assert box["x"] + box["width"] <= column["x"] + column["width"] + 1, text.text_content()
    words = " ".join(page.locator("svg.marks text").all_text_contents())
    assert "…" not in words
    labels = page.locator("[data-figure=made-empty-factors] .role-axis-label tspan").all_text_contents()
    assert "b of three" in " ".join(labels)
    titles = page.locator("[data-figure=made-empty-panels] .role-axis-title").all_text_contents()
    assert titles.count("height") == 2  # one below the other, each panel says it
