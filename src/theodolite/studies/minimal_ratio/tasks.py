"""The tasks of the study of the minimal ratio: the data that a seed draws, and the network that is to fit them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from theodolite import data
from theodolite.data import DataSpec
from theodolite.measure import find_critical_points
from theodolite.measure.parts import CriticalPoints, Objective, objective
from theodolite.models import MLP, build
from theodolite.streams import named_seed
from theodolite.studies.minimal_ratio.findings import COS, DIGITS
from theodolite.train import LOSSES

CLASSES = 3  # of digits


@dataclass(frozen=True)
class Problem:
    """One seed's data and the network that is to fit them."""

    architecture: MLP
    loss: Literal["mse", "cross_entropy"]
    inputs: Tensor  # (N, features) float64
    targets: Tensor  # (N, outputs) float64, or (N,) classes

    @property
    def data(self) -> tuple[Tensor, Tensor]:
        """What instruments take."""
        return self.inputs, self.targets

    def module(self, seed: int = 0) -> nn.Module:
        """The network at its initial weights."""
        return build(self.architecture, seed=seed, dtype=torch.float64)

    def objective(self) -> Objective:
        """The mean loss as a function of the weights."""
        return objective(self.module(), LOSSES[self.loss], self.data)

    def find(self, starts: int | Tensor, weight_decay: float, **how: Any) -> CriticalPoints:
        """The finder on this landscape."""
        return find_critical_points(
            self.module(), LOSSES[self.loss], self.data, starts, weight_decay=weight_decay, **how
        )


def problem(task: str, widths: Sequence[int], samples: int, seed: int) -> Problem:
    """The data that a seed draws for a task: inputs of mean 0 and variance about 1."""
    net = MLP(inputs=widths[0], hidden=tuple(widths[1:-1]), outputs=widths[-1], activation="tanh")
    chance = torch.Generator().manual_seed(named_seed(seed, "data"))
    if task == DIGITS:
        return Problem(net, "cross_entropy", *_digits(widths[0], samples, chance))
    if task == COS:
        x = 2 * torch.rand(samples, 1, generator=chance, dtype=torch.float64) - 1
        return Problem(net, "mse", 3**0.5 * x, torch.cos(np.pi * x))
    inputs, targets = (torch.randn(samples, n, generator=chance, dtype=torch.float64) for n in (widths[0], widths[-1]))
    return Problem(net, "mse", inputs, targets)


def _digits(components: int, samples: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images of three classes on the first principal components of all images of these classes."""
    from sklearn.decomposition import PCA  # a quarter of a second, which other uses of this file need not wait for

    digits = data.load(DataSpec(source="digits"))
    images, labels = torch.tensor(digits.inputs_as(np.float64, "train")).flatten(1), torch.tensor(digits.train_targets)
    chosen = torch.randperm(10, generator=chance)[:CLASSES]
    kept = torch.isin(labels, chosen)
    images, labels = images[kept], (labels[kept, None] == chosen).nonzero()[:, 1]
    projected = torch.from_numpy(PCA(components, svd_solver="full").fit_transform(images.numpy()))
    rows = torch.randperm(len(labels), generator=chance)[:samples]
    return (projected / projected.std())[rows], labels[rows]
