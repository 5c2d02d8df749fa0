"""Density of the Hessian's eigenvalues, estimated, for models of any size."""

from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor, nn

from theodolite.measure.curvature.kinds import Curvature
from theodolite.measure.curvature.old_names import OldNames
from theodolite.measure.curvature.operator import operator_and_room
from theodolite.measure.curvature.options import ProductOptions
from theodolite.measure.linalg import quadrature
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.objective import Loss
from theodolite.measure.problem.options import with_options
from theodolite.measure.problem.progress import watch
from theodolite.measure.problem.validation import checked
from theodolite.measure.results.base import Result
from theodolite.streams import named_seed


@dataclass(frozen=True, slots=True)
class Density(OldNames, Result, kind="density"):
    """How many eigenvalues lie where, as a density that integrates to one."""

    grid: Tensor  # (G,) float64, eigenvalue, loss per squared parameter
    density: Tensor  # (G,) float64, share of eigenvalues per unit of the grid
    standard_error: Tensor  # (G,) float64, of the mean over probes, same unit
    width: float  # standard deviation of the Gaussian that stands for each eigenvalue, unit of the grid
    nodes: Tensor  # (probes, steps) float64, Ritz values; NaN where a probe ended early
    weights: Tensor  # (probes, steps) float64, share of the spectrum each node stands for; rows sum to one
    mean: float  # of the eigenvalues, trace / P, from the nodes
    mean_standard_error: float
    products: int  # products with the matrix it took
    operator: Curvature
    backend: str  # how products were computed; ``path`` is its old name
    check_error: float  # relative difference of a product and finite differences; ``check`` is its old name
    interrupted: bool = False  # by the user: fewer probes or steps than asked for


@checked
@with_options(ProductOptions)
def hessian_density(
    model: nn.Module,
    loss: Loss,
    data: Data,
    *,
    probes: int = 8,
    steps: int = 60,
    points: int = 1000,
    width: float | None = None,
    seed: int = 0,
    **options: Unpack[ProductOptions],
) -> Density:
    r"""Estimate the density of the Hessian's eigenvalues by stochastic Lanczos quadrature.

    .. math:: \varphi(t) = \frac{1}{P} \sum_i \mathcal{N}(t;\, \lambda_i, \sigma^2) \approx
              \frac{1}{n} \sum_{l=1}^{n} \sum_{j=1}^{m} \omega_{lj}\, \mathcal{N}(t;\, \theta_{lj}, \sigma^2)

    From each of n random directions m steps of Lanczos' iteration with full reorthogonalisation give the nodes θ and
    weights ω of a Gauss quadrature that is exact for polynomials up to degree 2 m - 1. The standard error is that of
    the mean over probes, with n - 1 degrees of freedom; it does not know what the width σ smooths away, nor what m
    steps do not resolve.

    Args:
        model: any module, measured in the mode it is in; frozen parameters are left out.
        loss: maps (outputs, targets) to a scalar mean over samples.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches.
        probes: n, at least 2, so that there is a standard error.
        steps: m, at least 2; fewer are taken where a probe has seen all it can.
        points: of the grid, which spans all nodes and five widths more.
        width: σ; None: one per cent of the span of the nodes, at least a thousandth of the largest.
        seed: of the random directions.

    Raises:
        SettingError: a number out of its range.
        TooLarge: the vectors of one probe do not fit the memory.
        MeasurementError: as :class:`~theodolite.measure.curvature.operator.HessianOperator`.

    Source: Ubaru, Chen and Saad 2017, "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature"; Ghorbani,
    Krishnan and Xiao 2019, "An Investigation into Neural Net Optimization via Hessian Eigenvalue Density".

    Example:
        >>> model = nn.Linear(2, 1, bias=False).double()
        >>> data = torch.diag(torch.tensor([1.0, 2.0])).double(), torch.zeros(2, 1).double()
        >>> found = hessian_density(model, nn.MSELoss(), data)  # eigenvalues 1 and 4
        >>> found.nodes[0].round(decimals=6).tolist(), round(float(torch.trapezoid(found.density, found.grid)), 6)
        ([1.0, 4.0], 1.0)
    """
    quadrature.check_settings(probes, steps, points, width)
    with operator_and_room(model, loss, data, options, seed=seed) as (H, room):
        random = torch.Generator().manual_seed(named_seed(seed, "directions"))
        with watch("density", probes * min(steps, H.size), options.get("progress")) as progress:
            found = quadrature.density(
                H, probes=probes, steps=steps, points=points, width=width, random=random, memory=room, progress=progress
            )
    return Density(
        grid=found.grid,
        density=found.density,
        standard_error=found.standard_error,
        width=found.width,
        nodes=found.nodes,
        weights=found.weights,
        mean=found.mean,
        mean_standard_error=found.mean_standard_error,
        products=H.products,
        operator=H.kind,
        backend=H.backend,
        check_error=H.check_error,
        interrupted=progress.interrupted,
    )
