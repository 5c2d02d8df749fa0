"""Charts in a user's own hands: composed, coloured, and as files; what they say is in their specification."""

import json
import re

import altair as alt
import pytest
import torch
import vl_convert
from torch import nn

import theodolite as th
from theodolite.errors import SettingError
from theodolite.figures.dressed import dressed
from theodolite.figures.theme import PALETTE

DATA = torch.eye(2), torch.ones(2, 1)
LOSS = nn.MSELoss()
OURS = PALETTE[0].colour


@pytest.fixture(scope="module")
def line():
    torch.manual_seed(0)
    return th.measure.interpolate(nn.Linear(2, 1), nn.Linear(2, 1), LOSS, DATA, alphas=torch.linspace(0, 1, 5))


@pytest.fixture(scope="module")
def norm():
    torch.manual_seed(0)
    return th.measure.gradient_norm(nn.Linear(2, 1), LOSS, DATA)


def drawn(chart):
    """What Vega makes of it: it refuses two signals of one name, and anything else that is no chart."""
    return str(vl_convert.vegalite_to_svg(chart.to_dict()))


@pytest.mark.parametrize("theme", [True, False])
def test_charts_stand_side_by_side_above_and_over_one_another(line, norm, theme):
    a, b = (found.plot(theme=theme) for found in (line, norm))
    for whole, key, parts in (
        (a | b, "hconcat", 2),
        (a & b, "vconcat", 2),
        (a + a, "layer", 2),
        (a | b | a, "hconcat", 3),
    ):
        spec = whole.to_dict()
        assert len(spec[key]) >= parts
        assert ("background" in spec.get("config", {})) == ("system-ui" in drawn(whole)) == theme
        assert not any("config" in part for part in spec[key])
    assert isinstance(a | b, alt.HConcatChart)


def test_the_same_chart_twice_is_drawn_twice(line):
    one = drawn(line.plot())
    assert drawn(line.plot() | line.plot()).count("α (0: first model") == 2 * one.count("α (0: first model") > 0


def test_a_chart_composes_with_one_of_the_users_own(line):
    own = alt.Chart(alt.InlineData([{"x": 1}])).mark_point().encode(x="x:Q")
    assert drawn(line.plot() | own)
    assert drawn(own | line.plot(theme=False))


def test_a_colour_takes_the_place_of_the_first_and_of_no_other(line, norm):
    for found in (line, norm):
        before, after = (json.dumps(found.plot(color=color).to_dict()) for color in (None, "crimson"))
        assert OURS in before
        assert OURS not in after
        assert "crimson" in after
    two = drawn(line.plot(color="crimson") | line.plot(color="#00ff00"))
    assert "crimson" in two
    assert "#00ff00" in two
    with pytest.raises(SettingError, match="expected a colour such as 'crimson'"):
        line.plot(color="no colour")


def test_a_page_holds_all_that_it_needs(line, norm, tmp_path):
    for name, chart in (("one", line.plot(theme=False)), ("two", line.plot() | norm.plot())):
        chart.save(tmp_path / f"{name}.html")
        page = (tmp_path / f"{name}.html").read_text(encoding="utf-8")
        assert re.findall(r'(?:src|href)="(?:https?:)?//[^"]*"|import\("http[^"]*', page) == []
        assert len(page) > 500_000  # Vega itself


def test_every_figure_of_a_recording_is_dressed_too(tmp_path):
    torch.manual_seed(0)
    with th.Recorder("gradient_norm", every=1, data=DATA, out=tmp_path) as recorder:
        model = nn.Linear(2, 1)
        for _ in range(3):
            recorder.step(model, LOSS)
    found = th.recordings(tmp_path).plot(color="crimson")
    assert "crimson" in json.dumps(found["gradient-norm"].to_dict())
    assert recorder.plot().keys() == found.keys()
    assert drawn(found["gradient-norm"] | recorder.plot(theme=False)["gradient-norm"])


def test_the_documented_line_to_matplotlib_draws_the_numbers(line):
    frame = line.to_frame()
    assert frame["loss"].tolist() == line.loss.tolist()
    matplotlib = pytest.importorskip("matplotlib", reason="needs matplotlib: pip install matplotlib")
    matplotlib.use("agg")
    axes = line.to_frame().plot(x="alphas", y="loss")
    assert axes.lines[0].get_xydata().T.tolist() == [line.alphas.tolist(), line.loss.tolist()]


def test_a_tested_claim_is_a_row():
    found = th.claims.test([1.9, 2.3, 2.1, 2.4, 2.0, 2.2], above=1.0)
    row = found.to_frame().iloc[0]
    assert (row["verdict"], row["low"], row["high"], row["seeds"]) == ("holds", *found.interval, 6)


def test_what_is_dressed_stays_a_chart_of_altairs():
    chart = dressed(alt.Chart(alt.InlineData([{"x": 1}])).mark_point().encode(x="x:Q"))
    assert isinstance(chart, alt.Chart)
    assert chart.properties(width=100).to_dict()["width"] == 100
    assert chart.interactive().to_dict()["params"]
