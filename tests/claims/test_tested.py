"""Claims on numbers of one's own: the same answers as a study's claim, and one clear sentence for what is no claim."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from theodolite import claims
from theodolite.errors import SettingError, UnknownName

NUMBERS = [1.9, 2.3, 2.1, 2.4, 2.0, 2.2]


@pytest.mark.parametrize(
    "values", [NUMBERS, tuple(NUMBERS), np.array(NUMBERS), pd.Series(NUMBERS), dict(enumerate(NUMBERS))]
)
def test_one_number_a_seed_comes_in_any_form(values):
    found = claims.test(values, above=1.0)
    low, high = stats.t.interval(0.95, 2 / (0.6 + 2 / 5), loc=np.mean(NUMBERS), scale=stats.sem(NUMBERS))
    assert (found.verdict, found.seeds, found.claimed) == ("holds", 6, "above 1")
    assert found.interval == pytest.approx((low, high))
    assert found.p_value < 0.05


def test_it_prints_as_a_short_table():
    lines = str(claims.test(NUMBERS, below=1.0)).splitlines()
    assert lines[0].split() == ["verdict", "fails"]
    assert all(len(line) < 100 for line in lines)
    assert "about" in str(claims.test([1.0, 2.0, 1.5, 3.0], above=1.0))


def test_a_share_takes_truth_values():
    found = claims.test([True] * 8, statistic="share", above=0.5)
    assert found.interval == pytest.approx(tuple(stats.binomtest(8, 8).proportion_ci(0.95, "exact")))


def test_pairs_are_compared_seed_by_seed_in_whatever_order_they_come():
    a, b = {0: 1.0, 1: 5.0, 2: 9.0, 3: 7.0}, {3: 6.0, 2: 8.1, 1: 3.9, 0: 0.1}
    found = claims.compare(a, b, above=0.0)
    assert found.estimate == pytest.approx(np.mean([0.9, 1.1, 0.9, 1.0]))
    assert found.verdict == "holds"
    assert claims.compare(a, b, above=0.0, paired=False).verdict == "undecided"


def test_a_ratio_of_arms_is_the_geometric_mean_of_ratios():
    found = claims.compare([1.0, 8.0, 4.0], [2.0, 2.0, 4.0], how="ratio", within=(0.5, 2.0))
    assert found.estimate == pytest.approx((0.5 * 4 * 1) ** (1 / 3))


def test_independent_arms_of_many_seeds_have_the_interval_of_welch():
    generator = np.random.default_rng(0)
    a, b = generator.normal(1, 1, 400), generator.normal(0, 3, 300)
    found = claims.compare(a, b, above=0.0, paired=False)
    welch = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert found.interval == pytest.approx((welch.low, welch.high), rel=0.02)
    assert (found.verdict, found.seeds) == ("holds", 300)


@pytest.mark.parametrize(
    ("values", "options", "said"),
    [
        (NUMBERS, {}, "one of above=, below= and within=, got none"),
        (NUMBERS, {"above": 1, "below": 2}, "got above and below"),
        (NUMBERS, {"above": math.nan}, "above= as one finite number, got nan"),
        (NUMBERS, {"within": (2.0, 1.0)}, "two finite numbers, the lower first"),
        (NUMBERS, {"within": 1.0}, "two finite numbers"),
        (NUMBERS, {"above": "much"}, "one finite number, got 'much'"),
        (NUMBERS, {"above": 1, "level": 95}, "a level from 0.5 to below 1"),
        ("numbers", {"above": 1}, "one number a seed, got str"),
        (3.0, {"above": 1}, "one number a seed, got float"),
        ([[1.0, 2.0]], {"above": 1}, "got 2 dimensions"),
        (["a", "b"], {"above": 1}, "expected numbers, got text"),
        ([1.0, math.inf, 2.0], {"above": 1}, "expected finite numbers, got an infinite one"),
        (pd.Series([1.0, 2.0], index=[3, 3]), {"above": 1}, "each seed once, got 3 again"),
        ([1.0, -1.0, 2.0], {"above": 1, "statistic": "ratio"}, "numbers above 0 for a ratio"),
        ([1.0, 0.0, 2.0], {"above": 1, "statistic": "ratio"}, "numbers above 0 for a ratio"),
        ([1.0, 0.5], {"above": 1, "statistic": "share"}, "that are 0 or 1 for a share"),
        ([1.0, 1.5], {"above": 0, "statistic": "correlation"}, "from -1 to 1 for a correlation"),
    ],
)
def test_what_is_no_claim_is_refused_with_a_sentence(values, options, said):
    with pytest.raises(SettingError, match=said.replace("(", r"\(")):
        claims.test(values, **options)


def test_an_unknown_statistic_is_refused_with_the_closest():
    with pytest.raises(UnknownName, match="median"):
        claims.test(NUMBERS, above=1.0, statistic="medain")


def test_pairs_with_other_seeds_are_refused_and_named():
    with pytest.raises(SettingError, match="got 2, 5 in one only"):
        claims.compare({0: 1.0, 2: 1.0}, {0: 1.0, 5: 1.0}, above=0.0)
    with pytest.raises(SettingError, match="how='difference' or 'ratio'"):
        claims.compare(NUMBERS, NUMBERS, above=0.0, how="quotient")


def test_a_seed_without_a_number_counts_at_its_worst():
    found = claims.test([*NUMBERS, math.nan], above=1.0)
    assert (found.verdict, found.seeds, found.interval) == ("undecided", 7, (-math.inf, math.inf))
    assert claims.test([*NUMBERS, 2.1, 2.2, math.nan], above=1.0, statistic="median").verdict == "holds"


def test_no_seed_at_all_is_undecided():
    found = claims.test([], above=1.0)
    assert (found.verdict, found.seeds, found.p_value) == ("undecided", 0, 1.0)
    assert math.isnan(found.estimate)
