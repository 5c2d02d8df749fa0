"""Models as people have them, on real pictures of digits: what is measured, what is left out, and what is refused."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import oracles
from theodolite import measure
from theodolite.errors import NotDeterministic


class Block(nn.Module):
    """Two convolutions with BatchNorm, and the way round them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x):
        return torch.relu(x + self.inner(x))


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(16, 10)
    )


def resnet():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), Block(4), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 10)
    )


def problem(make, dtype=torch.float64):
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images[:60] / 16, dtype=dtype).view(-1, 1, 8, 8), torch.tensor(labels[:60])
    model = make().to(dtype)
    for _ in range(3):
        model(x)
    return model, nn.CrossEntropyLoss(), [(x[:40], y[:40]), (x[40:], y[40:])]


def dense_product(model, loss, batches, v):
    parameters = oracles.trainable(model)
    slope = torch.autograd.grad(oracles.total_loss(model, loss, batches), parameters, create_graph=True)
    parts = torch.autograd.grad(torch.cat([s.flatten() for s in slope]) @ v, parameters)
    return torch.cat([part.flatten() for part in parts])


@pytest.mark.parametrize("make", [cnn, resnet])
@pytest.mark.parametrize("training", [False, True])
def test_networks_with_batch_norm_in_both_modes(make, training):
    model, loss, batches = problem(make)
    model.train(training)
    v = torch.randn(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    H = measure.HessianOperator(model, loss, batches)
    found, expected = H @ v, dense_product(model, loss, batches, v)
    assert float((found - expected).norm() / expected.norm()) < 1e-8


def test_dropout_is_refused_in_training_and_measured_in_evaluation():
    model, loss, batches = problem(lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64, 10)))
    with pytest.raises(NotDeterministic, match="eval"):
        measure.hessian_trace(model.train(), loss, batches)
    assert measure.hessian_trace(model.eval(), loss, batches).value > 0


def test_frozen_layers_are_left_out_and_the_count_says_so():
    model, loss, batches = problem(cnn)
    model.eval()[0].requires_grad_(False)
    trace = measure.hessian_trace(model, loss, batches)
    assert trace.parameters == sum(p.numel() for p in model.parameters()) - 40
    assert f"{trace.parameters}" in repr(trace)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_low_precision_is_the_curvature_at_the_rounded_weights(dtype):
    model, loss, batches = problem(cnn, dtype)
    model.eval()
    narrow = measure.hessian_eigenvalues(model, loss, batches, k=1)
    wide = [(x.double(), y) for x, y in batches]
    exact = measure.hessian_eigenvalues(model.double(), loss, wide, k=1, tolerance=1e-8)
    # Residual, and a thousand units of the last place of float32, in which bfloat16 weights are computed as well.
    bound = float(narrow.residuals[0]) + 1000 * torch.finfo(torch.float32).eps * float(exact.eigenvalues[0])
    assert abs(float(narrow.eigenvalues[0] - exact.eigenvalues[0])) < bound


def test_layer_by_layer_traces_add_up_to_the_whole():
    model, loss, batches = problem(cnn)
    model.eval()
    whole = measure.hessian_trace(model, loss, batches, products=3 * 300).value
    layers = [
        measure.hessian_trace(model, loss, batches, products=3 * 300, parameters=f"{n}.*").value for n in (0, 1, 5)
    ]
    assert sum(layers) == pytest.approx(whole, rel=1e-8)
