r"""How an optimizer of PyTorch's steps, as far as its stability on a quadratic loss goes.

Each is gradient descent with a positive diagonal P in front and one kind of momentum. On a loss of curvature h along a
direction that P scales by p, with the step η and all else held, a step of weight and momentum is a 2 x 2 matrix, whose
eigenvalues leave the unit circle through -1 where :math:`h / p` passes the edge:

| optimizer | edge of :math:`\eta h / p` |
| --- | --- |
| gradient descent | 2 |
| heavy ball μ, dampening d | :math:`2 (1 + \mu) / (1 - d)` |
| Nesterov's μ | :math:`2 (1 + \mu) / (1 + 2 \mu)` |
| Adam, with an average of gradients β₁ | :math:`2 (1 + \beta_1) / (1 - \beta_1)` |
| decoupled weight decay w beside it | :math:`(2 - \eta w) (1 + \beta_1) / (1 - \beta_1)` |

Weight decay that is added to the gradient is curvature of the loss itself, h + w.

Source: Cohen et al. 2021, "Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability", appendix B;
Cohen et al. 2022, "Adaptive Gradient Methods at the Edge of Stability", section 3.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from theodolite.errors import SettingError

Group = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Steps:
    """How an optimizer steps from where it is, a number for each of P parameters."""

    diagonal: Tensor  # (P,) float64, p > 0; 1 where gradients are not scaled
    rate: Tensor  # (P,) float64, η > 0
    decay: Tensor  # (P,) float64, weight decay that is added to the gradient
    edge: float  # of η h / p: the smallest over all parameters
    last_edge: float  # the largest, which decoupled weight decay of some parameters alone sets apart


def steps_of(optimizer: Optimizer, own: Mapping[str, nn.Parameter]) -> Steps:
    """How an optimizer steps the parameters of these names.

    Raises:
        SettingError: an optimizer of another kind, without a state yet, or that has not all parameters; or parameters
            with different momentum.
    """
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    parts: list[tuple[Tensor, float, float]] = []
    edges: set[float] = set()
    momenta: set[tuple[float, ...]] = set()
    for name, parameter in own.items():
        group = groups.get(id(parameter))
        if group is None:
            raise SettingError(
                f"expected an optimizer of this model's parameters, but it does not have '{name}'. Pass the one that "
                "trains the model; or parameters='NAME.*', or requires_grad=False for what it leaves as it is."
            )
        if group.get("maximize"):
            raise SettingError("expected an optimizer that minimises, got maximize=True. Measure the negative loss.")
        rate = float(group["lr"])
        if not rate > 0:
            raise SettingError(f"expected a learning rate above 0, got {rate} for '{name}'. Set it in the optimizer.")
        diagonal = _diagonal(optimizer, group, name, parameter)
        edge, momentum = _edge(optimizer, group)
        decoupled = isinstance(optimizer, Adam) and _is_decoupled(optimizer, group)
        decay = float(group["weight_decay"])
        edges.add(edge * (1 - rate * decay / 2) if decoupled else edge)
        momenta.add(momentum)
        parts.append((diagonal.flatten().double(), rate, 0.0 if decoupled else decay))
    if len(momenta) > 1:
        raise SettingError(
            f"expected one momentum for all parameters, got {sorted(momenta)}: they have no one edge. Measure each "
            "group alone: parameters='NAME.*'."
        )
    spread = [torch.full_like(diagonal, value) for diagonal, *values in parts for value in values]
    return Steps(
        diagonal=torch.cat([diagonal for diagonal, _, _ in parts]),
        rate=torch.cat(spread[::2]),
        decay=torch.cat(spread[1::2]),
        edge=min(edges),
        last_edge=max(edges),
    )


def _diagonal(optimizer: Optimizer, group: Group, name: str, parameter: nn.Parameter) -> Tensor:
    if isinstance(optimizer, SGD):
        return torch.ones_like(parameter.detach())
    rule = next((rule for kind, rule in SCALED.items() if isinstance(optimizer, kind)), None)
    if rule is None:
        raise SettingError(
            f"expected SGD, Adam, AdamW or RMSprop, got {type(optimizer).__name__}. Pass the positive diagonal of its "
            "preconditioner, (P,): preconditioner=TENSOR."
        )
    state = optimizer.state.get(parameter)
    if not state:
        raise SettingError(
            f"expected an optimizer that has taken a step, but {type(optimizer).__name__} has no state for '{name}' "
            "yet. Measure after optimizer.step(), or after optimizer.load_state_dict(…)."
        )
    return rule(group, state)


def _of_adam(group: Group, state: Mapping[str, Any]) -> Tensor:
    """(1 - β₁ᵗ) (√v̂ + ε), the bias correction of the first moment with it."""
    first, second = map(float, group["betas"])
    step = float(state["step"])
    moment: Tensor = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
    root = (moment.double() / (1 - second**step)).sqrt()
    diagonal: Tensor = (1 - first**step) * (root + float(group["eps"]))
    return diagonal


def _of_rmsprop(group: Group, state: Mapping[str, Any]) -> Tensor:
    mean: Tensor = state["square_avg"].double()
    if group["centered"]:
        mean = mean - state["grad_avg"].double().square()
    return mean.clamp(min=0).sqrt() + float(group["eps"])


SCALED: dict[type[Optimizer], Callable[[Group, Mapping[str, Any]], Tensor]] = {
    Adam: _of_adam,
    AdamW: _of_adam,
    RMSprop: _of_rmsprop,
}


def _edge(optimizer: Optimizer, group: Group) -> tuple[float, tuple[float, ...]]:
    """The edge of η h / p without decoupled weight decay, and the settings that it follows from."""
    if isinstance(optimizer, Adam):
        first = float(group["betas"][0])
        return 2 * (1 + first) / (1 - first), (first,)
    momentum = float(group["momentum"])
    if isinstance(optimizer, SGD) and momentum:
        dampening = float(group["dampening"])
        divisor = 1 + 2 * momentum if group["nesterov"] else 1 - dampening
        return 2 * (1 + momentum) / divisor, (momentum, dampening, float(group["nesterov"]))
    return 2 * (1 + momentum), (momentum,)


def _is_decoupled(optimizer: Optimizer, group: Group) -> bool:
    return bool(group.get("decoupled_weight_decay", isinstance(optimizer, AdamW)))
