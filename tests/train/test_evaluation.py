"""Evaluation in fused steps, against the same layers one by one in float64."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, cross_entropy, max_pool2d

from theodolite.models import CNN, build
from theodolite.models.pool import HalvingPool
from theodolite.study import Training
from theodolite.train import Split
from theodolite.train.convolution import MANY, ConvolutionAndPool, fits
from theodolite.train.evaluation import FUSED, evaluate, in_steps

SIDE = 8
LAYOUTS = (torch.contiguous_format, torch.channels_last)


def images(samples: int, channels: int = 3) -> Split:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randn(samples, channels, SIDE, SIDE, generator=draw)
    return Split(pixels, torch.randint(4, (samples,), generator=draw))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("channels", "outputs", "height", "width", "bound"),
    [
        (3, 30, 8, 12, 1e-6),
        (30, 12, 7, 9, 1e-6),  # odd sides: the last row and column reach no pool
        (1, 8, 2, 2, 1e-6),
        (MANY, MANY, 6, 8, 1e-6),  # not tiles of four
        (MANY, MANY, 8, 4, 1e-5),
        (MANY + 3, MANY + 9, 12, 16, 1e-5),
    ],
)
def test_one_step_is_a_convolution_and_its_pool(channels, outputs, height, width, bound, bias, layout):
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, outputs, 3, padding=1, bias=bias).to(memory_format=layout)
    x = torch.randn(3, channels, height, width).to(memory_format=layout)
    exact = copy.deepcopy(layer).double()
    expected = max_pool2d(conv2d(x.double(), exact.weight, exact.bias, padding=1), 2)
    with torch.inference_mode():
        found = ConvolutionAndPool(layer)(x)
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= bound * expected.abs().max()


def test_a_pixel_that_is_not_a_number_stays_one():
    layer = nn.Conv2d(MANY, MANY, 3, padding=1)
    x = torch.zeros(2, MANY, 8, 8)
    x[1, 5, 3, 3] = torch.nan
    with torch.inference_mode():
        found = ConvolutionAndPool(layer)(x)
    assert not found[0].isnan().any()
    assert found[1, :, 1, 1].isnan().all()


class Branched(nn.Module):
    """A user's own: no chain of layers."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(3, 5, 1)
        self.last = nn.Linear(5 * 16, 4)

    def forward(self, x):
        return self.last(max_pool2d(self.one(x) + self.other(x), 2).flatten(1))


def convolution(channels, outputs, **settings):
    return nn.Conv2d(channels, outputs, 3, padding=1, **settings)


HEAD = (nn.Flatten(), nn.Linear(5 * 16, 4))
# Networks, and how many of their steps are a convolution and a pool.
NETWORKS = {
    "ours": (lambda: build(CNN(image=(3, SIDE, SIDE), channels=(5, 30), hidden=(7,), outputs=4)), 2),
    "many channels": (lambda: build(CNN(image=(3, SIDE, SIDE), channels=(MANY, MANY), outputs=4)), 2),
    "GELU, which comes before the pool": (
        lambda: build(CNN(image=(3, SIDE, SIDE), channels=(5,), outputs=4, activation="gelu")),
        0,
    ),
    "BatchNorm": (lambda: build(CNN(image=(3, SIDE, SIDE), channels=(5,), outputs=4, batch_norm=True)), 0),
    "Dropout": (
        lambda: nn.Sequential(convolution(3, 5), nn.MaxPool2d(2), nn.Dropout2d(0.5), *HEAD[:1], nn.Dropout(), HEAD[1]),
        1,
    ),
    "no Flatten": (lambda: nn.Sequential(convolution(3, 5), nn.MaxPool2d(2), nn.Conv2d(5, 4, 4), nn.Flatten()), 1),
    "a user's own": (Branched, 0),
    "stride": (lambda: nn.Sequential(convolution(3, 5, stride=2), nn.MaxPool2d(1), *HEAD), 0),
    "groups": (lambda: nn.Sequential(convolution(3, 6, groups=3), nn.MaxPool2d(2), nn.Conv2d(6, 5, 1), *HEAD), 0),
    "reflection": (lambda: nn.Sequential(convolution(3, 5, padding_mode="reflect"), nn.MaxPool2d(2), *HEAD), 0),
    "overlapping pool": (lambda: nn.Sequential(convolution(3, 5), nn.MaxPool2d(3, 2, 1), *HEAD), 0),
    "weights made anew": (
        lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(convolution(3, 5)), nn.MaxPool2d(2), *copy.deepcopy(HEAD)
        ),
        0,
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_score_is_that_of_the_plain_network(name, layout):
    make, fused = NETWORKS[name]
    torch.manual_seed(1)
    model = make().to(memory_format=layout)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
    data = images(FUSED * 2 + 5)
    if isinstance(model, nn.Sequential):
        steps, _ = in_steps(list(model), fuse=True)
        assert sum(isinstance(step, ConvolutionAndPool) for step in steps) == fused
    exact = copy.deepcopy(model).double().eval()
    outputs = exact(data.inputs.double())
    laid = Split(data.inputs.to(memory_format=layout), data.targets)
    score = evaluate(model, laid, Training(loss="cross_entropy", epochs=0))
    assert score.loss == pytest.approx(cross_entropy(outputs, data.targets).item(), rel=1e-6)
    assert score.accuracy == (outputs.argmax(1) == data.targets).double().mean().item()


def test_more_images_than_a_chunk_are_all_counted():
    model = build(CNN(image=(3, SIDE, SIDE), channels=(5,), outputs=4), seed=0)
    data = images(1100)
    score = evaluate(model, data, Training(loss="cross_entropy", epochs=0))
    assert score.loss == pytest.approx(cross_entropy(model(data.inputs), data.targets).item(), rel=1e-6)


def test_weights_are_those_of_the_moment():
    model = build(CNN(image=(3, SIDE, SIDE), channels=(MANY, MANY), outputs=4), seed=0)
    other = build(CNN(image=(3, SIDE, SIDE), channels=(MANY, MANY), outputs=4), seed=1)
    training, data = Training(loss="cross_entropy", epochs=0), images(40)
    first, expected = evaluate(model, data, training), evaluate(other, data, training)
    model.load_state_dict(other.state_dict())
    assert evaluate(model, data, training) == expected != first


@pytest.mark.parametrize("place", [None, 0, 1])
def test_hooks_are_called(place):
    model = build(CNN(image=(3, SIDE, SIDE), channels=(5,), outputs=4), seed=0)
    calls = []
    watched = model if place is None else model[place]
    watched.register_forward_hook(lambda *_: calls.append(1))
    evaluate(model, images(3), Training(loss="cross_entropy", epochs=0))
    assert calls == [1]


def test_a_network_on_another_device_or_in_another_type_is_left_alone():
    pool = HalvingPool(2)
    assert fits(convolution(3, 5), pool)
    assert not fits(convolution(3, 5, device="meta"), pool)
    assert not fits(convolution(3, 5, dtype=torch.float64), pool)
    assert not fits(convolution(3, 5), nn.AvgPool2d(2))
