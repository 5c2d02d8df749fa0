"""Where training stands against the largest curvature at which its optimizer is stable."""

from dataclasses import dataclass
from typing import Literal, Unpack

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from theodolite.measure.curvature.kinds import Curvature
from theodolite.measure.curvature.operator import HessianOperator, operator_and_room
from theodolite.measure.curvature.options import ProductOptions, StepOptions
from theodolite.measure.curvature.steps import Steps, steps_of
from theodolite.measure.linalg import eigensolver
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.join import measured_parameters
from theodolite.measure.problem.objective import Loss
from theodolite.measure.problem.options import select_options, with_options
from theodolite.measure.problem.progress import watch
from theodolite.measure.problem.validation import checked
from theodolite.measure.results.base import Result
from theodolite.streams import named_seed

Side = Literal["stable", "unstable", "undecided"]


@dataclass(frozen=True, slots=True)
class EdgeOfStability(Result, kind="edge_of_stability"):
    """The largest curvature that the optimizer's steps meet, beside the largest at which they are stable."""

    value: float  # eigenvalue / edge: λ_max η / 2 of gradient descent; above 1 the quadratic model diverges
    side: Side  # of the edge; undecided where the residual reaches across it
    eigenvalue: float  # largest of (ηP⁻¹)^½ (H + w) (ηP⁻¹)^½, no unit
    edge: float  # of that eigenvalue: 2 for gradient descent
    sharpness: float  # the same eigenvalue over the largest learning rate, loss per unit of P and squared parameter
    residual: float  # of the eigenvalue, as it is
    converged: bool  # whether that is within the tolerance
    learning_rate: float  # the largest of all parameters
    optimizer: str
    operator: Curvature
    products: int  # products with the matrix it took
    backend: str  # how products were computed
    check_error: float  # relative difference of a product and finite differences
    interrupted: bool = False  # by the user


@dataclass(frozen=True, slots=True)
class _WithDecay:
    """A matrix with weight decay added to its diagonal."""

    H: HessianOperator
    decay: Tensor  # (P,)

    @property
    def size(self) -> int:
        return self.H.size

    @property
    def dtype(self) -> torch.dtype:
        return self.H.dtype

    @property
    def device(self) -> torch.device:
        return self.H.device

    def rows(self, vectors: Tensor) -> Tensor:
        return self.H.rows(vectors) + vectors * self.decay


@checked
@with_options(StepOptions)
def edge_of_stability(
    model: nn.Module,
    loss: Loss,
    data: Data,
    optimizer: Optimizer,
    *,
    tolerance: float = 1e-4,
    max_products: int | None = None,
    seed: int = 0,
    **options: Unpack[StepOptions],
) -> EdgeOfStability:
    r"""Compare the largest preconditioned eigenvalue with the edge at which the optimizer's steps become unstable.

    .. math:: \mathrm{value} = \frac{\eta\, \lambda_{\max}(P^{-1/2} H P^{-1/2})}{c}

    with c = 2 for gradient descent, :math:`2 (1 + \mu)` with momentum μ, :math:`2 (1 + \mu) / (1 + 2 \mu)` with
    Nesterov's, and :math:`2 (1 + \beta_1) / (1 - \beta_1)`, 38 by default, for Adam, whose P is
    :math:`(1 - \beta_1^t) (\sqrt{\hat v} + \varepsilon)`. Below 1 the quadratic model of the loss is stable under these
    steps, above it they diverge along the top eigenvector. Learning rates of each group and weight decay count as the
    optimizer has them; :mod:`~theodolite.measure.curvature.steps` has the derivations. Full-batch training tends to 1
    from below and stays there.

    Args:
        model: any module, measured in the mode it is in; frozen parameters are left out.
        loss: maps (outputs, targets) to a scalar mean over samples, without weight decay.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches: all that training takes its loss on.
        optimizer: SGD, Adam, AdamW or RMSprop of PyTorch's, after at least one step where it scales gradients.
        tolerance: of the residual, relative to the eigenvalue.
        max_products: give up after so many; None: 320.
        seed: of the start directions.

    Raises:
        SettingError: another optimizer, one without a state, or of other parameters; a number out of its range.
        MeasurementError: as :class:`~theodolite.measure.curvature.operator.HessianOperator`.

    Source: Cohen et al. 2021, "Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability"; Cohen et
    al. 2022, "Adaptive Gradient Methods at the Edge of Stability".

    Example:
        >>> model = nn.Linear(1, 1, bias=False).double()
        >>> data = torch.ones(1, 1).double(), torch.zeros(1, 1).double()  # L = w², of curvature 2
        >>> found = edge_of_stability(model, nn.MSELoss(), data, torch.optim.SGD(model.parameters(), lr=0.9))
        >>> round(found.value, 6), found.side
        (0.9, 'stable')
    """
    eigensolver.check_settings(1, tolerance, max_products)
    steps = steps_of(optimizer, measured_parameters(model, options.get("parameters")))
    asked = select_options({**options, "preconditioner": steps.diagonal / steps.rate}, ProductOptions)
    with operator_and_room(model, loss, data, asked, seed=seed) as (H, room):
        random = torch.Generator().manual_seed(named_seed(seed, "restarts"))
        A = _WithDecay(H, (steps.decay * steps.rate / steps.diagonal).to(H.device, H.dtype))
        with watch("eigenvalue", None, options.get("progress")) as progress:
            found = eigensolver.eigenvalues(
                A, k=1, tolerance=tolerance, max_products=max_products, random=random, memory=room, progress=progress
            )
    top, residual, rate = float(found.eigenvalues), float(found.residuals), float(steps.rate.max())
    return EdgeOfStability(
        value=top / steps.edge,
        side=_side(top, residual, steps),
        eigenvalue=top,
        edge=steps.edge,
        sharpness=top / rate,
        residual=residual,
        converged=residual <= found.tolerance,
        learning_rate=rate,
        optimizer=type(optimizer).__name__,
        operator=H.kind,
        products=H.products,
        backend=H.backend,
        check_error=H.check_error,
        interrupted=progress.interrupted,
    )


def _side(top: float, residual: float, steps: Steps) -> Side:
    """An exact eigenvalue lies within the residual, and none that was found lies further out."""
    if top - residual > steps.last_edge:
        return "unstable"
    if top + residual < steps.edge:
        return "stable"
    return "undecided"
