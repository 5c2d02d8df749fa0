"""The words of a claim hold the numbers of its verdict, and only those."""

import pandas as pd
import pytest

from theodolite.claims import Claim, Evidence, Words, holm, judge, worded
from theodolite.claims.judge import verdict
from theodolite.errors import SettingError

SAYS = Words(
    "Above one",
    "It is {estimate} of {seeds}.",
    "Only {estimate:.0%}, from {low:.2f} to {high:.2f}.",
    "{low} to {high}, not {least}.",
)


def made(values, threshold=1.0, side="above"):
    claim = Claim("a", "A.", "beyond", "a mean", "mean", side, threshold, lambda _: None, SAYS)
    return verdict(claim, Evidence.exact(pd.Series(values)), study="s", preset="quick")


@pytest.mark.parametrize(
    ("values", "decision", "sentence"),
    [
        ([2.0, 2.01, 1.99, 2.0], "holds", "It is 2.00 of 4."),
        ([-0.25, -0.26, -0.24, -0.25], "fails", "Only −25 %, from "),
        ([0.0, 2.0, -1.0, 3.0], "undecided", "not 1.00."),
        ([], "undecided", ""),
        ([1.0], "undecided", ""),  # one number bounds nothing
    ],
)
def test_a_verdict_says_the_sentence_of_its_decision(values, decision, sentence):
    (found,) = holm([made(values)])
    assert (found.verdict_holm, found.title) == (decision, "Above one")
    assert sentence in found.finding
    assert bool(found.finding) == bool(sentence)


def test_what_the_correction_leaves_undecided_is_said_as_found_and_as_undecided():
    sure, close = made([2.0, 2.01, 1.99, 2.0]), made([1.3, 1.9, 1.4, 1.8, 1.6, 1.7])
    assert close.verdict.verdict == "holds"
    assert 0.025 < close.p_value * 2 < 1
    verdicts = holm([close] * 40 + [sure])
    assert (verdicts[0].verdict, verdicts[0].verdict_holm) == ("holds", "undecided")
    assert verdicts[0].finding == "It is 1.62 of 6. Alone that would decide it; among 41 claims it does not."
    assert verdicts[-1].finding.startswith("It is 2.00")


@pytest.mark.parametrize(
    "sentence",
    [
        "{mean} is it",
        "{} is it",
        "{estimate",
        "{estimate:.q}",
        "{estimate.real.x}",
        "{estimate.__class__}",
        "{seeds[0]}",
    ],
)
def test_a_sentence_that_no_number_can_fill_is_refused_when_it_is_written(sentence):
    with pytest.raises(SettingError, match="expected a sentence with only estimate, low, high"):
        Words(holds=sentence)


def test_a_claim_without_sentences_is_judged_as_before():
    claim = Claim(
        "a", "A.", "beyond", "a mean", "mean", "above", 1.0, lambda _: Evidence.exact(pd.Series([2.0, 2.1, 2.2]))
    )
    runs = pd.DataFrame({"status": ["done"]})
    (found,) = holm([judge(claim, type("Records", (), {"runs": runs}), study="s", preset="quick")])
    assert (found.title, found.finding, found.kind) == ("", "", "mean")


def test_words_and_claims_belong_together_one_to_one():
    claims = [Claim(name, "A.", "beyond", "a mean", "mean", "above", 1.0, lambda _: None) for name in ("a", "b")]
    found = worded(claims, {"b": Words("B"), "a": Words("A")})
    assert [(claim.id, claim.words.title) for claim in found] == [("a", "A"), ("b", "B")]
    with pytest.raises(SettingError, match="one side lacks b, c"):
        worded(claims, {"a": Words("A"), "c": Words("C")})
