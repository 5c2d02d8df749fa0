"""One number a seed from its rows: against definitions worked out by hand, and with rows that have no number."""

import numpy as np
import pandas as pd
import pytest

from theodolite.claims import factor_per_doubling, rank_correlation
from theodolite.claims.trends import goodman_kruskal


def rows(y, x=None, seed=0):
    return pd.DataFrame({"seed": seed, "x": range(1, len(y) + 1) if x is None else x, "y": y})


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([1, 2, 3, 4], 1.0),
        ([4, 3, 2, 1e9], 0.2),  # 1 - 6 Σd² / (n (n² - 1)): ranks 3 2 1 4 against 1 2 3 4, Σd² = 8
        ([4, 3, 2, np.inf], 0.2),  # infinite is only the highest
    ],
)
def test_rank_correlation_is_spearmans(y, expected):
    assert rank_correlation(rows(y), "x", "y").low.tolist() == pytest.approx([expected])


@pytest.mark.parametrize("y", [[1, np.nan, 3], [2, 2, 2]])
def test_rank_correlation_without_a_number_is_unknown_not_left_out(y):
    found = rank_correlation(pd.concat([rows(y), rows([1, 2, 3], seed=1)]), "x", "y")
    assert found.low.index.tolist() == [0, 1]
    assert np.isnan(found.low[0])
    assert found.low[1] == 1


def test_factor_per_doubling_of_a_power_law_is_two_to_its_exponent():
    x = [32, 64, 256, 512, 1024]
    for exponent in (-0.5, 0.0, 1.3):
        found = factor_per_doubling(rows([7 * size**exponent for size in x], x), "x", "y")
        assert found.low.tolist() == pytest.approx([2**exponent])


def test_factor_per_doubling_is_least_squares_on_both_logarithms():
    x, y = [1, 2, 4], [1.0, 8.0, 4.0]  # logarithms 0 1 2 and 0 3 2: slope Σ (x - 1) (y - 5/3) / Σ (x - 1)² = 1
    assert factor_per_doubling(rows(y, x), "x", "y").low.tolist() == pytest.approx([2.0])


@pytest.mark.parametrize("y", [[1, 0, 2], [1, np.inf, 2], [1, np.nan, 2], [-1, 1, 2]])
def test_factor_per_doubling_of_what_has_no_logarithm_is_unknown(y):
    assert np.isnan(factor_per_doubling(rows(y), "x", "y").low[0])


def test_factor_per_doubling_needs_two_sizes():
    assert np.isnan(factor_per_doubling(rows([1, 2], [8, 8]), "x", "y").low[0])


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([1, 2, 3, 4], [1, 2, 2, 2], 1.0),  # 3 pairs go the same way, 3 are ties
        ([1, 2, 3, 4], [2, 1, 3, 3], 0.6),  # 4 the same way, 1 against, 1 a tie
        ([1, 1, 2, 2], [1, 2, 3, 4], 1.0),  # ties in the other column
        ([1, 2, 3], [3, 2, 1], -1.0),
        ([1, 2, 3], [5, 5, 5], np.nan),  # no pair
        ([1, 2, 3], [1, np.nan, 2], np.nan),
    ],
)
def test_gamma_counts_pairs_and_leaves_ties_out(x, y, expected):
    found = goodman_kruskal(np.array(x, dtype=float), np.array(y, dtype=float))
    assert found == pytest.approx(expected, nan_ok=True)
