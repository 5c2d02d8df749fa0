"""Lanczos' iteration with partial reorthogonalisation for eigenpairs, and with full for spectral densities.

Source: Simon 1984, "The Lanczos algorithm with partial reorthogonalization".
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from theodolite.measure.problem import memory
from theodolite.measure.problem.progress import Watch

GONE = {torch.float64: 1e-11, torch.float32: 1e-6}  # of a product, outside the basis: rounding only
COLUMNS = 2**16  # of rows that are combined at once
LEFT = 0.1  # of a direction, outside the basis, at least, where its product is known: else that cancels to rounding
APART = 2**31  # from a seed, of which known directions were drawn, to that of the directions after them

Numbers = npt.NDArray[np.float64]
Multiply = Callable[[Tensor], Tensor]  # rows (k, P) -> rows (k, P), of a symmetric matrix
Known = tuple[Tensor, Tensor]  # a random direction (P,), and the product with it, which is known already


@dataclass(slots=True)
class KrylovBasis:
    """Orthonormal rows q_1 … q_m, the projection of the matrix on them, and where it goes next.

    A product is made orthogonal to the rows that the matrix couples it with: the last two, and those a chain ended in.
    Rounding then grows along what has converged, until eigenvalues come up again as ghosts (Paige 1972). So inner
    products of rows are estimated, and where one would exceed ``skew`` that product and the next are made orthogonal
    to all rows (Simon 1984). A full pass reads the whole basis twice, which late on costs half a product of a small
    model. What comes after a restart, or in a space that is nearly exhausted, is made orthogonal to all rows always.
    Rows are as precise as products are: more digits would cost twice the memory, to resolve the products' own
    rounding. What is computed from them is float64.
    """

    multiply: Multiply
    rows: Tensor  # (capacity, P), in the precision of products; the first ``size`` are in use
    images: Tensor | None  # (capacity, P), the products with them; None where memory is short
    projection: Tensor  # (capacity + 1, capacity + 1) float64 on the CPU, QᵀHQ, with the following row's coupling
    overlaps: Numbers  # of the same shape, estimates of QQᵀ
    skew: float  # what an estimate may be: residuals differ by as much, relative to the largest eigenvalue
    size: int
    following: Tensor  # (P,) the next row, of length one
    image: Tensor | None  # (P,) the product with it, if it is known already
    coupling: float  # length of the last product's part outside the basis: 0 at an invariant subspace
    random: torch.Generator
    fresh: list[Known]  # random directions that were multiplied already, the last to be taken first
    whole: bool  # products are made orthogonal to all rows at every step
    ends: list[slice]  # rows that may be coupled with all after them, for their own product led elsewhere
    scale: float = 0.0  # length of the longest product
    noise: float = 0.0  # of products, as far as it was seen
    again: bool = False  # the last product was made orthogonal to all rows, so the next is as well

    @property
    def rounding(self) -> float:
        """Of one operation, relative."""
        return torch.finfo(self.rows.dtype).eps

    @property
    def _since(self) -> int:
        """Where the chain began."""
        return self.ends[-1].stop if self.ends else 0

    def grow(self) -> int:
        """Add one row; the products it took: none where the row's is known."""
        j = self.size
        self.rows[j] = self.following
        self.size = j + 1
        taken = int(self.image is None)
        product = self.multiply(self.following[None])[0] if self.image is None else self.image
        self.image = None
        if self.images is not None:
            self.images[j] = product
        product, parts = _beside(product, self.rows[max(self._since, j - 1) : self.size])
        if len(parts) == 2:  # both are q_jᵀ H q_{j-1}, but for rounding
            self.noise = max(self.noise, abs(float(parts[0]) - float(self.projection[j, j - 1])))
        self.projection[j, j] = parts[-1]
        for rows in self.ends:
            product, parts = _beside(product, self.rows[rows])
            self.projection[j, rows] = self.projection[rows, j] = parts.to(self.projection)
        self.coupling = float(product.norm())
        inside = float(self.projection[j, : self.size].norm())
        length = math.hypot(inside, self.coupling)
        self.scale = max(self.scale, length)
        if self.coupling < self.skew**0.5 * self.scale:  # rounding would grow faster than such rows can tell
            self.straighten()
        drift = np.zeros(self.size) if self.whole else self._drift()
        drifted = self.whole or bool(np.abs(drift).max() > self.skew)
        if drifted or self.again:
            product = _outside(product, self.rows[: self.size])
            self.coupling, drift = float(product.norm()), np.full(self.size, self.rounding)
        self.again = drifted and not self.again
        if self.coupling <= GONE[product.dtype] * length or self.size == len(product):
            self.coupling = 0.0
            self.turn()
        else:
            self.following = product / self.coupling
            self._follow(self.coupling, drift)
        return taken

    def _drift(self) -> Numbers:
        """Estimates ``(size,)`` of the next row's inner products with all, by Simon's recurrence.

        q_kᵀ (H q_j) = (H q_k)ᵀ q_j, with both products as the projection has them, but for rounding. That of a deep
        model's products may be a thousand times the type's own, so it is taken as large as it was seen to be.
        """
        own, known = (matrix[: self.size, : self.size] for matrix in (self.projection.numpy(), self.overlaps))
        rounding = max(self.rounding * self.scale, self.noise)
        drift: Numbers = own @ known[-1] - known @ own[-1]
        drift += np.copysign(rounding, drift)
        for rows in (slice(-2, None), *self.ends):
            drift[rows] = rounding  # orthogonal just now
        drift /= max(self.coupling, sys.float_info.min)
        return drift

    def _follow(self, coupling: float, overlaps: Numbers | float) -> None:
        """Note how the row to come is coupled with the last and lies to all."""
        j = self.size
        self.projection[j, j - 1 : j] = self.projection[j - 1 : j, j] = coupling
        self.overlaps[j, :j] = self.overlaps[:j, j] = overlaps
        self.overlaps[j, j] = 1.0

    def turn(self, direction: Tensor | None = None) -> None:
        """Go on in another direction, or a random one, which finds what the first start could not."""
        image = None
        if direction is None and self.fresh:
            direction, image = self.fresh.pop()
            direction, image = direction / direction.norm(), image / direction.norm()
        elif direction is None:
            direction = _random_row(self.rows.shape[1], self.random, self.rows)
        if self.images is None:
            image = None  # what the part along the basis adds to it is not kept
        known = self.rows[: self.size]
        for _ in range(2):
            parts = known @ direction
            direction = direction - parts @ known
            length = direction.norm().clamp(min=torch.finfo(direction.dtype).tiny)
            direction = direction / length
            if image is not None and float(length) < LEFT:
                self.turn()
                return
            if image is not None and self.images is not None:
                image = (image - parts @ self.images[: self.size]) / length
        self.following, self.image = direction, image
        if self.size > self._since:
            joined = self.ends.pop().start if self.ends and self._since == self.size - 1 else self.size - 1
            self.ends.append(slice(joined, self.size))
        self._follow(0.0, self.rounding)

    def ritz(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ritz values ascending ``(m,)``, their vectors in the basis ``(m, m)`` as columns, and residuals ``(m,)``."""
        values, vectors = torch.linalg.eigh(self.projection[: self.size, : self.size])
        return values, vectors, self.coupling * vectors[-1].abs()

    def pairs(self, inner: Tensor) -> tuple[Tensor, Tensor, int]:
        """Vectors ``(k, P)`` of length one for columns ``(m, k)`` in the basis, H times them, and the products it took.

        None where the products with the basis are kept: those of combinations are combinations of them, exactly.
        """
        inner = inner.mT.to(self.rows)
        vectors = (inner @ self.rows[: self.size]).double()
        length = vectors.norm(dim=1, keepdim=True)
        vectors /= length
        if self.images is None:
            return vectors, self.multiply(vectors.to(self.rows)).double(), len(vectors)
        return vectors, (inner @ self.images[: self.size]).double() / length, 0

    def shrink(self, keep: Tensor) -> None:
        """Restart from Ritz vectors, columns of ``keep`` ``(m, r)``: the thick restart of Wu and Simon (2000)."""
        self._combine(keep.mT)
        projection = keep.mT @ self.projection[: self.size, : self.size] @ keep
        self.size = kept = keep.shape[1]
        self.projection.zero_()
        self.projection[:kept, :kept] = projection
        self.ends = [slice(0, kept)]

    def straighten(self) -> None:
        """Make the rows orthogonal to rounding, and from now on every product to all of them.

        With L the Cholesky factor of QQᵀ, L⁻¹Q is orthonormal, and HQᵀ = QᵀT + β q eᵀ makes LᵀTL⁻ᵀ its projection.
        """
        if self.whole:
            return
        self.whole = True
        known = self.rows[: self.size]
        lower = torch.linalg.cholesky((known @ known.mT).to(self.projection))
        inverse = torch.linalg.solve_triangular(lower, torch.eye(self.size, dtype=lower.dtype), upper=False)
        self._combine(inverse)
        projection = lower.mT @ self.projection[: self.size, : self.size] @ inverse.mT
        self.projection[: self.size, : self.size] = (projection + projection.mT) / 2
        if self.image is None:
            rest = _outside(self.following, known)
            self.following = rest / rest.norm()

    def _combine(self, parts: Tensor) -> None:
        """Put combinations ``(r, m)`` of rows in their place, some columns at a time: no second basis."""
        for rows in (self.rows, self.images):
            for some in rows[: self.size].split(COLUMNS, 1) if rows is not None else ():
                some[: len(parts)] = parts.to(some) @ some


def _beside(product: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The part of a vector beside a few rows, and its parts along them."""
    parts = rows @ product
    return torch.addmv(product, rows.mT, parts, alpha=-1), parts


def _outside(product: Tensor, known: Tensor) -> Tensor:
    """The part of a vector that is orthogonal to rows.

    Those that carry almost all of a product were taken out before, so one pass over all rows leaves what is orthogonal
    to rounding, where two were needed: a pass reads the whole basis twice.
    """
    for _ in range(3):
        before = float(product.norm())
        product, _ = _beside(product, known)
        if float(product.norm()) >= 0.7 * before:  # Daniel and others 1976: no cancellation, so no rounding is left
            break
    return product


def start(
    multiply: Multiply,
    size: int,
    capacity: int,
    seed: int,
    like: Tensor,
    *,
    images: bool,
    fresh: Sequence[Known] = (),
    skew: float = 0.0,
) -> KrylovBasis:
    """An empty basis that will begin in a random direction.

    Args:
        multiply: products with the matrix.
        size: P.
        capacity: rows, at most.
        seed: of random directions.
        like: a tensor of the type and on the device that rows will have.
        images: keep products, in as much memory again.
        fresh: random directions that were multiplied already, to be taken before others.
        skew: inner products of rows that are let be; 0: rows are orthogonal to rounding.
    """
    random = torch.Generator().manual_seed(seed + APART if fresh else seed)
    capacity = min(capacity, size)
    rows = memory.rows(capacity, size, like)
    projection = torch.zeros(capacity + 1, capacity + 1, dtype=torch.float64)
    kept = memory.rows(capacity, size, like) if images else None
    waiting = list(fresh)
    first, image = waiting.pop() if waiting else (_random_row(size, random, like), None)
    length = first.norm()
    return KrylovBasis(
        multiply=multiply,
        rows=rows,
        images=kept,
        projection=projection,
        overlaps=np.eye(capacity + 1),
        skew=min(skew, torch.finfo(like.dtype).eps ** 0.5),
        whole=skew == 0,
        size=0,
        following=first / length,
        image=image / length if image is not None else None,
        coupling=0.0,
        random=random,
        fresh=waiting,
        ends=[],
    )


def _random_row(size: int, random: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(size, generator=random, dtype=torch.float64).to(like)


def quadrature(
    multiply: Multiply,
    size: int,
    probes: int,
    steps: int,
    seed: int,
    like: Tensor,
    watched: Watch,
    *,
    together: int,
) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss quadratures of the spectrum, from random directions side by side.

    Returns:
        Nodes ``(probes, steps)`` ascending and weights, zero beyond where a probe's space was exhausted. Fewer of
        both where it was interrupted.
    """
    steps = min(steps, size)
    random = torch.Generator().manual_seed(seed)
    parts: list[tuple[Tensor, Tensor]] = []
    for at in range(0, probes, together):
        count = min(together, probes - at)
        current = torch.stack([_random_row(size, random, like) for _ in range(count)])  # the same in any company
        tridiagonal = _tridiagonal(multiply, current, steps, watched)
        if watched.interrupted and parts and tridiagonal.shape[1] < steps:
            break  # whole probes are better evidence than these
        nodes, vectors = torch.linalg.eigh(tridiagonal)
        weights = vectors[:, 0] ** 2
        parts.append((nodes, torch.where(weights > 1e-16, weights, 0.0)))
        if watched.interrupted:
            break
    return torch.cat([nodes for nodes, _ in parts]), torch.cat([weights for _, weights in parts])


def _tridiagonal(multiply: Multiply, current: Tensor, steps: int, watched: Watch) -> Tensor:
    """Lanczos' matrices ``(probes, steps, steps)`` from the rows of ``current``; smaller where it was interrupted."""
    probes, size = current.shape
    current = current / current.norm(dim=1, keepdim=True)
    rows = current.new_empty(probes, steps, size)
    diagonal, beside = current.new_zeros(2, probes, steps, dtype=torch.float64)
    for j in range(steps):
        rows[:, j] = current
        product = multiply(current)
        watched.advance(probes)
        before = product.norm(dim=1)
        for probe in range(probes):  # one by one: a batched product copies what it multiplies by
            known = rows[probe, : j + 1]
            rest, parts = _beside(product[probe], known[-2:])
            product[probe], diagonal[probe, j] = _outside(rest, known), parts[-1]
        length = product.norm(dim=1)
        going = length > GONE[product.dtype] * before  # else the space is exhausted: a zero row, which adds nothing
        beside[:, j] = torch.where(going, length, 0.0)
        current = torch.where(going[:, None], product / length[:, None].clamp(min=torch.finfo(length.dtype).tiny), 0.0)
        if watched.interrupted:
            diagonal, beside = diagonal[:, : j + 1], beside[:, : j + 1]
            break
    return torch.diag_embed(diagonal) + torch.diag_embed(beside[:, :-1], 1) + torch.diag_embed(beside[:, :-1], -1)
