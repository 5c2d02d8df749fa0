"""Expected numbers: scipy's own tests and intervals, tables worked out by hand, and simulation."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from theodolite.claims import Claim, Evidence, Judged, epochs_to_convergence, holm, interval, judge
from theodolite.claims.means import CORRECTED, Tails, distribution_free
from theodolite.errors import SettingError
from theodolite.findings import Verdict

INF = math.inf


def made_records(values, high=None):
    """What judge asks of records, and a table with one number a seed."""
    runs = pd.DataFrame({"seed": range(len(values)), "status": "done"})
    low = pd.Series(values, dtype="float64")
    evidence = Evidence(low, low if high is None else pd.Series(high, dtype="float64"))
    return SimpleNamespace(runs=runs, evidence=evidence)


def made_claim(kind, side, threshold, name="made"):
    return Claim(
        id=name,
        sentence="A made sentence.",
        source="beyond",
        statistic="a made number",
        kind=kind,
        side=side,
        threshold=threshold,
        evidence=lambda records: records.evidence,
    )


def judged(kind, side, threshold, values, high=None):
    return judge(made_claim(kind, side, threshold), made_records(values, high), study="made", preset="quick")


SPREAD = [-0.3, -0.2, -0.1, 0.0, 0.0, 0.1, 0.2, 0.3]


def near(middle, scale=1.0):
    return [middle + scale * s for s in SPREAD]


@pytest.mark.parametrize(
    ("kind", "side", "threshold", "holds", "fails", "too_small"),
    [
        ("mean", "above", 1.0, near(2.0), near(0.0), [0.5, 1.0, 2.5]),
        ("mean", "below", 1.0, near(0.0), near(2.0), [0.5, 1.0, 2.5]),
        ("mean", "within", (-1.0, 1.0), near(0.0), near(3.0), [-0.9, 0.0, 0.9]),
        ("ratio", "below", 0.5, near(0.3, 0.1), near(1.0), [0.2, 0.4, 1.0]),
        ("ratio", "within", (0.8, 1.25), near(1.0, 0.3), near(2.0, 0.3), [0.9, 1.0, 1.3]),
        ("correlation", "below", 0.0, near(-0.6), near(0.6), [-0.9, -0.3, 0.4]),
        ("share", "above", 0.5, [1] * 8, [0] * 8, [1, 1, 1]),
        ("median", "above", 15.0, near(20.0), near(10.0), [14.0, 16.0, 19.0]),
        ("median_ratio", "below", 0.5, near(0.3, 0.1), near(1.0), [0.2, 0.4, 1.0]),
    ],
)
def test_every_kind_holds_fails_and_stays_undecided_on_made_tables(kind, side, threshold, holds, fails, too_small):
    decisions = [judged(kind, side, threshold, values).verdict for values in (holds, fails, too_small)]
    assert [verdict.verdict for verdict in decisions] == ["holds", "fails", "undecided"]
    assert decisions[0].needed_seeds is None
    assert decisions[1].needed_seeds is None


def test_alike_is_not_shown_by_a_difference_that_was_not_found():
    wide = [0.4, 0.7, 1.0, 1.0, 1.5, 2.2, 0.5, 1.4]  # no significant difference from 1, and far from alike
    assert stats.ttest_1samp(np.log(wide), 0.0).pvalue > 0.5
    assert judged("ratio", "within", (0.8, 1.25), wide).verdict.verdict == "undecided"


@pytest.mark.parametrize("values", [[5.0, 6.0], [5.0]])
def test_fewer_than_three_seeds_decide_nothing(values):
    found = judged("mean", "above", 0.0, values)
    assert found.verdict.verdict == "undecided"
    assert found.p_value == 1.0
    assert "Fewer than 3 seeds" in found.verdict.note


def test_a_claim_without_finished_runs_is_undecided_and_does_not_look_at_its_tables():
    records = SimpleNamespace(runs=pd.DataFrame({"seed": [0], "status": ["running"]}))
    verdict = judge(made_claim("mean", "above", 0.0), records, study="made", preset="quick").verdict
    assert (verdict.verdict, verdict.seeds, verdict.estimate, verdict.interval) == ("undecided", 0, None, (None, None))
    assert verdict.note == "No seed has finished yet."


def box(n, kurtosis=None):
    """Degrees of freedom at which the variance of s² is what it is at this excess kurtosis: 2 σ⁴ / Var(s²)."""
    return 2 / ((min(0.6 * n, 5) if kurtosis is None else kurtosis) / n + 2 / (n - 1))


def tail(values, threshold):
    """One-sided p-value of t on those degrees of freedom, of numbers that lie evenly about their mean."""
    t = (np.mean(values) - threshold) / stats.sem(values)
    return stats.t.sf(t, box(len(values)))


@pytest.mark.parametrize("n", [4, 12])
def test_the_interval_of_even_numbers_is_students_with_the_degrees_of_freedom_of_heavier_tails(n):
    values = np.arange(n) ** 1.0
    low, high = stats.t.interval(0.95, box(n), loc=np.mean(values), scale=stats.sem(values))
    found = interval(Evidence.exact(pd.Series(values)), "mean")
    assert (found.estimate, found.low, found.high) == pytest.approx((np.mean(values), low, high), rel=1e-12)


def test_without_heavier_tails_it_is_the_t_interval_of_scipy():
    values = [1.0, 2.0, 4.0, 5.0]
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    found = interval(Evidence.exact(pd.Series(values)), "mean", tails=Tails(0.0, 0.0))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_it_is_longer_on_the_side_of_the_longer_tail_by_johnsons_term_and_shorter_on_none():
    values = [1.0, 1.2, 0.9, 1.1, 3.0, 1.4]
    found = interval(Evidence.exact(pd.Series(values)), "mean", tails=Tails(0.0, 0.0))
    normal = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert found.low == pytest.approx(normal.low)
    t, n = stats.t.ppf(0.975, 5), 6  # Johnson 1978, equation 2.6: (mean - mu) + skew s / (6 n) (1 + 2 t²), and twice it
    more = 2 * stats.skew(values) * np.std(values, ddof=1) / (6 * n) * (1 + 2 * t**2)
    assert found.high == pytest.approx(normal.high + more)
    turned = interval(Evidence.exact(-pd.Series(values)), "mean", tails=Tails(0.0, 0.0))
    assert (-turned.high, -turned.low) == pytest.approx((found.low, found.high))


def test_the_variance_of_a_sample_variance_is_the_one_its_degrees_of_freedom_say():
    variances = np.random.default_rng(1).laplace(size=(400_000, 8)).var(1, ddof=1)  # excess kurtosis 3, variance 2
    assert 2 * 2.0**2 / variances.var() == pytest.approx(box(8, 3.0), rel=0.03)


def test_the_interval_of_a_ratio_does_not_depend_on_which_way_round_it_is_taken():
    a, b = (Evidence.exact(pd.Series(v)) for v in ([1.0, 2.0, 5.0, 3.0], [2.0, 2.5, 4.0, 1.0]))
    for kind in ("ratio", "median_ratio"):
        there, back = interval(a / b, kind), interval(b / a, kind)
        assert (1 / there.estimate, 1 / there.low, 1 / there.high) == pytest.approx(
            (back.estimate, back.high, back.low)
        )


def test_the_interval_of_a_share_is_that_of_clopper_and_pearson():
    found = interval(Evidence.exact(pd.Series([1, 1, 1, 1, 1, 1, 1, 1, 0, 0])), "share")
    assert (found.estimate, found.low, found.high) == pytest.approx((0.8, 0.4439045376923585, 0.9747892736731485))


def test_the_interval_of_a_median_without_interpolation_is_between_order_statistics():
    level = 1 - 2 * stats.binom.cdf(2, 12, 0.5)  # third smallest and third largest of twelve
    values = np.random.default_rng(3).permutation(np.arange(12.0) ** 2)
    found = interval(Evidence.exact(pd.Series(values)), "median", level)
    assert (found.estimate, found.low, found.high) == (30.5, 4.0, 81.0)


def test_the_p_value_of_a_mean_is_that_of_the_t_test_with_those_degrees_of_freedom():
    values = near(0.12)
    found = judged("mean", "above", 0.0, values)
    assert found.verdict.p_value == pytest.approx(2 * tail(values, 0.0), rel=1e-9)
    t = np.mean(values) / stats.sem(values)  # Holm's correction looks farther out, where skewed numbers err more
    assert found.p_value == pytest.approx(2 * stats.t.sf(t, box(8, 0.375 * 8)), rel=1e-9)


def test_the_p_value_of_a_share_of_all_seeds_is_the_binomial_one():
    found = judged("share", "above", 0.5, [1] * 8)
    assert found.p_value == pytest.approx(2 * 0.5**8, rel=1e-9)


def test_the_p_value_of_a_margin_is_that_of_the_worse_of_two_one_sided_tests():
    values = near(0.3)
    below, above = tail([-value for value in values], -0.5), tail(values, -0.5)
    found = judged("mean", "within", (-0.5, 0.5), values)
    assert found.verdict.p_value == pytest.approx(2 * max(below, above), rel=1e-9)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", ["mean", "ratio", "median", "median_ratio"])
@pytest.mark.parametrize("side", ["above", "below", "within"])
def test_the_p_value_is_below_five_per_cent_just_where_the_interval_decides(kind, side):
    generator = np.random.default_rng(5)
    for n in (3, 5, 8, 16):
        for _ in range(8):
            values = np.exp(generator.normal(0.15, 0.3, n))
            found = judged(kind, side, (0.8, 1.25) if side == "within" else 1.0, values)
            assert (found.verdict.p_value < 0.05) == (found.verdict.verdict != "undecided")


def test_runs_that_did_not_converge_count_as_at_least_their_epochs():
    runs = pd.DataFrame(
        {"seed": range(8), "converged_epoch": [90, 110, 95, 105, 100, 98, np.nan, np.nan], "epochs": 500}
    )
    evidence = epochs_to_convergence(runs)
    assert evidence.low[6] == 500.0
    assert evidence.high[6] == INF
    found = interval(evidence, "median")
    assert found.estimate == (100 + 105) / 2  # as if the two had needed any number above 500
    assert found.low < 98
    assert found.high == INF  # the upper end lies between the sixth and the eighth seed


def test_a_median_that_is_itself_not_reached_has_a_lower_end_and_no_estimate():
    runs = pd.DataFrame({"seed": range(8), "converged_epoch": [90, 100] + [np.nan] * 6, "epochs": 500})
    records = SimpleNamespace(runs=runs.assign(status="done"))
    claim = Claim("slow", "", "", "", "median", "above", 50.0, lambda records: epochs_to_convergence(records.runs))
    verdict = judge(claim, records, study="made", preset="quick").verdict
    assert verdict.estimate is None
    assert verdict.interval[0] >= 90
    assert verdict.interval[1] is None
    assert verdict.verdict == "holds"
    assert "6 of 8 seeds known only within bounds" in verdict.note


def test_a_mean_with_a_number_known_only_from_below_has_no_upper_end():
    least = [5.0, 6.0, 7.0, 6.0]
    verdict = judged("mean", "above", 0.0, least, [5.0, 6.0, 7.0, INF]).verdict
    expected, _ = stats.t.interval(0.95, box(4), loc=np.mean(least), scale=stats.sem(least))
    assert verdict.interval == (pytest.approx(expected), None)
    assert verdict.verdict == "holds"


@pytest.mark.parametrize(
    ("kind", "ends"),
    [("mean", (None, None)), ("ratio", (0.0, None)), ("correlation", "finite"), ("share", "finite")],
)
def test_a_diverged_seed_is_taken_at_its_worst_and_named(kind, ends):
    known = [1.0] * 7 if kind == "share" else [0.99, 0.97, 0.98, 0.99, 0.96, 0.98, 0.99]
    without = judged(kind, "above", 0.5, known).verdict
    with_one = judged(kind, "above", 0.5, [*known, np.nan]).verdict
    assert without.verdict == "holds"
    assert with_one.verdict == "undecided"
    assert with_one.seeds == 8
    assert "1 of 8 seeds gave no number (a run diverged, or " in with_one.note
    if ends != "finite":
        assert with_one.interval == ends


def test_a_median_decides_despite_one_diverged_seed():
    assert (
        judged("median", "above", 0.5, [1.0, 1.1, 1.2, 0.9, 1.0, 1.05, 1.0, 1.0, 1.1, np.nan]).verdict.verdict
        == "holds"
    )


@pytest.mark.parametrize("kind", ["mean", "ratio", "median", "median_ratio"])
@pytest.mark.parametrize("n", [3, 8, 20])
def test_equal_numbers_do_not_say_how_far_another_may_lie(kind, n):
    verdict = judged(kind, "above", 0.5, [1.0] * n).verdict
    assert (verdict.estimate, verdict.verdict) == (1.0, "undecided")
    assert verdict.interval == ((0.0 if "ratio" in kind else None), None)
    assert "All seeds gave the same number" in verdict.note


def test_equal_correlations_are_bounded_as_successes_are():
    # Were seven in ten runs at 1 and the rest at -1, eight of eight would still be at 1 in 1 of 40 surveys.
    found = interval(Evidence.exact(pd.Series([1.0] * 8)), "correlation")
    success = stats.binomtest(8, 8).proportion_ci(0.95, "exact").low
    assert (found.low, found.high) == (pytest.approx(2 * success - 1), 1.0)


def test_the_ends_of_a_correlation_of_zeros_and_ones_are_those_of_clopper_and_pearson():
    for ones in range(9):
        values = np.repeat([-1.0, 1.0], [8 - ones, ones])
        found = interval(Evidence.exact(pd.Series(values)), "correlation")
        expected = stats.binomtest(ones, 8).proportion_ci(0.95, "exact")
        assert (found.low, found.high) == pytest.approx((2 * expected.low - 1, 2 * expected.high - 1), abs=1e-9)


def test_the_distribution_free_interval_is_the_quantile_of_randomly_weighted_means():
    values = np.array([0.2, 0.9, 0.9, 1.0, 0.7])
    weights = np.random.default_rng(0).dirichlet(np.ones(6), 400_000)
    low, high = distribution_free(values, -1.0, 1.0, 0.95)
    assert low == pytest.approx(np.quantile(weights @ np.r_[-1.0, values], 0.025), abs=0.005)
    assert high == pytest.approx(np.quantile(weights @ np.r_[values, 1.0], 0.975), abs=0.005)


def test_no_interval_of_numbers_of_which_many_are_equal_has_width_zero():
    for kind in ("mean", "ratio", "correlation", "median", "median_ratio"):
        for n in (6, 8, 20, 40):
            found = interval(Evidence.exact(pd.Series([0.9] + [1.0] * (n - 1))), kind)
            assert found.low < found.high, (kind, n)


def test_beyond_the_outermost_values_a_median_is_held_as_often_as_uniform_numbers_hold_it():
    # Exact for uniform numbers: P(all on one side and their range R at most 1 / (1 + c) of the way) by simulation.
    for n, level in ((3, 0.95), (5, 0.95), (8, 0.99881)):
        values = np.random.default_rng(n).uniform(-1, 1, (300_000, n))
        low, high = values.min(1), values.max(1)
        out = ((1 - level) ** (-1 / (n - 1)) / 2 - 1) * (high - low)
        assert np.mean((low - out > 0) | (high + out < 0)) == pytest.approx(1 - level, rel=0.12)
        found = interval(Evidence.exact(pd.Series(values[0])), "median", level)
        assert (found.low, found.high) == pytest.approx((low[0] - out[0], high[0] + out[0]))


def test_a_verdict_on_a_median_of_so_few_seeds_that_two_groups_may_look_like_one_is_rough():
    few, more = (judged("median", "above", 0.0, values).verdict for values in ([5.0, 6.0, 5.5], near(5.0)))
    assert (few.verdict, few.rough, more.verdict, more.rough) == ("holds", True, "holds", False)
    assert "Rough: with so few seeds" in few.note
    assert not judged("median", "above", 5.7, [5.0, 6.0, 5.5]).verdict.rough  # undecided
    assert not judged("mean", "above", 0.0, near(0.3)).verdict.rough


def tasks(side, threshold, **parts):
    claim = made_claim("mean", side, threshold)
    evidence = {name: Evidence.exact(pd.Series(values)) for name, values in parts.items()}
    runs = pd.DataFrame({"seed": range(8), "status": "done"})
    records = SimpleNamespace(runs=runs, evidence=evidence)
    return judge(claim, records, study="made", preset="quick")


def test_a_claim_about_several_tasks_holds_if_it_holds_for_each_and_shows_the_one_nearest_to_failing():
    found = tasks("above", 0.0, cos=near(5.0), exp=near(0.3))
    assert found.verdict.verdict == "holds"
    assert found.verdict.estimate == pytest.approx(0.3)
    assert found.verdict.p_value == pytest.approx(2 * tail(near(0.3), 0.0), rel=1e-9)
    assert [(part.name, part.verdict) for part in found.verdict.parts] == [("cos", "holds"), ("exp", "holds")]
    assert "The decisive one of 2: exp." in found.verdict.note
    assert tasks("above", 0.0, cos=near(5.0), exp=near(0.1)).verdict.verdict == "undecided"


def test_a_claim_about_several_tasks_fails_if_one_fails_at_its_part_of_the_error():
    p = 2 * tail(near(0.3), 0.0)  # 0.04: clear enough for one task, not for two
    assert 0.025 < p < 0.05
    one = tasks("below", 0.0, exp=near(0.3))
    two = tasks("below", 0.0, cos=near(0.0), exp=near(0.3))
    assert (one.verdict.verdict, two.verdict.verdict) == ("fails", "undecided")
    assert two.verdict.p_value == pytest.approx(2 * p, rel=1e-9)
    assert tasks("below", 0.0, cos=near(0.0), exp=near(2.0)).verdict.verdict == "fails"


def test_of_several_tasks_the_one_with_the_fewest_seeds_counts():
    found = tasks("above", 0.0, cos=near(5.0), exp=[5.0, 5.1])
    assert (found.verdict.verdict, found.verdict.seeds, found.p_value) == ("undecided", 2, 1.0)


def test_a_claim_refuses_thresholds_that_are_none():
    for side, threshold in (("above", math.nan), ("within", (1.0, 0.5)), ("below", math.inf), ("within", (0.0, 0.0))):
        with pytest.raises(SettingError, match="thresholds that are finite and ascending in claim 'made'"):
            made_claim("mean", side, threshold)


def test_a_number_outside_its_kind_is_refused():
    for kind, value in (("ratio", -1.0), ("correlation", 1.5), ("share", 0.5)):
        with pytest.raises(ValueError, match="expected numbers"):
            interval(Evidence.exact(pd.Series([value] * 3)), kind)


@pytest.mark.parametrize(("kind", "threshold"), [("mean", 0.0), ("median", 0.0), ("mean", (-0.4, 0.6))])
def test_so_many_seeds_decide_in_four_of_five_made_surveys(kind, threshold):
    side = "within" if isinstance(threshold, tuple) else "above"
    spread = np.array(SPREAD) / np.std(SPREAD, ddof=1)
    needed = judged(kind, side, threshold, 0.5 * spread + 0.2).verdict.needed_seeds
    claim = made_claim(kind, side, threshold)
    fresh = np.random.default_rng(0).normal(0.2, 0.5, (400, needed))
    held = [claim.decide(interval(Evidence.exact(pd.Series(values)), kind)) == "holds" for values in fresh]
    assert np.mean(held) == pytest.approx(0.8, abs=0.07)


def test_a_median_of_few_seeds_that_lie_far_from_the_threshold_needs_but_one_more():
    claim = made_claim("median", "above", 0.0)
    assert judged("median", "above", 0.0, [2.0, 3.0, 4.0]).verdict.needed_seeds == 4
    held = [
        np.mean([
            claim.decide(interval(Evidence.exact(pd.Series(values)), "median")) == "holds"
            for values in np.random.default_rng(seeds).normal(3.0, 1.0, (1000, seeds))
        ])
        for seeds in (3, 4)
    ]  # fmt: skip
    assert held[0] < 0.75 < 0.8 < held[1]


def test_needed_seeds_of_a_share_are_those_at_which_clopper_and_pearson_decide():
    expected = next(m for m in range(4, 100) if stats.binomtest(m, m).proportion_ci(0.95, "exact").low > 0.5)
    assert judged("share", "above", 0.5, [1, 1, 1]).verdict.needed_seeds == expected == 6

    def decided(m):
        enough = next(k for k in range(m + 1) if stats.binomtest(k, m).proportion_ci(0.95, "exact").low > 0.5)
        return stats.binom.sf(enough - 1, m, 0.8) if enough <= m else 0.0

    expected = next(m for m in range(6, 100) if decided(m) >= 0.8)
    assert judged("share", "above", 0.5, [1, 1, 1, 1, 0]).verdict.needed_seeds == expected


def test_needed_seeds_are_not_named_where_they_cannot_be_known():
    assert judged("mean", "above", 0.0, [-1.0, 0.0, 1.0]).verdict.needed_seeds is None  # on the threshold
    assert judged("mean", "above", 0.0, [-1.0, 0.0, 1.001]).verdict.needed_seeds is None  # millions
    assert judged("mean", "above", 0.0, [1.0, 2.0, 3.0], [1.0, INF, 3.0]).verdict.needed_seeds is None


def test_pairs_of_seeds_join_by_seed_and_bounds_cross():
    a = Evidence(pd.Series([2.0, 4.0], index=[0, 1]), pd.Series([2.0, INF], index=[0, 1]))
    b = Evidence(pd.Series([8.0, 1.0, 9.0], index=[1, 0, 7]), pd.Series([INF, 1.0, 9.0], index=[1, 0, 7]))
    ratio = a / b
    assert ratio.low.to_dict() == {0: 2.0, 1: 0.0}
    assert ratio.high.to_dict() == {0: 2.0, 1: INF}


def test_holm_agrees_with_an_example_worked_by_hand():
    # Four tests at 0.05: 0.01 < 0.05/4 stays; 0.015 < 0.05/3 stays; 0.03 > 0.05/2 falls, and 0.04 with it.
    p_values = {"a": 0.03, "b": 0.01, "c": 0.04, "d": 0.015}
    decisions = {"a": "holds", "b": "fails", "c": "holds", "d": "holds"}
    verdicts = holm([Judged(made_verdict(name, decisions[name]), p) for name, p in p_values.items()])
    assert [(v.id, v.verdict, v.verdict_holm) for v in verdicts] == [
        ("a", "holds", "undecided"),
        ("b", "fails", "fails"),
        ("c", "holds", "undecided"),
        ("d", "holds", "holds"),
    ]


def test_holm_leaves_a_single_claim_as_it_is():
    found = judged("mean", "above", 0.0, near(0.3))
    assert found.verdict.verdict == "holds"
    assert [v.verdict_holm for v in holm([found])] == ["holds"]


def made_verdict(name, decision):
    return Verdict(
        study="made",
        id=name,
        sentence="",
        source="",
        statistic="",
        estimate=1.0,
        interval=(0.5, 1.5),
        level=0.95,
        threshold=0.0,
        seeds=8,
        verdict=decision,
        verdict_holm="undecided",
        needed_seeds=None,
        preset="quick",
    )


SURVEYS = 1000
SIZES = (3, 8, 20)
DRAWN = {  # what benchmarks/intervals.py draws at more sizes and more often
    "normal": lambda g, shape: g.normal(size=shape),
    "exponential": lambda g, shape: g.exponential(size=shape),
    "lognormal(1)": lambda g, shape: g.lognormal(size=shape),
    "two groups": lambda g, shape: np.where(g.random(shape) < 0.2, 6.0, 0.0) + g.normal(size=shape),
    "0 or 1": lambda g, shape: (g.random(shape) < 0.1).astype(float),
    "1 or 0.9": lambda g, shape: np.where(g.random(shape) < 0.8, 1.0, 0.9),
    "near 1": lambda g, shape: np.tanh(3 + g.normal(size=shape)),
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *[("mean", n) for n in ("normal", "exponential", "lognormal(1)", "two groups", "0 or 1", "1 or 0.9")],
        *[("median", name) for name in ("normal", "exponential", "two groups", "0 or 1", "1 or 0.9")],
        *[("correlation", name) for name in ("near 1", "1 or 0.9")],
    ],
)
def test_intervals_cover_the_truth_in_93_per_cent_of_made_surveys(kind, name):
    draw = DRAWN[name]
    centre = np.median if kind == "median" else np.mean
    truth = float(centre(draw(np.random.default_rng(99), 2_000_000)))
    for n in SIZES:
        found = coverage(draw(np.random.default_rng([n, *name.encode()]), (SURVEYS, n)), kind, truth)
        assert found >= 0.93 - 2.5 * math.sqrt(0.93 * 0.07 / SURVEYS), (name, n)  # the simulation's own error


def test_holm_lets_no_more_than_six_surveys_of_a_hundred_pass_a_false_claim():
    surveys, claims, n = 50, 42, 8
    for kind, name, truth in (("mean", "exponential", 1.0), ("median", "exponential", math.log(2))):
        claim, false = made_claim(kind, "above", truth), 0
        for survey in DRAWN[name](np.random.default_rng(5), (surveys, claims, n)):
            evidence = [Evidence.exact(pd.Series(values)) for values in survey]
            levels = [claim.decide(interval(values, kind, 1 - 0.05 / claims, CORRECTED)) for values in evidence]
            if any(decision != "undecided" for decision in levels):  # else the first step of Holm's ends it
                found = holm([judge(claim, made_records(v), study="", preset="") for v in survey])
                false += any(entry.verdict_holm != "undecided" for entry in found)
        assert false / surveys <= 0.06 + 2 * math.sqrt(0.06 * 0.94 / surveys)


def test_a_clear_effect_in_a_median_of_eight_seeds_can_pass_holm():
    clear = judged("median", "above", 0.0, stats.norm.ppf((np.arange(8) + 0.5) / 8) + 3.0)
    assert clear.p_value < 0.05 / 42


@pytest.mark.parametrize("n", [8, 16, 32])
def test_the_median_of_runs_that_may_not_converge_is_covered_in_93_to_97_per_cent_of_made_surveys(n):
    epochs = np.random.default_rng(n).lognormal(math.log(400), 0.5, (SURVEYS, n))
    converged = epochs <= 600  # a fifth does not
    found = coverage(np.where(converged, epochs, 600.0), "median", 400.0, np.where(converged, epochs, INF))
    assert 0.93 <= found <= 0.97


@pytest.mark.parametrize("n", SIZES)
def test_the_interval_of_a_share_covers_the_truth_in_at_least_95_per_cent(n):
    found = [interval(Evidence.exact(pd.Series([1] * k + [0] * (n - k))), "share") for k in range(n + 1)]
    for truth in np.linspace(0.02, 0.98, 25):  # exact: the sum over all outcomes, no simulation needed
        covered = [entry.low <= truth <= entry.high for entry in found]
        assert stats.binom.pmf(np.arange(n + 1), n, truth)[covered].sum() >= 0.95


def coverage(low, kind, truth, high=None):
    high = low if high is None else high
    found = [interval(Evidence(pd.Series(a), pd.Series(b)), kind) for a, b in zip(low, high, strict=True)]
    return float(np.mean([f.low - 1e-9 <= truth <= f.high + 1e-9 for f in found]))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"side": "lower"}, "the side of claim 'made' as one of above, below, within, got 'lower'"),
        ({"kind": "average"}, "the kind of claim 'made' as one of mean, ratio"),
    ],
)
def test_a_side_or_statistic_that_there_is_not_is_refused_where_the_claim_is_written(given, says):
    with pytest.raises(SettingError, match=says):
        made_claim(**{"kind": "mean", "side": "below", "threshold": 0.0} | given)
