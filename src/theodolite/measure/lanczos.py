"""Lanczos' iteration with full reorthogonalisation: one basis for eigenpairs and for spectral densities."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from theodolite.measure import memory
from theodolite.measure.progress import Watch

GONE = {torch.float64: 1e-11, torch.float32: 1e-6}  # of a product, outside the basis: rounding only
LEFT = 0.1  # of a direction, outside the basis, at least, where its product is known: else that cancels to rounding
APART = 2**31  # from a seed, of which known directions were drawn, to that of the directions after them

Multiply = Callable[[Tensor], Tensor]  # rows (k, P) -> rows (k, P), of a symmetric matrix
Known = tuple[Tensor, Tensor]  # a random direction (P,), and the product with it, which is known already


@dataclass(slots=True)
class Basis:
    """Orthonormal rows q_1 … q_m, the projection of the matrix on them, and where it goes next.

    Each product is made orthogonal to all rows, so that eigenvalues do not come up again as ghosts (Paige
    1972). It costs m P multiplications a step. Rows are as precise as products are: more digits would cost twice the
    memory, and a tenth of all time, to resolve the products' own rounding. What is computed from them is float64.
    """

    multiply: Multiply
    rows: Tensor  # (capacity, P), in the precision of products; the first ``size`` are in use
    images: Tensor | None  # (capacity, P), the products with them; None where memory is short
    projection: Tensor  # (capacity, capacity) float64, QᵀHQ
    size: int
    following: Tensor  # (P,) the next row, of length one
    image: Tensor | None  # (P,) the product with it, if it is known already
    coupling: float  # length of the last product's part outside the basis: 0 at an invariant subspace
    random: torch.Generator
    fresh: list[Known]  # random directions that were multiplied already, the last to be taken first

    def grow(self) -> int:
        """Add one row; the products it took: none where the row's is known."""
        j = self.size
        self.rows[j] = self.following
        self.size = j + 1
        known = self.rows[: self.size]
        taken = int(self.image is None)
        product = self.multiply(self.following[None])[0] if self.image is None else self.image
        self.image = None
        if self.images is not None:
            self.images[j] = product
        before = float(product.norm())
        product, parts = _outside(product, known)
        self.projection[j, : self.size] = self.projection[: self.size, j] = parts.double()
        self.coupling = float(product.norm())
        if self.coupling <= GONE[product.dtype] * before or self.size == len(product):
            self.coupling = 0.0
            self.turn()
        else:
            self.following = product / self.coupling
        return taken

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
        kept = keep.shape[1]
        projection = keep.mT @ self.projection[: self.size, : self.size] @ keep
        for rows in (self.rows, self.images):
            if rows is not None:
                rows[:kept] = keep.mT.to(rows) @ rows[: self.size]
        self.projection[:kept, :kept] = projection
        self.size = kept


def _outside(product: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The part of a vector that is orthogonal to rows, and its parts along them.

    The last two rows carry almost all of a product. With them taken out first, one pass over all rows leaves what is
    orthogonal to rounding, where two were needed: a pass reads the whole basis twice, which costs as much as a product
    of a small model.
    """
    near = known[-2:]
    own = near @ product
    rest = torch.addmv(product, near.mT, own, alpha=-1)
    parts = torch.zeros(len(known), dtype=product.dtype, device=product.device)
    parts[-2:] = own
    for _ in range(3):
        before = float(rest.norm())
        again = known @ rest
        rest, parts = torch.addmv(rest, known.mT, again, alpha=-1), parts + again
        if float(rest.norm()) >= 0.7 * before:  # Daniel and others 1976: no cancellation, so no rounding is left
            break
    return rest, parts


def start(
    multiply: Multiply,
    size: int,
    capacity: int,
    seed: int,
    like: Tensor,
    *,
    images: bool,
    fresh: Sequence[Known] = (),
) -> Basis:
    """An empty basis that will begin in a random direction.

    Args:
        multiply: products with the matrix.
        size: P.
        capacity: rows, at most.
        seed: of random directions.
        like: a tensor of the type and on the device that rows will have.
        images: keep products, in as much memory again.
        fresh: random directions that were multiplied already, to be taken before others.
    """
    random = torch.Generator().manual_seed(seed + APART if fresh else seed)
    capacity = min(capacity, size)
    rows = memory.rows(capacity, size, like)
    projection = like.new_zeros(capacity, capacity, dtype=torch.float64)
    kept = memory.rows(capacity, size, like) if images else None
    waiting = list(fresh)
    first, image = waiting.pop() if waiting else (_random_row(size, random, like), None)
    length = first.norm()
    return Basis(
        multiply=multiply,
        rows=rows,
        images=kept,
        projection=projection,
        size=0,
        following=first / length,
        image=image / length if image is not None else None,
        coupling=0.0,
        random=random,
        fresh=waiting,
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
            product[probe], parts = _outside(product[probe], rows[probe, : j + 1])
            diagonal[probe, j] = parts[-1]
        length = product.norm(dim=1)
        going = length > GONE[product.dtype] * before  # else the space is exhausted: a zero row, which adds nothing
        beside[:, j] = torch.where(going, length, 0.0)
        current = torch.where(going[:, None], product / length[:, None].clamp(min=torch.finfo(length.dtype).tiny), 0.0)
        if watched.interrupted:
            diagonal, beside = diagonal[:, : j + 1], beside[:, : j + 1]
            break
    return torch.diag_embed(diagonal) + torch.diag_embed(beside[:, :-1], 1) + torch.diag_embed(beside[:, :-1], -1)
