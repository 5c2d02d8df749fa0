import numpy as np
import pytest

from theodolite.errors import SettingError
from theodolite.measure.critical.random_matrix import critical_energy, density, moments, negative_share


def drawn(epsilon, ratio, size=1200):
    generator = np.random.default_rng(0)
    samples = round(size / ratio)
    J = generator.normal(size=(size, samples))
    E = generator.normal(size=(size, size)) * np.sqrt(epsilon / size)
    return J @ J.T / samples, E + E.T


@pytest.mark.parametrize(("epsilon", "ratio"), [(0.3, 0.25), (1.0, 0.5), (0.5, 1.0), (0.2, 2.0)])
def test_share_is_that_of_drawn_matrices(epsilon, ratio):
    G, E = drawn(epsilon, ratio)
    eigenvalues = np.linalg.eigvalsh(G + E)
    assert negative_share(epsilon, ratio) == pytest.approx(np.mean(eigenvalues < 0), abs=0.003)
    assert negative_share(epsilon, ratio, below=-0.2) == pytest.approx(np.mean(eigenvalues < -0.2), abs=0.003)
    assert moments(G + E, G) == pytest.approx((epsilon, ratio), rel=0.01)


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.5, 0.9])
def test_negative_eigenvalues_begin_at_the_critical_energy(ratio):
    least = critical_energy(ratio)
    assert negative_share(0.98 * least, ratio) == pytest.approx(0, abs=1e-9)
    assert 1e-6 < negative_share(1.05 * least, ratio) < 0.02


def test_without_data_noise_the_share_is_the_semicircles():
    x = -1 / (2 * np.sqrt(2))  # zero, in units of the radius 2 √(2 ε) with ε = 1, from the mean 1
    assert negative_share(1.0, 0.0) == pytest.approx(0.5 + (x * np.sqrt(1 - x * x) + np.arcsin(x)) / np.pi, abs=1e-5)


def test_density_has_mass_one():
    z = np.linspace(-4, 12, 40001)
    assert np.trapezoid(density(z, 0.5, 0.7), z) == pytest.approx(1, abs=1e-4)


def test_settings_out_of_range_are_named():
    with pytest.raises(SettingError, match="below at most 0"):
        negative_share(1.0, 0.5, below=1.0)
