"""Modules against PyTorch's own layers, drawn from the same seed."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from theodolite.errors import SettingError
from theodolite.models import CNN, MLP, build, cnn, mlp
from theodolite.streams import named_seed


def test_initial_weights_are_those_of_pytorchs_own_layers():
    model = mlp(inputs=4, hidden=(5,), outputs=3, seed=7)
    torch.manual_seed(named_seed(7, "weights"))
    expected = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))


def test_initial_weights_of_convolutions_are_those_of_pytorchs_own_layers():
    model = cnn(image=(3, 8, 8), channels=(4, 5), hidden=(6,), outputs=2, seed=3)
    torch.manual_seed(named_seed(3, "weights"))
    expected = [nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1), nn.Linear(20, 6), nn.Linear(6, 2)]
    own = [layer for layer in model if isinstance(layer, (nn.Conv2d, nn.Linear))]
    for a, b in zip(own, expected, strict=True):
        assert torch.equal(a.weight, b.weight)
        assert torch.equal(a.bias, b.bias)


def test_a_seed_leaves_the_random_state_alone_and_none_goes_on_with_it():
    before = torch.random.get_rng_state()
    mlp(inputs=2, outputs=2, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(named_seed(5, "weights"))
    first = mlp(inputs=2, outputs=2)
    assert not torch.equal(first[0].weight, mlp(inputs=2, outputs=2)[0].weight)
    assert torch.equal(first[0].weight, mlp(inputs=2, outputs=2, seed=5)[0].weight)


def test_both_types_start_from_the_same_weights():
    description = MLP(inputs=3, hidden=(4,), outputs=1)
    single, double = build(description, seed=0), build(description, seed=0, dtype=torch.float64)
    assert all(torch.equal(a.double(), b) for a, b in zip(single.parameters(), double.parameters(), strict=True))


@pytest.mark.parametrize(
    "description",
    [
        MLP(inputs=1, hidden=(15, 19, 16), outputs=1),
        MLP(inputs=7, hidden=(3,), outputs=2, bias=False, activation="softplus"),
        CNN(image=(3, 32, 32), channels=(12, 64, 96), hidden=(100, 84), outputs=10),
        CNN(image=(1, 9, 9), channels=(2, 3), outputs=4, batch_norm=True, activation="gelu"),
    ],
)
def test_a_module_has_the_parameters_its_description_counts(description):
    model = build(description, seed=0)
    assert sum(p.numel() for p in model.parameters()) == description.parameters
    shape = description.image if isinstance(description, CNN) else (description.inputs,)
    assert model(torch.zeros(2, *shape)).shape == (2, description.outputs)


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("relu", torch.relu), ("tanh", torch.tanh), ("gelu", nn.functional.gelu), ("silu", nn.functional.silu),
        ("sigmoid", torch.sigmoid), ("softplus", nn.functional.softplus), ("identity", lambda z: z),
    ],
)  # fmt: skip
def test_a_network_is_its_formula(activation, function):
    model = mlp(inputs=2, hidden=(3,), outputs=1, activation=activation, seed=0)
    x = torch.randn(5, 2)
    first, last = model[0], model[2]
    assert torch.allclose(model(x), function(x @ first.weight.T + first.bias) @ last.weight.T + last.bias)


def test_fields_that_describe_nothing_are_refused_with_the_fields_there_are():
    with pytest.raises(SettingError, match=r"mlp: 'width'.*Its fields: kind, inputs, hidden"):
        mlp(inputs=1, outputs=1, width=3)
    with pytest.raises(SettingError, match="mlp: 'inputs'"):
        mlp(inputs=0, outputs=1)


def test_an_image_too_small_for_its_pools_is_refused():
    with pytest.raises(SettingError, match="3 pools can halve, got 4 x 4 pixels"):
        cnn(image=(1, 4, 4), channels=(2, 2, 2), outputs=1)


def test_descriptions_and_budgets_import_no_torch():
    code = "import theodolite.models, theodolite.models.budget, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "softplus", "gelu", "silu"])
def test_a_convolutional_layer_is_its_activation_and_then_the_pool_whichever_comes_first(activation):
    model = cnn(image=(3, 8, 8), channels=(4, 5), outputs=2, activation=activation, seed=3, dtype=torch.float64)
    first, second, last = (layer for layer in model if list(layer.parameters()))
    act = {"gelu": functional.gelu, "silu": functional.silu, "softplus": functional.softplus}.get(
        activation, getattr(torch, activation, None)
    )
    images = torch.randn(6, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    hidden = functional.max_pool2d(act(second(functional.max_pool2d(act(first(images)), 2))), 2)
    expected = last(hidden.flatten(1))
    assert torch.equal(model(images), expected)
    weights = list(model.parameters())
    found = torch.autograd.grad(model(images).square().sum(), weights)
    for own, wanted in zip(found, torch.autograd.grad(expected.square().sum(), weights), strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-12, atol=1e-14)
