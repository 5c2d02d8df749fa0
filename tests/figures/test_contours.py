"""Contour lines against surfaces whose level sets are known."""

import numpy as np
import pytest

from theodolite.figures.contours import contour

X = np.linspace(-2, 2, 81)


def test_the_contour_of_a_cone_is_one_closed_circle():
    (line,) = contour(X, X, np.hypot(*np.meshgrid(X, X)), 1.25)
    np.testing.assert_allclose(np.hypot(*line.T), 1.25, atol=1e-3)
    assert line[0].tolist() == line[-1].tolist()
    angles = np.unwrap(np.arctan2(line[:, 1], line[:, 0]))
    assert abs(angles[-1] - angles[0]) == pytest.approx(2 * np.pi)


def test_the_contour_of_a_tilted_plane_is_exact_and_runs_from_edge_to_edge():
    y = np.linspace(0, 1, 11)
    (line,) = contour(X, y, 2 * X[None, :] + y[:, None], 0.3)
    np.testing.assert_allclose(2 * line[:, 0] + line[:, 1], 0.3, atol=1e-12)
    assert sorted([line[0, 1], line[-1, 1]]) == [0.0, 1.0]


def test_both_branches_of_a_saddle_are_found_and_never_cross():
    lines = contour(X, X, np.multiply.outer(X, X), 0.01)
    assert len(lines) == 2
    assert {bool((line > 0).all()) for line in lines} == {True, False}


@pytest.mark.parametrize(("corners", "joined"), [([[1, 0], [0, 1]], True), ([[1.2, 0], [0, 1.2]], False)])
def test_a_cell_with_opposite_corners_above_is_decided_by_its_mean(corners, joined):
    z = np.array(corners, dtype=np.float64)
    lines = contour(np.arange(2.0), np.arange(2.0), z, 0.55)
    assert len(lines) == 2
    low_corner_cut = any(abs(line.sum(1) - 1).max() < 1 for line in lines)
    cut_off = [corner for corner in ((0, 0), (1, 1)) if any(np.abs(line - corner).max() < 0.56 for line in lines)]
    assert low_corner_cut
    assert (len(cut_off) == 2) == joined  # the mean lies below: the high corners are islands


def test_cells_that_are_not_finite_are_left_out():
    z = np.hypot(*np.meshgrid(X, X))
    z[40, 60:] = np.nan
    lines = contour(X, X, z, 1.25)
    assert len(lines) == 1
    assert lines[0][0].tolist() != lines[0][-1].tolist()


def test_a_level_that_the_surface_never_has_gives_no_line():
    assert contour(X, X, np.zeros((81, 81)), 1.0) == []
