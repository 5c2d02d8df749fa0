"""theodolite/measure/problem/plain.py: what calls of a model, with gradients and without, show of it."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from theodolite.measure.curvature.operator import HessianOperator
from theodolite.measure.problem.join import objective

DATA = torch.randn(12, 5, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3


class Apart(nn.Module):
    """Other outputs where no gradient is recorded, by so much of their size; no plain chain of layers."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
        self.by = by

    def forward(self, x):
        out = self.layers(x) + x[:, :3]
        return out if torch.is_grad_enabled() else out * (1 + self.by)


@pytest.mark.parametrize(("by", "takes_gradients"), [(0.0, False), (4 * torch.finfo().eps, False), (1e-3, True)])
def test_rounding_of_another_kernel_is_no_sign_of_gradients_within_the_loss(by, takes_gradients):
    torch.manual_seed(0)
    model = Apart(by)
    assert objective(model, cross_entropy, DATA).grad_in_loss is takes_gradients
    way = "kept graph" if takes_gradients else "operation by operation"
    assert HessianOperator(model, cross_entropy, DATA).backend == way


def test_in_lower_precision_only_the_same_number_is_the_same():
    torch.manual_seed(0)
    model = Apart(8 * torch.finfo(torch.bfloat16).eps).to(torch.bfloat16)
    inputs, targets = DATA[0].to(torch.bfloat16), DATA[1]
    assert objective(model, cross_entropy, (inputs, targets)).grad_in_loss
