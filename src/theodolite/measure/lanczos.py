"""Lanczos' iteration with full reorthogonalisation: one basis for eigenpairs and for spectral densities."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Multiply = Callable[[Tensor], Tensor]  # rows (k, P) -> rows (k, P), of a symmetric matrix


@dataclass(slots=True)
class Basis:
    """Orthonormal rows q_1 … q_m, the projection of the matrix on them, and where it goes next.

    Each product is made orthogonal to all rows, twice, so that eigenvalues do not come up again as ghosts (Paige
    1972). It costs m P multiplications a step, little beside a product. Everything is float64.
    """

    multiply: Multiply
    rows: Tensor  # (capacity, P) float64; the first ``size`` are in use
    projection: Tensor  # (capacity, capacity) float64, QᵀHQ
    size: int
    following: Tensor  # (P,) the next row, of length one
    coupling: float  # length of the last product's part outside the basis: 0 at an invariant subspace
    random: torch.Generator

    def grow(self) -> None:
        """Add one row: one product."""
        j = self.size
        self.rows[j] = self.following
        self.size = j + 1
        known = self.rows[: self.size]
        product = self.multiply(self.following[None])[0].double()
        before = float(product.norm())
        parts = known @ product
        product = product - parts @ known
        again = known @ product
        product = product - again @ known
        self.projection[j, : self.size] = self.projection[: self.size, j] = parts + again
        self.coupling = float(product.norm())
        if self.coupling <= 1e-12 * before or self.size == len(product):
            self.coupling = 0.0
            self.fresh()
        else:
            self.following = product / self.coupling

    def fresh(self) -> None:
        """Go on from a random direction orthogonal to all rows, which finds what the first start could not."""
        self.following = _random_rows(1, self.rows.shape[1], self.random, self.rows.device)[0]
        for _ in range(2):
            known = self.rows[: self.size]
            self.following = self.following - (known @ self.following) @ known
            length = float(self.following.norm())
            self.following = self.following / length if length > 0 else self.following

    def ritz(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ritz values ascending ``(m,)``, their vectors in the basis ``(m, m)`` as columns, and residuals ``(m,)``."""
        values, vectors = torch.linalg.eigh(self.projection[: self.size, : self.size])
        return values, vectors, self.coupling * vectors[-1].abs()

    def shrink(self, keep: Tensor) -> None:
        """Restart from Ritz vectors, columns of ``keep`` ``(m, r)``: the thick restart of Wu and Simon (2000)."""
        kept = keep.shape[1]
        projection = keep.mT @ self.projection[: self.size, : self.size] @ keep
        self.rows[:kept] = keep.mT @ self.rows[: self.size]
        self.projection[:kept, :kept] = projection
        self.size = kept


def start(multiply: Multiply, size: int, capacity: int, seed: int, device: torch.device) -> Basis:
    """An empty basis that will begin in a random direction."""
    random = torch.Generator().manual_seed(seed)
    capacity = min(capacity, size)
    rows = torch.zeros(capacity, size, dtype=torch.float64, device=device)
    projection = torch.zeros(capacity, capacity, dtype=torch.float64, device=device)
    first = _random_rows(1, size, random, device)[0]
    return Basis(multiply, rows, projection, 0, first / first.norm(), 0.0, random)


def _random_rows(count: int, size: int, random: torch.Generator, device: torch.device) -> Tensor:
    return torch.randn(count, size, generator=random, dtype=torch.float64).to(device)
