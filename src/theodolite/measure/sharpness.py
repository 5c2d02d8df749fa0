"""How much the loss rises close by: Keskar's measure over a box, and the ascent step of SAM."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, Unpack

import torch
from torch import Tensor, nn

from theodolite.errors import BadLoss, BadModel, SettingError
from theodolite.measure.gradient_norm import loss_and_gradient
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.isolation import preserve_rng
from theodolite.measure.problem.join import objective
from theodolite.measure.problem.not_finite import where
from theodolite.measure.problem.objective import Loss, Objective, check_finite
from theodolite.measure.problem.options import ProblemOptions, with_options
from theodolite.measure.problem.validation import checked
from theodolite.measure.results.base import Result
from theodolite.streams import named_seed

Method = Literal["keskar", "sam"]

WIDER = {
    **dict.fromkeys((torch.bfloat16, torch.float16), "Take model.float() and inputs.float(), or pass"),
    torch.float32: "Take model.double() and inputs.double(), or pass",
}


@dataclass(frozen=True, slots=True)
class Sharpness(Result, kind="sharpness"):
    """A rise of the loss near the model's parameters, and how it was found."""

    value: float  # keskar: per cent of 1 + loss; sam: unit of the loss
    method: Method
    radius: float  # keskar: epsilon, half the box's side relative to |w| + 1; sam: rho, length of the step
    loss: float  # at the parameters
    highest_loss: float  # keskar: the highest found in the box; sam: after the step
    evaluations: int  # of loss and gradient over all data
    converged: bool  # keskar: the best climb came to rest; sam: always


@checked
@with_options(ProblemOptions)
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
    **options: Unpack[ProblemOptions],
) -> Sharpness:
    r"""Measure how much the loss rises close to the model's parameters.

    ``keskar``: the highest loss in a box around the parameters w, in per cent,

    .. math:: \varphi = 100\, \frac{\max_{z \in C_\epsilon} L(w + z) - L(w)}{1 + L(w)}, \qquad
              C_\epsilon = \{ z : |z_i| \le \epsilon (|w_i| + 1) \}

    The maximum is sought from the centre and from random points of the box (at a minimum the centre has no slope), by
    going to the corner that is best for the loss linearised at the last one, until that is the same corner: where
    the loss is convex in the box no step goes down. On trained digits this finds up to 8 times as much as the paper's
    L-BFGS-B with as many evaluations, and the same in float32 as in float64. Every such search finds local maxima,
    so the value is a lower bound of the one defined.

    ``sam``: the rise over one step of length :math:`\rho` up the gradient,

    .. math:: L\big(w + \rho\, \nabla L / \lVert \nabla L \rVert \big) - L(w)

    Args:
        model: any module, measured in the mode it is in; frozen parameters do not move.
        loss: maps (outputs, targets) to a scalar mean over samples.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches.
        method: which of the two.
        radius: epsilon (None: 1e-3, as the paper) or rho (None: 0.05, as the paper).
        starts: keskar only: the centre and ``starts - 1`` random points.
        iterations: keskar only: steps of each climb; the paper takes 10.
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
    whole = objective(model, loss, data, **options)
    radius = {"keskar": 1e-3, "sam": 0.05}[method] if radius is None else radius
    if not (radius > 0 and starts >= 1 and iterations >= 1):
        raise SettingError(
            f"expected a positive radius and at least one start and iteration, got radius={radius}, starts={starts}, "
            f"iterations={iterations}."
        )
    return _sam(whole, radius) if method == "sam" else _keskar(whole, radius, starts, iterations, seed)


def _sam(whole: Objective, rho: float) -> Sharpness:
    before, gradient = loss_and_gradient(whole)
    check_finite("the loss", before, whole)
    length = sum(float(g.double().pow(2).sum()) for g in gradient.values()) ** 0.5
    check_finite("the gradient", length, whole, partial(where, whole, 1))
    if length == 0:
        raise BadModel(
            "expected a gradient to step along, but it is exactly zero here. Use method='keskar', which needs none."
        )
    step = torch.cat([(rho / length * g).flatten() for g in gradient.values()])
    after = _loss(whole, whole.unflatten(_moved(whole.vector, step)))
    return Sharpness(after - before, "sam", rho, before, after, 2, True)


def _moved(centre: Tensor, step: Tensor) -> Tensor:
    """The parameters a step away, if their numbers can hold so small a step."""
    moved = (centre + step).to(centre.dtype)
    if float((moved.double() - centre.double() - step.double()).norm()) > 0.01 * float(step.double().norm()):
        raise SettingError(
            f"expected a radius that weights of type {centre.dtype} can resolve, but rounding eats more than 1 % of "
            f"the step. {WIDER.get(centre.dtype, 'Pass')} a larger radius."
        )
    return moved


def _loss(whole: Objective, parameters: Mapping[str, Tensor]) -> float:
    with preserve_rng(), torch.set_grad_enabled(whole.grad_in_loss):
        return sum(share * float(whole.batch_loss(parameters, batch).detach()) for batch, share in whole.batches())


def _keskar(whole: Objective, epsilon: float, starts: int, iterations: int, seed: int) -> Sharpness:
    centre = whole.vector
    sides = epsilon * (centre.abs() + 1)
    _moved(centre, sides)
    base = _loss(whole, whole.unflatten(centre))
    check_finite("the loss", base, whole)
    if base <= -1:
        raise BadLoss(
            f"expected a loss above -1, which Keskar's measure divides by 1 plus, got {base}. Use method='sam', or "
            "add a constant to the loss."
        )
    generator = torch.Generator().manual_seed(named_seed(seed, "starts"))
    random = (2 * torch.rand(starts - 1, len(centre), generator=generator, dtype=torch.float64) - 1).to(centre)
    climbs = [_climb(whole, centre, sides, z, iterations) for z in (torch.zeros_like(centre), *random)]
    highest, converged, _ = max(climbs)
    highest = max(highest, base)  # rounding: the first climb starts at the centre
    evaluations = 1 + sum(count for _, _, count in climbs)
    return Sharpness(100 * (highest - base) / (1 + base), "keskar", epsilon, base, highest, evaluations, converged)


def _climb(whole: Objective, centre: Tensor, sides: Tensor, z: Tensor, iterations: int) -> tuple[float, bool, int]:
    """Highest loss from ``z`` (in units of the box) on, whether the climb came to rest, and evaluations."""
    highest = -math.inf
    for count in range(1, iterations + 2):
        value, gradient = loss_and_gradient(whole, whole.unflatten(centre + sides * z))
        highest = max(highest, value)
        slope = torch.cat([g.flatten() for g in gradient.values()])
        corner = torch.where(slope == 0, z, slope.sign().to(z))
        if torch.equal(corner, z):
            return highest, True, count
        z = corner
    return highest, False, iterations + 1
