"""Trace of the Hessian, estimated."""

from dataclasses import dataclass
from typing import Literal, Unpack

import torch
from torch import nn

from theodolite.errors import SettingError
from theodolite.measure.curvature.kinds import Curvature
from theodolite.measure.curvature.layer_trace import by_layers
from theodolite.measure.curvature.old_names import OldNames
from theodolite.measure.curvature.operator import operator_and_room
from theodolite.measure.curvature.options import ProductOptions
from theodolite.measure.linalg import trace as estimator
from theodolite.measure.linalg.sketch import check_products
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.objective import Loss
from theodolite.measure.problem.options import with_options
from theodolite.measure.problem.progress import watch
from theodolite.measure.problem.validation import checked
from theodolite.measure.results.base import Result
from theodolite.streams import named_seed

Method = Literal["layer by layer", "xtrace", "hutch++", "hutchinson"]


@dataclass(frozen=True, slots=True)
class Trace(OldNames, Result, kind="trace"):
    """The sum of all eigenvalues, and how sure it is."""

    value: float  # loss per squared parameter
    standard_error: float  # of the random part; zero where nothing was left to chance
    method: Method
    products: int  # products with the matrix it took
    parameters: int  # P: value / P is the mean eigenvalue
    operator: Curvature
    backend: str  # how products were computed; ``path`` is its old name
    check_error: float  # relative difference of a product and finite differences; ``check`` is its old name
    interrupted: bool = False  # by the user: fewer products than asked for


@checked
@with_options(ProductOptions)
def hessian_trace(
    model: nn.Module,
    loss: Loss,
    data: Data,
    *,
    method: Method | None = None,
    products: int = 60,
    seed: int = 0,
    **options: Unpack[ProductOptions],
) -> Trace:
    r"""Estimate the trace of the Hessian.

    .. math:: \mathrm{tr}\, H = \mathbb{E}\, g^\top H g \quad\text{(Hutchinson)}, \qquad
              \mathrm{tr}\, H = \mathrm{tr}\, Q^\top H Q + \mathbb{E}\, g^\top (I - QQ^\top) H (I - QQ^\top) g
              \quad\text{(Hutch++)}

    with g of random signs and Q a basis of H times a third as many random vectors: the few large eigenvalues are
    summed exactly, and only the rest is sampled. XTrace takes half as many vectors for Q, and each of them for a sample
    of what the others leave (:mod:`~theodolite.measure.linalg.sketch`), which is never worse by much and often many
    times surer. Plain chains of layers need no products: their trace is summed layer
    by layer, exactly for linear layers of no more units than ``products``, and else from signs that are drawn for each
    sample (:mod:`~theodolite.measure.curvature.layer_trace`). The standard error is that of the sampled mean. Ctrl-C
    hands back the estimate from the products by then, Hutchinson's if Q was not whole.

    Args:
        model: any module, measured in the mode it is in; frozen parameters are left out.
        loss: maps (outputs, targets) to a scalar mean over samples.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches.
        method: ``"layer by layer"``, ``"xtrace"``, ``"hutch++"`` or ``"hutchinson"``; None: the first where it can be,
            else XTrace or Hutchinson, whichever will be surer by what the first third of the products shows.
        products: how many products with the matrix to spend, at least 6. Where Q can span everything (a third of
            them is P or more), the trace is exact. Layer by layer: as many draws for each layer, none of which costs
            more than a product.
        seed: of the random signs.

    Raises:
        SettingError: an unknown method, one that this model does not have, or too few products.
        TooLarge: Q does not fit the memory.
        KeyboardInterrupt: before there were two samples.
        MeasurementError: as :class:`~theodolite.measure.curvature.operator.HessianOperator`.

    Source: Hutchinson 1990; Meyer et al. 2021, "Hutch++: Optimal Stochastic Trace Estimation", algorithm 1;
    Epperly, Tropp and Webber 2024, "XTrace: Making the Most of Every Sample in Stochastic Trace Estimation".

    Example:
        >>> model = nn.Linear(2, 1, bias=False).double()
        >>> data = torch.diag(torch.tensor([1.0, 2.0])).double(), torch.zeros(2, 1).double()
        >>> trace = hessian_trace(model, nn.MSELoss(), data)  # L = (w₁² + 4 w₂²) / 2
        >>> round(trace.value, 6), round(trace.standard_error, 6)
        (5.0, 0.0)
    """
    check_products(products)
    with operator_and_room(model, loss, data, options, seed=seed) as (H, room):
        random = torch.Generator().manual_seed(named_seed(seed, "signs"))
        with watch("trace", products, options.get("progress")) as progress:
            layers = by_layers(H, products, random, progress) if method in (None, "layer by layer") else None
            used: Method = "layer by layer"
            if layers is not None:
                exact, samples = layers
            elif method == "layer by layer":
                raise SettingError(
                    "expected a plain chain of layers (nn.Sequential) in this process and a loss that treats samples "
                    "apart, got what cannot be summed layer by layer. Leave method out, or pass method='hutch++'."
                )
            else:
                found = estimator.trace(
                    H, method=method, products=products, random=random, memory=room, progress=progress
                )
                used, exact, samples = found.method, found.exact, found.samples
    return Trace(
        value=exact + (float(samples.mean()) if len(samples) else 0.0),
        standard_error=float(samples.std() / len(samples) ** 0.5) if len(samples) else 0.0,
        method=used,
        products=H.products,
        parameters=H.size,
        operator=H.kind,
        backend=H.backend,
        check_error=H.check_error,
        interrupted=progress.interrupted,
    )
