"""Extreme eigenvalues and eigenvectors of the Hessian."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from theodolite.errors import SettingError, TooLarge
from theodolite.measure.curvature.autograd import Curvature
from theodolite.measure.curvature.operator import HessianOperator
from theodolite.measure.linalg.lanczos import KrylovBasis, start
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.memory import Memory, halves, in_words
from theodolite.measure.problem.objective import Loss
from theodolite.measure.problem.progress import Watch, watch
from theodolite.measure.problem.validation import checked
from theodolite.measure.results.base import Result

Which = Literal["largest", "smallest", "both"]
PROBE = 8  # steps from a fresh start, at most, that look for what the first start missed
CHANCE = 0.005  # that fewer steps miss it
NEARLY = 0.9  # of the bound, for estimates of residuals: what is measured in the end differs by rounding
SKEW = 0.1  # of the tolerance, for inner products of the basis: as much do they add to residuals
BASIS_BYTES = 2**29  # the basis restarts beyond this


@dataclass(frozen=True, slots=True)
class Eigenpairs(Result):
    """Eigenvalues at the ends of the spectrum, ascending, each with how far from exact it is."""

    eigenvalues: Tensor  # (k,) float64, ascending, loss per squared parameter
    eigenvectors: Tensor  # (k, P) float64, a row each, of length one
    residuals: Tensor  # (k,) float64, |H v - λ v|: an exact eigenvalue lies within this of λ
    converged: Tensor  # (k,) bool, residual within the tolerance
    tolerance: float  # what residuals had to reach, loss per squared parameter
    products: int  # products with the matrix it took, after the operator's check
    operator: Curvature
    path: str  # how products were computed
    check: float  # relative difference of a product and finite differences
    interrupted: bool = False  # by the user, before all had converged or the products were spent


@checked
def hessian_eigenvalues(
    model: nn.Module,
    loss: Loss,
    data: Data,
    *,
    k: int = 10,
    which: Which = "largest",
    operator: Curvature = "hessian",
    tolerance: float = 1e-4,
    max_products: int | None = None,
    parameters: str | None = None,
    seed: int = 0,
    memory: Memory = None,
    engine: str = "local",
    workers: int | None = None,
    address: str | None = None,
    progress: bool | None = None,
) -> Eigenpairs:
    r"""Compute eigenpairs at the ends of the spectrum, each with its residual.

    .. math:: H v_i = \lambda_i v_i

    By Lanczos' iteration with partial reorthogonalisation and thick restarts. One start cannot see the copies of a
    multiple eigenvalue (a linear model with C outputs and squared error has each C times), so after convergence the
    search goes on from a fresh random direction until what it finds is no further out than the tolerance, eight steps
    or fewer where these rule more out with a chance of error under 1 in 200. Both starts are the directions whose
    products the operator's check has made. Residuals
    are those of the vectors returned, from the products that were made, not from the iteration's recurrence; they
    contain the rounding of the model's precision.

    Args:
        model: any module, measured in the mode it is in; frozen parameters are left out.
        loss: maps (outputs, targets) to a scalar mean over samples.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches.
        k: how many at each end; all if the model has fewer parameters.
        which: ``"largest"``, ``"smallest"`` (the most negative), or ``"both"`` ends, then 2 k.
        operator: ``"hessian"`` or ``"ggn"``.
        tolerance: of residuals, relative to the largest absolute eigenvalue found; not below the working precision.
        max_products: give up after so many; None: 20 k + 300. What has not converged then says so.
        parameters: a pattern such as ``"0.*"`` that restricts the matrix to a part of the model.
        seed: of the start directions.
        memory: what may be taken, as ``"2GB"`` or a number of bytes; None: half of what is free. Half goes to graphs,
            which are made anew for each product if they do not fit, with the same numbers.
        engine: ``"local"``; or ``"ray"``: products are summed over shards of the data on a Ray cluster, with the same
            numbers to rounding. 2 P numbers a product are sent to and from each shard.
        workers: shards; None: one a processor of the cluster (one a GPU on ``cuda``).
        address: of a running Ray cluster; None: the one that this program is on, or one of this machine.
        progress: show a bar; None: on a terminal, after a second. Ctrl-C hands back what there is by then.

    Raises:
        SettingError: a number out of its range.
        TooLarge: so many vectors do not fit the memory.
        MeasurementError: as :class:`~theodolite.measure.curvature.operator.HessianOperator`.

    Source: Lanczos 1950; Simon 1984, "The Lanczos algorithm with partial reorthogonalization"; Wu and Simon 2000,
    "Thick-restart Lanczos method for large symmetric eigenvalue problems".

    Example:
        >>> model = nn.Linear(2, 1, bias=False).double()
        >>> data = torch.diag(torch.tensor([1.0, 2.0])).double(), torch.zeros(2, 1).double()
        >>> found = hessian_eigenvalues(model, nn.MSELoss(), data, k=1)  # L = (w₁² + 4 w₂²) / 2
        >>> found.eigenvalues.round(decimals=6).tolist(), found.converged.tolist()
        ([4.0], [True])
    """
    if k < 1 or not tolerance > 0 or (max_products is not None and max_products < 1):
        raise SettingError(
            f"expected k ≥ 1, tolerance > 0 and max_products ≥ 1, got k={k}, tolerance={tolerance}, "
            f"max_products={max_products}."
        )
    half = halves(memory, model)
    with HessianOperator(
        model, loss, data, operator=operator, parameters=parameters, memory=int(half),
        engine=engine, workers=workers, address=address, seed=seed,
    ) as H:  # fmt: skip
        size = H.shape[0]
        low = min(k, size) if which != "largest" else 0
        high = min(k, size - low if which == "both" else size) if which != "smallest" else 0
        limit = max_products if max_products is not None else 20 * k + 300
        least, beside = 3 * (low + high) + PROBE, 4 * (low + high)
        wide = torch.finfo(H.dtype).bits // 8
        capacity = max(int((min(BASIS_BYTES, half) / size - 8 * beside) / wide), min(least, size))
        capacity = min(capacity, max(limit, least))
        if size * (wide * capacity + 8 * beside) > half:
            need = in_words(size * (wide * capacity + 8 * beside))
            raise TooLarge(
                f"expected memory for {capacity + beside} vectors of {size:,} numbers, {need}, got {in_words(half)}, "
                "the other half being for graphs. Pass more memory, or a smaller k."
            )
        twice = size * (2 * wide * capacity + 8 * beside) <= half
        like = torch.empty(0, dtype=H.dtype, device=H.device)
        relative = max(tolerance, 10 * torch.finfo(H.dtype).eps)
        basis = start(H.rows, size, capacity, seed, like, images=twice, fresh=H.tried, skew=SKEW * relative)
        with watch("eigenvalues", None, progress) as watched:
            rayleigh, found, residuals, bound = search(basis, low, high, relative, limit, watched)
    return Eigenpairs(
        eigenvalues=rayleigh,
        eigenvectors=found,
        residuals=residuals,
        converged=residuals <= bound,
        tolerance=bound,
        products=H.products,
        operator=operator,
        path=H.path,
        check=H.check,
        interrupted=watched.interrupted,
    )


def search(
    basis: KrylovBasis, low: int, high: int, relative: float, limit: int, watched: Watch
) -> tuple[Tensor, Tensor, Tensor, float]:
    """Grow the basis until the pairs at its ends have converged: values, rows of vectors, residuals, their bound."""
    left = limit
    while True:
        ahead = low + high if basis.images is None else 0  # products that residuals will take
        left -= _grow(basis, low, high, relative, left - ahead, watched)
        values, inner, _ = basis.ritz()
        bound = relative * float(values.abs().max())
        vectors, products, taken = basis.pairs(inner[:, _ends(basis.size, low, high)])
        watched.advance(taken)
        left -= taken
        values = torch.linalg.vecdot(vectors, products)
        misses = products.addcmul_(values[:, None], vectors, value=-1)  # in place: fresh memory costs a fifth more
        residuals = misses.norm(dim=1)
        # Estimates do not see what a fresh start cut off: one more round, in the direction of the worst miss.
        if watched.interrupted or (residuals <= bound).all() or left <= ahead or basis.size == basis.rows.shape[1]:
            return values, vectors, residuals, bound
        basis.turn(misses[residuals.argmax()].to(basis.rows))


def _grow(basis: KrylovBasis, low: int, high: int, relative: float, limit: int, watched: Watch) -> int:
    """Grow until residuals are estimated small and a fresh start finds nothing new; the products it took."""
    products, capacity = 0, len(basis.rows)
    since = None  # size of the basis when the last fresh start was taken, once all had converged
    look = low + high  # size of the basis at the next test, which costs a fifth of a product of a small model
    ends, bound = torch.zeros(0), 0.0
    while products < limit and not watched.interrupted and basis.size < basis.rows.shape[1]:
        if basis.size == capacity:
            _restart(basis, low, high)
            since, look = None, 0
        taken = basis.grow()
        products += taken
        watched.advance(taken)
        if basis.size < look and (since is None or not _ruled_out(basis, since, ends, low, high, bound)):
            continue
        values, _, residuals = basis.ritz()
        largest, bound = (
            float(residuals[_ends(basis.size, low, high)].max()),
            NEARLY * relative * float(values.abs().max()),
        )
        if largest > bound:
            if since is None:  # residuals rarely fall to less than half in one step
                look = basis.size + min(8, max(1, int(math.log2(largest / bound)))) if bound else 0
            continue
        if since is None:
            if basis.size + PROBE > capacity:
                _restart(basis, low, high)
            basis.turn()
            since, look, ends = basis.size, basis.size + PROBE, values
        elif _ruled_out(basis, since, values, low, high, bound) or (
            basis.size - since >= PROBE and _nothing_new(basis, since, values, low, high, bound)
        ):
            break
    return products


def _ruled_out(basis: KrylovBasis, since: int, values: Tensor, low: int, high: int, bound: float) -> bool:
    """Whether a fresh start rules out eigenvalues beyond the ends by more than the bound, but for one chance in 200.

    Of Lanczos' steps from a random direction, the polynomial p(x) = ∏ (x - θ_i) / ∏ β_i, with θ the Ritz values and β
    the couplings, has mean square 1 over the spectrum as the direction weighs it, and grows beyond its zeros. So an
    eigenvalue at x or further has a weight of at most p(x)⁻². The weight of one vector in a random direction is
    under πδ² / 2P with probability below δ: its density at zero is at most √(P / 2π) for a component.
    """
    own = basis.projection[since : basis.size, since : basis.size]
    inner, couplings = torch.linalg.eigvalsh(own), own.diagonal(1).abs()
    least = float(couplings.log().sum()) + (math.log(basis.coupling) if basis.coupling else -math.inf)
    needed = 0.5 * math.log(2 * basis.rows.shape[1] / (math.pi * CHANCE**2))
    ends = ([values[-high] + bound - inner] if high else []) + ([inner - values[low - 1] + bound] if low else [])
    return all(bool((away > 0).all()) and float(away.log().sum()) - least >= needed for away in ends)


def _nothing_new(basis: KrylovBasis, since: int, values: Tensor, low: int, high: int, bound: float) -> bool:
    """Whether what a fresh start found lies inside the ends, or beyond them by the bound at most.

    An eigenvalue that close may take the place of the last one within the precision that was asked for. In the bulk of
    a spectrum, whose eigenvalues lie closer than that, there is always one more.

    After m steps from a random start the largest Ritz value is further from the largest eigenvalue than ε of the
    width of the spectrum with probability under 1.648 √P exp(-√ε (2 m - 1)) (Kuczyński and Woźniakowski 1992): 0.7 %
    for half the width, m = 8 and P = 26,000. So a copy that was missed shows in the upper half, and the search goes on.
    """
    inner, turned = torch.linalg.eigh(basis.projection[since : basis.size, since : basis.size])
    rest = basis.coupling * turned[-1].abs()
    fine = True
    if high:
        floor = float(values[-high]) + bound
        fine &= float(inner[-1]) < (floor + float(values[0])) / 2 or float(inner[-1] + rest[-1]) < floor
    if low:
        ceiling = float(values[low - 1]) - bound
        fine &= float(inner[0]) > (ceiling + float(values[-1])) / 2 or float(inner[0] - rest[0]) > ceiling
    return fine


def _restart(basis: KrylovBasis, low: int, high: int) -> None:
    basis.straighten()
    _, vectors, _ = basis.ritz()
    spare = (len(basis.rows) - low - high) // 3  # Ritz vectors next to the wanted ones speed up what follows
    more_low, more_high = (low + spare if low else 0), (high + spare if high else 0)
    if more_low + more_high >= basis.size:
        more_low, more_high = low, high
    basis.shrink(vectors[:, _ends(basis.size, more_low, more_high)])


def _ends(size: int, low: int, high: int) -> Tensor:
    return torch.cat([torch.arange(min(low, size)), torch.arange(max(size - high, min(low, size)), size)])
