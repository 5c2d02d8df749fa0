"""Three hidden units that are to fit a cosine: ten parameters, few enough for critical points."""

import torch
from torch import nn


def make() -> nn.Module:
    """The network, in double precision, as certificates need it."""
    return nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1)).double()


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """64 points of the cosine."""
    inputs = torch.linspace(-3, 3, 64, dtype=torch.double)[:, None]
    return inputs, torch.cos(inputs)
