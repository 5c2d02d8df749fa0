"""Every instrument on every kind of model: it runs, over unequal batches, and leaves all as it was, bit by bit."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from theodolite import measure
from theodolite.errors import SettingError
from theodolite.measure.results.base import Result


class Gated(nn.Module):
    """Two inputs by name, a tied weight, attention-free but not a chain."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 5)
        self.second.weight = nn.Parameter(self.second.weight.detach())
        self.third = nn.Linear(5, 5)
        self.third.weight = self.second.weight
        self.out = nn.Linear(5, 3)

    def forward(self, left, right):
        return self.out(self.third(torch.tanh(self.second(self.first(left) * torch.sigmoid(self.first(right))))))


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 3))


def cnn():
    first = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(*first, nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 3))


def images(seed, **kind):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(11, 1, 4, 4, generator=generator, dtype=kind.get("dtype")), torch.arange(11) % 3


def batches(inputs, targets):
    def cut(a, b):
        return {n: t[a:b] for n, t in inputs.items()} if isinstance(inputs, dict) else tuple(t[a:b] for t in inputs)

    return [(cut(a, b), targets[a:b]) for a, b in ((0, 5), (5, 7), (7, 11))]


def two_inputs(as_dict):
    left, right = torch.randn(2, 11, 4).unbind()
    inputs = {"left": left, "right": right} if as_dict else (left, right)
    return batches(inputs, torch.arange(11) % 3)


def case(kind):
    """(make a model, data, whether the model is in training mode)."""
    if kind == "tuple of inputs" or kind == "dict of inputs":
        return Gated, two_inputs(kind.startswith("dict")), False
    if kind == "MLP, shuffled loader":
        return mlp, DataLoader(list(zip(*images(0), strict=True)), batch_size=4, shuffle=True), False
    if kind == "CNN, batch statistics":
        return lambda: nn.Sequential(*(m for m in cnn() if not isinstance(m, nn.Dropout))), images(0), True
    return cnn, [tuple(t[a:b] for t in images(0)) for a, b in ((0, 5), (5, 6), (6, 11))], False


KINDS = ["tuple of inputs", "dict of inputs", "MLP, shuffled loader", "CNN, batch statistics", "CNN, evaluation mode"]
LOSS = nn.CrossEntropyLoss()
INSTRUMENTS = {
    "gradient_norm": lambda a, b, d: measure.gradient_norm(a, LOSS, d),
    "interpolate": lambda a, b, d: measure.interpolate(a, b, LOSS, d, [-0.5, 0, 0.5, 1, 1.5]),
    "interpolate, renewed": lambda a, b, d: measure.interpolate(a, b, LOSS, d, [0, 0.5], update_bn=d),
    "surface": lambda a, b, d: measure.surface(a, LOSS, d, x=[-1, 0, 1], y=[0, 1]),
    "surface, path": lambda a, b, d: measure.surface(a, LOSS, d, measure.path_plane(a, path(a, b)), x=[0, 1], y=[0, 1]),
    "surface, three": lambda a, b, d: measure.surface(
        a, LOSS, d, measure.three_point_plane(a, b, third(a)), x=[0, 1], y=[0, 1]
    ),
    "sensitivity": lambda a, b, d: measure.sensitivity(a, LOSS, d, per_sample=not a.training),
    "sharpness, keskar": lambda a, b, d: measure.sharpness(a, LOSS, d),
    "sharpness, sam": lambda a, b, d: measure.sharpness(a, LOSS, d, method="sam"),
    "connect": lambda a, b, d: measure.connect(a, b, LOSS, d, epochs=2, points=5),
    "connect, renewed": lambda a, b, d: measure.connect(a, b, LOSS, d, epochs=2, points=5, update_bn=d),
    "trajectory": lambda a, b, d: measure.trajectory(path(a, b)),
    "align": lambda a, b, d: measure.align(a, b),
    "align, activations": lambda a, b, d: measure.align(a, b, method="activations", data=d),
}
NOT_A_CHAIN = {"align", "align, activations"}


def third(model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        for number, parameter in enumerate(other.parameters()):
            parameter.mul_(1.5 + number)
    return other


def path(a, b):
    return [copy.deepcopy(m.state_dict()) for m in (a, b, third(a), third(b))]


def everything(model):
    """All that an instrument could disturb, as bytes."""
    tensors = {n: t.detach().clone() for n, t in model.state_dict().items()}
    gradients = {n: p.grad.clone() for n, p in model.named_parameters()}
    modes = {n: (m.training, getattr(m, "momentum", None)) for n, m in model.named_modules()}
    flags = {n: p.requires_grad for n, p in model.named_parameters()}
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    return tensors, gradients, modes, flags, hooks


def same(first, second):
    for old, new in zip(first[:2], second[:2], strict=True):
        assert old.keys() == new.keys()
        assert all(torch.equal(old[n], new[n]) for n in old)
    assert first[2:] == second[2:]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", INSTRUMENTS)
def test_instrument_measures_and_leaves_model_gradients_mode_and_random_state_bit_by_bit(name, kind):
    if kind.endswith("of inputs") and name in NOT_A_CHAIN:
        pytest.skip("alignment is for chains of layers")
    torch.manual_seed(1)
    make, data, training = case(kind)
    models = [make().train(training) for _ in range(2)]
    for model in models:
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
    before = [everything(m) for m in models]
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    result = INSTRUMENTS[name](*models, data)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (np.random.get_state()[1].tolist(), random.getstate())
    for old, model in zip(before, models, strict=True):
        same(old, everything(model))
    assert isinstance(result, Result)
    assert type(result).__name__ in repr(result)
    assert len(result.to_frame()) >= 1
    assert result._repr_html_().startswith("<table>")


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_parameters_without_a_gradient_are_left_without_one(name):
    models = [cnn().eval() for _ in range(2)]
    INSTRUMENTS[name](*models, images(0))
    assert all(parameter.grad is None for model in models for parameter in model.parameters())


FLOATS = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.1}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [n for n in INSTRUMENTS if n not in ("trajectory", *NOT_A_CHAIN)])
def test_one_batch_and_several_of_unequal_sizes_give_the_same_number_in_every_dtype(name, dtype):
    if name.startswith("connect") or name.endswith("renewed"):
        pytest.skip("a step, and a batch's statistics, depend on the batches by definition")
    torch.manual_seed(1)
    X, y = images(0, dtype=dtype)
    models = [cnn().to(dtype).eval() for _ in range(2)]
    if name.startswith("sharpness") and dtype == torch.bfloat16:
        with pytest.raises(SettingError, match="resolve"):
            INSTRUMENTS[name](*models, (X, y))
        return
    whole = INSTRUMENTS[name](*models, (X, y))
    parts = INSTRUMENTS[name](*models, [(X[:5], y[:5]), (X[5:6], y[5:6]), (X[6:], y[6:])])
    for (field, first), (_, second) in zip(whole._values(), parts._values(), strict=True):
        if isinstance(first, (float, torch.Tensor)) and field != "standard_error":
            first, second = torch.as_tensor(first).double(), torch.as_tensor(second).double()
            scale = whole.loss if isinstance(getattr(whole, "loss", None), float) else 1.0
            assert torch.allclose(first, second, rtol=FLOATS[dtype], atol=FLOATS[dtype] * scale, equal_nan=True), field
