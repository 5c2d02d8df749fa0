"""Spectra of the Hessian's blocks: of each layer, tensor or part of a model by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor, nn

from theodolite.measure.curvature.blocks import Block, Blocks, blocks_of
from theodolite.measure.curvature.kinds import Curvature
from theodolite.measure.curvature.operator import operator_and_room
from theodolite.measure.curvature.options import ProductOptions
from theodolite.measure.linalg import eigensolver, quadrature
from theodolite.measure.linalg.eigensolver import Eigensolution
from theodolite.measure.linalg.operator import Progress
from theodolite.measure.linalg.quadrature import DensityEstimate
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.objective import Loss
from theodolite.measure.problem.options import with_options
from theodolite.measure.problem.progress import watch
from theodolite.measure.problem.validation import checked
from theodolite.measure.results.base import Result
from theodolite.streams import named_seed


@dataclass(frozen=True, slots=True)
class HessianBlocks(Result, kind="hessian_blocks"):
    """Eigenvalues, trace and density of each block, in the order of ``sizes``."""

    sizes: Mapping[str, int]  # parameters of each of B blocks
    eigenvalues: Tensor  # (B, k) float64, the largest, ascending; NaN where a block has fewer
    residuals: Tensor  # (B, k) float64
    smallest: Tensor  # (B,) float64, the smallest eigenvalue that the density saw
    traces: Tensor  # (B,) float64, sums of all eigenvalues
    trace_standard_errors: Tensor  # (B,) float64, over probes
    grid: Tensor  # (B, G) float64, eigenvalue
    density: Tensor  # (B, G) float64, share of the block's eigenvalues per unit of the grid
    standard_error: Tensor  # (B, G) float64, of the density, over probes
    products: int  # products with the matrix it took
    operator: Curvature
    backend: str  # how products were computed
    check_error: float  # relative difference of a product and finite differences
    interrupted: bool = False  # by the user: fewer products than asked for


@checked
@with_options(ProductOptions)
def hessian_blocks(
    model: nn.Module,
    loss: Loss,
    data: Data,
    *,
    blocks: Blocks = "layer",
    k: int = 1,
    probes: int = 4,
    steps: int = 30,
    points: int = 200,
    seed: int = 0,
    **options: Unpack[ProductOptions],
) -> HessianBlocks:
    r"""Measure each block on the Hessian's diagonal: its largest eigenvalues, its trace and its density.

    .. math:: H_{bb} = \frac{\partial^2 L}{\partial \theta_b\, \partial \theta_b^\top}

    All blocks share one operator: one pass over the data, one check, graphs that are kept once. A product with a block
    costs as much as one with the whole matrix.

    Args:
        model: any module, measured in the mode it is in; frozen parameters are left out.
        loss: maps (outputs, targets) to a scalar mean over samples.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches.
        blocks: ``"layer"``, the parameters of one module each; ``"tensor"``, one parameter tensor each; or patterns
            such as ``["encoder.*", "head.*"]``, of which each parameter matches one.
        k: how many of the largest eigenvalues.
        probes: random directions for the density and the trace, at least 2.
        steps: of Lanczos' iteration for each, at least 2.
        points: of each block's grid.
        seed: of the random directions.

    Raises:
        SettingError: blocks that overlap, leave a parameter out or match none; a number out of its range.
        TooLarge: so many vectors do not fit the memory.
        MeasurementError: as :class:`~theodolite.measure.curvature.operator.HessianOperator`.

    Source: Zhang et al. 2024, "Why Transformers Need Adam: A Hessian Perspective".

    Example:
        >>> model = nn.Linear(2, 1).double()
        >>> data = torch.diag(torch.tensor([1.0, 2.0])).double(), torch.zeros(2, 1).double()
        >>> found = hessian_blocks(model, nn.MSELoss(), data, blocks="tensor")
        >>> dict(found.sizes), found.eigenvalues.flatten().round(decimals=6).tolist()
        ({'weight': 2, 'bias': 1}, [4.0, 2.0])
    """
    eigensolver.check_settings(k, 1.0, None)
    quadrature.check_settings(probes, steps, points, None)
    random = torch.Generator().manual_seed(named_seed(seed, "blocks"))
    tops: list[Eigensolution] = []
    spreads: list[DensityEstimate] = []
    with operator_and_room(model, loss, data, options, seed=seed) as (H, room):
        parts = blocks_of(H, blocks)
        with watch("blocks", None, options.get("progress")) as progress:
            for part in parts.values():
                tops.append(eigensolver.eigenvalues(part, k=k, random=random, memory=room, progress=progress))
                spreads.append(_density(part, probes, steps, points, random, room, progress))
                if progress.interrupted:
                    break
    parts = dict(list(parts.items())[: len(tops)])
    sizes = torch.tensor([part.size for part in parts.values()], dtype=torch.float64, device=H.device)
    return HessianBlocks(
        sizes={name: part.size for name, part in parts.items()},
        eigenvalues=torch.stack([_padded(top.eigenvalues, k) for top in tops]),
        residuals=torch.stack([_padded(top.residuals, k) for top in tops]),
        smallest=torch.stack([each.nodes.nan_to_num(torch.inf).min() for each in spreads]),
        traces=sizes * torch.tensor([each.mean for each in spreads]).to(sizes),
        trace_standard_errors=sizes * torch.tensor([each.mean_standard_error for each in spreads]).to(sizes),
        grid=torch.stack([each.grid for each in spreads]),
        density=torch.stack([each.density for each in spreads]),
        standard_error=torch.stack([each.standard_error for each in spreads]),
        products=H.products,
        operator=H.kind,
        backend=H.backend,
        check_error=H.check_error,
        interrupted=progress.interrupted,
    )


def _density(
    part: Block, probes: int, steps: int, points: int, random: torch.Generator, room: float, progress: Progress
) -> DensityEstimate:
    return quadrature.density(
        part, probes=probes, steps=steps, points=points, random=random, memory=room, progress=progress
    )


def _padded(values: Tensor, k: int) -> Tensor:
    """The largest last, as in a block that has k."""
    return torch.cat([values.new_full((k - len(values),), torch.nan), values])
