"""Share of directions in which the loss curves up."""

from dataclasses import dataclass
from typing import Unpack

import torch  # noqa: F401 - the docstring's example
from torch import nn

from theodolite.measure.curvature.kinds import Curvature
from theodolite.measure.curvature.old_names import OldNames
from theodolite.measure.curvature.options import CurvatureOptions
from theodolite.measure.hessian_spectrum import hessian_spectrum
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.objective import Loss
from theodolite.measure.problem.options import with_options
from theodolite.measure.problem.validation import checked
from theodolite.measure.results.base import Result


@dataclass(frozen=True, slots=True)
class MinimalRatio(OldNames, Result, kind="minimal_ratio"):
    """Signs of the Hessian's eigenvalues, counted."""

    value: float  # share of eigenvalues above the tolerance, 0 … 1
    positive: int  # eigenvalues > tolerance
    negative: int  # eigenvalues < -tolerance
    zero: int  # within
    tolerance: float  # loss per squared parameter
    loss: float  # mean over samples
    gradient_norm: float  # at a critical point zero; else the loss is not level and curving up is no minimum
    operator: Curvature
    backend: str  # how the Hessian was computed; ``path`` is its old name
    check_error: float  # relative difference of a product and finite differences; ``check`` is its old name


@checked
@with_options(CurvatureOptions)
def minimal_ratio(
    model: nn.Module,
    loss: Loss,
    data: Data,
    **options: Unpack[CurvatureOptions],
) -> MinimalRatio:
    r"""Count the signs of all eigenvalues of the exact Hessian.

    .. math:: r = \frac{\#\{ i : \lambda_i > \mathrm{tolerance} \}}{P}

    One at a strict minimum, less at a saddle; but only where the gradient is zero do signs tell one from the other,
    so its norm is given beside. Eigenvalues of each weight matrix alone, without the cross terms, are those of
    another matrix: restrict by ``parameters`` only where that is meant.

    Args:
        model: any module, measured in the mode it is in; frozen parameters are left out.
        loss: maps (outputs, targets) to a scalar mean over samples.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches: all the loss is measured on.

    Raises:
        TooLarge: the exact Hessian does not fit.
        MeasurementError: as :class:`~theodolite.measure.curvature.operator.HessianOperator`.

    Example:
        >>> model = nn.Linear(2, 1, bias=False).double()
        >>> data = torch.tensor([[1.0, 0.0]]).double(), torch.zeros(1, 1).double()
        >>> ratio = minimal_ratio(model, nn.MSELoss(), data)  # L = w₁²: flat along w₂
        >>> ratio.value, ratio.positive, ratio.negative, ratio.zero
        (0.5, 1, 0, 1)
    """
    spectrum = hessian_spectrum(model, loss, data, **options)
    positive = int((spectrum.eigenvalues > spectrum.tolerance).sum())
    negative = int((spectrum.eigenvalues < -spectrum.tolerance).sum())
    total = len(spectrum.eigenvalues)
    return MinimalRatio(
        value=positive / total,
        positive=positive,
        negative=negative,
        zero=total - positive - negative,
        tolerance=spectrum.tolerance,
        loss=spectrum.loss,
        gradient_norm=spectrum.gradient_norm,
        operator=spectrum.operator,
        backend=spectrum.backend,
        check_error=spectrum.check_error,
    )
