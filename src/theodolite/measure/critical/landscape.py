"""The loss of a network and its first two derivatives, exact and in float64, at many parameter vectors at once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from theodolite.measure.dense import dense_hessians
from theodolite.measure.objective import Objective, loops_allowed, untouched
from theodolite.measure.perceptron import Perceptron, derivatives, perceptron

CHUNK = 2**21  # numbers in the largest intermediate tensor of one chunk: beyond it, a core's cache no longer helps
AGREEMENT = 1e-9  # relative: rounding stays far below, a wrong formula far above


@dataclass(frozen=True, slots=True)
class Landscape:
    """L(θ) = data loss + ½ weight_decay ‖θ‖²."""

    objective: Objective  # in float64
    weight_decay: float
    net: Perceptron | None  # where the closed form was checked against PyTorch's own derivatives
    path: str  # how the Hessian is computed: "closed form", or as dense_hessians says

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return self.objective.size

    def __call__(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss ``(S,)``, gradient ``(S, P)`` and Hessian ``(S, P, P)`` at vectors ``(S, P)``."""
        loss, gradient, hessian = self._of_data(vectors)
        loss = loss + 0.5 * self.weight_decay * (vectors * vectors).sum(1)
        hessian.diagonal(dim1=1, dim2=2).add_(self.weight_decay)
        return loss, gradient + self.weight_decay * vectors, hessian

    def _of_data(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.net is None:
            found = dense_hessians(self.objective, vectors)
            return found.loss, found.gradient, found.hessian
        return _closed_form(self.objective, self.net, vectors)


def landscape(objective: Objective, weight_decay: float) -> Landscape:
    """Choose how to compute: in closed form where the model has one and it agrees with PyTorch's, here and now."""
    objective = objective.to(torch.float64)
    noise = torch.Generator().manual_seed(0)
    points = objective.vector + torch.tensor([[0.0], [0.5]]).double() * torch.randn(
        2, objective.size, generator=noise, dtype=torch.float64
    ).to(objective.vector)
    truth = dense_hessians(objective, points)
    net = perceptron(objective)
    if net is not None and _agrees(objective, net, points, (truth.loss, truth.gradient, truth.hessian)):
        return Landscape(objective, weight_decay, net, "closed form")
    return Landscape(objective, weight_decay, None, truth.path)


def _agrees(objective: Objective, net: Perceptron, points: Tensor, truth: tuple[Tensor, ...]) -> bool:
    try:
        own = _closed_form(objective, net, points)
    except (RuntimeError, TypeError, ValueError):  # inputs or a loss that the closed form does not know
        return False
    return all(bool((a - b).abs().max() <= AGREEMENT * b.abs().max()) for a, b in zip(own, truth, strict=True))


def _closed_form(objective: Objective, net: Perceptron, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    S, P = vectors.shape
    widest = (max(net.widths) + 1) ** 2
    loss, gradient, hessian = vectors.new_zeros(S), vectors.new_zeros(S, P), vectors.new_zeros(S, P, P)
    with untouched(), loops_allowed():
        for batch, share in objective.batches():
            chunk = max(1, CHUNK // (round(share * objective.samples) * widest + P * P))
            for at in range(0, S, chunk):
                part = slice(at, at + chunk)
                for total, value in zip((loss, gradient, hessian), derivatives(net, vectors[part], batch), strict=True):
                    total[part].add_(value, alpha=share)
    return loss, gradient, (hessian + hessian.mT) / 2
