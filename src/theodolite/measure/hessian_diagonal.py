"""Diagonal of the Hessian, exact or estimated."""

from dataclasses import dataclass
from typing import Literal, Unpack

import torch
from torch import Tensor, nn

from theodolite.measure.curvature.kinds import Curvature
from theodolite.measure.curvature.operator import operator_and_room
from theodolite.measure.curvature.options import ProductOptions
from theodolite.measure.linalg import sketch
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.objective import Loss
from theodolite.measure.problem.options import with_options
from theodolite.measure.problem.progress import watch
from theodolite.measure.problem.validation import checked
from theodolite.measure.results.base import Result
from theodolite.streams import named_seed


@dataclass(frozen=True, slots=True)
class Diagonal(Result, kind="diagonal"):
    """The curvature along each parameter by itself, and how sure it is."""

    diagonal: Tensor  # (P,) float64, loss per squared parameter, in the model's order
    standard_error: Tensor  # (P,) float64; zero where nothing was left to chance
    method: Literal["exact", "xdiag"]
    products: int  # products with the matrix it took
    operator: Curvature
    backend: str  # how products were computed
    check_error: float  # relative difference of a product and finite differences


@checked
@with_options(ProductOptions)
def hessian_diagonal(
    model: nn.Module,
    loss: Loss,
    data: Data,
    *,
    products: int = 60,
    seed: int = 0,
    **options: Unpack[ProductOptions],
) -> Diagonal:
    r"""Compute the diagonal of the Hessian: exactly where P products are enough, else by XDiag.

    .. math:: \mathrm{diag}(H)_j = \frac{\partial^2 L}{\partial \theta_j^2}

    XDiag spends half of the products on a sketch of the matrix and half on its basis, and takes each vector of the
    sketch for a sample of what the others leave (:mod:`~theodolite.measure.linalg.sketch`): exact where the matrix has
    fewer eigenvalues than the sketch has vectors, and many times surer than random signs where it nearly has.

    Args:
        model: any module, measured in the mode it is in; frozen parameters are left out.
        loss: maps (outputs, targets) to a scalar mean over samples.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches.
        products: how many products with the matrix to spend, at least 6; with P or more the diagonal is exact.
        seed: of the random signs.

    Raises:
        SettingError: too few products.
        TooLarge: the vectors do not fit the memory.
        KeyboardInterrupt: before the sketch was whole.
        MeasurementError: as :class:`~theodolite.measure.curvature.operator.HessianOperator`.

    Source: Epperly, Tropp and Webber 2024, "XTrace: Making the Most of Every Sample in Stochastic Trace Estimation".

    Example:
        >>> model = nn.Linear(2, 1, bias=False).double()
        >>> data = torch.diag(torch.tensor([1.0, 2.0])).double(), torch.zeros(2, 1).double()
        >>> hessian_diagonal(model, nn.MSELoss(), data).diagonal.tolist()  # L = (w₁² + 4 w₂²) / 2
        [1.0, 4.0]
    """
    sketch.check_products(products)
    with operator_and_room(model, loss, data, options, seed=seed) as (H, room):
        random = torch.Generator().manual_seed(named_seed(seed, "signs"))
        with watch("diagonal", None, options.get("progress")) as progress:
            found = sketch.diagonal(H, products=products, random=random, memory=room, progress=progress)
    return Diagonal(
        diagonal=found.diagonal,
        standard_error=found.standard_error,
        method=found.method,
        products=H.products,
        operator=H.kind,
        backend=H.backend,
        check_error=H.check_error,
    )
