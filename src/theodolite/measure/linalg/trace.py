"""The trace of a symmetric operator, estimated from random signs.

Source: Hutchinson 1990; Meyer et al. 2021, "Hutch++: Optimal Stochastic Trace Estimation", algorithm 1; Epperly, Tropp
and Webber 2024, "XTrace: Making the Most of Every Sample in Stochastic Trace Estimation".
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from theodolite.measure.linalg.allocation import check_fits
from theodolite.measure.linalg.operator import Progress, Silent, SymmetricOperator
from theodolite.measure.linalg.products import LOOK_PRODUCTS, multiply, signs
from theodolite.measure.linalg.sketch import check_products, inverse_factor, sketch

Method = Literal["xtrace", "hutch++", "hutchinson"]
FLAT_SHARE = 0.5  # of a row of A times signs, outside all others: beyond, Hutchinson is as sure with as many products
COPIES = 9  # of a third of the products' vectors: signs, products, Q, A times Q of half of them, and what QR takes


@dataclass(frozen=True, slots=True)
class TraceEstimate:
    """A trace: a part known exactly, and samples of the rest."""

    method: Method
    exact: float
    samples: Tensor  # (n,) float64, each of the rest's mean; none where nothing was left to chance

    @property
    def value(self) -> float:
        """The exact part and the mean of the samples."""
        return self.exact + (float(self.samples.mean()) if len(self.samples) else 0.0)

    @property
    def standard_error(self) -> float:
        """Of the sampled mean."""
        return float(self.samples.std() / len(self.samples) ** 0.5) if len(self.samples) else 0.0


def trace(
    A: SymmetricOperator,
    *,
    method: Method | None = None,
    products: int = 60,
    random: torch.Generator,
    memory: float = math.inf,
    progress: Progress | None = None,
) -> TraceEstimate:
    """Estimate the trace.

    Args:
        A: the matrix.
        method: ``"xtrace"``, ``"hutch++"`` or ``"hutchinson"``; None: the first or the last, whichever will be surer by
            what the first third shows.
        products: how many to spend, at least 6. The trace is exact where a third of them is P or more.
        random: draws signs.
        memory: bytes for vectors.
        progress: is told of products, and may end the estimate.

    Raises:
        SettingError: too few products.
        TooLarge: the vectors do not fit the memory.
        KeyboardInterrupt: before there were two samples.
    """
    check_products(products)
    numbers = A.size * (products // 3 if method != "hutchinson" else LOOK_PRODUCTS)
    check_fits(8 * COPIES * numbers, memory, "the vectors", "method='hutchinson', which keeps none")
    return TraceEstimate(*_estimate(A, method, products, random, progress or Silent()))


def _estimate(
    A: SymmetricOperator, method: Method | None, products: int, random: torch.Generator, progress: Progress
) -> tuple[Method, float, Tensor]:
    """How it was estimated, the part known exactly, and samples of the rest; the surer of the two if not told which."""
    if method == "hutchinson":
        return "hutchinson", 0.0, _sample(A, products, random, progress)
    size, count = A.size, products // 3
    if count >= size:
        return "hutch++", float(multiply(A, torch.eye(size).to(A.device, torch.float64), progress).trace()), _none(A)
    omega = signs(count, size, random, A)
    Y = multiply(A, omega, progress)
    plain = (omega[: len(Y)] * Y).sum(1)  # Hutchinson's samples, should the rest not come
    if method is None and not progress.interrupted and _share_outside_others(Y) > FLAT_SHARE:
        return "hutchinson", 0.0, torch.cat([plain, _sample(A, products - count, random, progress)])
    if method in (None, "xtrace"):
        return _xtrace(A, omega, Y, min(products // 2, size), random, progress)
    if len(Y) == count:
        Q = torch.linalg.qr(Y.mT).Q.mT
        AQ = multiply(A, Q, progress)
        if len(AQ) == count and not progress.interrupted:
            samples = _sample(A, count, random, progress, without=Q)
            if len(samples) > 1:
                return "hutch++", float((Q * AQ).sum()), samples
    if len(plain) < 2:
        raise KeyboardInterrupt
    return "hutchinson", 0.0, plain


def _xtrace(
    A: SymmetricOperator, omega: Tensor, Y: Tensor, count: int, random: torch.Generator, progress: Progress
) -> tuple[Method, float, Tensor]:
    """From a sketch that goes on to so many signs; Hutchinson's estimate from those done, where the user ended it."""
    if not progress.interrupted and count > len(omega):
        more = signs(count - len(omega), A.size, random, A)
        omega, Y = torch.cat([omega, more]), torch.cat([Y, multiply(A, more, progress)])
    known = None if progress.interrupted else sketch(A, omega, Y, progress)
    if known is None:
        plain = (omega[: len(Y)] * Y).sum(1)
        if len(plain) < 2:
            raise KeyboardInterrupt
        return "hutchinson", 0.0, plain
    samples = known.traces()
    return ("xtrace", float(samples[0]), _none(A)) if len(samples) == 1 else ("xtrace", 0.0, samples)


def _share_outside_others(sketch: Tensor) -> float:
    """How much of a row lies outside the span of all others, as a share of its square; the mean over rows.

    The square of that part is one over the row's entry on the diagonal of the inverse of their Gram matrix.
    """
    inverse = inverse_factor(torch.linalg.qr(sketch.mT, mode="r").R, torch.finfo(torch.float32).eps)
    if inverse is None:
        return 0.0  # they span everything there is
    return float((1 / inverse.square().sum(1)).sum() / sketch.square().sum())


def _sample(
    A: SymmetricOperator, count: int, random: torch.Generator, progress: Progress, without: Tensor | None = None
) -> Tensor:
    """gᵀ A g for so many g of random signs, or of what of them lies outside the rows of ``without``."""
    samples = _none(A)
    for at in range(0, count, LOOK_PRODUCTS):
        g = signs(min(LOOK_PRODUCTS, count - at), A.size, random, A)
        if without is not None:
            g = g - (g @ without.mT) @ without
        samples = torch.cat([samples, (g * multiply(A, g, progress)).sum(1)])
        if progress.interrupted:
            break
    return samples


def _none(A: SymmetricOperator) -> Tensor:
    return torch.empty(0, dtype=torch.float64, device=A.device)
