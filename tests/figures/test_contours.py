"""Contour lines against surfaces whose level sets are known."""

import numpy as np
import pytest

from theodolite.figures.contours import bands, contour, thinned

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


def test_what_is_higher_lies_on_the_right_of_a_contour():
    height = np.hypot(*np.meshgrid(X, X))
    for sign, turns in ((1, 1), (-1, -1)):  # a pit is walked round counterclockwise, a hill clockwise
        (line,) = contour(X, X, sign * height, sign * 1.25)
        angles = np.unwrap(np.arctan2(line[:, 1], line[:, 0]))
        assert np.sign(angles[-1] - angles[0]) == turns


@pytest.mark.parametrize("seed", range(5))
def test_the_last_band_painted_over_a_point_is_the_one_that_its_height_lies_in(seed):
    generator = np.random.default_rng(seed)
    x, y = np.arange(9.0), np.arange(7.0)
    z, levels = generator.normal(size=(7, 9)), [-0.5, 0.0, 0.8]
    for row, column in np.ndindex(5, 7):
        at = np.array([column + 1, row + 1]) + 1e-6 * generator.normal(size=2)  # beside a grid point, off every edge
        inside = [band for band, line in bands(x, y, z, levels) if _encloses(line, at)]
        assert inside[-1] == np.digitize(z[row + 1, column + 1], levels)


def _encloses(line, point):
    """By the angle under which a point sees the line go round."""
    ways = (line - point) @ np.array([1, 1j])
    return abs(np.angle(ways[1:] / ways[:-1]).sum()) > np.pi


def test_a_thinned_line_keeps_its_ends_and_leaves_out_only_what_is_near():
    turn = np.linspace(0, 2 * np.pi, 400)
    circle = np.stack([np.cos(turn), np.sin(turn)]).T
    fewer = thinned(circle, 0.01)
    assert len(fewer) < 40
    assert fewer[0].tolist() == circle[0].tolist()
    assert fewer[-1].tolist() == circle[-1].tolist()
    middles = (fewer[1:] + fewer[:-1]) / 2  # a chord is farthest from its arc there
    assert np.hypot(*middles.T).min() > 1 - 0.0101
