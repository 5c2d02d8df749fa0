"""The operator's own check: it finds a wrong layer by name, and lets right ones pass whatever their kinks."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from theodolite.errors import CheckFailed, NotDifferentiable
from theodolite.measure import HessianOperator, hessian_eigenvalues


class Slope(torch.autograd.Function):
    """cos, but with a derivative (the sine's second) that is off by a factor."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.save_for_backward(x)
        ctx.factor = factor
        return torch.cos(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return -g * ctx.factor * torch.sin(x), None


class Sine(torch.autograd.Function):
    """Values and first derivatives right, second ones off by a factor."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.save_for_backward(x)
        ctx.factor = factor
        return torch.sin(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * Slope.apply(x, ctx.factor), None


class Wave(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return Sine.apply(x, self.factor)


def problem(*middle, dtype=torch.float64, samples=20):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), *middle, nn.Linear(6, 3)).to(dtype)
    return model, nn.CrossEntropyLoss(), (torch.randn(samples, 4, dtype=dtype), torch.randint(0, 3, (samples,)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("operator", ["hessian", "ggn"])
def test_a_right_layer_passes(dtype, operator):
    assert HessianOperator(*problem(Wave(1.0), dtype=dtype), operator=operator).check < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("factor", [1.05, 0.0, -1.0])
def test_a_wrong_second_derivative_is_found_and_the_layer_named(dtype, factor):
    with pytest.raises(CheckFailed, match=r"layer '2' \(Wave\)"):
        HessianOperator(*problem(nn.Tanh(), Wave(factor), nn.ReLU(), dtype=dtype))


def test_every_instrument_on_it_refuses():
    with pytest.raises(CheckFailed, match="Wave"):
        hessian_eigenvalues(*problem(Wave(1.2)), k=1)


def test_a_wrong_loss_is_named():
    model, _, (x, y) = problem(nn.Tanh())

    def crooked(outputs, targets):
        return Sine.apply(outputs, 1.5).mean()

    with pytest.raises(CheckFailed, match=r"the loss \(crooked\)"):
        HessianOperator(model, crooked, (x, y))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kinks_are_not_mistaken_for_faults(dtype):
    for seed in range(5):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 32), nn.ReLU(), nn.Linear(32, 3)
        ).to(dtype)
        data = torch.randn(200, 1, 8, 8, dtype=dtype), torch.randint(0, 3, (200,))
        assert HessianOperator(model, nn.CrossEntropyLoss(), data).check < 1e-4


def test_a_loss_near_zero_is_not_mistaken_for_a_fault():
    """Its gradient is all rounding, 1e-16, and so are finite differences with a small step."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    x, y = torch.randn(20, 4).double(), torch.randint(0, 3, (20,))
    with torch.no_grad():
        margin = nn.functional.one_hot(y, 3).double()
    for scale in (5.0, 10.0, 20.0, 40.0):
        H = HessianOperator(model, lambda o, t, s=scale: functional.cross_entropy(o + s * margin, t), (x, y))
        assert torch.isfinite(H @ torch.ones(H.shape[0]).double()).all()


class Distances(nn.Module):
    """Distances to fixed points: PyTorch has no second derivative for cdist."""

    def forward(self, x):
        return torch.cdist(x, torch.ones(6, x.shape[1], dtype=x.dtype))


def test_what_pytorch_cannot_differentiate_twice_is_named_with_a_way_round():
    with pytest.raises(NotDifferentiable, match=r"layer '1' \(Distances\).*parameters="):
        HessianOperator(*problem(Distances()))


def test_the_way_round_works():
    model, loss, data = problem(Distances())
    assert HessianOperator(model, loss, data, parameters="2.*").check < 1e-5
