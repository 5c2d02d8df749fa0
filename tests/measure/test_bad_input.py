"""Bad input to every instrument: an error of Theodolite's own tree that names it, never a number."""

import pytest
import torch
from torch import nn

from theodolite import measure
from theodolite.errors import BadData, BadLoss, BadModel, NotDeterministic

LOSS = nn.CrossEntropyLoss()
INSTRUMENTS = {
    "gradient_norm": lambda m, loss, d: measure.gradient_norm(m, loss, d),
    "interpolate": lambda m, loss, d: measure.interpolate(m, m, loss, d, [0.5]),
    "surface": lambda m, loss, d: measure.surface(m, loss, d, torch.ones(2, 59), x=[0], y=[0]),
    "sensitivity": lambda m, loss, d: measure.sensitivity(m, loss, d),
    "keskar": lambda m, loss, d: measure.sharpness(m, loss, d),
    "sam": lambda m, loss, d: measure.sharpness(m, loss, d, method="sam"),
    "connect": lambda m, loss, d: measure.connect(m, m, loss, d, epochs=1),
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 7), nn.Dropout(0.5), nn.ReLU(), nn.Linear(7, 3)).eval()


def good():
    return torch.randn(6, 4), torch.arange(6) % 3


def spoilt(tensor):
    tensor[2] = float("nan")
    return tensor


def broken():
    model = network()
    with torch.no_grad():
        spoilt(model[3].bias)
    return model


X, Y = good()
BAD = {
    "no data": (network, LOSS, None, BadData, "got NoneType"),
    "no batch": (network, LOSS, [], BadData, "at least one sample"),
    "no sample": (network, LOSS, (X[:0], Y[:0]), BadData, "at least one sample"),
    "an iterator": (network, LOSS, iter([(X, Y)]), BadData, "more than once"),
    "no pairs": (network, LOSS, [X, X, X], BadData, "inputs, targets"),
    "NaN in inputs": (network, LOSS, (spoilt(X.clone()), Y), BadData, "NaN"),
    "too few targets": (network, LOSS, (X, Y[:5]), BadData, "as many targets"),
    "too many features": (network, LOSS, (torch.ones(6, 5), Y), BadData, "shapes and types"),
    "a class too many": (network, LOSS, (X, Y + 1), BadData, "shapes and types"),
    "NaN in weights": (broken, LOSS, (X, Y), BadModel, "'3.bias'"),
    "a loss per sample": (network, nn.CrossEntropyLoss(reduction="none"), (X, Y), BadLoss, "scalar"),
    "a complex loss": (network, lambda o, t: o.sum() * 1j, (X, Y), BadLoss, "scalar.*complex64"),
    "a loss that is a number": (network, lambda o, t: 1.0, (X, Y), BadLoss, "scalar"),
    "an infinite loss": (network, lambda o, t: o.sum() / 0, (X, Y), BadLoss, "finite"),
    "dropout": (lambda: network().train(), LOSS, (X, Y), NotDeterministic, "model.eval"),
    "frozen": (lambda: network().requires_grad_(False), LOSS, (X, Y), BadModel, "trainable"),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("name", INSTRUMENTS)
def test_bad_input_is_refused_by_name(name, what):
    make, loss, data, error, words = BAD[what]
    with pytest.raises(error, match=words):
        INSTRUMENTS[name](make(), loss, data)


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_good_input_is_not(name):
    INSTRUMENTS[name](network(), LOSS, good())


WITHOUT_A_LOSS = {  # data that hidden units are matched by, or statistics renewed on
    "align": lambda m, d: measure.align(m, m, method="activations", data=d),
    "interpolate, renewed": lambda m, d: measure.interpolate(m, m, LOSS, (X, Y), [0.5], renew=d),
    "connect, renewed": lambda m, d: measure.connect(m, m, LOSS, (X, Y), epochs=1, renew=d),
}


@pytest.mark.parametrize("what", ["no batch", "no sample", "an iterator", "NaN in inputs", "too many features"])
@pytest.mark.parametrize("name", WITHOUT_A_LOSS)
def test_bad_data_that_no_loss_is_asked_of_are_refused_too(name, what):
    _, _, data, error, words = BAD[what]
    data = iter([(X, Y)]) if what == "an iterator" else data  # the table's own is read by now
    with pytest.raises(error, match=words):
        WITHOUT_A_LOSS[name](network(), data)


PAIRS = {
    "interpolate": lambda a, b: measure.interpolate(a, b, LOSS, (X, Y), [0.5]),
    "connect": lambda a, b: measure.connect(a, b, LOSS, (X, Y), epochs=1),
    "align": lambda a, b: measure.align(a, b),
    "align, activations": lambda a, b: measure.align(a, b, method="activations", data=(X, Y)),
    "plane through three": lambda a, b: measure.three_point_plane(a, network(), b),
    "plane of a path": lambda a, b: measure.path_plane(a, [a.state_dict(), network().state_dict(), b.state_dict()]),
}


def wider():
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3)).eval()


@pytest.mark.parametrize(
    ("other", "words"), [(wider, r"'0\.weight'.* has shape \(8, 4\)"), (broken, r"'3\.bias'.*NaN")]
)
@pytest.mark.parametrize("name", PAIRS)
def test_of_models_that_do_not_match_or_hold_nan_the_parameter_is_named(name, other, words):
    with pytest.raises(BadModel, match=words):
        PAIRS[name](network(), other())


def test_directions_with_nan_are_refused():
    with pytest.raises(BadModel, match="finite directions"):
        measure.surface(network(), LOSS, (X, Y), torch.full((2, 59), torch.nan), x=[0], y=[0])
