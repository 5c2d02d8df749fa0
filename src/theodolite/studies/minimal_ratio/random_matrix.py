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
    y, height = _complex_root(1 - ratio - z, 2 * epsilon + z * ratio, np.full_like(z, -2 * epsilon * ratio))  # of 1 / g
    return np.asarray(height / np.maximum(y * y + height * height, np.finfo(np.float64).tiny) / np.pi)


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


def _complex_root(b: Matrix, c: Matrix, d: Matrix) -> tuple[Matrix, Matrix]:
    """Real and imaginary part of a complex root of each x³ + b x² + c x + d by Cardano's formula; 0 if all are real.

    Near a double root rounding makes an imaginary part of its square root, which counts as zero.
    """
    p, q = c - b * b / 3, b * (2 * b * b / 27 - c / 3) + d
    discriminant = q * q / 4 + p**3 / 27
    u = np.cbrt(-q / 2 - np.copysign(np.sqrt(np.maximum(discriminant, 0)), q))  # no difference of near equals
    v = -p / 3 / np.where(u == 0, 1, u)
    height = np.sqrt(3) / 2 * np.abs(u - v)
    complex_ = (discriminant > 0) & (height > 1e-7 * (np.abs(u) + np.abs(v) + np.abs(b)))
    return -(u + v) / 2 - b / 3, np.where(complex_, height, 0.0)
