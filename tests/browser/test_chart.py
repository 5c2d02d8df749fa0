"""A chart that a user saved as a page, in a browser: drawn, and nothing asked of any other machine."""

import torch
from torch import nn

import theodolite as th


def test_a_saved_chart_opens_offline(browser, tmp_path):
    data = torch.eye(2), torch.ones(2, 1)
    found = th.measure.interpolate(nn.Linear(2, 1), nn.Linear(2, 1), nn.MSELoss(), data, alphas=torch.linspace(0, 1, 5))
    path = tmp_path / "chart.html"
    (found.plot() | found.plot(theme=False, color="crimson")).save(path)
    page, asked, said = browser.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri())
    page.wait_for_selector("canvas, svg")
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [path.as_uri()]
    assert said == []
    page.close()
