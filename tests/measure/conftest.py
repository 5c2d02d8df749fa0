"""A linear model with squared loss: everything about it is known in closed form."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LinearProblem:
    """L(W) = mean of (X Wᵀ - Y)² over 11 samples and 2 outputs, in batches of 5, 1 and 5."""

    model: nn.Linear
    X: Tensor
    Y: Tensor

    @property
    def weight(self) -> Tensor:
        return self.model.weight.detach()

    @property
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.X.split([5, 1, 5]), self.Y.split([5, 1, 5]), strict=True))

    def loss(self, W: Tensor) -> float:
        return float((self.X @ W.T - self.Y).pow(2).sum() / self.Y.numel())

    def gradient(self, W: Tensor) -> Tensor:
        return 2 / self.Y.numel() * (self.X @ W.T - self.Y).T @ self.X

    def at(self, W: Tensor) -> nn.Linear:
        other = nn.Linear(3, 2, bias=False, dtype=torch.float64)
        with torch.no_grad():
            other.weight.copy_(W)
        return other


@pytest.fixture
def linear() -> LinearProblem:
    generator = torch.Generator().manual_seed(7)
    X, Y, W = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((11, 3), (11, 2), (2, 3)))
    model = nn.Linear(3, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(W)
    return LinearProblem(model, X, Y)


class TwoCNNs(tuple):
    """(model, another, (inputs, classes)): small, with BatchNorm in evaluation mode whose statistics have moved."""

    @staticmethod
    def fresh() -> nn.Module:
        layers = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)
        return nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(16, 6), nn.Dropout(0.5), nn.Tanh(), nn.Linear(6, 3)
        ).double()


@pytest.fixture
def two_cnns() -> TwoCNNs:
    torch.manual_seed(3)
    data = torch.randn(12, 1, 4, 4, dtype=torch.float64), torch.randint(3, (12,))
    models = [TwoCNNs.fresh() for _ in range(2)]
    for number, model in enumerate(models):
        for _ in range(5):
            model(data[0] * (1 + number))
        model.eval()
    return TwoCNNs((*models, data))
