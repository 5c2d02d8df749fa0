"""Extreme eigenvalues and eigenvectors of the Hessian."""

from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor, nn

from theodolite.measure.curvature.kinds import Curvature
from theodolite.measure.curvature.old_names import OldNames
from theodolite.measure.curvature.operator import operator_and_room
from theodolite.measure.curvature.options import ProductOptions
from theodolite.measure.linalg import eigensolver
from theodolite.measure.linalg.eigensolver import Which
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.objective import Loss
from theodolite.measure.problem.options import with_options
from theodolite.measure.problem.progress import watch
from theodolite.measure.problem.validation import checked
from theodolite.measure.results.base import Result
from theodolite.streams import named_seed


@dataclass(frozen=True, slots=True)
class Eigenpairs(OldNames, Result, kind="eigenpairs"):
    """Eigenvalues at the ends of the spectrum, ascending, each with how far from exact it is."""

    eigenvalues: Tensor  # (k,) float64, ascending, loss per squared parameter
    eigenvectors: Tensor  # (k, P) float64, a row each, of length one
    residuals: Tensor  # (k,) float64, |H v - λ v|: an exact eigenvalue lies within this of λ
    converged: Tensor  # (k,) bool, residual within the tolerance
    tolerance: float  # what residuals had to reach, loss per squared parameter
    products: int  # products with the matrix it took, after the operator's check
    operator: Curvature
    backend: str  # how products were computed; ``path`` is its old name
    check_error: float  # relative difference of a product and finite differences; ``check`` is its old name
    interrupted: bool = False  # by the user, before all had converged or the products were spent


@checked
@with_options(ProductOptions)
def hessian_eigenvalues(
    model: nn.Module,
    loss: Loss,
    data: Data,
    *,
    k: int = 10,
    which: Which = "largest",
    tolerance: float = 1e-4,
    max_products: int | None = None,
    seed: int = 0,
    **options: Unpack[ProductOptions],
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
        tolerance: of residuals, relative to the largest absolute eigenvalue found; not below the working precision.
        max_products: give up after so many; None: 20 k + 300. What has not converged then says so.
        seed: of the start directions.

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
    eigensolver.check_settings(k, tolerance, max_products)
    with operator_and_room(model, loss, data, options, seed=seed) as (H, room):
        random = torch.Generator().manual_seed(named_seed(seed, "restarts"))
        with watch("eigenvalues", None, options.get("progress")) as progress:
            found = eigensolver.eigenvalues(
                H, k=k, which=which, tolerance=tolerance, max_products=max_products,
                random=random, starts=H.tried, memory=room, progress=progress,
            )  # fmt: skip
    return Eigenpairs(
        eigenvalues=found.eigenvalues,
        eigenvectors=H.frame.lift(found.eigenvectors),
        residuals=found.residuals,
        converged=found.residuals <= found.tolerance,
        tolerance=found.tolerance,
        products=H.products,
        operator=H.kind,
        backend=H.backend,
        check_error=H.check_error,
        interrupted=progress.interrupted,
    )
