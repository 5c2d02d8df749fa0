r"""Diagonal and trace of a symmetric operator from one sketch of it, each test vector left out in turn.

With random signs :math:`\Omega = (\omega_1, \dots, \omega_m)` and their sketch :math:`Y = A \Omega = Q R`, m samples of
the diagonal and of the trace are

.. math:: d_i = \mathrm{diag}(Q_{(i)} Q_{(i)}^\top A) + \omega_i \circ (I - Q_{(i)} Q_{(i)}^\top) A\, \omega_i, \qquad
          t_i = \mathrm{tr}(Q_{(i)}^\top A\, Q_{(i)}) + \mu_i^\top A\, \mu_i, \quad
          \mu_i = (I - Q_{(i)} Q_{(i)}^\top)\, \omega_i

with :math:`Q_{(i)}` a basis of the sketch without :math:`\omega_i`. It is known from R,

.. math:: Q_{(i)} Q_{(i)}^\top = Q (I - s_i s_i^\top) Q^\top, \qquad s_i \propto R^{-\top} e_i, \quad |s_i| = 1,

so that products with A and with Q are all it takes. The mean is the estimate, and how far samples lie apart its
standard error: they share a basis, and on a flat spectrum lie less far apart than they are wrong, by up to a half.
Where the sketch spans all that A does, both are exact.

Source: Epperly, Tropp and Webber 2024, "XTrace: Making the Most of Every Sample in Stochastic Trace Estimation".
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from theodolite.errors import SettingError
from theodolite.measure.linalg.allocation import check_fits
from theodolite.measure.linalg.operator import Progress, Silent, SymmetricOperator
from theodolite.measure.linalg.products import multiply, signs

COPIES = 6  # of the sketch: signs, products, Q, Z, the samples, and what QR takes


@dataclass(frozen=True, slots=True)
class DiagonalEstimate:
    """The diagonal, each entry with how sure it is."""

    diagonal: Tensor  # (P,) float64
    standard_error: Tensor  # (P,) float64; zero where nothing was left to chance
    method: Literal["exact", "xdiag"]


@dataclass(frozen=True, slots=True)
class Sketch:
    """What products of A with random signs say, and of A with the basis of those; rows are vectors."""

    omega: Tensor  # (m, P)
    Q: Tensor  # (m, P)
    R: Tensor  # (m, m), of Yᵀ = Q R
    Z: Tensor  # (m, P), A times each of Q
    left_out: Tensor | None  # (m, m), rows s_i; None where the sketch spans all that A does

    def diagonals(self) -> Tensor:
        """Samples ``(m, P)``, or the one ``(1, P)`` that is exact."""
        known = (self.Q * self.Z).sum(0)
        if self.left_out is None:
            return known[None]
        S, along = self.left_out, (self.left_out * self.R.mT).sum(1)  # s_i · R e_i
        QS, ZS = S @ self.Q, S @ self.Z
        return known - QS * ZS + self.omega * QS * along[:, None]

    def traces(self) -> Tensor:
        """Samples ``(m,)``, or the one that is exact."""
        H = self.Q @ self.Z.mT
        if self.left_out is None:
            return H.trace()[None]
        S, W = self.left_out, self.omega @ self.Q.mT  # rows Qᵀ ω_i
        kept = W - S * (S * W).sum(1, keepdim=True)
        mu = self.omega - kept @ self.Q
        Y = self.R.mT @ self.Q
        return H.trace() - ((S @ H) * S).sum(1) + (mu * (Y - kept @ self.Z)).sum(1)


def sketch(A: SymmetricOperator, omega: Tensor, Y: Tensor, progress: Progress) -> Sketch | None:
    """Go on from signs ``(m, P)`` and the products with them, by m products more; None where the user ended it."""
    decomposed = torch.linalg.qr(Y.mT)
    Q, R = decomposed.Q.mT, decomposed.R
    Z = multiply(A, Q, progress)
    if len(Z) < len(Q):
        return None
    inverse = inverse_factor(R, torch.finfo(A.dtype).eps ** 0.5)  # whose rows are R^-T's columns
    if inverse is None or len(R) == 1:
        return Sketch(omega, Q, R, Z, None)
    return Sketch(omega, Q, R, Z, inverse / inverse.norm(dim=1, keepdim=True))


def inverse_factor(R: Tensor, rounding: float) -> Tensor | None:
    """The inverse of a sketch's triangular factor; None where one of its rows lies in the span of others."""
    if not bool((R.diagonal().abs() > rounding * R.abs().max()).all()):
        return None
    inverse: Tensor = torch.linalg.solve_triangular(R, torch.eye(len(R)).to(R), upper=True)
    return inverse


def diagonal(
    A: SymmetricOperator,
    *,
    products: int = 60,
    random: torch.Generator,
    memory: float = math.inf,
    progress: Progress | None = None,
) -> DiagonalEstimate:
    """Estimate the diagonal: exactly, by unit vectors, where P products are enough; else by XDiag.

    Args:
        A: the matrix.
        products: how many to spend, at least 6.
        random: draws signs.
        memory: bytes for vectors.
        progress: is told of products, and may end the estimate.

    Raises:
        SettingError: too few products.
        TooLarge: the vectors do not fit the memory.
        KeyboardInterrupt: before the sketch was whole.
    """
    check_products(products)
    count = min(products // 2, A.size)
    numbers = A.size * (A.size if products >= A.size else count * COPIES)
    check_fits(8 * numbers, memory, "the vectors", "fewer products")
    progress = progress or Silent()
    if products >= A.size:
        rows = multiply(A, torch.eye(A.size).to(A.device, torch.float64), progress)
        if len(rows) < A.size:
            raise KeyboardInterrupt
        return DiagonalEstimate(rows.diagonal().clone(), torch.zeros_like(rows[0]), "exact")
    omega = signs(count, A.size, random, A)
    Y = multiply(A, omega, progress)
    known = sketch(A, omega, Y, progress) if len(Y) == count else None
    if known is None:
        raise KeyboardInterrupt
    samples = known.diagonals()
    error = samples.std(0) / len(samples) ** 0.5 if len(samples) > 1 else torch.zeros_like(samples[0])
    return DiagonalEstimate(samples.mean(0), error, "xdiag")


def check_products(products: int) -> None:
    """Raise SettingError where they are too few."""
    if products < 6:
        raise SettingError(f"expected at least 6 products, got {products}. Leave it out for 60.")
