r"""The log-determinant of a positive definite operator, by stochastic Lanczos quadrature.

.. math:: \log\det(A + \lambda I) = \mathrm{tr}\, \log(A + \lambda I)
          \approx \frac{P}{n} \sum_{l=1}^{n} \sum_j \omega_{lj} \log(\theta_{lj} + \lambda)

Source: Ubaru, Chen and Saad 2017, "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature".
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from theodolite.errors import SettingError
from theodolite.measure.linalg.operator import Silent, SymmetricOperator
from theodolite.measure.linalg.products import multiply
from theodolite.measure.linalg.quadrature import check_settings, gauss_quadratures


@dataclass(frozen=True, slots=True)
class LogDeterminant:
    """A log-determinant, and how sure it is."""

    value: float
    standard_error: float  # over probes; zero where all eigenvalues are known
    products: int


def log_determinant(
    A: SymmetricOperator, *, damping: float = 0.0, probes: int = 16, steps: int = 60, random: torch.Generator
) -> LogDeterminant:
    """Estimate log det(A + damping); from all eigenvalues where P products are no more than the estimate takes.

    The standard error is that of the probes. What is left of the quadrature's own falls with the steps at a rate of the
    root of the condition number, which damping sets.

    Args:
        A: the matrix.
        damping: added to the diagonal, at least 0.
        probes: random directions, at least 2.
        steps: of Lanczos' iteration for each, at least 2.
        random: draws directions.

    Raises:
        SettingError: A + damping is not positive definite, or a number is out of its range.
    """
    check_settings(probes, steps, 2, None)
    if not (math.isfinite(damping) and damping >= 0):
        raise SettingError(f"expected damping of at least 0, got {damping}. Leave it out for none.")
    if probes * steps >= A.size:
        rows = multiply(A, torch.eye(A.size).to(A.device, torch.float64), Silent())
        values = torch.linalg.eigvalsh((rows + rows.mT) / 2)
        _check(values, damping, A)
        return LogDeterminant(float((values + damping).log().sum()), 0.0, A.size)
    nodes, weights = gauss_quadratures(A, probes=probes, steps=steps, together=1, random=random, progress=Silent())
    known = weights > 0
    _check(nodes[known], damping, A)
    logs = torch.where(known, (nodes + damping).clamp(min=torch.finfo(torch.float64).tiny).log(), 0.0)
    each = A.size * (weights * logs).sum(1)
    return LogDeterminant(float(each.mean()), float(each.std() / len(each) ** 0.5), probes * steps)


def _check(values: Tensor, damping: float, A: SymmetricOperator) -> None:
    rounding = A.size * torch.finfo(A.dtype).eps * float(values.abs().max())
    least = float(values.min())
    if least + damping <= rounding:
        raise SettingError(
            f"expected a positive definite matrix, got an eigenvalue of {least:.3g} with damping {damping:.3g}: it has "
            f"no log-determinant. Pass damping above {max(-least, 0.0) + rounding:.1e}, or operator='ggn' with some."
        )
