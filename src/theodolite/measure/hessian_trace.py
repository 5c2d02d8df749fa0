"""Trace of the Hessian, estimated."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from theodolite.errors import SettingError
from theodolite.measure.graph import Kind
from theodolite.measure.objective import Data, Loss
from theodolite.measure.operator import HessianOperator
from theodolite.measure.results import Result

Method = Literal["hutch++", "hutchinson"]


@dataclass(frozen=True, slots=True)
class Trace(Result):
    """The sum of all eigenvalues, and how sure it is."""

    value: float  # loss per squared parameter
    standard_error: float  # of the random part; zero where nothing was left to chance
    method: Method
    products: int  # products with the matrix it took
    parameters: int  # P: value / P is the mean eigenvalue
    operator: Kind
    path: str  # how products were computed
    check: float  # relative difference of a product and finite differences


def hessian_trace(
    model: nn.Module,
    loss: Loss,
    data: Data,
    *,
    method: Method = "hutch++",
    products: int = 60,
    operator: Kind = "hessian",
    parameters: str | None = None,
    seed: int = 0,
) -> Trace:
    r"""Estimate the trace of the Hessian from products with random vectors.

    .. math:: \mathrm{tr}\, H = \mathbb{E}\, g^\top H g \quad\text{(Hutchinson)}, \qquad
              \mathrm{tr}\, H = \mathrm{tr}\, Q^\top H Q + \mathbb{E}\, g^\top (I - QQ^\top) H (I - QQ^\top) g
              \quad\text{(Hutch++)}

    with g of random signs and Q a basis of H times a third as many random vectors: the few large eigenvalues are
    summed exactly, and only the rest is sampled. The standard error is that of the sampled mean.

    Args:
        model: any module, measured in the mode it is in; frozen parameters are left out.
        loss: maps (outputs, targets) to a scalar mean over samples.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches.
        method: which of the two.
        products: how many products with the matrix to spend, at least 6. Where Q can span everything (a third of
            them is P or more), the trace is exact.
        operator: ``"hessian"`` or ``"ggn"``.
        parameters: a pattern such as ``"0.*"`` that restricts the matrix to a part of the model.
        seed: of the random signs.

    Raises:
        SettingError: an unknown method, or too few products.
        MeasurementError: as :class:`~theodolite.measure.operator.HessianOperator`.

    Source: Hutchinson 1990; Meyer et al. 2021, "Hutch++: Optimal Stochastic Trace Estimation", algorithm 1.

    Example:
        >>> model = nn.Linear(2, 1, bias=False).double()
        >>> data = torch.diag(torch.tensor([1.0, 2.0])).double(), torch.zeros(2, 1).double()
        >>> trace = hessian_trace(model, nn.MSELoss(), data)  # L = (w₁² + 4 w₂²) / 2
        >>> round(trace.value, 6), round(trace.standard_error, 6)
        (5.0, 0.0)
    """
    if method not in ("hutch++", "hutchinson") or products < 6:
        raise SettingError(
            f"expected method 'hutch++' or 'hutchinson' and at least 6 products, got {method!r} and {products}."
        )
    H = HessianOperator(model, loss, data, operator=operator, parameters=parameters)
    random = torch.Generator().manual_seed(seed)
    size, exact = H.shape[0], 0.0
    count = products if method == "hutchinson" else products // 3
    probes = _signs(count, size, random, H)
    if method == "hutch++":
        Q = _orthonormal(H.rows(probes.to(H.dtype)).double() if count < size else torch.eye(size).to(probes))
        exact = float((Q * H.rows(Q.to(H.dtype)).double()).sum())
        probes = _signs(count, size, random, H)
        probes = probes - (probes @ Q.mT) @ Q if count < size else probes[:0]
    samples = (probes * H.rows(probes.to(H.dtype)).double()).sum(1)
    return Trace(
        value=exact + (float(samples.mean()) if len(samples) else 0.0),
        standard_error=float(samples.std() / len(samples) ** 0.5) if len(samples) else 0.0,
        method=method,
        products=H.products,
        parameters=size,
        operator=operator,
        path=H.path,
        check=H.check,
    )


def _signs(count: int, size: int, random: torch.Generator, H: HessianOperator) -> Tensor:
    signs: Tensor = 2.0 * torch.randint(0, 2, (count, size), generator=random).to(H.device, torch.float64) - 1
    return signs


def _orthonormal(rows: Tensor) -> Tensor:
    basis: Tensor = torch.linalg.qr(rows.mT).Q
    return basis.mT
