r"""Linear systems with a symmetric operator, by products alone.

.. math:: (A + \lambda I)\, x = v

Conjugate gradients where the matrix is positive definite, which every direction they take shows; minimal residuals
where damping leaves it indefinite.

Source: Hestenes and Stiefel 1952, "Methods of conjugate gradients for solving linear systems"; Paige and Saunders 1975,
"Solution of sparse indefinite systems of linear equations".
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, cg, minres
from torch import Tensor

from theodolite.errors import SettingError
from theodolite.measure.linalg.operator import SymmetricOperator

MINRES_SHARE = 1e-4  # of the tolerance: SciPy's compares with the lengths of matrix and solution, not with v's
INDEFINITE = 100  # units in the last place, of a direction's curvature beside its product's length


@dataclass(frozen=True, slots=True)
class Solution:
    """A solution, and how far from one it is."""

    solution: Tensor  # (P,) float64
    residual: float  # |v - (A + λ) x|, by a product of its own
    tolerance: float  # what the residual had to reach
    converged: bool
    method: Literal["cg", "minres"]
    products: int


class _Negative(Exception):
    """A direction along which the matrix curves down, by this much."""


class _Damped:
    """A + λ, which counts products; ``definite``: it raises where a direction shows that it is not."""

    def __init__(self, A: SymmetricOperator, damping: float) -> None:
        self._A, self._damping = A, damping
        self.products, self.definite = 0, True

    def to_scipy(self) -> LinearOperator:
        return LinearOperator((self._A.size, self._A.size), matvec=self.times, dtype=np.dtype(np.float64))

    def times(self, v: np.ndarray) -> np.ndarray:
        self.products += 1
        row = torch.from_numpy(np.ascontiguousarray(v).ravel()).to(self._A.device, self._A.dtype)
        product = self._A.rows(row[None])[0].double().cpu().numpy() + self._damping * v.ravel()
        along, length = float(v.ravel() @ product), float(np.linalg.norm(v) * np.linalg.norm(product))
        if self.definite and along < -INDEFINITE * torch.finfo(self._A.dtype).eps * length:
            raise _Negative(along / float(v.ravel() @ v.ravel()))
        return product


def solve(
    A: SymmetricOperator, v: Tensor, *, damping: float = 0.0, tolerance: float = 1e-6, max_products: int | None = None
) -> Solution:
    """Solve (A + damping) x = v.

    Args:
        A: the matrix.
        v: right-hand side ``(P,)``.
        damping: added to the diagonal, at least 0.
        tolerance: of the residual, relative to the length of v; not below the working precision.
        max_products: give up after so many; None: 1,000.

    Raises:
        SettingError: a vector of another shape or not finite; a negative damping; without damping, a matrix that is not
            positive definite.
    """
    if tuple(v.shape) != (A.size,) or not bool(torch.isfinite(v).all()):
        raise SettingError(f"expected a finite vector ({A.size},), got {tuple(v.shape)}. Solve column by column.")
    if not (math.isfinite(damping) and damping >= 0) or not tolerance > 0:
        raise SettingError(
            f"expected damping ≥ 0 and tolerance > 0, got damping={damping}, tolerance={tolerance}. Leave them out."
        )
    right = v.detach().double().cpu().numpy()
    relative = max(tolerance, 10 * torch.finfo(A.dtype).eps)
    limit = max_products or 1000
    damped = _Damped(A, damping)
    method: Literal["cg", "minres"] = "cg"
    try:
        x, _ = cg(damped.to_scipy(), right, rtol=relative / 2, maxiter=limit)
    except _Negative as found:
        if damping == 0:
            raise SettingError(
                "expected a positive definite matrix to solve with no damping, got one that curves by "
                f"{found.args[0]:.3g} along a direction: its solution is a saddle's. Pass damping above "
                f"{-found.args[0]:.3g}, or take operator='ggn' or 'fisher'."
            ) from None
        method, damped.definite = "minres", False
        x, _ = minres(damped.to_scipy(), right, rtol=MINRES_SHARE * relative, maxiter=limit)
    damped.definite = False
    residual = float(np.linalg.norm(right - damped.times(x)))
    bound = relative * float(np.linalg.norm(right))
    return Solution(torch.from_numpy(x).to(A.device), residual, bound, residual <= bound, method, damped.products)
