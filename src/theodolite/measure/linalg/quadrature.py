"""The density of a symmetric operator's eigenvalues by stochastic Lanczos quadrature, with full reorthogonalisation.

Source: Ubaru, Chen and Saad 2017, "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature".
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from theodolite.errors import SettingError
from theodolite.measure.linalg.allocation import check_fits
from theodolite.measure.linalg.lanczos import INVARIANT, orthogonal_part, random_row, subtract
from theodolite.measure.linalg.operator import Progress, Silent, SymmetricOperator

NUMBERS = 10**8  # of all densities: 800 MB
VECTORS_BESIDE = 6  # of a probe next to its basis


@dataclass(frozen=True, slots=True)
class DensityEstimate:
    """How many eigenvalues lie where, as a density that integrates to one."""

    grid: Tensor  # (G,) float64, eigenvalue
    density: Tensor  # (G,) float64, share of eigenvalues per unit of the grid
    standard_error: Tensor  # (G,) float64, of the mean over probes, same unit
    width: float  # standard deviation of the Gaussian that stands for each eigenvalue, unit of the grid
    nodes: Tensor  # (probes, steps) float64, Ritz values; NaN where a probe ended early
    weights: Tensor  # (probes, steps) float64, share of the spectrum each node stands for; rows sum to one
    mean: float  # of the eigenvalues, trace / P, from the nodes
    mean_standard_error: float


def density(
    A: SymmetricOperator,
    *,
    probes: int = 8,
    steps: int = 60,
    points: int = 1000,
    width: float | None = None,
    random: torch.Generator,
    memory: float = math.inf,
    progress: Progress | None = None,
) -> DensityEstimate:
    """Estimate the density from random directions, each with a Gauss quadrature of the spectrum.

    Args:
        A: the matrix.
        probes: directions, at least 2, so that there is a standard error.
        steps: of Lanczos' iteration, at least 2; fewer are taken where a probe has seen all it can.
        points: of the grid, which spans all nodes and five widths more.
        width: of the Gaussians; None: one per cent of the span of the nodes, at least a thousandth of the largest.
        random: draws directions.
        memory: bytes for vectors.
        progress: is told of products, and may end the estimate.

    Raises:
        SettingError: a number out of its range.
        TooLarge: the vectors of one probe do not fit the memory.
    """
    check_settings(probes, steps, points, width)
    steps = min(steps, A.size)
    probe_bytes = A.dtype.itemsize * A.size * (steps + VECTORS_BESIDE)
    check_fits(probe_bytes, memory, "the vectors of one probe", "fewer steps")
    together = max(1, int(min(memory / probe_bytes, probes)))
    nodes, weights = gauss_quadratures(
        A, probes=probes, steps=steps, together=together, random=random, progress=progress or Silent()
    )
    return _smoothed(nodes, weights, points, width)


def check_settings(probes: int, steps: int, points: int, width: float | None) -> None:
    """Raise SettingError where a number is out of its range."""
    if probes * points > NUMBERS:
        raise SettingError(
            f"expected at most {NUMBERS:,} numbers, a density of each probe, got {probes} probes with {points} points. "
            "Take fewer."
        )
    if probes < 2 or steps < 2 or points < 2 or (width is not None and not width > 0):
        raise SettingError(
            "expected at least 2 probes, steps and points and a positive width, got "
            f"probes={probes}, steps={steps}, points={points}, width={width}."
        )


def gauss_quadratures(
    A: SymmetricOperator,
    *,
    probes: int,
    steps: int,
    together: int,
    random: torch.Generator,
    progress: Progress,
) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss quadratures of the spectrum, from random directions side by side.

    Returns:
        Nodes ``(probes, steps)`` ascending and weights, zero beyond where a probe's space was exhausted. Fewer of
        both where it was interrupted.
    """
    like = torch.empty(0, dtype=A.dtype, device=A.device)
    parts: list[tuple[Tensor, Tensor]] = []
    for at in range(0, probes, together):
        count = min(together, probes - at)
        current = torch.stack([random_row(A.size, random, like) for _ in range(count)])  # the same in any company
        tridiagonal = _tridiagonal(A, current, steps, progress)
        if progress.interrupted and parts and tridiagonal.shape[1] < steps:
            break  # whole probes are better evidence than these
        nodes, vectors = torch.linalg.eigh(tridiagonal)
        weights = vectors[:, 0] ** 2
        parts.append((nodes, torch.where(weights > 1e-16, weights, 0.0)))
        if progress.interrupted:
            break
    return torch.cat([nodes for nodes, _ in parts]), torch.cat([weights for _, weights in parts])


def _tridiagonal(A: SymmetricOperator, current: Tensor, steps: int, progress: Progress) -> Tensor:
    """Lanczos' matrices ``(probes, steps, steps)`` from the rows of ``current``; smaller where it was interrupted."""
    probes, size = current.shape
    current = current / current.norm(dim=1, keepdim=True)
    rows = current.new_empty(probes, steps, size)
    diagonal, beside = current.new_zeros(2, probes, steps, dtype=torch.float64)
    for j in range(steps):
        rows[:, j] = current
        product = A.rows(current)
        progress.advance(probes)
        before = product.norm(dim=1)
        for probe in range(probes):  # one by one: a batched product copies what it multiplies by
            known = rows[probe, : j + 1]
            rest, parts = subtract(product[probe], known[-2:])
            product[probe], diagonal[probe, j] = orthogonal_part(rest, known), parts[-1]
        length = product.norm(dim=1)
        going = length > INVARIANT[product.dtype] * before  # else an invariant subspace: a zero row, which adds nothing
        beside[:, j] = torch.where(going, length, 0.0)
        current = torch.where(going[:, None], product / length[:, None].clamp(min=torch.finfo(length.dtype).tiny), 0.0)
        if progress.interrupted:
            diagonal, beside = diagonal[:, : j + 1], beside[:, : j + 1]
            break
    return torch.diag_embed(diagonal) + torch.diag_embed(beside[:, :-1], 1) + torch.diag_embed(beside[:, :-1], -1)


def _smoothed(nodes: Tensor, weights: Tensor, points: int, width: float | None) -> DensityEstimate:
    """The nodes' weights as Gaussians on a grid: the mean over probes, and its standard error."""
    probes = len(nodes)
    known = torch.where(weights > 0, nodes, torch.nan)
    low, high = float(known.nan_to_num(torch.inf).min()), float(known.nan_to_num(-torch.inf).max())
    sigma = width or max(0.01 * (high - low), 0.001 * max(high, -low)) or 1.0
    grid = torch.linspace(low - 5 * sigma, high + 5 * sigma, points, dtype=torch.float64, device=nodes.device)
    bumps = torch.exp(-0.5 * ((grid - nodes[..., None]) / sigma) ** 2) / (sigma * (2 * torch.pi) ** 0.5)
    curves = (weights[..., None] * bumps).sum(1)
    means = (weights * nodes).sum(1)
    return DensityEstimate(
        grid=grid,
        density=curves.mean(0),
        standard_error=curves.std(0) / probes**0.5,
        width=sigma,
        nodes=known,
        weights=weights,
        mean=float(means.mean()),
        mean_standard_error=float(means.std() / probes**0.5),
    )
