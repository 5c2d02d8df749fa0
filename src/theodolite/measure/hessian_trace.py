"""Trace of the Hessian, estimated."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from theodolite.errors import SettingError, TooLarge
from theodolite.measure.curvature.autograd import Curvature
from theodolite.measure.curvature.layer_trace import by_layers
from theodolite.measure.curvature.operator import HessianOperator
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.memory import Memory, halves, in_words
from theodolite.measure.problem.objective import Loss
from theodolite.measure.problem.progress import Watch, watch
from theodolite.measure.problem.validation import checked
from theodolite.measure.results.base import Result

Method = Literal["layer by layer", "hutch++", "hutchinson"]
GROUP = 8  # products between two looks at whether the user wants to stop
FLAT = 0.5  # of a row of H times signs, outside all others: from there on Hutchinson is as sure with as many products
COPIES = 5  # of as many vectors as go together: signs, products, Q, its image, and what QR takes


@dataclass(frozen=True, slots=True)
class Trace(Result):
    """The sum of all eigenvalues, and how sure it is."""

    value: float  # loss per squared parameter
    standard_error: float  # of the random part; zero where nothing was left to chance
    method: Method
    products: int  # products with the matrix it took
    parameters: int  # P: value / P is the mean eigenvalue
    operator: Curvature
    path: str  # how products were computed
    check: float  # relative difference of a product and finite differences
    interrupted: bool = False  # by the user: fewer products than asked for


@checked
def hessian_trace(
    model: nn.Module,
    loss: Loss,
    data: Data,
    *,
    method: Method | None = None,
    products: int = 60,
    operator: Curvature = "hessian",
    parameters: str | None = None,
    seed: int = 0,
    memory: Memory = None,
    engine: str = "local",
    workers: int | None = None,
    address: str | None = None,
    progress: bool | None = None,
) -> Trace:
    r"""Estimate the trace of the Hessian.

    .. math:: \mathrm{tr}\, H = \mathbb{E}\, g^\top H g \quad\text{(Hutchinson)}, \qquad
              \mathrm{tr}\, H = \mathrm{tr}\, Q^\top H Q + \mathbb{E}\, g^\top (I - QQ^\top) H (I - QQ^\top) g
              \quad\text{(Hutch++)}

    with g of random signs and Q a basis of H times a third as many random vectors: the few large eigenvalues are
    summed exactly, and only the rest is sampled. Plain chains of layers need no products: their trace is summed layer
    by layer, exactly for linear layers of no more units than ``products``, and else from signs that are drawn for each
    sample (:mod:`~theodolite.measure.curvature.layer_trace`). The standard error is that of the sampled mean.

    Args:
        model: any module, measured in the mode it is in; frozen parameters are left out.
        loss: maps (outputs, targets) to a scalar mean over samples.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches.
        method: ``"layer by layer"``, ``"hutch++"`` or ``"hutchinson"``; None: the first where it can be,
            else, of the other two, the one that will be surer by what the first third of the products shows.
        products: how many products with the matrix to spend, at least 6. Where Q can span everything (a third of
            them is P or more), the trace is exact. Layer by layer: as many draws for each layer, none of which costs
            more than a product.
        operator: ``"hessian"`` or ``"ggn"``.
        parameters: a pattern such as ``"0.*"`` that restricts the matrix to a part of the model.
        seed: of the random signs.
        memory: what may be taken, as ``"2GB"`` or a number of bytes; None: half of what is free. Half goes to graphs,
            which are made anew for each product if they do not fit, with the same numbers.
        engine: ``"local"``; or ``"ray"``: products are summed over shards of the data on a Ray cluster, with the same
            numbers to rounding. 2 P numbers a product are sent to and from each shard.
        workers: shards; None: one a processor of the cluster (one a GPU on ``cuda``).
        address: of a running Ray cluster; None: the one that this program is on, or one of this machine.
        progress: show a bar; None: on a terminal, after a second. Ctrl-C hands back the estimate from the
            products by then, Hutchinson's if Q was not whole.

    Raises:
        SettingError: an unknown method, one that this model does not have, or too few products.
        TooLarge: Q does not fit the memory.
        KeyboardInterrupt: before there were two samples.
        MeasurementError: as :class:`~theodolite.measure.curvature.operator.HessianOperator`.

    Source: Hutchinson 1990; Meyer et al. 2021, "Hutch++: Optimal Stochastic Trace Estimation", algorithm 1.

    Example:
        >>> model = nn.Linear(2, 1, bias=False).double()
        >>> data = torch.diag(torch.tensor([1.0, 2.0])).double(), torch.zeros(2, 1).double()
        >>> trace = hessian_trace(model, nn.MSELoss(), data)  # L = (w₁² + 4 w₂²) / 2
        >>> round(trace.value, 6), round(trace.standard_error, 6)
        (5.0, 0.0)
    """
    if products < 6:
        raise SettingError(f"expected at least 6 products, got {products}. Leave it out for 60.")
    half = halves(memory, model)
    with HessianOperator(
        model, loss, data, operator=operator, parameters=parameters, memory=int(half),
        engine=engine, workers=workers, address=address,
    ) as H:  # fmt: skip
        size = H.shape[0]
        random = torch.Generator().manual_seed(seed)
        with watch("trace", products, progress) as watched:
            layers = by_layers(H, products, random, watched) if method in (None, "layer by layer") else None
            if layers is not None:
                method = "layer by layer"
                exact, samples = layers
            elif method == "layer by layer":
                raise SettingError(
                    "expected a plain chain of layers (nn.Sequential) in this process and a loss that treats samples "
                    "apart, got what cannot be summed layer by layer. Leave method out, or pass method='hutch++'."
                )
            else:
                _check_room(size * (products // 3 if method != "hutchinson" else GROUP), half)
                method, exact, samples = _estimate(H, method, products, random, watched)
    return Trace(
        value=exact + (float(samples.mean()) if len(samples) else 0.0),
        standard_error=float(samples.std() / len(samples) ** 0.5) if len(samples) else 0.0,
        method=method,
        products=H.products,
        parameters=size,
        operator=operator,
        path=H.path,
        check=H.check,
        interrupted=watched.interrupted,
    )


def _check_room(numbers: int, half: float) -> None:
    if 8 * COPIES * numbers > half:
        raise TooLarge(
            f"expected memory for the vectors, {in_words(8 * COPIES * numbers)}, got {in_words(half)}, the other half "
            "being for graphs. Pass more memory, or method='hutchinson', which keeps none."
        )


def _estimate(
    H: HessianOperator, method: Method | None, products: int, random: torch.Generator, watched: Watch
) -> tuple[Method, float, Tensor]:
    """How it was estimated, the part known exactly, and samples of the rest; the surer of the two if not told which."""
    if method == "hutchinson":
        return "hutchinson", 0.0, _sample(H, products, random, watched)
    size, count = H.shape[0], products // 3
    if count >= size:
        return "hutch++", float(_multiply(H, torch.eye(size).to(H.device, torch.float64), watched).trace()), _none(H)
    signs = _signs(count, size, random, H)
    sketch = _multiply(H, signs, watched)
    plain = (signs[: len(sketch)] * sketch).sum(1)  # Hutchinson's samples, should the rest not come
    if method is None and not watched.interrupted and _outside(sketch) > FLAT:
        return "hutchinson", 0.0, torch.cat([plain, _sample(H, products - count, random, watched)])
    if len(sketch) == count:
        Q = torch.linalg.qr(sketch.mT).Q.mT
        image = _multiply(H, Q, watched)
        if len(image) == count and not watched.interrupted:
            samples = _sample(H, count, random, watched, without=Q)
            if len(samples) > 1:
                return "hutch++", float((Q * image).sum()), samples
    if len(plain) < 2:
        raise KeyboardInterrupt
    return "hutchinson", 0.0, plain


def _outside(sketch: Tensor) -> float:
    """How much of a row lies outside the span of all others, as a share of its square; the mean over rows.

    The square of that part is one over the row's entry on the diagonal of the inverse of their Gram matrix.
    """
    R = torch.linalg.qr(sketch.mT, mode="r").R
    if not bool((R.diagonal().abs() > torch.finfo(torch.float32).eps * R.abs().max()).all()):
        return 0.0  # they span everything there is
    inverse = torch.linalg.solve_triangular(R, torch.eye(len(R)).to(R), upper=True)
    return float((1 / inverse.square().sum(1)).sum() / sketch.square().sum())


def _sample(
    H: HessianOperator, count: int, random: torch.Generator, watched: Watch, without: Tensor | None = None
) -> Tensor:
    """gᵀ H g for so many g of random signs, or of what of them lies outside the rows of ``without``."""
    samples = _none(H)
    for at in range(0, count, GROUP):
        g = _signs(min(GROUP, count - at), H.shape[0], random, H)
        if without is not None:
            g = g - (g @ without.mT) @ without
        samples = torch.cat([samples, (g * _multiply(H, g, watched)).sum(1)])
        if watched.interrupted:
            break
    return samples


def _multiply(H: HessianOperator, rows: Tensor, watched: Watch) -> Tensor:
    """H times the rows, group by group; only the first of them where it was interrupted."""
    found = []
    for part in rows.split(GROUP):
        found.append(H.rows(part.to(H.dtype)).double())
        watched.advance(len(part))
        if watched.interrupted:
            break
    return torch.cat(found)


def _none(H: HessianOperator) -> Tensor:
    return torch.empty(0, dtype=torch.float64, device=H.device)


def _signs(count: int, size: int, random: torch.Generator, H: HessianOperator) -> Tensor:
    signs: Tensor = 2.0 * torch.randint(0, 2, (count, size), generator=random).to(H.device, torch.float64) - 1
    return signs
