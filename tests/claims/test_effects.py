"""The smallest effects that are decided: against simulation and the binomial."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from theodolite.claims import Claim, Evidence, interval
from theodolite.claims.effects import in_its_unit, smallest_effect
from theodolite.claims.ways import EveryLook


def made(kind, threshold=0.0):
    return Claim("made", "", "", "", kind, "above", threshold, lambda records: records)


@pytest.mark.parametrize(
    ("kind", "seeds"),
    [
        ("mean", 3),
        ("mean", 8),
        ("mean", 20),
        ("median", 3),
        ("median", 4),
        ("median", 5),
        ("median", 10),
        ("median", 20),
    ],
)
def test_that_effect_is_decided_in_four_of_five_surveys(kind, seeds):
    effect = smallest_effect(made(kind), seeds, 0.05)
    drawn = np.random.default_rng([1, seeds]).normal(effect, 1.0, (2000, seeds))
    share = np.mean([interval(Evidence.exact(pd.Series(values)), kind).low > 0 for values in drawn])
    assert (
        (0.775 if seeds > 3 else 0.74) <= share <= (0.825 if kind == "mean" or seeds < 6 else 0.9)
    )  # of medians between order statistics it is on the safe side


def test_of_a_share_it_is_that_of_the_binomial():
    effect = smallest_effect(made("share", 0.5), 20, 0.05)
    needed = next(k for k in range(21) if stats.binomtest(k, 20).proportion_ci(0.95).low > 0.5)
    assert stats.binom.sf(needed - 1, 20, 0.5 + effect) == pytest.approx(0.8)


def test_by_the_path_it_takes_more_and_is_found_so_often_at_least():
    effect = smallest_effect(made("mean"), 30, 0.05, every_look=True)
    assert effect > smallest_effect(made("mean"), 30, 0.05)
    drawn = np.random.default_rng(2).normal(effect, 1.0, (400, 30))
    held = [
        EveryLook(made("mean"), {"": Evidence.exact(pd.Series(v))}, until_decided=True).decide(0.05) == "holds"
        for v in drawn
    ]
    assert 0.77 <= np.mean(held) <= 0.95


def test_too_few_seeds_find_nothing():
    assert smallest_effect(made("mean"), 2, 0.05) is None
    assert smallest_effect(made("median"), 2, 0.05) is None
    assert smallest_effect(made("share", 0.9), 3, 0.05) is not None  # it may still fail
    assert smallest_effect(made("mean"), 8, 0.05, every_look=True) is None
    assert in_its_unit(made("mean"), None, None) == "none"


def test_it_is_said_in_the_claims_own_unit_where_numbers_tell_it():
    values = Evidence.exact(pd.Series([1.0, 2.0, 4.0]))
    assert in_its_unit(made("mean"), 2.0, values) == f"2.00 sd = {2 * np.std([1, 2, 4], ddof=1):.3g}"
    assert in_its_unit(made("ratio", 1.0), 1.0, values) == "1.00 sd = a factor of 2"  # logarithms a log 2 apart
    assert in_its_unit(made("mean"), 2.0, Evidence.exact(pd.Series([1.0, 1.0]))) == "2.00 sd"
    assert in_its_unit(made("share", 0.5), 0.25, values) == "0.25 of the share"
