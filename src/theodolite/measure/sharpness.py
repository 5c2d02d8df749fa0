"""How much the loss rises close by: Keskar's measure over a box, and the ascent step of SAM."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy.optimize import Bounds, minimize
from torch import Tensor, nn

from theodolite.errors import BadLoss, BadModel, SettingError
from theodolite.measure.gradient_norm import loss_and_gradient
from theodolite.measure.objective import Data, Loss, Objective, objective
from theodolite.measure.results import Result

Method = Literal["keskar", "sam"]


@dataclass(frozen=True, slots=True)
class Sharpness(Result):
    """A rise of the loss near the model's parameters, and how it was found."""

    value: float  # keskar: per cent of 1 + loss; sam: unit of the loss
    method: Method
    radius: float  # keskar: epsilon, half the box's side relative to |w| + 1; sam: rho, length of the step
    loss: float  # at the parameters
    highest_loss: float  # keskar: the highest found in the box; sam: after the step
    evaluations: int  # of loss and gradient over all data
    converged: bool  # keskar: the best climb ended by itself, not by the number of iterations; sam: always


def sharpness(
    model: nn.Module,
    loss: Loss,
    data: Data,
    *,
    method: Method = "keskar",
    radius: float | None = None,
    starts: int = 3,
    iterations: int = 10,
    seed: int = 0,
) -> Sharpness:
    r"""Measure how much the loss rises close to the model's parameters.

    ``keskar``: the highest loss in a box around the parameters w, in per cent,

    .. math:: \varphi = 100\, \frac{\max_{z \in C_\epsilon} L(w + z) - L(w)}{1 + L(w)}, \qquad
              C_\epsilon = \{ z : |z_i| \le \epsilon (|w_i| + 1) \}

    The maximum is sought by L-BFGS-B, as in the paper, from its centre and from random points of the box (at a
    minimum the centre has no slope to climb). A maximiser finds local maxima, so the value is a lower bound of the
    one defined.

    ``sam``: the rise over one step of length :math:`\rho` up the gradient,

    .. math:: L\big(w + \rho\, \nabla L / \lVert \nabla L \rVert \big) - L(w)

    Args:
        model: any module, measured in the mode it is in; frozen parameters do not move.
        loss: maps (outputs, targets) to a scalar mean over samples.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches.
        method: which of the two.
        radius: epsilon (None: 1e-3, as the paper) or rho (None: 0.05, as the paper).
        starts: keskar only: the centre and ``starts - 1`` random points.
        iterations: keskar only: of each climb; the paper takes 10.
        seed: of the random points.

    Raises:
        SettingError: an unknown method, or a number out of its range.
        BadModel: sam where the gradient is exactly zero, so that it has no direction.

    Source: Keskar et al. 2017, "On Large-Batch Training for Deep Learning", equations 3 and 4 with A the identity;
    Foret et al. 2021, "Sharpness-Aware Minimization", equation 2.

    Example:
        >>> model = nn.Linear(1, 1, bias=False).double()
        >>> _ = nn.init.constant_(model.weight, 1.0)
        >>> data = torch.ones(2, 1).double(), torch.zeros(2, 1).double()
        >>> round(sharpness(model, nn.MSELoss(), data, method="sam", radius=0.1).value, 6)  # 1.1² - 1
        0.21
    """
    whole = objective(model, loss, data)
    radius = {"keskar": 1e-3, "sam": 0.05}.get(method, 1.0) if radius is None else radius
    if method not in ("keskar", "sam"):
        raise SettingError(f"expected method 'keskar' or 'sam', got {method!r}.")
    if not (math.isfinite(radius) and radius > 0 and starts >= 1 and iterations >= 1):
        raise SettingError(
            f"expected a positive radius and at least one start and iteration, got radius={radius}, starts={starts}, "
            f"iterations={iterations}."
        )
    return _sam(whole, radius) if method == "sam" else _keskar(whole, radius, starts, iterations, seed)


def _sam(whole: Objective, rho: float) -> Sharpness:
    before, gradient = loss_and_gradient(whole)
    length = sum(float(g.double().pow(2).sum()) for g in gradient.values()) ** 0.5
    if length == 0:
        raise BadModel(
            "expected a gradient to step along, but it is exactly zero here. Use method='keskar', which needs none."
        )
    own = dict(whole.model.named_parameters())
    moved = {n: (own[n].detach() + rho / length * g).to(own[n].dtype) for n, g in gradient.items()}
    after = _loss(whole, moved)
    return Sharpness(after - before, "sam", rho, before, after, 2, True)


def _loss(whole: Objective, parameters: dict[str, Tensor]) -> float:
    with torch.no_grad():
        return sum(share * float(whole.batch_loss(parameters, batch)) for batch, share in whole.batches())


def _keskar(whole: Objective, epsilon: float, starts: int, iterations: int, seed: int) -> Sharpness:
    centre = whole.vector.double().cpu().numpy()
    sides = epsilon * (np.abs(centre) + 1)
    kind = whole.vector
    evaluations = 0

    def climb(z: Any) -> tuple[float, Any]:  # in units of the box, so that all coordinates are of one scale
        nonlocal evaluations
        evaluations += 1
        point = torch.from_numpy(centre + sides * z).to(kind)
        value, gradient = loss_and_gradient(whole, whole.unflatten(point))
        flat = torch.cat([g.flatten() for g in gradient.values()]).double().cpu().numpy()
        return -value, -flat * sides

    base = -climb(np.zeros_like(centre))[0]
    if base <= -1:
        raise BadLoss(
            f"expected a loss above -1, which Keskar's measure divides by 1 plus, got {base}. Use method='sam', or "
            "add a constant to the loss."
        )
    random = np.random.default_rng(seed)
    best, converged = base, False
    for number in range(starts):
        start = np.zeros_like(centre) if number == 0 else random.uniform(-1, 1, centre.shape)
        found = minimize(
            climb, start, jac=True, method="L-BFGS-B", bounds=Bounds(-1, 1), options={"maxiter": iterations}
        )
        if -found.fun > best:
            best, converged = -float(found.fun), bool(found.success)
    return Sharpness(100 * (best - base) / (1 + base), "keskar", epsilon, base, best, evaluations, converged)
