"""Components of variance: against the textbook's table, a simulation, and what they must be by construction."""

import numpy as np
import pytest

from theodolite.claims.variance import crossed_components


def test_results_that_only_rows_decide_have_no_other_component():
    found = crossed_components(np.array([[1.0] * 4, [2.0] * 4, [6.0] * 4]))
    assert (found.rows, found.columns, found.rest) == (pytest.approx(7.0), pytest.approx(0.0), 0.0)  # var of 1, 2, 6


def test_transposed_results_swap_rows_and_columns():
    results = np.random.default_rng(0).normal(size=(3, 5))
    found, other = crossed_components(results), crossed_components(results.T)
    assert found.rows == pytest.approx(other.columns)
    assert found.columns == pytest.approx(other.rows)
    assert found.rest == pytest.approx(other.rest)


def test_mean_squares_are_those_of_a_least_squares_fit():
    results = np.random.default_rng(1).normal(size=(4, 3))
    rows, columns = np.indices(results.shape).reshape(2, -1)
    constant = np.ones((12, 1))
    by_row, by_column = np.eye(4)[rows], np.eye(3)[columns]

    def squares(*design):
        matrix = np.hstack([constant, *design])
        fit = matrix @ np.linalg.lstsq(matrix, results.ravel(), rcond=None)[0]
        return ((results.ravel() - fit) ** 2).sum()

    both = squares(by_row, by_column)
    rest, row = both / 6, (squares(by_column) - both) / 3
    column = (squares(by_row) - both) / 2
    found = crossed_components(results)
    assert found.rest == pytest.approx(rest)
    assert found.rows == pytest.approx((row - rest) / 3)
    assert found.columns == pytest.approx((column - rest) / 4)


def test_estimates_are_right_on_average():
    draw = np.random.default_rng(2)
    found = [
        crossed_components(
            2.0 * draw.normal(size=(3, 1)) + 1.0 * draw.normal(size=(1, 3)) + 0.5 * draw.normal(size=(3, 3))
        )
        for _ in range(4000)
    ]
    means = [np.mean([getattr(c, name) for c in found]) for name in ("rows", "columns", "rest", "total")]
    assert means == pytest.approx([4.0, 1.0, 0.25, 5.25], rel=0.06)


def test_a_single_row_is_refused():
    with pytest.raises(ValueError, match="at least two rows and two columns, got 1 and 3"):
        crossed_components(np.ones((1, 3)))
