"""Looks: against integrals worked out by quadrature, and by simulation with a look after every seed."""

import math

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from theodolite.claims import Monitor, looks
from theodolite.errors import SettingError


def mixture(t, n):
    def ratio(effect):
        prior = stats.norm.pdf(effect, scale=looks.PRIOR_OF_MEANS**-0.5)
        return prior * stats.nct.pdf(t, n - 1, effect * math.sqrt(n)) / stats.t.pdf(t, n - 1)

    return integrate.quad(ratio, -8, 8)[0]


def test_the_evidence_is_the_mixture_of_likelihood_ratios_of_t():
    # The t statistic is what is left of normal numbers once their unit is divided out.
    values = np.array([-0.1, 0.2, 0.4, 0.3, 1.4])  # their tail is on the far side of the threshold
    t = stats.ttest_1samp(values, 0.0).statistic
    assert math.exp(looks.mean(values, 0.0)[-1]) == pytest.approx(mixture(t, 5), rel=1e-4)


def test_the_evidence_is_that_of_the_smaller_t_which_numbers_without_a_tail_towards_the_threshold_would_have():
    values = -np.array([-0.1, 0.2, 0.4, 0.3, 1.4]) + 2.0
    t, tail = stats.ttest_1samp(values, 0.0).statistic, -stats.skew(values)
    even = optimize.brentq(lambda x: x + 2 * tail * (1 + 2 * x**2) / (6 * math.sqrt(5)) - t, 0, t)
    assert math.exp(looks.mean(values, 0.0)[-1]) == pytest.approx(mixture(even, 5), rel=1e-4)


@pytest.mark.parametrize("unit", [1e200, 1e-200])
def test_the_unit_of_the_numbers_does_not_matter(unit):
    values = np.random.default_rng(8).exponential(size=30)
    np.testing.assert_allclose(looks.mean(unit * values, unit * 0.5), looks.mean(values, 0.5), rtol=1e-9)


def test_numbers_to_come_change_nothing_of_the_evidence_so_far():
    values = np.random.default_rng(8).exponential(size=30)
    longer = looks.mean(np.r_[values, 1e3, -1e3], 0.5)
    assert np.array_equal(looks.mean(values, 0.5), longer[:30])


def test_signs_are_weighed_by_the_beta_binomial():
    values = np.array([1.0, 2.0, -1.0, 3.0, 4.0, 0.0])  # the last lies at the threshold: against those above
    g = looks.PRIOR_OF_SIGNS
    expected, _ = integrate.quad(lambda p: stats.beta.pdf(p, g, g) * p**4 * (1 - p) ** 2, 0, 1)
    assert math.exp(looks.median(values, 0.0)[-1]) == pytest.approx(expected * 2**6)


def test_the_stake_of_a_gambler_is_multiplied_number_by_number():
    values, threshold = np.array([0.9, 0.4, 0.8]), 0.5
    expected = np.mean([np.prod([1 + c * (x / threshold - 1) for x in values]) for c in looks.BETS])
    assert math.exp(looks.ranged(values, threshold, above=True)[-1]) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["mean", "median", "ranged"])
def test_ends_lie_where_the_evidence_reaches_its_bound(kind):
    values = np.random.default_rng(1).uniform(0.3, 0.9, 60)
    low, high = getattr(looks, f"{kind}_ends")(values, 0.05)
    for end, above in ((low, True), (high, False)):
        inward = 1e-6 if above else -1e-6
        for at, reached in ((end - inward, True), (end + inward, False)):
            found = (
                looks.ranged(values, at, above=above) - math.log(2)
                if kind == "ranged"
                else getattr(looks, kind)(values, at)
            )
            assert (found[-1] >= math.log(20)) == reached, (kind, end)


SEQUENCES, SEEDS = 250, 200
MADE = {
    ("mean", "normal"): (lambda g, s: g.normal(size=s), 0.0, 0.055),
    ("mean", "exponential"): (lambda g, s: g.exponential(size=s), 1.0, 0.07),
    ("mean", "lognormal(0.7)"): (lambda g, s: g.lognormal(0, 0.7, s), math.exp(0.245), 0.07),
    ("mean", "lognormal(1)"): (lambda g, s: g.lognormal(size=s), math.exp(0.5), 0.07),
    ("mean", "two groups"): (lambda g, s: 6.0 * (g.random(s) < 0.2) + g.normal(size=s), 1.2, 0.07),
    ("mean", "0 or 1"): (lambda g, s: (g.random(s) < 0.1) * 1.0, 0.1, 0.07),
    ("median", "exponential"): (lambda g, s: g.exponential(size=s), math.log(2), 0.055),
    ("median", "1 or 0.9"): (lambda g, s: np.where(g.random(s) < 0.8, 1.0, 0.9), 1.0, 0.055),
    ("share", "0 or 1"): (lambda g, s: (g.random(s) < 0.9) * 1.0, 0.9, 0.055),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("case", MADE)
def test_with_a_look_after_each_of_200_seeds_few_ever_decide_with_the_truth_on_the_threshold(case):
    draw, truth, most = MADE[case]
    sequences = draw(np.random.default_rng([3, *case[1].encode()]), (SEQUENCES, SEEDS))
    # One look at the end decides as looks at every seed would: the verdict follows from the whole path.
    wrong = [Monitor(above=truth, statistic=case[0]).update(values).verdict != "undecided" for values in sequences]
    assert np.mean(wrong) <= most + 2 * math.sqrt(most * (1 - most) / SEQUENCES)


@pytest.mark.parametrize(("effect", "seeds", "power"), [(1.0, 40, 0.9), (0.5, 100, 0.8)])
@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_effects_are_found(effect, seeds, power, statistic):
    sequences = np.random.default_rng(4).normal(effect, 1.0, (400, seeds))
    held = [Monitor(above=0.0, statistic=statistic).update(values).verdict == "holds" for values in sequences]
    assert np.mean(held) >= power - 0.02


def test_looking_often_or_seldom_decides_alike():
    values = np.random.default_rng(6).normal(0.8, 1.0, 60)
    often, seldom = Monitor(within=(-2.0, 2.0)), Monitor(within=(-2.0, 2.0))
    for n in range(1, 61):
        found = often.update(values[:n])
    once = seldom.update(values)
    assert (found.verdict, found.p_value, found.interval) == (once.verdict, once.p_value, once.interval)
    assert (found.looks, once.looks) == (60, 1)
    assert found.verdict == "holds"


def test_a_decision_stands():
    clear = [5.0, 5.5, 4.5, 5.2, 4.8, 5.1, 4.9, 5.3, 4.7, 5.0, 5.2, 4.9, 5.1, 5.0]
    monitor = Monitor(above=0.0)
    assert monitor.update(clear).verdict == "holds"
    assert monitor.update([*clear, *[-50.0] * 4]).verdict == "holds"


def test_a_margin_fails_where_the_statistic_lies_outside():
    values = np.random.default_rng(7).normal(5.0, 1.0, 40)
    assert Monitor(within=(-1.0, 1.0)).update(values).verdict == "fails"
    assert Monitor(below=1.0, statistic="ratio").update(np.abs(values)).verdict == "fails"
    assert Monitor(above=0.5, statistic="correlation").update(np.tanh(values / 3)).verdict == "holds"


def test_seeds_may_come_in_any_order_and_earlier_numbers_may_not_change():
    monitor = Monitor(above=0.0)
    monitor.update({4: 1.0, 2: 2.0})
    found = monitor.update({0: 1.5, 2: 2.0, 4: 1.0})
    assert (found.seeds, found.looks, found.verdict) == (3, 2, "undecided")
    for changed in ({2: 2.0, 4: 1.0}, {0: 1.5, 2: 2.5, 4: 1.0}, {0: 1.5, 2: 2.0, 4: 1.0, 5: math.nan}):
        with pytest.raises(SettingError, match="expected"):
            monitor.update(changed)


def test_equal_numbers_and_two_seeds_decide_nothing():
    assert Monitor(above=0.0).update([1.0] * 50).verdict == "undecided"
    found = Monitor(above=0.0).update([1.0, 1.1])
    assert (found.verdict, found.p_value, found.interval) == ("undecided", 1.0, (-math.inf, math.inf))
    assert Monitor(above=0.5, statistic="share").update([]).verdict == "undecided"
