"""Eigenpairs at the ends of a symmetric operator's spectrum, each with its residual.

Source: Lanczos 1950; Simon 1984, "The Lanczos algorithm with partial reorthogonalization"; Wu and Simon 2000,
"Thick-restart Lanczos method for large symmetric eigenvalue problems".
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from theodolite.errors import SettingError
from theodolite.measure.linalg.allocation import check_fits
from theodolite.measure.linalg.lanczos import Chain, KrylovBasis, Start, krylov_basis
from theodolite.measure.linalg.operator import Progress, Silent, SymmetricOperator
from theodolite.measure.linalg.streamed import dots, lengths

Which = Literal["largest", "smallest", "both"]
PROBE_STEPS = 8  # from a fresh start, at most, that look for what the first start missed
MISS_CHANCE = 0.005  # that fewer steps miss it
ESTIMATE_MARGIN = 0.9  # of the bound, for estimates of residuals: what is measured in the end differs by rounding
OVERLAP_SHARE = 0.1  # of the tolerance, for inner products of the basis: as much do they add to residuals
BASIS_BYTES = 2**29  # the basis restarts beyond this
LEAST_ROWS = 3  # of the basis beside twice the pairs wanted: with fewer a restart keeps all


@dataclass(frozen=True, slots=True)
class Eigensolution:
    """Eigenvalues at the ends of the spectrum, ascending, each with how far from exact it is."""

    eigenvalues: Tensor  # (k,) float64
    eigenvectors: Tensor  # (k, P) float64, a row each, of length one
    residuals: Tensor  # (k,) float64, |A v - λ v|
    tolerance: float  # what residuals had to reach


def eigenvalues(
    A: SymmetricOperator,
    *,
    k: int = 10,
    which: Which = "largest",
    tolerance: float = 1e-4,
    max_products: int | None = None,
    random: torch.Generator,
    starts: Sequence[Start] = (),
    memory: float = math.inf,
    progress: Progress | None = None,
) -> Eigensolution:
    """Compute eigenpairs by Lanczos' iteration with partial reorthogonalisation and thick restarts.

    One start cannot see the copies of a multiple eigenvalue, so after convergence the search goes on from a fresh
    random direction until what it finds is no further out than the tolerance.

    Where memory is short the basis has five rows for one pair, and what a fresh start finds is not kept.

    Args:
        A: the matrix.
        k: how many at each end; all if the matrix has fewer.
        which: ``"largest"``, ``"smallest"`` (the most negative), or ``"both"`` ends, then 2 k.
        tolerance: of residuals, relative to the largest absolute eigenvalue found; not below the working precision.
        max_products: give up after so many; None: 20 k + 300.
        random: draws directions.
        starts: random directions that were multiplied already, to be taken before others, the last one first.
        memory: bytes for vectors.
        progress: is told of products, and may end the search.

    Raises:
        SettingError: a number out of its range.
        TooLarge: so many vectors do not fit the memory.
    """
    check_settings(k, tolerance, max_products)
    low = min(k, A.size) if which != "largest" else 0
    high = min(k, A.size - low if which == "both" else A.size) if which != "smallest" else 0
    limit = max_products if max_products is not None else 20 * k + 300
    capacity, keep_products = _capacity(A, low + high, limit, memory)
    relative = max(tolerance, 10 * torch.finfo(A.dtype).eps)
    found = Search(
        krylov_basis(
            A, capacity, random, keep_products=keep_products, starts=starts, max_overlap=OVERLAP_SHARE * relative
        ),
        low, high, relative, limit, progress or Silent(),
    ).run()  # fmt: skip
    vectors = found.eigenvectors.double()  # the basis is gone by now
    vectors /= lengths(vectors)[:, None]
    return replace(found, eigenvectors=vectors)


def check_settings(k: int, tolerance: float, max_products: int | None) -> None:
    """Raise SettingError where a number is out of its range."""
    if k < 1 or not tolerance > 0 or (max_products is not None and max_products < 1):
        raise SettingError(
            f"expected k ≥ 1, tolerance > 0 and max_products ≥ 1, got k={k}, tolerance={tolerance}, "
            f"max_products={max_products}."
        )


def _capacity(A: SymmetricOperator, wanted: int, limit: int, memory: float) -> tuple[int, bool]:
    """Rows of the basis, and whether there is memory for their products as well.

    Beside the basis lie the pairs and their products in the end, and before that no more than as much: the direction
    that comes next, or the start of another search.
    """
    beside = 2 * wanted
    least, easy = min(2 * wanted + LEAST_ROWS, A.size), min(3 * wanted + PROBE_STEPS, A.size)
    vector = A.dtype.itemsize * A.size
    check_fits(vector * (least + beside), memory, f"{least + beside} vectors of {A.size:,} numbers", "a smaller k")
    capacity = min(max(int(BASIS_BYTES / vector) - beside, easy), max(limit, easy))
    if memory < math.inf:
        capacity = min(capacity, int(memory / vector) - beside)
    return capacity, vector * (2 * capacity + beside) <= min(memory, 2 * BASIS_BYTES)


@dataclass(slots=True)
class Search:
    """A basis that grows until the pairs at its ends have converged and a fresh start finds nothing new."""

    basis: KrylovBasis
    low: int  # pairs wanted at the lower end
    high: int  # and at the upper
    relative: float  # tolerance of residuals, of the largest absolute Ritz value
    left: int  # products that may still be made
    progress: Progress

    def run(self) -> Eigensolution:
        """Search, measure residuals, and go on in the direction of the worst until all are within the bound."""
        basis = self.basis
        for_residuals = self.low + self.high if basis.products is None else 0  # products that measuring them takes
        while True:
            self.left -= for_residuals
            self._grow()
            self.left += for_residuals
            values, inner, _ = basis.ritz()
            bound = self.relative * float(values.abs().max())
            vectors, products, taken = basis.pairs(inner[:, self._ends()])
            self._spend(taken)
            values = dots(vectors, products)
            # In place: fresh memory costs a fifth more.
            misses = products.addcmul_(values[:, None].to(products), vectors, value=-1)
            residuals = lengths(misses)
            spent = self.left <= for_residuals or basis.size == basis.rows.shape[1]
            # Estimates do not see what a fresh start cut off: one more round, in the direction of the worst miss.
            if self.progress.interrupted or (residuals <= bound).all() or spent:
                return Eigensolution(values, vectors, residuals, bound)
            worst = misses[residuals.argmax()].clone()
            del vectors, products, misses
            basis.restart(worst)

    def _grow(self) -> None:
        """Converge, then look from a fresh start for what was missed; again where the basis had to be restarted."""
        first_test, again = self.low + self.high, 0
        while (converged := self._converge(first_test, again)) is not None:
            if self._fresh_start_finds_nothing(*converged):
                return
            first_test, again = 0, 0 if self._holds_probe() else PROBE_STEPS

    def _converge(self, first_test: int, least: int) -> tuple[Tensor, float] | None:
        """Grow until residuals are estimated small: Ritz values and the bound; None where the search has to end.

        Not before ``least`` steps, in which what another start has seen is found again.

        A test costs a fifth of a product of a small model, so the next one waits for as many steps as it may take:
        residuals rarely fall to less than half in one.
        """
        basis, next_test = self.basis, first_test
        while self._may_go_on():
            if basis.size == len(basis.rows):
                self._thick_restart()
                next_test = 0
            self._spend(basis.grow())
            least -= 1
            if basis.size < next_test or least > 0:
                continue
            values, residual, bound = self._estimate()
            if residual <= bound:
                return values, bound
            next_test = basis.size + min(8, max(1, int(math.log2(residual / bound)))) if bound else 0
        return None

    def _fresh_start_finds_nothing(self, values: Tensor, bound: float) -> bool:
        """Go on from a random direction until that rules out what lies further out; False where it cannot be told."""
        basis = self.basis
        if basis.size + PROBE_STEPS > len(basis.rows):
            self._thick_restart()
        if not self._holds_probe():
            return self._passing_start_finds_nothing(values, bound)
        basis.restart()
        begin = basis.size
        while self._may_go_on() and basis.size < len(basis.rows):
            self._spend(basis.grow())
            probed = basis.size - begin >= PROBE_STEPS
            if not probed and not self._ruled_out(basis.chain(begin), values, bound):
                continue
            now, residual, bound = self._estimate()
            if residual > bound:
                continue
            if self._nothing_further_out(basis.chain(begin), now, bound):
                return True
        return False

    def _holds_probe(self) -> bool:
        """Whether the basis has a place for the steps of a fresh start, beside what a restart leaves."""
        rows, size = self.basis.rows.shape
        wanted = self.low + self.high
        return rows == size or rows >= wanted + 2 * ((rows - wanted) // 3) + PROBE_STEPS

    def _passing_start_finds_nothing(self, values: Tensor, bound: float) -> bool:
        """The same where the basis has no place for the steps; what they find is found again, by going on from one."""
        for chain in self.basis.passing_chain():
            self._spend(1)
            if self._nothing_further_out(chain, values, bound):
                return True
            if not self._may_go_on() or len(chain.projection) == PROBE_STEPS:
                break
        self.basis.restart()
        return False

    def _ruled_out(self, chain: Chain, values: Tensor, bound: float) -> bool:
        return ruled_out(chain, values, self.low, self.high, bound)

    def _nothing_further_out(self, chain: Chain, values: Tensor, bound: float) -> bool:
        seen = len(chain.projection) >= PROBE_STEPS and _nothing_new(chain, values, self.low, self.high, bound)
        return seen or self._ruled_out(chain, values, bound)

    def _may_go_on(self) -> bool:
        return self.left > 0 and not self.progress.interrupted and self.basis.size < self.basis.rows.shape[1]

    def _spend(self, products: int) -> None:
        self.left -= products
        self.progress.advance(products)

    def _estimate(self) -> tuple[Tensor, float, float]:
        """Ritz values, the largest estimated residual of those wanted, and what it may be."""
        values, _, residuals = self.basis.ritz()
        return values, float(residuals[self._ends()].max()), ESTIMATE_MARGIN * self.relative * float(values.abs().max())

    def _thick_restart(self) -> None:
        basis, low, high = self.basis, self.low, self.high
        basis.reorthogonalize()
        _, vectors, _ = basis.ritz()
        spare = (len(basis.rows) - low - high) // 3  # Ritz vectors next to the wanted ones speed up what follows
        more_low, more_high = (low + spare if low else 0), (high + spare if high else 0)
        if more_low + more_high >= basis.size:
            more_low, more_high = low, high
        basis.thick_restart(vectors[:, _ends(basis.size, more_low, more_high)])

    def _ends(self) -> Tensor:
        return _ends(self.basis.size, self.low, self.high)


def ruled_out(chain: Chain, values: Tensor, low: int, high: int, bound: float) -> bool:
    """Whether a fresh start rules out eigenvalues beyond the ends by more than the bound, but for one chance in 200.

    Of Lanczos' steps from a random direction, the polynomial p(x) = ∏ (x - θ_i) / ∏ β_i, with θ the Ritz values and β
    the couplings, has mean square 1 over the spectrum as the direction weighs it, and grows beyond its zeros. So an
    eigenvalue at x or further has a weight of at most p(x)⁻². The weight of one vector in a random direction is
    under πδ² / 2P with probability below δ: its density at zero is at most √(P / 2π) for a component.
    """
    inner, couplings = torch.linalg.eigvalsh(chain.projection), chain.projection.diagonal(1).abs()
    least = float(couplings.log().sum()) + (math.log(chain.coupling) if chain.coupling else -math.inf)
    needed = 0.5 * math.log(2 * chain.size / (math.pi * MISS_CHANCE**2))
    ends = ([values[-high] + bound - inner] if high else []) + ([inner - values[low - 1] + bound] if low else [])
    return all(bool((away > 0).all()) and float(away.log().sum()) - least >= needed for away in ends)


def _nothing_new(chain: Chain, values: Tensor, low: int, high: int, bound: float) -> bool:
    """Whether what a fresh start found lies inside the ends, or beyond them by the bound at most.

    An eigenvalue that close may take the place of the last one within the precision that was asked for. In the bulk of
    a spectrum, whose eigenvalues lie closer than that, there is always one more.

    After m steps from a random start the largest Ritz value is further from the largest eigenvalue than ε of the
    width of the spectrum with probability under 1.648 √P exp(-√ε (2 m - 1)) (Kuczyński and Woźniakowski 1992): 0.7 %
    for half the width, m = 8 and P = 26,000. So a copy that was missed shows in the upper half, and the search goes on.
    """
    inner, turned = torch.linalg.eigh(chain.projection)
    rest = chain.coupling * turned[-1].abs()
    fine = True
    if high:
        floor = float(values[-high]) + bound
        fine &= float(inner[-1]) < (floor + float(values[0])) / 2 or float(inner[-1] + rest[-1]) < floor
    if low:
        ceiling = float(values[low - 1]) - bound
        fine &= float(inner[0]) > (ceiling + float(values[-1])) / 2 or float(inner[0] - rest[0]) > ceiling
    return fine


def _ends(size: int, low: int, high: int) -> Tensor:
    return torch.cat([torch.arange(min(low, size)), torch.arange(max(size - high, min(low, size)), size)])
