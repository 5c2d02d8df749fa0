import math
from dataclasses import replace

import pandas as pd
import pytest

import made
from made_verdicts import made_verdict
from theodolite.findings import Figure, Table, Verdict
from theodolite.report import RunsSummary, StudyFindings, text


@pytest.mark.parametrize(
    ("estimate", "interval", "expected"),
    [
        (0.4123, (0.3355, 0.4912), "0.412 [0.336, 0.491]"),
        (0.999871, (0.999852, 0.999894), "0.999871 [0.999852, 0.999894]"),  # digits follow the interval
        (None, (90.0, None), "– [90.0, ∞)"),
        (-1.5, (None, 2.0), "−1.50 (−∞, 2.00]"),
        (1.0, (1.0, 1.0), "1.00 [1.00, 1.00]"),
        (0.0, (0.0, 0.0), "0 [0, 0]"),
        (0.99968, (-1.0, 1.0), "1.00 [−1.00, 1.00]"),  # no digit more for what is rounded up
        (None, (None, None), "–"),
        (-2.5e-7, (-3e-7, None), "−2.50e−7 [−3.00e−7, ∞)"),
    ],
)
def test_an_estimate_stands_before_its_interval(estimate, interval, expected):
    assert text.estimate(made_verdict(estimate=estimate, interval=interval)) == expected


def test_a_verdict_says_what_its_symbol_says():
    assert [text.decision(made_verdict(verdict=d)) for d in ("holds", "fails", "undecided")] == [
        "✓ holds",
        "✗ fails",
        "? undecided",
    ]


def test_a_rough_verdict_says_so():
    assert text.decision(made_verdict(rough=True)) == "✓ holds, rough"


def test_remarks_name_holm_only_where_it_changes_the_verdict():
    assert text.remarks(made_verdict()) == ""
    assert text.remarks(made_verdict(verdict_holm="undecided", note="A note.")) == (
        "By itself it holds; with Holm's correction it is undecided. A note."
    )
    undecided = made_verdict(verdict="undecided", verdict_holm="undecided", needed_seeds=40)
    assert text.remarks(undecided) == "About 40 seeds would decide it."


@pytest.mark.parametrize("value", [999_999.4, 0.00012345, 123.456, 1e-9, 1e9, -0.5])
def test_a_rounded_number_is_within_half_a_unit_of_its_last_digit(value):
    shown = float(text.number(value).replace("−", "-"))
    assert math.isclose(shown, value, rel_tol=0.005)


def test_the_ends_of_an_interval_stand_behind_their_estimate_and_in_columns_of_their_own_in_the_csv():
    frame = pd.DataFrame({"model": ["A"], "loss": [0.51234], "loss low": [0.4], "loss high": [math.inf]})
    table = Table("t", "T", frame)
    assert text.header(table) == ["model", "loss"]
    assert text.cells(table) == [["A", "0.512 [0.400, ∞)"]]
    assert text.csv(table) == b"model,loss,loss low,loss high\nA,0.51234,0.4,inf\n"


def test_a_table_shows_open_ends_as_open_and_nothing_but_a_dash_where_nothing_is_known():
    ends = {"loss": [0.5, math.nan, math.nan], "loss low": [-math.inf, math.nan, 0.0], "loss high": [math.inf] * 3}
    frame = pd.DataFrame(ends)
    assert text.cells(Table("t", "T", frame)) == [["0.500 (−∞, ∞)"], ["–"], ["– [0, ∞)"]]


def made_study(**runs):
    summary = RunsSummary(wall_seconds=1.0, failed=0, **runs)
    return StudyFindings("s", "S", "?", "r", "smoke", {}, (), (), (), summary, "", "")


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ({"done": 1, "seeds": 1, "diverged": 0, "censored": 1}, "1 run with 1 seed took 1.0 s"),
        ({"done": 1, "seeds": 1, "diverged": 0, "censored": 1}, "1 did not converge within its epochs."),
        ({"done": 2, "seeds": 2, "diverged": 0, "censored": 2}, "2 did not converge within their epochs."),
        ({"done": 1, "seeds": 1, "diverged": 0, "censored": 0, "kind": "analyses"}, "1 analysis with 1 seed took"),
        ({"done": 1, "seeds": 1, "diverged": 0, "censored": 0, "unfinished": 1}, "1 is not finished."),
        ({"done": 0, "seeds": 0, "diverged": 0, "censored": 0, "unfinished": 1}, "finished yet; 1 is planned."),
    ],
)
def test_one_of_a_kind_is_not_said_in_the_plural(runs, said):
    assert said in text.took(made_study(**runs))


def test_a_threshold_has_the_minus_sign_of_the_estimate_beside_it():
    below = made_verdict(estimate=-0.99, interval=(-0.999, -0.98), threshold=-0.9)
    assert text.threshold(below) == "−0.9"
    assert "[−0.999, −0.980], all of it below −0.9" in text.words(below)
    assert text.threshold(made_verdict(threshold=(-0.25, 0.25))) == "−0.25 to 0.25"
    assert text.threshold(made_verdict(threshold=1e-08)) == "1e−8"  # as on the axes of figures


def test_what_is_claimed_is_a_field_of_its_own_and_stands_behind_the_statistic_where_it_is_shown():
    given = made_verdict(statistic="ratio; claimed: nothing", claimed="below 0.5", estimate=None, interval=(None, None))
    assert text.words(given) == "Ratio; claimed: nothing: no number yet; claimed below 0.5."
    assert text.statistic(made_verdict(statistic="ratio", claimed="below 0.5")) == "ratio; claimed: below 0.5"


def test_a_verdict_without_that_field_is_still_read():
    old = made_verdict(statistic="ratio; claimed: below 0.5").model_dump(mode="json")
    del old["claimed"]
    assert text.statistic(Verdict.model_validate(old)) == "ratio; claimed: below 0.5"


def made_figure(title, caption="", **more):
    return Figure(title, title, None, caption, "", **more)


def test_figures_of_one_number_are_panels_under_one_caption_and_all_others_stand_alone():
    loss, accuracy = (
        made_figure("Figure 9: loss", "Both."),
        made_figure("Figure 9: accuracy", "Both.", report="It falls."),
    )
    more = [made_figure("Paths"), made_figure("Paths too"), made_figure("Figure 9: again", "Other.")]
    assert text.panelled([loss, accuracy, *more]) == [[loss, accuracy], *([figure] for figure in more)]
    assert text.captions([loss, accuracy]) == [("Both.", "")]
    assert text.captions([loss, more[2], accuracy]) == [("Both.", "a, c"), ("Other.", "b")]
    assert text.quoted([loss, accuracy, accuracy]) == ["It falls."]


def test_a_threshold_says_on_which_side_of_it_the_claim_lies():
    assert text.claimed(made_verdict(claimed="above 10", threshold=10.0)) == "> 10"
    assert text.claimed(made_verdict(claimed="below −0.9", threshold=-0.9)) == "< −0.9"
    assert text.claimed(made_verdict(claimed="between 0.8 and 1.25", threshold=(0.8, 1.25))) == "0.8 to 1.25"
    assert text.claimed(made_verdict(threshold=(-0.25, 0.25))) == "−0.25 to 0.25"


def test_a_sentence_below_three_figures_is_said_once_unless_it_is_short_or_another_figure_differs():
    band, late = "Line: the median of all seeds, and a band.", "Open triangles: not within the epochs."
    captions = [f"One. {band} 8 seeds. {late}", f"Two. {band} 8 seeds. {late}", f"Three. {band} 8 seeds.",
                f"Four. 8 seeds. {late}", "Five. Open triangles: something else of this one."]  # fmt: skip
    study = replace(
        made.findings()[0], figures=[Figure(f"f{n}", "F", None, caption, "") for n, caption in enumerate(captions)]
    )
    assert text.common(study) == [band]
    assert text.captions(study.figures[:1], text.common(study)) == [(f"One. 8 seeds. {late}", "")]
