r"""The share of negative eigenvalues that random matrices would have: the null beside a network's own.

Pennington and Bahri write the Hessian as H = G + E, the Gauss-Newton matrix and a part that vanishes with the
residuals, and take G for a Wishart matrix with mean eigenvalue 1 and a ratio :math:`\varphi` of parameters to data, E
for a Wigner matrix with entries of variance :math:`2\epsilon` / P, free of each other. Then their R-transforms add,

.. math:: \mathcal R(x) = \frac{1}{1 - \varphi x} + 2 \epsilon x, \qquad \mathcal R(g) + \frac 1 g = z ,

and the imaginary part of g(z) / π is the density of eigenvalues at z. A network's matrices are neither: the prediction
shows what of the index follows from two numbers alone.

Source: Pennington and Bahri 2017, "Geometry of Neural Network Loss Surfaces via Random Matrix Theory".
"""

import numpy as np
import numpy.typing as npt

from theodolite.errors import SettingError

Matrix = npt.NDArray[np.float64]
POINTS = 4000  # of the integral: its error is below 1e-5


def negative_share(epsilon: float, ratio: float, *, below: float = 0.0) -> float:
    r"""The share of eigenvalues below ``below`` of a Wishart matrix plus a free Wigner matrix.

    Args:
        epsilon: half the variance of the Wigner matrix's spectrum, in units of the squared mean of the Wishart's.
        ratio: :math:`\varphi`, parameters to data.
        below: at most 0, in units of the mean of the Wishart's spectrum; weight decay moves all eigenvalues up, so
            minus that.

    Example:
        >>> negative_share(0.01, 0.25) == 0 < negative_share(1.0, 0.25)  # below and above the critical energy
        True
    """
    if not (epsilon >= 0 and ratio >= 0 and below <= 0):
        raise SettingError(
            f"expected epsilon and ratio of at least 0 and below at most 0, got {epsilon}, {ratio} and {below}."
        )
    lowest = -2 * np.sqrt(2 * epsilon)  # a positive matrix moves the Wigner spectrum up
    if lowest >= below:
        return 0.0
    angle = (np.arange(POINTS) + 0.5) * np.pi / POINTS  # close points at both ends, where the density may be a root
    z = lowest + (below - lowest) * (1 - np.cos(angle)) / 2
    weight = (below - lowest) * np.sin(angle) / 2 * np.pi / POINTS
    return float(weight @ density(z, epsilon, ratio))


def density(z: npt.ArrayLike, epsilon: float, ratio: float) -> Matrix:
    """The density of eigenvalues at each of z; ``epsilon`` above 0."""
    z = np.asarray(z, dtype=np.float64)
    if ratio == 0:  # the Wishart matrix is the identity
        coefficients = np.stack([np.full_like(z, 2 * epsilon), 1 - z, np.ones_like(z)], -1)
    else:
        highest = np.full_like(z, -2 * epsilon * ratio)
        coefficients = np.stack([highest, 2 * epsilon + z * ratio, 1 - ratio - z, np.ones_like(z)], -1)
    roots = _roots(coefficients)
    size = np.abs(roots.imag).max(-1)
    return np.asarray(np.where(size > 1e-7 * np.abs(roots).max(-1), size, 0.0) / np.pi)


def critical_energy(ratio: float) -> float:
    r"""The least :math:`\epsilon` at which eigenvalues are negative, in the closed form of the paper.

    >>> critical_energy(0.0)  # the Wigner spectrum's radius is 1: 2 √(2 ε) = 1
    0.125
    """
    return float((1 - 20 * ratio - 8 * ratio**2 + (1 + 8 * ratio) ** 1.5) / 16)


def moments(hessian: Matrix, gauss_newton: Matrix) -> tuple[float, float]:
    """The ``epsilon`` and ``ratio`` whose random matrices have the first two moments of these ``(P, P)``."""
    P = len(hessian)
    mean = np.trace(gauss_newton) / P
    ratio = (gauss_newton**2).sum() / P / mean**2 - 1
    rest = hessian - gauss_newton
    return float((rest**2).sum() / P / mean**2 / 2), float(ratio)


def _roots(coefficients: Matrix) -> npt.NDArray[np.complex128]:
    """Roots of polynomials ``(..., degree + 1)``, highest power first: eigenvalues of companion matrices."""
    degree = coefficients.shape[-1] - 1
    companion = np.zeros((*coefficients.shape[:-1], degree, degree))
    companion[..., 0, :] = -coefficients[..., 1:] / coefficients[..., :1]
    companion[..., np.arange(1, degree), np.arange(degree - 1)] = 1
    return np.asarray(np.linalg.eigvals(companion), dtype=np.complex128)
