"""Sharpness-aware minimisation around any optimizer."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.optim import Optimizer

TINY = 1e-12  # where the gradient is zero there is no worst direction


class SharpnessAware(Optimizer):
    """At each step: up by ``rho`` along the gradient of all parameters, the gradient there, back, the base's step."""

    def __init__(self, base: Optimizer, rho: float) -> None:
        super().__init__([p for group in base.param_groups for p in group["params"]], {})
        self.base, self.rho = base, rho
        self.param_groups = base.param_groups  # one list: whoever sets a learning rate sets the base's

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Returns the loss where the step began; the closure is called twice."""
        with torch.enable_grad():
            loss = closure()
        moved = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        before = [p.clone() for p in moved]
        gradients = [p.grad for p in moved]
        scale = self.rho / (torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients])) + TINY)
        for parameter, gradient in zip(moved, gradients, strict=True):
            parameter.add_(gradient * scale)
        with torch.enable_grad():
            closure()
        for parameter, value in zip(moved, before, strict=True):
            parameter.copy_(value)
        self.base.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The base's, which has all that lasts from step to step."""
        return self.base.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from it."""
        self.base.load_state_dict(dict(state_dict))
        self.param_groups = self.base.param_groups  # new ones
