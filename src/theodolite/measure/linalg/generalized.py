r"""Eigenvalues of one symmetric operator against another, positive definite one.

.. math:: A v = \mu\, (B + \lambda I)\, v

Source: Knyazev 2001, "Toward the Optimal Preconditioned Eigensolver: Locally Optimal Block Preconditioned Conjugate
Gradient Method".
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, lobpcg
from torch import Tensor

from theodolite.errors import SettingError
from theodolite.measure.linalg.eigensolver import eigenvalues
from theodolite.measure.linalg.operator import SymmetricOperator

MOST_STEPS = 500
LEAST = 1e-2  # tolerance of the eigenvalue that tells whether B is positive definite


@dataclass(frozen=True, slots=True)
class GeneralizedPairs:
    """The largest eigenvalues of A against B + λ, ascending, each with how far from exact it is."""

    eigenvalues: Tensor  # (k,) float64
    eigenvectors: Tensor  # (k, P) float64, rows with v (B + λ) v = 1
    residuals: Tensor  # (k,) float64, |A v - μ (B + λ) v|
    converged: Tensor  # (k,) bool, residual within the tolerance times |A v|


def generalized_eigenvalues(
    A: SymmetricOperator,
    B: SymmetricOperator,
    *,
    k: int = 1,
    damping: float = 0.0,
    tolerance: float = 1e-4,
    random: torch.Generator,
) -> GeneralizedPairs:
    """Compute the largest eigenvalues of A against B + damping.

    Args:
        A: a symmetric matrix.
        B: one of the same size, positive semidefinite.
        k: how many, at most a fifth of P.
        damping: added to B's diagonal, at least 0.
        tolerance: of residuals, relative to the length of A v.
        random: draws the start.

    Raises:
        SettingError: sizes that differ, numbers out of their range, or a B + damping that is not positive definite.
    """
    if A.size != B.size:
        raise SettingError(f"expected two matrices of one size, got {A.size} and {B.size}. Take the same parameters.")
    if not 1 <= k <= max(1, A.size // 5) or not (math.isfinite(damping) and damping >= 0) or not tolerance > 0:
        raise SettingError(
            f"expected k from 1 to {max(1, A.size // 5)}, damping ≥ 0 and tolerance > 0, got k={k}, damping={damping}, "
            f"tolerance={tolerance}."
        )
    least = eigenvalues(B, k=1, which="smallest", tolerance=LEAST, random=random).eigenvalues
    if float(least) + damping <= 0:
        raise _indefinite()
    start = torch.randn(A.size, k, generator=random, dtype=torch.float64).numpy()
    left, right = _scipy(A, 0.0), _scipy(B, damping)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged, which residuals say
            found, vectors = lobpcg(left, start, B=right, tol=None, maxiter=MOST_STEPS, largest=True)
    except (ValueError, np.linalg.LinAlgError) as error:
        raise _indefinite() from error
    forms = np.einsum("pk,pk->k", vectors, right @ vectors)
    if not (np.isfinite(found).all() and (forms > 0).all()):
        raise _indefinite()
    order = np.argsort(found)
    values, vectors = found[order], vectors[:, order] / np.sqrt(forms[order])
    products = left @ vectors
    residuals = np.linalg.norm(products - (right @ vectors) * values, axis=0)
    bound = tolerance * np.linalg.norm(products, axis=0)
    return GeneralizedPairs(
        torch.from_numpy(values), torch.from_numpy(vectors.T.copy()), torch.from_numpy(residuals),
        torch.from_numpy(residuals <= bound),
    )  # fmt: skip


def _indefinite() -> SettingError:
    return SettingError(
        "expected a second matrix that is positive definite with its damping, got one that is not. Pass damping above "
        "the size of its most negative eigenvalue, or operator='ggn' or 'fisher' and some damping."
    )


def _scipy(A: SymmetricOperator, damping: float) -> LinearOperator:
    def columns(V: np.ndarray) -> np.ndarray:
        rows = torch.from_numpy(np.ascontiguousarray(V.reshape(A.size, -1).T)).to(A.device, A.dtype)
        return A.rows(rows).double().cpu().numpy().T + damping * V.reshape(A.size, -1)

    return LinearOperator(
        (A.size, A.size), matvec=lambda v: columns(v)[:, 0], matmat=columns, dtype=np.dtype(np.float64)
    )
