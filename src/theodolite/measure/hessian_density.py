"""Density of the Hessian's eigenvalues, estimated, for models of any size."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from theodolite.errors import SettingError, TooLarge
from theodolite.measure.curvature.autograd import Curvature
from theodolite.measure.curvature.operator import HessianOperator
from theodolite.measure.linalg.lanczos import quadrature
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.memory import Memory, halves, in_words
from theodolite.measure.problem.objective import Loss
from theodolite.measure.problem.progress import watch
from theodolite.measure.problem.validation import checked
from theodolite.measure.results.base import Result

BESIDE = 6  # vectors of a probe next to its basis


@dataclass(frozen=True, slots=True)
class Density(Result):
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
    path: str  # how products were computed
    check: float  # relative difference of a product and finite differences
    interrupted: bool = False  # by the user: fewer probes or steps than asked for


@checked
def hessian_density(
    model: nn.Module,
    loss: Loss,
    data: Data,
    *,
    probes: int = 8,
    steps: int = 60,
    points: int = 1000,
    width: float | None = None,
    operator: Curvature = "hessian",
    parameters: str | None = None,
    seed: int = 0,
    memory: Memory = None,
    engine: str = "local",
    workers: int | None = None,
    address: str | None = None,
    progress: bool | None = None,
) -> Density:
    r"""Estimate the density of the Hessian's eigenvalues by stochastic Lanczos quadrature.

    .. math:: \varphi(t) = \frac{1}{P} \sum_i \mathcal{N}(t;\, \lambda_i, \sigma^2) \approx
              \frac{1}{n} \sum_{l=1}^{n} \sum_{j=1}^{m} \omega_{lj}\, \mathcal{N}(t;\, \theta_{lj}, \sigma^2)

    From each of n random directions m steps of Lanczos' iteration with full reorthogonalisation give the nodes θ and
    weights ω of a Gauss quadrature that is exact for polynomials up to degree 2 m - 1. The standard error is that of
    the mean over probes; it does not know what the width σ smooths away, nor what m steps do not resolve.

    Args:
        model: any module, measured in the mode it is in; frozen parameters are left out.
        loss: maps (outputs, targets) to a scalar mean over samples.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches.
        probes: n, at least 2, so that there is a standard error.
        steps: m, at least 2; fewer are taken where a probe has seen all it can.
        points: of the grid, which spans all nodes and five widths more.
        width: σ; None: one per cent of the span of the nodes, at least a thousandth of the largest.
        operator: ``"hessian"`` or ``"ggn"``.
        parameters: a pattern such as ``"0.*"`` that restricts the matrix to a part of the model.
        seed: of the random directions.
        memory: what may be taken, as ``"2GB"`` or a number of bytes; None: half of what is free. Half goes to graphs,
            which are made anew for each product if they do not fit, with the same numbers.
        engine: ``"local"``; or ``"ray"``: products are summed over shards of the data on a Ray cluster, with the same
            numbers to rounding. 2 P numbers a product are sent to and from each shard.
        workers: shards; None: one a processor of the cluster (one a GPU on ``cuda``).
        address: of a running Ray cluster; None: the one that this program is on, or one of this machine.
        progress: show a bar; None: on a terminal, after a second. Ctrl-C hands back what there is by then.

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
    if probes < 2 or steps < 2 or points < 2 or (width is not None and not width > 0):
        raise SettingError(
            "expected at least 2 probes, steps and points and a positive width, got "
            f"probes={probes}, steps={steps}, points={points}, width={width}."
        )
    half = halves(memory, model)
    with HessianOperator(
        model, loss, data, operator=operator, parameters=parameters, memory=int(half),
        engine=engine, workers=workers, address=address,
    ) as H:  # fmt: skip
        like = torch.empty(0, dtype=H.dtype, device=H.device)
        one = like.element_size() * H.shape[0] * (min(steps, H.shape[0]) + BESIDE)
        if one > half:
            raise TooLarge(
                f"expected memory for the vectors of one probe, {in_words(one)}, got {in_words(half)}, the other half "
                "being for graphs. Pass more memory, or fewer steps."
            )
        with watch("density", probes * min(steps, H.shape[0]), progress) as watched:
            nodes, weights = quadrature(
                H.rows, H.shape[0], probes, steps, seed, like, watched, together=max(1, int(half / one))
            )
    probes = len(nodes)
    known = torch.where(weights > 0, nodes, torch.nan)
    low, high = float(known.nan_to_num(torch.inf).min()), float(known.nan_to_num(-torch.inf).max())
    sigma = width or max(0.01 * (high - low), 0.001 * max(high, -low)) or 1.0
    grid = torch.linspace(low - 5 * sigma, high + 5 * sigma, points, dtype=torch.float64, device=H.device)
    bumps = torch.exp(-0.5 * ((grid - nodes[..., None]) / sigma) ** 2) / (sigma * (2 * torch.pi) ** 0.5)
    curves = (weights[..., None] * bumps).sum(1)
    means = (weights * nodes).sum(1)
    return Density(
        grid=grid,
        density=curves.mean(0),
        standard_error=curves.std(0) / probes**0.5,
        width=sigma,
        nodes=known,
        weights=weights,
        mean=float(means.mean()),
        mean_standard_error=float(means.std() / probes**0.5),
        products=H.products,
        operator=operator,
        path=H.path,
        check=H.check,
        interrupted=watched.interrupted,
    )
