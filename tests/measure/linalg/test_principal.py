"""Principal components against scikit-learn's."""

import numpy as np
import pytest
from sklearn.decomposition import PCA, KernelPCA

from theodolite.measure.linalg import principal


@pytest.mark.parametrize("shape", [(9, 4), (4, 9)])
def test_axes_and_shares_are_those_of_scikit_learn(shape):
    points = np.random.default_rng(0).normal(size=shape) + 3
    fit = PCA(3, svd_solver="full").fit(points)
    axes, shares = principal.components(points, 3)
    assert np.allclose(axes, fit.components_)
    assert np.allclose(shares, fit.explained_variance_ratio_)


def test_coordinates_from_inner_products_are_those_of_scikit_learn():
    points = np.random.default_rng(1).normal(size=(7, 20))
    products = points @ points.T
    fit = KernelPCA(2, kernel="precomputed", eigen_solver="dense")
    coordinates, squares = principal.of_inner_products(products, 2)
    assert np.allclose(coordinates, fit.fit_transform(products))
    assert np.allclose(squares, fit.eigenvalues_)


def test_points_on_a_line_have_one_component():
    line = np.arange(5.0)[:, None] * [[3.0, 4.0]]
    axes, shares = principal.components(line, 2)
    assert np.allclose(axes[0], [0.6, 0.8])
    assert np.allclose(shares, [1, 0])
    coordinates, squares = principal.of_inner_products(line @ line.T, 2)
    assert np.allclose(coordinates[:, 1], 0, atol=1e-6)
    assert np.allclose(squares, [250, 0])  # 25 times the squares of -2 to 2, which sum to 10
