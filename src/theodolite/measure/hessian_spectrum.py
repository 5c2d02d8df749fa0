"""All eigenvalues of the Hessian of a small model, exactly."""

from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor, nn

from theodolite.errors import TooLarge
from theodolite.measure.curvature.dense import DenseHessians, dense_gauss_newton, dense_hessians
from theodolite.measure.curvature.kinds import Curvature
from theodolite.measure.curvature.old_names import OldNames
from theodolite.measure.curvature.operator import HessianOperator
from theodolite.measure.curvature.options import CurvatureOptions
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.distributed import Shards
from theodolite.measure.problem.isolation import preserve_rng
from theodolite.measure.problem.memory import Memory, in_words, room
from theodolite.measure.problem.microbatches import in_microbatches
from theodolite.measure.problem.objective import Loss, Objective
from theodolite.measure.problem.options import with_options
from theodolite.measure.problem.validation import checked
from theodolite.measure.results.base import Result

COPIES = 10  # P × P float64 matrices at once, at the peak: the Hessian's sum and parts, eigenvectors, LAPACK's own
TOGETHER = 256  # samples at once, where memory is limited: their part is then small beside the matrices'


@dataclass(frozen=True, slots=True)
class Spectrum(OldNames, Result, kind="spectrum"):
    """Every eigenvalue, each with how far from exact it is."""

    eigenvalues: Tensor  # (P,) float64, ascending, loss per squared parameter
    residuals: Tensor  # (P,) float64, |H v - λ v|, same unit
    tolerance: float  # |λ| at or below this counts as zero, same unit
    loss: float  # mean over samples
    gradient_norm: float  # far from zero: the weights are no critical point, and signs say little
    operator: Curvature
    backend: str  # how the matrix was computed; ``path`` is its old name
    check_error: float  # relative difference of a product and finite differences; ``check`` is its old name


@checked
@with_options(CurvatureOptions)
def hessian_spectrum(
    model: nn.Module,
    loss: Loss,
    data: Data,
    **options: Unpack[CurvatureOptions],
) -> Spectrum:
    r"""Compute all eigenvalues of the exact Hessian.

    The matrix and its eigenvalues are computed in float64 whatever the model's precision: a float32 weight is a
    float64 number too, and zero is told from small ten million times more sharply. An eigenvalue counts as zero
    within

    .. math:: \mathrm{tolerance} = P\, \epsilon\, \lVert H \rVert_2
              + \sqrt{P}\, \big( \max |H - H^\top| + \sqrt{N} \epsilon \max |H| \big)

    The first term bounds the error of the symmetric eigensolver. The second is the norm of a random matrix whose
    entries are as wrong as those of H: as its asymmetry shows, and as sums over N samples round.

    Args:
        model: any module, measured in the mode it is in; frozen parameters are left out.
        loss: maps (outputs, targets) to a scalar mean over samples.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches.

    Raises:
        TooLarge: ten P × P matrices do not fit.
        MeasurementError: as :class:`~theodolite.measure.curvature.operator.HessianOperator`.

    Source: Sagun et al. 2017, "Empirical Analysis of the Hessian of Over-Parametrized Neural Networks".

    Example:
        >>> model = nn.Linear(2, 1, bias=False).double()
        >>> data = torch.diag(torch.tensor([1.0, 2.0])).double(), torch.zeros(2, 1).double()
        >>> hessian_spectrum(model, nn.MSELoss(), data).eigenvalues.tolist()  # L = (w₁² + 4 w₂²) / 2
        [1.0, 4.0]
    """
    memory = options.get("memory")
    is_part = options.get("parameters") is not None or options.get("basis") is not None
    _fits(0 if is_part else sum(p.numel() for p in model.parameters() if p.requires_grad), memory)  # before all else
    with HessianOperator(model, loss, data, **options) as H:
        size = H.size
        _fits(size, memory)
        if H.kind == "hessian" and H.frame.is_plain:
            dense = exact(H.objective, memory) if H.shards is None else _summed(H.shards, memory)
            matrix, asymmetry, backend = dense.hessian[0], float(dense.asymmetry), dense.backend
            value, gradient = float(dense.loss), dense.gradient
        else:
            plain_ggn = H.kind == "ggn" and H.frame.is_plain
            every = torch.eye(size, dtype=H.dtype, device=H.device)
            rows, backend = _gauss_newton(H, memory) if plain_ggn else (H.rows(every), H.backend)
            matrix, asymmetry = (rows + rows.mT) / 2, float((rows - rows.mT).abs().max())
            value, gradient = H.loss_and_gradient()
    epsilon = torch.finfo(matrix.dtype).eps
    matrix = matrix.double()
    values, vectors = torch.linalg.eigh(matrix)
    entries = asymmetry + H.objective.samples**0.5 * epsilon * float(matrix.abs().max())
    return Spectrum(
        eigenvalues=values,
        residuals=(matrix @ vectors - vectors * values).norm(dim=0),
        tolerance=size * epsilon * float(values.abs().max()) + size**0.5 * entries,
        loss=value,
        gradient_norm=float(gradient.norm()),
        operator=H.kind,
        backend=backend,
        check_error=H.check_error,
    )


def exact(objective: Objective, memory: Memory) -> DenseHessians:
    """The exact Hessian at the model's weights, in float64 where model and loss can."""
    whole = _in_double(objective, memory)
    try:
        return dense_hessians(whole, whole.vector[None])
    except RuntimeError:  # a model or loss that holds float32 constants
        return dense_hessians(objective, objective.vector[None])


def _in_double(objective: Objective, memory: Memory) -> Objective:
    whole = objective.to(torch.float64)
    if memory is None:
        return whole
    with preserve_rng():
        return in_microbatches(whole, whole.vector, TOGETHER, samples_independent=False)


def _gauss_newton(H: HessianOperator, memory: Memory) -> tuple[Tensor, str]:
    """The rows of the matrix, in float64 where model and loss can, and how they were computed."""
    if H.dtype == torch.float64:
        return H.rows(torch.eye(H.size, dtype=H.dtype, device=H.device)), H.backend
    if H.shards is None:
        return _gauss_newton_in_double(H, memory)
    total, backends = torch.zeros(()), []
    for share, (rows, backend) in H.shards.ask(_gauss_newton_in_double, memory):
        total = total + share * rows.double()
        backends.append(backend)
    return total, H.shards.backend(backends)


def _gauss_newton_in_double(own: HessianOperator, memory: Memory) -> tuple[Tensor, str]:
    try:
        return dense_gauss_newton(_in_double(own.objective, memory)), "kept graph"
    except RuntimeError:  # a model or loss that holds float32 constants
        return own.rows(torch.eye(own.size, dtype=own.dtype, device=own.device)), own.backend


def _summed(shards: Shards, memory: Memory) -> DenseHessians:
    """The same over shards; how far it was from symmetric is at most the sum of how far the shards' were."""
    totals: list[Tensor] = []
    backends: list[str] = []
    for share, part in shards.ask(_of_shard, memory):
        scaled = [share * each for each in (part.loss, part.gradient, part.hessian, part.asymmetry)]
        totals = [a.add_(b) for a, b in zip(totals, scaled, strict=True)] if totals else scaled
        backends.append(part.backend)
    loss, gradient, hessian, asymmetry = totals
    return DenseHessians(loss, gradient, hessian, asymmetry, shards.backend(backends))


def _of_shard(own: HessianOperator, memory: Memory) -> DenseHessians:
    return exact(own.objective, memory)


def _fits(size: int, memory: Memory) -> None:
    need = COPIES * 8 * size**2
    space = room(memory, torch.device("cpu"))
    if need > space:
        largest = int((space / (COPIES * 8)) ** 0.5)
        raise TooLarge(
            f"expected at most {largest:,} parameters, whose exact Hessian fits {in_words(space)}, got {size:,}, "
            f"which take {in_words(need)}. Use hessian_eigenvalues for the ends of the spectrum, hessian_density "
            "for all of it, or parameters='NAME.*' for a part of the model."
        )
