"""The null of Figure 8: critical points of a smooth random function, found as those of a network are."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from theodolite.measure import find_critical_points
from theodolite.models import MLP
from theodolite.streams import named_seed


class _Field(nn.Module):
    r"""A Gaussian random field with the covariance :math:`\exp(-\lVert\theta - \theta'\rVert^2 / 2)`, nearly.

    Source: Rahimi and Recht 2007, "Random Features for Large-Scale Kernel Machines".
    """

    waves: Tensor
    phases: Tensor

    def __init__(self, size: int, features: int, chance: torch.Generator) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(size, dtype=torch.float64))
        self.register_buffer("waves", torch.randn(features, size, generator=chance, dtype=torch.float64))
        self.register_buffer("phases", 2 * np.pi * torch.rand(features, generator=chance, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        value: Tensor = torch.cos(self.waves @ self.theta + self.phases).sum() * (2 / len(self.phases)) ** 0.5
        return value


def random_field(settings: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """Certified points of a smooth random function with as many dimensions as a network has: what chance alone gives.

    Amplitude and length are 1: they set the units of loss and weights, which a rank correlation does not see, and the
    weight decay is then so weak that the field rules.
    """
    widths, decay = settings["widths"], settings["weight_decay"]
    size = MLP(inputs=widths[0], hidden=tuple(widths[1:-1]), outputs=widths[-1]).parameters
    model = _Field(size, settings["features"], torch.Generator().manual_seed(named_seed(seed, f"field {size}")))
    nothing = torch.zeros(1, 1, dtype=torch.float64)
    found = find_critical_points(
        model, lambda outputs, _: outputs, (nothing, nothing), settings["starts"],
        weight_decay=decay, steps=settings["steps"], seed=named_seed(seed, "starts on the field"),
    )  # fmt: skip
    rows = [
        {"loss": p.loss, "positive": p.minimal_ratio, "index": p.index, "parameters": size} for p in found.distinct()
    ]
    return pd.DataFrame(rows, columns=["loss", "positive", "index", "parameters"])
