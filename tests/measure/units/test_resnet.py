"""Residual networks: what resnet() says shares units, against blocks taken apart by hand and outputs called plainly."""

import copy

import pytest
import torch
from torch import nn

from networks import BasicBlock, drawn, preactivation, resnet18, resnext, same, shuffled
from theodolite.errors import BadModel
from theodolite.measure.align import align
from theodolite.measure.interpolate import interpolate
from theodolite.measure.units import resnet

X = torch.randn(10, 3, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
DATA = X, torch.arange(10) % 5
NETWORKS = {"ResNet-18": resnet18, "ResNeXt": resnext, "pre-activation": preactivation}


@pytest.mark.parametrize("method", ["weights", "activations"])
@pytest.mark.parametrize("name", NETWORKS)
def test_an_aligned_residual_network_computes_the_same_function(name, method):
    a, b = (drawn(NETWORKS[name], seed, X) for seed in (1, 2))
    result = align(a, b, method=method, data=DATA, units=resnet(a))
    assert any(result.moved)
    assert torch.allclose(result.model(X), b(X), rtol=1e-11, atol=1e-12)
    assert result.model.train()(X).sub(b.train()(X)).abs().max() < 1e-10  # of batch statistics too


@pytest.mark.parametrize("method", ["weights", "activations"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("seed", range(3))
def test_a_residual_network_whose_units_were_shuffled_is_found_again_bit_by_bit(name, method, seed):
    a = drawn(NETWORKS[name], 1, X)
    b = shuffled(a, resnet(a), seed)
    assert not same(a, b)
    found = align(a, b, method=method, data=DATA, units=resnet(a))
    assert found.distance == 0
    assert same(a, found.model)


def test_the_stream_of_a_stage_and_the_inside_of_a_block_are_permuted_as_by_hand():
    a = drawn(resnet18, 1, X)
    b = copy.deepcopy(a)
    stream, inside = torch.tensor([2, 0, 3, 1]), torch.tensor([1, 3, 0, 2])
    norms = ("weight", "bias", "running_mean", "running_var")
    first, second, third = b.layer1[0], b.layer1[1], b.layer2[0]
    with torch.no_grad():
        made_by = [b.conv1, first.conv2, second.conv2, b.bn1, first.bn2, second.bn2]
        for tensor in [getattr(m, n) for m in made_by for n in norms if getattr(m, n, None) is not None]:
            tensor.copy_(tensor[stream])
        for reader in (first.conv1, second.conv1, third.conv1, third.downsample[0]):
            reader.weight.copy_(reader.weight[:, stream])
        for tensor in (first.conv1.weight, *(getattr(first.bn1, n) for n in norms)):
            tensor.copy_(tensor[inside])
        first.conv2.weight.copy_(first.conv2.weight[:, inside])
    assert torch.allclose(a(X), b(X), rtol=1e-11)
    result = align(a, b, units=resnet(a))
    assert same(a, result.model)
    orders = dict(zip(result.units, result.permutations, strict=True))
    assert torch.equal(stream[orders["conv1"]], torch.arange(4))
    assert torch.equal(inside[orders["layer1.0.conv1"]], torch.arange(4))
    assert sum(result.moved) == 2.0  # nothing else was out of place


def test_a_way_that_differs_by_order_alone_is_level_after_aligning():
    a = drawn(resnet18, 1, X)
    b = shuffled(a, resnet(a))
    loss, alphas = nn.CrossEntropyLoss(), [0.25, 0.5, 0.75]
    before = interpolate(a, b, loss, DATA, alphas)
    after = interpolate(a, align(a, b, units=resnet(a)).model, loss, DATA, alphas)
    assert (before.loss - before.ends[0]).abs().min() > 1
    assert (after.loss - after.ends[0]).abs().max() < 1e-12


def test_a_block_inside_a_chain_is_known_too():
    def make():
        return nn.Sequential(nn.Conv2d(3, 4, 3), BasicBlock(4, 4), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2))

    a = drawn(make, 1, X)
    assert same(a, align(a, shuffled(a, resnet(a)), units=resnet(a)).model)


class Padded(nn.Module):
    """A way around that adds channels of zeros, as in the first networks for CIFAR."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, padding=1)

    def forward(self, x):
        return self.conv(x) + nn.functional.pad(x, (0, 0, 0, 0, 1, 1))


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.scale = nn.Conv2d(4, 4, 1), Gain()

    def forward(self, x):
        return x + self.scale(self.conv(x))


class Gain(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.randn(4))

    def forward(self, x):
        return x * self.gain[:, None, None]


REFUSED = {
    "give 6 units and it 4": lambda: nn.Sequential(nn.Conv2d(3, 4, 1), Padded(), nn.Flatten(), nn.Linear(6, 2)),
    "'1.scale' is Gain": lambda: nn.Sequential(nn.Conv2d(3, 4, 1), Scaled(), nn.Flatten(), nn.Linear(4, 2)),
    "reads the inputs": lambda: nn.Sequential(BasicBlock(3, 3), nn.Flatten(), nn.Linear(3, 2)),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_block_of_another_form_is_refused_by_name(why):
    with pytest.raises(BadModel, match=why):
        resnet(REFUSED[why]())
