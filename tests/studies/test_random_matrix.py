import mpmath
import numpy as np
import pytest

from theodolite.errors import SettingError
from theodolite.studies.minimal_ratio.random_matrix import critical_energy, density, moments, negative_share


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


@pytest.mark.parametrize(("epsilon", "ratio"), [(1e-8, 0.5), (1e-4, 1.0), (1e-3, 10.0), (2.0, 3.0)])
def test_density_is_that_of_the_equations_root_in_forty_digits(epsilon, ratio):
    z = np.linspace(-2 * np.sqrt(2 * epsilon), (1 + ratio**0.5) ** 2, 29)
    with mpmath.workdps(40):
        for at, found in zip(z, density(z, epsilon, ratio), strict=True):
            e, r, x = mpmath.mpf(epsilon), mpmath.mpf(ratio), mpmath.mpf(at)
            cubic = [-2 * e * r, 2 * e + r * x, 1 - r - x, 1]  # of R(g) + 1 / g = z, cleared of its fractions
            roots = mpmath.polyroots(cubic, maxsteps=400, extraprec=400)
            assert found == pytest.approx(float(max(abs(g.imag) for g in roots) / mpmath.pi), rel=1e-9, abs=1e-9)


def test_settings_out_of_range_are_named():
    with pytest.raises(SettingError, match="below at most 0"):
        negative_share(1.0, 0.5, below=1.0)
