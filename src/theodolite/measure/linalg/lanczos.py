"""A Krylov basis by Lanczos' iteration with partial reorthogonalisation, for eigenpairs.

Source: Simon 1984, "The Lanczos algorithm with partial reorthogonalization".
"""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from theodolite.measure.linalg.allocation import empty_rows
from theodolite.measure.linalg.operator import SymmetricOperator
from theodolite.measure.linalg.streamed import dots, fill_normal, lengths

INVARIANT = {torch.float64: 1e-11, torch.float32: 1e-6}  # share of a product outside the basis that is rounding only
COMBINED_COLUMNS = 2**16  # of rows that are combined at once
LEAST_REMAINDER = 0.1  # of a start whose product is known, outside the basis: below, the product cancels to rounding

Numbers = npt.NDArray[np.float64]
Start = tuple[Tensor, Tensor]  # a random direction (P,), and the product with it, which is known already


@dataclass(frozen=True, slots=True)
class Chain:
    """What Lanczos' steps from one direction say of a matrix ``(size, size)``."""

    projection: Tensor  # (m, m) float64 on the CPU, the matrix on the m rows of the chain
    coupling: float  # with the row to come
    size: int


@dataclass(slots=True)
class KrylovBasis:
    """Orthonormal rows q_1 … q_m, the projection of the matrix on them, and where it goes next.

    A product is made orthogonal to the rows that the matrix couples it with: the last two, and those a chain ended
    in. Rounding then grows along what has converged, until eigenvalues come up again as ghosts (Paige 1972). So inner
    products of rows are estimated, and where one would exceed ``max_overlap`` that product and the next are made
    orthogonal to all rows (Simon 1984). A full pass reads the whole basis twice, which late on costs half a product
    of a small model. What comes after a restart, or in a space that is nearly exhausted, is made orthogonal to all
    rows always. Rows are as precise as products are: more digits would cost twice the memory, to resolve the
    products' own rounding. What is computed from them is float64.
    """

    operator: SymmetricOperator
    rows: Tensor  # (capacity, P), in the precision of products; the first ``size`` are in use
    products: Tensor | None  # (capacity, P), the products with them; None where memory is short
    projection: Tensor  # (capacity + 1, capacity + 1) float64 on the CPU, QᵀHQ, with the next row's coupling
    overlaps: Numbers  # of the same shape, estimates of QQᵀ
    max_overlap: float  # what an estimate may be: residuals differ by as much, relative to the largest eigenvalue
    size: int
    next_row: Tensor  # (P,) of length one
    next_product: Tensor | None  # (P,) the product with it, if it is known already
    coupling: float  # length of the last product's part outside the basis: 0 at an invariant subspace
    random: torch.Generator
    starts: list[Start]  # random directions that were multiplied already, the last to be taken first
    full_reorthogonalization: bool  # products are made orthogonal to all rows at every step
    chain_ends: list[slice]  # rows that may be coupled with all after them, for their own product led elsewhere
    longest_product: float = 0.0
    product_rounding: float = 0.0  # as far as it was seen
    reorthogonalize_next: bool = False  # the last product was made orthogonal to all rows, so the next is as well

    @property
    def rounding(self) -> float:
        """Of one operation, relative."""
        return torch.finfo(self.rows.dtype).eps

    @property
    def _chain_begin(self) -> int:
        """The first row of the chain that is grown."""
        return self.chain_ends[-1].stop if self.chain_ends else 0

    def grow(self) -> int:
        """Add one row; the products it took: none where the row's is known."""
        product, taken = self._append_next_row()
        product = self._subtract_coupled_rows(product)
        self.coupling = float(product.norm())
        length = math.hypot(float(self.projection[self.size - 1, : self.size].norm()), self.coupling)
        self.longest_product = max(self.longest_product, length)
        if self.coupling < self.max_overlap**0.5 * self.longest_product:  # rounding would grow faster than is estimated
            self.reorthogonalize()
        product, overlaps = self._subtract_drift(product)
        if self.coupling <= INVARIANT[product.dtype] * length or self.size == len(product):
            self.coupling = 0.0
            self.restart()
        else:
            self.next_row = product / self.coupling
            self._couple_next_row(self.coupling, overlaps)
        return taken

    def _append_next_row(self) -> tuple[Tensor, int]:
        """The product with the row that was added, and how many products it took."""
        j = self.size
        self.rows[j] = self.next_row
        self.next_row = self.rows[j]  # one vector less while a product is made
        self.size = j + 1
        taken = int(self.next_product is None)
        product = self.operator.rows(self.next_row[None])[0] if self.next_product is None else self.next_product
        self.next_product = None
        if self.products is not None:
            self.products[j] = product
        return product, taken

    def _subtract_coupled_rows(self, product: Tensor) -> Tensor:
        """The part of Hq_j beside q_j, q_{j-1} and the rows where chains ended; its parts go into the projection."""
        j = self.size - 1
        product, parts = subtract(product, self.rows[max(self._chain_begin, j - 1) : self.size])
        if len(parts) == 2:  # both are q_jᵀ H q_{j-1}, but for rounding
            self.product_rounding = max(self.product_rounding, abs(float(parts[0]) - float(self.projection[j, j - 1])))
        self.projection[j, j] = parts[-1]
        for rows in self.chain_ends:
            product, parts = subtract(product, self.rows[rows])
            self.projection[j, rows] = self.projection[rows, j] = parts.to(self.projection)
        return product

    def _subtract_drift(self, product: Tensor) -> tuple[Tensor, Numbers]:
        """The product, orthogonal to all rows where it has to be, and its estimated overlaps with them."""
        overlaps = np.zeros(self.size) if self.full_reorthogonalization else self._estimated_overlaps()
        drifted = self.full_reorthogonalization or bool(np.abs(overlaps).max() > self.max_overlap)
        if drifted or self.reorthogonalize_next:
            product = orthogonal_part(product, self.rows[: self.size])
            self.coupling, overlaps = float(product.norm()), np.full(self.size, self.rounding)
        self.reorthogonalize_next = drifted and not self.reorthogonalize_next
        return product, overlaps

    def _estimated_overlaps(self) -> Numbers:
        """Estimates ``(size,)`` of the next row's inner products with all, by Simon's recurrence.

        q_kᵀ (H q_j) = (H q_k)ᵀ q_j, with both products as the projection has them, but for rounding. That of a deep
        model's products may be a thousand times the type's own, so it is taken as large as it was seen to be.
        """
        own, known = (matrix[: self.size, : self.size] for matrix in (self.projection.numpy(), self.overlaps))
        rounding = max(self.rounding * self.longest_product, self.product_rounding)
        drift: Numbers = own @ known[-1] - known @ own[-1]
        drift += np.copysign(rounding, drift)
        for rows in (slice(-2, None), *self.chain_ends):
            drift[rows] = rounding  # orthogonal just now
        drift /= max(self.coupling, sys.float_info.min)
        return drift

    def _couple_next_row(self, coupling: float, overlaps: Numbers | float) -> None:
        """Note how the row to come is coupled with the last and lies to all."""
        j = self.size
        self.projection[j, j - 1 : j] = self.projection[j - 1 : j, j] = coupling
        self.overlaps[j, :j] = self.overlaps[:j, j] = overlaps
        self.overlaps[j, j] = 1.0

    def restart(self, direction: Tensor | None = None) -> None:
        """Go on in another direction, or a random one, which finds what the first start could not."""
        product = None
        if direction is None and self.starts:
            direction, product = self.starts.pop()
            direction, product = direction / direction.norm(), product / direction.norm()
        elif direction is None:
            direction = random_row(self.rows.shape[1], self.random, self.rows)
        if self.products is None:
            product = None  # what the part along the basis adds to it is not kept
        known = self.rows[: self.size]
        for _ in range(2):
            parts = known @ direction
            direction = direction - parts @ known
            length = direction.norm().clamp(min=torch.finfo(direction.dtype).tiny)
            direction = direction / length
            if product is not None and float(length) < LEAST_REMAINDER:
                self.restart()
                return
            if product is not None and self.products is not None:
                product = (product - parts @ self.products[: self.size]) / length
        self.next_row, self.next_product = direction, product
        if self.size > self._chain_begin:
            adjacent = bool(self.chain_ends) and self._chain_begin == self.size - 1  # this chain had one row alone
            begin = self.chain_ends.pop().start if adjacent else self.size - 1
            self.chain_ends.append(slice(begin, self.size))
        self._couple_next_row(0.0, self.rounding)

    def ritz(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ritz values ascending ``(m,)``, their vectors in the basis ``(m, m)`` as columns, and residuals ``(m,)``."""
        values, vectors = torch.linalg.eigh(self.projection[: self.size, : self.size])
        return values, vectors, self.coupling * vectors[-1].abs()

    def pairs(self, inner: Tensor) -> tuple[Tensor, Tensor, int]:
        """Vectors ``(k, P)`` of length one for columns ``(m, k)`` in the basis, H times them, and the products it took.

        None where the products with the basis are kept: those of combinations are combinations of them, exactly.
        """
        inner = inner.mT.to(self.rows)
        vectors = inner @ self.rows[: self.size]
        length = lengths(vectors).to(vectors)[:, None]
        vectors /= length
        if self.products is None:
            return vectors, self.operator.rows(vectors), len(vectors)
        return vectors, (inner @ self.products[: self.size]).div_(length), 0

    def chain(self, begin: int) -> Chain:
        """What the rows from one on say, which go on from each other."""
        here = slice(begin, self.size)
        return Chain(self.projection[here, here], self.coupling, self.rows.shape[1])

    def passing_chain(self) -> Iterator[Chain]:
        """Steps from a random direction beside the rows, a product each, of which two rows are kept, in free places."""
        known, size = self.rows[: self.size], self.rows.shape[1]
        before, now = self.rows[self.size : self.size + 2]
        now.copy_(orthogonal_part(fill_normal(now, self.random), known))
        now /= lengths(now).to(now)
        diagonal, couplings = list[float](), list[float]()
        while True:
            product = self.operator.rows(now[None])[0]
            diagonal.append(float(dots(product, now)))
            product = torch.sub(product, now, alpha=diagonal[-1])
            if couplings:
                product.sub_(before, alpha=couplings[-1])
            product = orthogonal_part(product, known)
            couplings.append(float(lengths(product)))
            beside = torch.tensor(couplings[:-1], dtype=torch.float64)
            own = torch.tensor(diagonal, dtype=torch.float64).diag() + beside.diag(1) + beside.diag(-1)
            yield Chain(own, couplings[-1], size)
            before, now = now, before
            torch.div(product, couplings[-1] or 1.0, out=now)

    def thick_restart(self, keep: Tensor) -> None:
        """Restart from Ritz vectors, columns of ``keep`` ``(m, r)``: the thick restart of Wu and Simon (2000)."""
        self._combine(keep.mT)
        projection = keep.mT @ self.projection[: self.size, : self.size] @ keep
        self.size = kept = keep.shape[1]
        self.projection.zero_()
        self.projection[:kept, :kept] = projection
        self.chain_ends = [slice(0, kept)]

    def reorthogonalize(self) -> None:
        """Make the rows orthogonal to rounding, and from now on every product to all of them.

        With L the Cholesky factor of QQᵀ, L⁻¹Q is orthonormal, and HQᵀ = QᵀT + β q eᵀ makes LᵀTL⁻ᵀ its projection.
        """
        if self.full_reorthogonalization:
            return
        self.full_reorthogonalization = True
        known = self.rows[: self.size]
        lower = torch.linalg.cholesky((known @ known.mT).to(self.projection))
        inverse = torch.linalg.solve_triangular(lower, torch.eye(self.size, dtype=lower.dtype), upper=False)
        self._combine(inverse)
        projection = lower.mT @ self.projection[: self.size, : self.size] @ inverse.mT
        self.projection[: self.size, : self.size] = (projection + projection.mT) / 2
        if self.next_product is None:
            rest = orthogonal_part(self.next_row, known)
            self.next_row = rest / rest.norm()

    def _combine(self, parts: Tensor) -> None:
        """Put combinations ``(r, m)`` of rows in their place, some columns at a time: no second basis."""
        for rows in (self.rows, self.products):
            for some in rows[: self.size].split(COMBINED_COLUMNS, 1) if rows is not None else ():
                some[: len(parts)] = parts.to(some) @ some


def subtract(product: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The part of a vector beside a few rows, and its parts along them."""
    parts = rows @ product
    return torch.addmv(product, rows.mT, parts, alpha=-1), parts


def orthogonal_part(product: Tensor, known: Tensor) -> Tensor:
    """The part of a vector that is orthogonal to rows.

    Those that carry almost all of a product were taken out before, so one pass over all rows leaves what is orthogonal
    to rounding, where two were needed: a pass reads the whole basis twice.
    """
    for _ in range(3):
        before = float(product.norm())
        product, _ = subtract(product, known)
        if float(product.norm()) >= 0.7 * before:  # Daniel and others 1976: no cancellation, so no rounding is left
            break
    return product


def krylov_basis(
    A: SymmetricOperator,
    capacity: int,
    random: torch.Generator,
    *,
    keep_products: bool,
    starts: Sequence[Start] = (),
    max_overlap: float = 0.0,
) -> KrylovBasis:
    """An empty basis that will begin in a random direction.

    Args:
        A: the matrix.
        capacity: rows, at most.
        random: draws directions.
        keep_products: in as much memory again.
        starts: random directions that were multiplied already, to be taken before others.
        max_overlap: inner products of rows that are let be; 0: rows are orthogonal to rounding.
    """
    capacity = min(capacity, A.size)
    rows = empty_rows(capacity, A.size, A.dtype, A.device)
    projection = torch.zeros(capacity + 1, capacity + 1, dtype=torch.float64)
    kept = empty_rows(capacity, A.size, A.dtype, A.device) if keep_products else None
    waiting = list(starts)
    first, product = waiting.pop() if waiting else (random_row(A.size, random, rows), None)
    length = first.norm()
    return KrylovBasis(
        operator=A,
        rows=rows,
        products=kept,
        projection=projection,
        overlaps=np.eye(capacity + 1),
        max_overlap=min(max_overlap, torch.finfo(A.dtype).eps ** 0.5),
        full_reorthogonalization=max_overlap == 0,
        size=0,
        next_row=first / length,
        next_product=product / length if product is not None else None,
        coupling=0.0,
        random=random,
        starts=waiting,
        chain_ends=[],
    )


def random_row(size: int, random: torch.Generator, like: Tensor) -> Tensor:
    """A normal direction ``(size,)``, drawn in float64 on the CPU, of the type and on the device of a tensor."""
    return fill_normal(like.new_empty(size), random)
