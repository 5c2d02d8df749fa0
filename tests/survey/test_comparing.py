"""Two surveys compared: by Welch's t and by simulation for the statistic, and through the command line for the rest."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

import tiny as survey_of
from theodolite import cli, studies
from theodolite.claims import Claim, Evidence, changes, judge
from theodolite.claims.changes import change
from theodolite.figures.curves import curves
from theodolite.figures.scales import Axis
from theodolite.findings import Figure, Verdict
from theodolite.report import Comparison, Side
from theodolite.report import compare as page


def made(values, kind="mean", ident="made", verdict="holds"):
    evidence = values if isinstance(values, Evidence) else Evidence.exact(pd.Series(values))
    given = Verdict(
        study="s<b>", id=ident, sentence="", source="", statistic="", estimate=1.0, interval=(0.5, 2.0), level=0.95,
        threshold=0.0, seeds=len(evidence.low), verdict=verdict, verdict_holm=verdict, needed_seeds=None,
        preset="smoke",
    )  # fmt: skip
    return given, evidence, kind


def pair(a, b):
    return a[0], b[0], a[1], b[1], a[2]


def numbers(seed, n=12, mean=0.0):
    return np.random.default_rng(seed).normal(mean, 1, n)


def even(seed, n=12, mean=0.0):
    """Numbers without skewness: half of them, and these mirrored."""
    half = numbers(seed, n // 2)
    return mean + np.r_[half, -half]


def test_for_means_of_many_seeds_the_interval_is_that_of_welch():
    a, b = even(1, 200), even(2, 150, 0.3)
    found = change(Evidence.exact(pd.Series(a)), Evidence.exact(pd.Series(b)), "mean")
    welch = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    np.testing.assert_allclose((found.low, found.high), (welch.low, welch.high), atol=0.006)  # lengths of 0.4
    assert found.estimate == pytest.approx(b.mean() - a.mean())


def test_a_ratio_changes_by_a_ratio_whatever_the_unit():
    a, b = np.exp(numbers(3)), np.exp(numbers(4, mean=1.0))
    found = change(Evidence.exact(pd.Series(a)), Evidence.exact(pd.Series(b)), "ratio")
    scaled = change(Evidence.exact(pd.Series(1000 * a)), Evidence.exact(pd.Series(1000 * b)), "ratio")
    assert found.estimate == pytest.approx(math.exp(np.log(b).mean() - np.log(a).mean()))
    assert (scaled.low, scaled.high) == pytest.approx((found.low, found.high))


@pytest.mark.parametrize("sizes", [(3, 16), (8, 8)])
def test_surveys_of_the_same_truth_differ_by_more_than_chance_in_at_most_one_of_twenty(sizes):
    wrong = 0
    for trial in range(300):
        a, b = numbers(2 * trial, sizes[0]), numbers(2 * trial + 1, sizes[1])
        found = change(Evidence.exact(pd.Series(a)), Evidence.exact(pd.Series(b)), "mean")
        wrong += found.low > 0 or found.high < 0
    assert wrong / 300 < 0.08  # 5 % and two and a half standard errors of 300 trials


def test_holm_keeps_the_plain_difference_and_drops_the_one_that_forty_claims_would_show_by_chance():
    plain = pair(made(numbers(5)), made(numbers(6, mean=8.0), verdict="fails"))
    t = stats.t.ppf(0.985, 2 / (5 / 12 + 2 / 11)) * math.sqrt(2 / 12)  # p of about 0.03
    a, b = (stats.zscore(even(k), ddof=1) for k in (7, 8))
    slight = pair(made(a), made(b + t))
    same = [pair(made(numbers(k)), made(numbers(k))) for k in range(9, 49)]
    found = changes([plain, slight, *same])
    assert [(c.chance, c.chance_holm) for c in found[:2]] == [
        ("more than chance", "more than chance"),
        ("more than chance", "within chance"),
    ]
    assert {c.chance for c in found[2:]} == {"within chance"}
    assert all(c.p_value > 0.9 for c in found[2:])
    assert [c.turned for c in found[:3]] == [True, False, False]


def test_where_an_interval_has_no_end_or_seeds_are_few_nothing_is_said():
    open_ended = Evidence(pd.Series([100.0] * 8), pd.Series([math.inf] * 8))
    found = changes(
        [pair(made(open_ended, "median"), made(open_ended, "median")), pair(made(numbers(1, 2)), made(numbers(2, 9)))]
    )
    assert {c.chance for c in found} == {"cannot say"}


def test_p_is_below_a_twentieth_just_where_the_interval_excludes_nothing():
    for seed in range(40):
        a, b = numbers(seed, 6), numbers(seed + 100, 6, 1.0)
        (found,) = changes([pair(made(a), made(b))])
        excludes = found.change.low > 0 or found.change.high < 0
        assert (found.p_value < 0.05) == excludes == (found.chance == "more than chance")


def test_page_and_markdown_escape_what_they_show_and_json_has_every_claim():
    found = changes([pair(made(numbers(5)), made(numbers(6, mean=8.0), verdict="fails"))])
    side = Side("<i>folder</i>", ("smoke",), "cpu", {"theodolite": "0"})
    comparison = Comparison(side, side, found, only_b=("capacity",))
    html, twin = page.html(comparison), page.twin(comparison)
    assert "<b>made</b>: holds in A, fails in B" in html
    assert "<i>" not in html
    assert "script-src ;" in html
    assert "1 verdict changed" in twin
    assert "made: holds in A, fails in B" in twin
    assert "Only here: capacity" in twin
    (facts,) = json.loads(json.dumps(page.facts(comparison), allow_nan=False))
    assert facts["verdict_changed"] is True
    assert facts["interval"][0] < facts["estimate"] < facts["interval"][1]


def test_a_claim_is_judged_as_before_the_bisection_was_shared():
    evidence = Evidence.exact(pd.Series(even(3, mean=0.8)))
    claim = Claim("c", "", "", "", "mean", "above", 0.0, lambda _: evidence)
    records = type("R", (), {"runs": pd.DataFrame({"seed": range(12), "status": "done"})})
    t = evidence.low.mean() / stats.sem(evidence.low)
    expected = 2 * stats.t.sf(t, 2 / (5 / 12 + 2 / 11))  # degrees of freedom at an excess kurtosis of 5
    assert judge(claim, records, study="s", preset="smoke").verdict.p_value == pytest.approx(expected, rel=1e-6)


@pytest.fixture(scope="module")
def surveys(tmp_path_factory):
    """The same tiny survey twice, its study with a figure."""
    folder = tmp_path_factory.mktemp("compared")
    with survey_of.alone():
        for name in ("a", "b"):
            survey_of.run(folder / name)
        studies.INDEX["tiny"] = replace(survey_of.STUDY, figures=drawn)
        yield folder


def drawn(records):
    axes = {"x": Axis("epoch", "epoch"), "y": Axis("train_loss", "training loss", log=True)}
    return [Figure("losses", "Losses", curves(records.table("metrics"), series="model", **axes), "", "")]


def command(*arguments):
    return CliRunner().invoke(cli.app, ["report", *map(str, arguments)])


def test_report_compares_two_folders_and_says_where_the_page_is(surveys):
    done = command("--compare", surveys / "a", surveys / "b", "--out", surveys / "out")
    assert done.exit_code == 0, done.output
    assert "1 claim compared; 0 verdicts changed." in " ".join(done.output.split())
    (facts,) = json.loads((surveys / "out/comparison.json").read_text())
    assert (facts["study"], facts["id"], facts["estimate"], facts["verdict_changed"]) == ("tiny", "learns", 0.0, False)
    html = (surveys / "out/comparison.html").read_text()
    assert html.count('class="open"') == html.count('<span class="strip') == 1  # one claim, drawn once for A and B
    assert not (surveys / "b/comparison.html").exists()
    command("--compare", surveys / "a", surveys / "b")
    assert (surveys / "b/comparison.html").read_bytes() == (surveys / "out/comparison.html").read_bytes()


def test_a_claim_whose_evidence_cannot_be_used_on_one_side_is_compared_with_nothing(surveys, monkeypatch):
    def evidence(found):
        if found.directory.name == "b":
            raise ZeroDivisionError("a study of somebody")
        return survey_of.last_loss(found)

    claim = replace(survey_of.STUDY.claims[0], evidence=evidence)
    monkeypatch.setitem(studies.INDEX, "tiny", replace(survey_of.STUDY, claims=[claim]))
    done = command("--compare", surveys / "a", surveys / "b", "--out", surveys / "half")
    assert done.exit_code == 0, done.output
    assert "of 1 nothing can be said" in " ".join(done.output.split())


def test_report_draws_its_files_at_the_width_that_is_asked_for(surveys):
    assert command(surveys / "a", "--figure-width", "85mm").exit_code == 0
    svg = (surveys / "a/tiny/figures/losses.svg").read_text()
    assert float(re.search(r'width="([\d.]+)"', svg)[1]) == pytest.approx(85 * 96 / 25.4, abs=0.01)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["results", "--figure-width", "85"], "expected a width between 48mm and 529mm"),
        (["--compare", "a"], "requires 2 arguments"),
        (["--compare", "a", "--out", "b"], "two results folders after --compare, got a and then the option --out"),
        (["--compare", "a", "--out=b"], "two results folders after --compare, got a and then the option --out=b"),
        (["--compare", "a", "b", "--figure-width", "85mm"], "--compare with two of them and no --figure-width"),
        ([], "expected a results folder"),
    ],
)
def test_report_refuses_a_width_without_a_unit_one_folder_to_compare_and_none_at_all(wrong, said):
    done = command(*wrong)
    assert done.exit_code != 0
    assert said in f"{done.output} {done.exception}"
