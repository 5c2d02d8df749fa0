r"""A matrix seen in other coordinates: preconditioned, or restricted to a subspace, or both.

.. math:: K A K^\top, \qquad K = Q\, P^{-1/2}

with a positive diagonal P and orthonormal rows Q; each may be left out.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from theodolite.errors import SettingError
from theodolite.measure.curvature.steps import steps_of
from theodolite.measure.problem.objective import Objective

DEPENDENT = 1e-6  # of a row's length, outside the rows before it: less is a row that says nothing new

Preconditioner = Tensor | Optimizer


@dataclass(frozen=True, slots=True)
class Frame:
    """The coordinates that a matrix is seen in."""

    scale: Tensor | None = None  # (P,) P^-1/2
    basis: Tensor | None = None  # (r, P), orthonormal rows

    @property
    def is_plain(self) -> bool:
        """Whether it is the matrix's own."""
        return self.scale is None and self.basis is None

    def into(self, vectors: Tensor) -> Tensor:
        """Rows ``(k, n)`` to those that the matrix multiplies ``(k, P)``: Kᵀ."""
        full = self.lift(vectors)
        return full if self.scale is None else full * self.scale

    def back(self, products: Tensor) -> Tensor:
        """Products ``(k, P)`` to rows ``(k, n)``: K."""
        scaled = products if self.scale is None else products * self.scale
        return scaled if self.basis is None else scaled @ self.basis.mT

    def lift(self, vectors: Tensor) -> Tensor:
        """Rows ``(k, n)`` as directions among all parameters ``(k, P)``: Qᵀ."""
        return vectors if self.basis is None else vectors @ self.basis.to(vectors.dtype)


def frame(whole: Objective, preconditioner: Preconditioner | None, basis: Tensor | None, like: Tensor) -> Frame:
    """The coordinates that are asked for, in precision and place of ``like`` ``(P,)``.

    Raises:
        SettingError: a preconditioner that is not positive, or of another shape; an optimizer without one; a basis of
            another shape, or whose rows depend on each other.
    """
    scale = None
    if isinstance(preconditioner, Optimizer):
        if isinstance(preconditioner, SGD):
            raise SettingError(
                "expected an optimizer that scales each parameter's gradient, as Adam or RMSprop do, got SGD. Leave "
                "preconditioner out: its matrix is the identity."
            )
        scale = steps_of(preconditioner, whole.own).diagonal
    elif preconditioner is not None:
        scale = preconditioner.detach().double()
    if scale is not None:
        if scale.shape != like.shape:
            raise SettingError(
                f"expected preconditioner as ({len(like)},), a number for each parameter measured in the model's "
                f"order, got {tuple(scale.shape)}. Of one "
                "tensor a parameter, torch.cat([t.flatten() for t in …]) makes it."
            )
        if not bool((torch.isfinite(scale) & (scale > 0)).all()):
            bad = int((~(torch.isfinite(scale) & (scale > 0))).sum())
            raise SettingError(
                f"expected preconditioner as positive numbers, got {bad} that are zero, negative or not finite. Add a "
                "small number, as optimizers add eps."
            )
        scale = scale.rsqrt().to(like)
    return Frame(scale, None if basis is None else _orthonormal(basis, len(like)).to(like))


def _orthonormal(basis: Tensor, size: int) -> Tensor:
    """Rows that span what these do."""
    rows = basis.detach().double()
    if rows.ndim != 2 or rows.shape[1] != size or not 1 <= len(rows) <= size:
        raise SettingError(
            f"expected basis as rows (r, {size}), each a direction among all parameters measured, got "
            f"{tuple(basis.shape)}. basis[None] makes a row of one vector."
        )
    if not bool(torch.isfinite(rows).all()):
        raise SettingError("expected basis as finite numbers, got NaN or infinity. Leave such rows out.")
    Q: Tensor
    Q, R = torch.linalg.qr(rows.mT)
    if bool((R.diagonal().abs() <= DEPENDENT * rows.norm(dim=1)).any()):
        raise SettingError(
            "expected rows of basis that are independent, got one that the others span, or zero. Leave it out."
        )
    return Q.mT
