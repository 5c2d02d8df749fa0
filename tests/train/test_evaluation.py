"""Evaluation of images a few at once, against the whole set at once in float64."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, max_pool2d

from theodolite.models import CNN, build
from theodolite.study import Training
from theodolite.train import Split
from theodolite.train.evaluation import EVAL_IMAGES, evaluate

SIDE = 8
LAYOUTS = (torch.contiguous_format, torch.channels_last)


def images(samples: int, channels: int = 3) -> Split:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randn(samples, channels, SIDE, SIDE, generator=draw)
    return Split(pixels, torch.randint(4, (samples,), generator=draw))


class Branched(nn.Module):
    """A user's own: no chain of layers."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(3, 5, 1)
        self.last = nn.Linear(5 * 16, 4)

    def forward(self, x):
        return self.last(max_pool2d(self.one(x) + self.other(x), 2).flatten(1))


def convolution(channels, outputs):
    return nn.Conv2d(channels, outputs, 3, padding=1)


HEAD = (nn.Flatten(), nn.Linear(5 * 16, 4))
NETWORKS = {
    "ours": lambda: build(CNN(image=(3, SIDE, SIDE), channels=(5, 30), hidden=(7,), outputs=4)),
    "GELU, which comes before the pool": lambda: build(
        CNN(image=(3, SIDE, SIDE), channels=(5,), outputs=4, activation="gelu")
    ),
    "BatchNorm": lambda: build(CNN(image=(3, SIDE, SIDE), channels=(5,), outputs=4, batch_norm=True)),
    "Dropout": lambda: nn.Sequential(
        convolution(3, 5), nn.MaxPool2d(2), nn.Dropout2d(0.5), *HEAD[:1], nn.Dropout(), HEAD[1]
    ),
    "no Flatten": lambda: nn.Sequential(convolution(3, 5), nn.MaxPool2d(2), nn.Conv2d(5, 4, 4), nn.Flatten()),
    "no chain of layers": Branched,
    "overlapping pool": lambda: nn.Sequential(convolution(3, 5), nn.MaxPool2d(3, 2, 1), *HEAD),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_score_is_that_of_the_plain_network(name, layout):
    torch.manual_seed(1)
    model = NETWORKS[name]().to(memory_format=layout)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
    data = images(EVAL_IMAGES * 2 + 5)
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
    model = build(CNN(image=(3, SIDE, SIDE), channels=(5, 6), outputs=4), seed=0)
    other = build(CNN(image=(3, SIDE, SIDE), channels=(5, 6), outputs=4), seed=1)
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
