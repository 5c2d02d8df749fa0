"""The loss of a network and its first two derivatives, exact and in float64, at many parameter vectors at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from theodolite.errors import SettingError
from theodolite.measure.critical.mlp_hessian import Perceptron, derivatives, perceptron
from theodolite.measure.critical.orbit import orbit_size
from theodolite.measure.curvature.dense import dense_hessians
from theodolite.measure.problem.batches import Batch
from theodolite.measure.problem.isolation import preserve_rng
from theodolite.measure.problem.objective import Objective
from theodolite.streams import named_seed

SecondOrder = tuple[Tensor, Tensor, Tensor]  # loss (S,), gradient (S, P), Hessian (S, P, P)
Batches = Sequence[tuple[Batch, float]]

CHUNK_ENTRIES = 2**19  # numbers in the largest intermediate tensor of one chunk: four times as many cost twice the time
AGREEMENT = 1e-9  # relative: rounding stays far below, a wrong formula far above


@dataclass(frozen=True, slots=True)
class Landscape:
    """L(θ) = data loss + ½ weight_decay ‖θ‖²."""

    objective: Objective  # in float64
    weight_decay: float
    backend: str  # how the Hessian is computed: "closed form", or as dense_hessians says
    net: Perceptron | None = None  # where the closed form was checked against PyTorch's own derivatives
    batches: Batches = ()  # that it takes, read once, with their shares of the samples

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return self.objective.size

    def __call__(self, vectors: Tensor) -> SecondOrder:
        """Loss ``(S,)``, gradient ``(S, P)`` and Hessian ``(S, P, P)`` at vectors ``(S, P)``."""
        loss, gradient, hessian = (part.detach() for part in self._of_data(vectors.detach()))
        loss = loss + 0.5 * self.weight_decay * (vectors * vectors).sum(1)
        hessian.diagonal(dim1=1, dim2=2).add_(self.weight_decay)
        return loss, gradient + self.weight_decay * vectors, hessian

    def orbit_size(self, vector: Tensor) -> int:
        """How many copies a point ``(P,)`` has by permutation and sign of hidden units, itself included.

        Raises:
            SettingError: the model is no perceptron of known layers.
        """
        if self.net is None:
            raise SettingError(
                "expected a perceptron, whose hidden units may change places and signs, got another model. Count the "
                "points themselves."
            )
        return orbit_size(self.net, vector)

    def _of_data(self, vectors: Tensor) -> SecondOrder:
        if self.net is None:
            found = dense_hessians(self.objective, vectors)
            return found.loss, found.gradient, found.hessian
        return _closed_form(self.net, self.batches, vectors)


def landscape(objective: Objective, weight_decay: float) -> Landscape:
    """The loss of an objective with its exact first two derivatives at many vectors at once; small models.

    They are computed in closed form where the model has one and it agrees with PyTorch's, here and now.

    Args:
        objective: model, loss and data, as :func:`~theodolite.measure.problem.join.objective` joins them.
        weight_decay: adds ½ ``weight_decay`` ‖θ‖², in units of loss per squared weight.

    Example:
        >>> from theodolite.measure.parts import objective
        >>> data = torch.eye(2).double(), torch.zeros(2, 1).double()
        >>> whole = objective(torch.nn.Linear(2, 1, bias=False).double(), torch.nn.MSELoss(), data)
        >>> loss, gradient, hessian = landscape(whole, 0.0)(torch.tensor([[3.0, 4.0], [0.0, 0.0]]).double())
        >>> loss.tolist(), gradient.tolist()  # (θ₁² + θ₂²) / 2
        ([12.5, 0.0], [[3.0, 4.0], [0.0, 0.0]])
    """
    objective = objective.to(torch.float64)
    noise = torch.Generator().manual_seed(named_seed(0, "agreement of landscapes"))
    points = objective.vector + torch.tensor([[0.0], [0.5]]).double() * torch.randn(
        2, objective.size, generator=noise, dtype=torch.float64
    ).to(objective.vector)
    truth = dense_hessians(objective, points)
    net = perceptron(objective)
    if net is not None:
        with preserve_rng():
            batches = tuple(objective.batches())
        if _agrees(net, batches, points, (truth.loss, truth.gradient, truth.hessian)):
            return Landscape(objective, weight_decay, "closed form", net, batches)
    return Landscape(objective, weight_decay, truth.backend)


def _agrees(net: Perceptron, batches: Batches, points: Tensor, truth: SecondOrder) -> bool:
    try:
        own = _closed_form(net, batches, points)
    except (RuntimeError, TypeError, ValueError, AttributeError):  # inputs or a loss that the closed form does not know
        return False
    return all(bool((a - b).abs().max() <= AGREEMENT * b.abs().max()) for a, b in zip(own, truth, strict=True))


def _closed_form(net: Perceptron, batches: Batches, vectors: Tensor) -> SecondOrder:
    samples = max(len(inputs) for (inputs, _), _ in batches)
    numbers = samples * (max(net.widths) + 1) ** 2 + vectors.shape[1] ** 2
    parts = vectors.chunk(max(1, -(-len(vectors) * numbers // CHUNK_ENTRIES)))
    if len(parts) == 1:
        return _over_batches(net, batches, vectors)
    loss, gradient, hessian = zip(*(_over_batches(net, batches, part) for part in parts), strict=True)
    return torch.cat(loss), torch.cat(gradient), torch.cat(hessian)


def _over_batches(net: Perceptron, batches: Batches, vectors: Tensor) -> SecondOrder:
    (first, share), *others = batches
    total = derivatives(net, vectors, first)
    if not others:
        return total
    for value in total:
        value.mul_(share)
    for batch, share in others:
        for summed, value in zip(total, derivatives(net, vectors, batch), strict=True):
            summed.add_(value, alpha=share)
    return total
