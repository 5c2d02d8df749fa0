"""Expected numbers: scipy's own tests and intervals, tables worked out by hand, and simulation."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from theodolite.claims import Claim, Evidence, Judged, epochs_to_convergence, holm, interval, judge
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


def test_the_interval_of_a_mean_is_that_of_scipy():
    values = [1.0, 2.0, 4.0, 3.5]
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    found = interval(Evidence.exact(pd.Series(values)), "mean")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert found.estimate == pytest.approx(2.625)


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


def test_the_p_value_of_a_mean_is_that_of_the_t_test():
    values = near(0.12)
    found = judged("mean", "above", 0.0, values)
    assert found.p_value == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue, rel=1e-9)


def test_the_p_value_of_a_share_of_all_seeds_is_the_binomial_one():
    found = judged("share", "above", 0.5, [1] * 8)
    assert found.p_value == pytest.approx(2 * 0.5**8, rel=1e-9)


def test_the_p_value_of_a_margin_is_that_of_the_worse_of_two_one_sided_tests():
    values = near(0.3)
    below = stats.ttest_1samp(values, 0.5, alternative="less").pvalue
    above = stats.ttest_1samp(values, -0.5, alternative="greater").pvalue
    found = judged("mean", "within", (-0.5, 0.5), values)
    assert found.p_value == pytest.approx(2 * max(below, above), rel=1e-9)


@pytest.mark.parametrize("kind", ["mean", "ratio", "median", "median_ratio"])
@pytest.mark.parametrize("side", ["above", "below", "within"])
def test_the_p_value_is_below_five_per_cent_just_where_the_interval_decides(kind, side):
    generator = np.random.default_rng(5)
    for n in (3, 5, 8, 16):
        for _ in range(8):
            values = np.exp(generator.normal(0.15, 0.3, n))
            found = judged(kind, side, (0.8, 1.25) if side == "within" else 1.0, values)
            assert (found.p_value < 0.05) == (found.verdict.verdict != "undecided")


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
    verdict = judged("mean", "above", 0.0, [5.0, 6.0, 7.0, 6.5], [5.0, 6.0, 7.0, INF]).verdict
    assert verdict.interval[1] is None
    assert verdict.interval[0] == pytest.approx(stats.ttest_1samp([5, 6, 7, 6.5], 0).confidence_interval(0.95).low)
    assert verdict.verdict == "holds"


@pytest.mark.parametrize(
    ("kind", "ends"),
    [("mean", (None, None)), ("ratio", (0.0, None)), ("correlation", "finite"), ("share", "finite")],
)
def test_a_diverged_seed_is_taken_at_its_worst_and_named(kind, ends):
    without = judged(kind, "above", 0.5, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]).verdict
    with_one = judged(kind, "above", 0.5, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, np.nan]).verdict
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


def test_numbers_that_are_all_equal_decide_from_six_seeds_on():
    assert judged("mean", "above", 0.0, [1.0] * 5).verdict.verdict == "undecided"
    six = judged("mean", "above", 0.0, [1.0] * 6)
    assert six.verdict.verdict == "holds"
    assert six.p_value == pytest.approx(2 * 0.5**6, rel=1e-9)  # the sign test's


def test_a_number_outside_its_kind_is_refused():
    for kind, value in (("ratio", -1.0), ("correlation", 1.5), ("share", 0.5)):
        with pytest.raises(ValueError, match="expected numbers"):
            interval(Evidence.exact(pd.Series([value] * 3)), kind)


def test_needed_seeds_are_those_at_which_the_same_spread_decides():
    # Mean 0.1, deviation s: the smallest m with t(m - 1) s / sqrt(m) < 0.1, found here by trying.
    values = near(0.1)
    spread = np.std(values, ddof=1)
    expected = next(m for m in range(9, 1000) if stats.t.ppf(0.975, m - 1) * spread / math.sqrt(m) < 0.1)
    assert judged("mean", "above", 0.0, values).verdict.needed_seeds == expected


def test_needed_seeds_of_a_share_are_those_at_which_clopper_and_pearson_decide():
    expected = next(m for m in range(4, 100) if stats.binomtest(m, m).proportion_ci(0.95, "exact").low > 0.5)
    assert judged("share", "above", 0.5, [1, 1, 1]).verdict.needed_seeds == expected == 6


def test_needed_seeds_are_not_named_where_they_cannot_be_known():
    assert judged("mean", "above", 0.0, [-1.0, 0.0, 1.0]).verdict.needed_seeds is None  # on the threshold
    assert judged("mean", "above", 0.0, [-1.0, 0.0, 1.001]).verdict.needed_seeds is None  # millions
    assert judged("median", "above", 0.0, [1.0, 2.0, 3.0], [1.0, INF, 3.0]).verdict.needed_seeds is None


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
SIZES = (3, 5, 8, 16, 32)


def spearman_over_fifty_points(generator, shape):
    x = generator.normal(size=(*shape, 50))
    y = 0.8 * x + 0.6 * generator.normal(size=x.shape)
    ranks = [(v.argsort(-1).argsort(-1) - 24.5) / np.sqrt((50**2 - 1) / 12) for v in (x, y)]
    return (ranks[0] * ranks[1]).mean(-1)


def true_correlation():
    many = spearman_over_fifty_points(np.random.default_rng(99), (40_000,))
    return float(np.sin(np.arcsin(many).mean()))


MADE = {  # kind, numbers of each seed, the true value of the statistic
    "normal mean": ("mean", lambda g, shape: g.normal(2.0, 1.5, shape), lambda: 2.0),
    "lognormal ratio": ("ratio", lambda g, shape: g.lognormal(0.4, 0.8, shape), lambda: math.exp(0.4)),
    "rank correlation": ("correlation", spearman_over_fifty_points, true_correlation),
    "normal median": ("median", lambda g, shape: g.normal(2.0, 1.5, shape), lambda: 2.0),
    "lognormal median": ("median_ratio", lambda g, shape: g.lognormal(0.4, 0.8, shape), lambda: math.exp(0.4)),
}


@pytest.mark.parametrize("name", MADE)
def test_intervals_cover_the_truth_in_93_to_97_per_cent_of_made_surveys(name):
    kind, draw, truth = MADE[name]
    true = truth()
    for n in SIZES:
        generator = np.random.default_rng([n, *name.encode()])
        assert 0.93 <= coverage(draw(generator, (SURVEYS, n)), kind, true) <= 0.97, (name, n)


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
    return float(np.mean([f.low <= truth <= f.high for f in found]))


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
