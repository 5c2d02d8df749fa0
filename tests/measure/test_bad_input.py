"""Bad input to every instrument: an error of Theodolite's own tree that names it, never a number, never a traceback."""

import copy
import math
import sys

import numpy as np
import pytest
import torch
from torch import nn

from theodolite import measure
from theodolite.errors import (
    BadData,
    BadLoss,
    BadModel,
    MeasurementError,
    NotDeterministic,
    SettingError,
    StoreError,
    UnknownName,
)
from theodolite.measure.problem import state_dicts as matching

LOSS = nn.CrossEntropyLoss()


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 7), nn.Dropout(0.5), nn.ReLU(), nn.Linear(7, 3)).eval()


def wider():
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3)).eval()


def good():
    return torch.randn(6, 4), torch.arange(6) % 3


def with_(value, model=None):
    model = network() if model is None else model
    with torch.no_grad():
        model[3].bias[2] = value
    return model


def spoilt(tensor, value=math.nan):
    tensor = tensor.clone()
    tensor[2] = value
    return tensor


def optimizer_of(model):
    own = list(model.parameters()) if isinstance(model, nn.Module) else []
    return torch.optim.SGD(own or [nn.Parameter(torch.ones(1))], lr=0.1)


X, Y = good()
ALL = {  # every public instrument that takes a model, a loss and data, with the least work it can do
    "gradient_norm": lambda m, loss, d, **o: measure.gradient_norm(m, loss, d, **o),
    "gradient_noise_scale": lambda m, loss, d, **o: measure.gradient_noise_scale(m, loss, d, **o),
    "interpolate": lambda m, loss, d, **o: measure.interpolate(m, m, loss, d, **{"alphas": [0.5]} | o),
    "surface": lambda m, loss, d, **o: measure.surface(m, loss, d, **{"x": [0], "y": [0]} | o),
    "sensitivity": lambda m, loss, d, **o: measure.sensitivity(m, loss, d, **o),
    "sharpness": lambda m, loss, d, **o: measure.sharpness(m, loss, d, **o),
    "sharpness by SAM": lambda m, loss, d, **o: measure.sharpness(m, loss, d, **{"method": "sam"} | o),
    "connect": lambda m, loss, d, **o: measure.connect(m, m, loss, d, **{"epochs": 1} | o),
    "hessian_eigenvalues": lambda m, loss, d, **o: measure.hessian_eigenvalues(m, loss, d, **{"k": 1} | o),
    "edge_of_stability": lambda m, loss, d, **o: measure.edge_of_stability(
        m, loss, d, **{"optimizer": optimizer_of(m)} | o
    ),
    "hessian_diagonal": lambda m, loss, d, **o: measure.hessian_diagonal(m, loss, d, **{"products": 6} | o),
    "hessian_blocks": lambda m, loss, d, **o: measure.hessian_blocks(m, loss, d, **{"probes": 2, "steps": 2} | o),
    "hessian_spectrum": lambda m, loss, d, **o: measure.hessian_spectrum(m, loss, d, **o),
    "hessian_density": lambda m, loss, d, **o: measure.hessian_density(m, loss, d, **{"probes": 2, "steps": 2} | o),
    "hessian_trace": lambda m, loss, d, **o: measure.hessian_trace(m, loss, d, **{"products": 6} | o),
    "minimal_ratio": lambda m, loss, d, **o: measure.minimal_ratio(m, loss, d, **o),
    "HessianOperator": lambda m, loss, d, **o: measure.HessianOperator(m, loss, d, **o),
    "find_critical_points": lambda m, loss, d, **o: measure.find_critical_points(
        m, loss, d, **{"starts": 1, "steps": 0, "force": True} | o
    ),
}


class Turning(nn.Module):
    """A model with a complex parameter, and real outputs."""

    def __init__(self):
        super().__init__()
        self.turn = nn.Parameter(torch.ones(4, 3, dtype=torch.complex64))

    def forward(self, inputs):
        return (inputs.to(torch.complex64) @ self.turn).real


class ReadOnce:
    """A generator in a coat: it looks re-iterable, and is used up after the first reading."""

    def __init__(self, batches):
        self.batches = iter(batches)

    def __iter__(self):
        return self.batches


BAD = {  # what: (model, loss, data), the error, words of its message
    "no model": (lambda: None, LOSS, (X, Y), BadModel, "torch.nn.Module, got NoneType"),
    "a class of models": (lambda: nn.Linear, LOSS, (X, Y), BadModel, r"got the class Linear\. Make one: Linear"),
    "a state dict": (lambda: network().state_dict(), LOSS, (X, Y), BadModel, "load_state_dict"),
    "no parameters": (nn.ReLU, LOSS, (X, Y), BadModel, "trainable"),
    "frozen": (lambda: network().requires_grad_(False), LOSS, (X, Y), BadModel, "trainable"),
    "lazy": (lambda: nn.LazyLinear(3), LOSS, (X, Y), BadModel, "'weight' has none yet"),
    "no numbers": (lambda: network().to("meta"), LOSS, (X, Y), BadModel, "'0.weight' is on the device 'meta'"),
    "complex weights": (Turning, LOSS, (X, Y), BadModel, "real parameters"),
    "NaN in weights": (lambda: with_(math.nan), LOSS, (X, Y), BadModel, "'3.bias'"),
    "infinity in weights": (lambda: with_(math.inf), LOSS, (X, Y), BadModel, "'3.bias'"),
    "no loss": (network, None, (X, Y), BadLoss, "got NoneType"),
    "a loss by name": (network, "mse", (X, Y), BadLoss, r"got str 'mse'"),
    "a class of losses": (network, nn.CrossEntropyLoss, (X, Y), BadLoss, "the class CrossEntropyLoss"),
    "a loss per sample": (network, nn.CrossEntropyLoss(reduction="none"), (X, Y), BadLoss, "scalar"),
    "a complex loss": (network, lambda o, t: o.sum() * 1j, (X, Y), BadLoss, "scalar.*complex64"),
    "a loss that is a number": (network, lambda o, t: 1.0, (X, Y), BadLoss, "scalar"),
    "an infinite loss": (network, lambda o, t: o.sum() / 0, (X, Y), BadLoss, "finite"),
    "a loss of NaN": (network, lambda o, t: o.sum() * math.nan, (X, Y), BadLoss, "finite"),
    "a loss of other outputs": (network, lambda o, t: o.loss, (X, Y), BadData, "has no attribute 'loss'"),
    "no data": (network, LOSS, None, BadData, "got NoneType"),
    "no batch": (network, LOSS, [], BadData, "at least one sample"),
    "no sample": (network, LOSS, (X[:0], Y[:0]), BadData, "at least one sample"),
    "an iterator": (network, LOSS, lambda: iter([(X, Y)]), BadData, "more than once"),
    "an iterator in a coat": (network, LOSS, lambda: ReadOnce([(X, Y)]), BadData, "more than once|at least one"),
    "inputs alone": (network, LOSS, X, BadData, "got Tensor as batch 0"),
    "batches of inputs alone": (network, LOSS, [X, X, X], BadData, "inputs, targets"),
    "a number": (network, LOSS, 3, BadData, "got int"),
    "arrays of NumPy": (network, LOSS, [(X.numpy(), Y.numpy())], BadData, "shapes and types"),
    "NaN in inputs": (network, LOSS, (spoilt(X), Y), BadData, "NaN"),
    "infinity in inputs": (network, LOSS, (spoilt(X, math.inf), Y), BadData, "NaN"),
    "too few targets": (network, LOSS, (X, Y[:5]), BadData, "as many targets"),
    "too many features": (network, LOSS, (torch.ones(6, 5), Y), BadData, "shapes and types"),
    "a class too many": (network, LOSS, (X, Y + 1), BadData, "shapes and types"),
    "a class below zero": (network, LOSS, (X, Y - 1), BadData, "shapes and types"),
    "targets that are no classes": (network, LOSS, (X, Y.float()), BadData, "shapes and types"),
    "targets that pair all with all": (network, nn.MSELoss(), (X, Y.float()[:, None]), BadData, "shapes and types"),
    "a later batch of other features": (network, LOSS, [(X, Y), (X[:, :3], Y)], BadData, "batch 1"),
    "a later batch with a class too many": (network, LOSS, [(X, Y), (X, Y), (X, Y + 1)], BadData, "batch 2"),
    "dropout": (lambda: network().train(), LOSS, (X, Y), NotDeterministic, "model.eval"),
}


def given(what):
    model, loss, data, error, words = BAD[what]
    return model(), loss, data() if callable(data) else data, error, words


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("name", ALL)
def test_bad_input_is_refused_by_name(name, what):
    model, loss, data, error, words = given(what)
    with pytest.raises(error, match=words):
        ALL[name](model, loss, data)


@pytest.mark.parametrize("name", ALL)
def test_good_input_is_not(name):
    ALL[name](network(), LOSS, good())


VALUES_ALONE = {"interpolate", "surface", "find_critical_points"}


@pytest.mark.parametrize("name", [name for name in ALL if name not in VALUES_ALONE])
def test_a_loss_that_no_gradient_reaches_is_refused(name):
    with pytest.raises(BadLoss, match="depends on the parameters"):
        ALL[name](network(), lambda o, t: LOSS(o.detach(), t), (X, Y))


def test_every_public_instrument_is_in_a_table():
    assert {name.partition(" ")[0] for name in (*ALL, *WEIGHTS_ALONE, *OUTPUTS_ALONE)} == set(measure.__all__)


WITHOUT_A_LOSS = {  # data that hidden units are matched by, or statistics renewed on
    "align": lambda m, d: measure.align(m, m, method="activations", data=d),
    "interpolate, renewed": lambda m, d: measure.interpolate(m, m, LOSS, (X, Y), [0.5], update_bn=d),
    "connect, renewed": lambda m, d: measure.connect(m, m, LOSS, (X, Y), epochs=1, update_bn=d),
}
OF_INPUTS = (
    "no batch", "no sample", "an iterator", "an iterator in a coat", "inputs alone", "a number", "NaN in inputs",
    "too many features", "a later batch of other features",
)  # fmt: skip


OUTPUTS_ALONE = {"Jacobian": measure.Jacobian, "TangentKernel": measure.TangentKernel}
OF_A_MODEL = (
    "no model", "a class of models", "a state dict", "no parameters", "frozen", "lazy", "no numbers", "complex weights",
    "NaN in weights", "infinity in weights", "dropout",
)  # fmt: skip


@pytest.mark.parametrize("what", [*OF_A_MODEL, *OF_INPUTS])
@pytest.mark.parametrize("name", OUTPUTS_ALONE)
def test_a_bad_model_or_bad_data_of_what_looks_at_outputs_alone_are_refused(name, what):
    model, _, data, error, words = given(what)
    with pytest.raises(error, match=words):
        OUTPUTS_ALONE[name](model, data)


@pytest.mark.parametrize("what", OF_INPUTS)
@pytest.mark.parametrize("name", WITHOUT_A_LOSS)
def test_bad_data_that_no_loss_is_asked_of_are_refused_too(name, what):
    model, _, data, error, words = given(what)
    with pytest.raises(error, match=words):
        WITHOUT_A_LOSS[name](model, data)


PAIRS = {
    "interpolate": lambda a, b: measure.interpolate(a, b, LOSS, (X, Y), [0.5]),
    "connect": lambda a, b: measure.connect(a, b, LOSS, (X, Y), epochs=1),
    "align": lambda a, b: measure.align(a, b),
    "align, activations": lambda a, b: measure.align(a, b, method="activations", data=(X, Y)),
    "three_point_plane": lambda a, b: measure.three_point_plane(a, network(), b),
}
OTHERS = {
    "wider": (wider, r"'0\.weight'.* has shape \(8, 4\)"),
    "deeper": (lambda: nn.Sequential(*network(), nn.Linear(3, 3)), r"'4\.weight' is only in"),
    "NaN": (lambda: with_(math.nan), r"'3\.bias'.*NaN"),
    "infinity": (lambda: with_(math.inf), r"'3\.bias'.*infinity"),
    "float64": (lambda: network().double(), r"'0\.weight' of model [23] is torch\.float64 on cpu, and torch\.float32"),
    "one tensor in bfloat16": (lambda: network()[:3].append(nn.Linear(7, 3).bfloat16()), r"'3\.weight'.*bfloat16"),
    "another device": (lambda: network().to("meta"), "device 'meta'"),
    "none": (lambda: None, "got NoneType"),
    "a class": (lambda: nn.Linear, "the class Linear"),
    "its weights": (lambda: network().state_dict(), "load_state_dict"),
}


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.parametrize("name", PAIRS)
def test_of_models_that_do_not_match_what_differs_is_named(name, what):
    make, words = OTHERS[what]
    with pytest.raises(BadModel, match=words):
        PAIRS[name](network(), make())


def test_models_on_two_devices_are_told_apart():
    with pytest.raises(BadModel, match=r"'0\.weight' of model 2 is torch\.float32 on meta, and torch\.float32 on cpu"):
        matching.alike(network(), network().to("meta"))  # the second device that every machine has


MODEL = network()
PATH = [copy.deepcopy(MODEL.state_dict()) for _ in range(3)]
for number, state in enumerate(PATH):
    state["0.weight"][number] += 1.0
ARRAY = np.random.default_rng(0).normal(size=(4, 5))
WEIGHTS_ALONE = {  # every public instrument that takes weights and no loss
    "align": lambda *a, **o: measure.align(*(a or (MODEL, MODEL)), **o),
    "load": lambda *a, **o: measure.load(*(a or ("nowhere",)), **o),
    "path_plane": lambda *a, **o: measure.path_plane(*(a or (MODEL, PATH)), **o),
    "random_plane": lambda *a, **o: measure.random_plane(*(a or (MODEL,)), **o),
    "three_point_plane": lambda *a, **o: measure.three_point_plane(*a, **o),
    "trajectory": lambda *a, **o: measure.trajectory(*(a or (ARRAY,)), **o),
}


def frozen():
    return network().requires_grad_(False)


BAD_WEIGHTS = {
    "align, no model": ("align", (None, MODEL), {}, BadModel, "model_a as a torch.nn.Module, got NoneType"),
    "align, no weights": ("align", (nn.Sequential(nn.ReLU(), nn.ReLU()),) * 2, {}, BadModel, "layers with weights"),
    "align, no chain": ("align", (nn.Linear(2, 2),) * 2, {}, BadModel, "nn.Sequential"),
    "align, a method": ("align", (), {"method": "wieghts"}, SettingError, "method as weights or activations"),
    "align, no data": ("align", (), {"method": "activations"}, SettingError, "with data"),
    "align, a seed": ("align", (), {"seed": -1}, SettingError, "seed as whole number from 0 on, got int -1"),
    "load, a number": ("load", (3,), {}, SettingError, "path as Path or text, got int 3"),
    "load, nothing there": ("load", ("nowhere",), {}, StoreError, "cannot be read"),
    "load, no model": ("load", ("nowhere",), {"model": "mlp"}, BadModel, "got str"),
    "path, no model": ("path_plane", (None, PATH), {}, BadModel, "got NoneType"),
    "path, frozen": ("path_plane", (frozen(), PATH), {}, BadModel, "a trainable parameter"),
    "path, none": ("path_plane", (MODEL, None), {}, BadModel, "a list of checkpoints.*got NoneType"),
    "path, one": ("path_plane", (MODEL, PATH[0]), {}, BadModel, "a list of checkpoints.*got OrderedDict"),
    "path, empty": ("path_plane", (MODEL, []), {}, BadModel, "got none"),
    "path, two": ("path_plane", (MODEL, PATH[:2]), {}, BadModel, "at least three checkpoints"),
    "path, models": ("path_plane", (MODEL, [MODEL] * 3), {}, BadModel, "number 1 is Sequential"),
    "path, another model": ("path_plane", (wider(), PATH), {}, BadModel, r"'0\.weight'"),
    "random, no model": ("random_plane", (3,), {}, BadModel, "got int"),
    "random, no parameters": ("random_plane", (nn.ReLU(),), {}, BadModel, "a trainable weight matrix"),
    "random, a seed": (
        "random_plane",
        (),
        {"seed": 0.5},
        SettingError,
        "seed as whole number from 0 on, got float 0.5",
    ),
    "three, frozen": ("three_point_plane", (frozen(), network(), network()), {}, BadModel, "a trainable parameter"),
    "three, the same": ("three_point_plane", (MODEL, MODEL, MODEL), {}, BadModel, "span a plane"),
    "trajectory, nothing": ("trajectory", (None,), {}, BadModel, "got NoneType"),
    "trajectory, empty": ("trajectory", ([],), {}, BadModel, "got none"),
    "trajectory, a number": ("trajectory", (3,), {}, BadModel, "got int"),
    "trajectory, models": ("trajectory", ([MODEL, MODEL],), {}, BadModel, "as state dicts or an array"),
    "trajectory, text": ("trajectory", (np.array([["a", "b"]] * 3),), {}, BadModel, "a run of numbers"),
    "trajectory, a vector": ("trajectory", (ARRAY[0],), {}, BadModel, r"\(T, P\)"),
    "trajectory, NaN": ("trajectory", (np.where(ARRAY > 1, np.nan, ARRAY),), {}, BadModel, "NaN or infinity"),
    "trajectory, no weights": ("trajectory", ([{}, {}],), {}, BadModel, "without any"),
    "trajectory, a layer": ("trajectory", (PATH,), {"layer": "4"}, UnknownName, "no layer '4'"),
    "trajectory, of an array": ("trajectory", (), {"layer": "0"}, UnknownName, "plain array"),
    "trajectory, no layer": ("trajectory", (PATH,), {"layer": None}, SettingError, "layer as text"),
    "trajectory, components": ("trajectory", (), {"components": 0}, SettingError, "1 to 4 components"),
    "trajectory, too many": ("trajectory", (), {"components": 9}, SettingError, "1 to 4 components"),
    "trajectory, half a one": ("trajectory", (), {"components": 1.5}, SettingError, "components as whole number"),
}


@pytest.mark.parametrize("what", BAD_WEIGHTS)
def test_bad_weights_are_refused_by_name(what):
    name, positional, options, error, words = BAD_WEIGHTS[what]
    with pytest.raises(error, match=words):
        WEIGHTS_ALONE[name](*positional, **options)


IN_COORDINATES = (
    "hessian_diagonal",
    "hessian_blocks",
    "hessian_eigenvalues",
    "hessian_spectrum",
    "hessian_density",
    "hessian_trace",
    "minimal_ratio",
    "HessianOperator",
)
CURVATURE = (*IN_COORDINATES, "edge_of_stability")
ANY = (*CURVATURE, "gradient_norm")
SGD = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)  # of no model
BAD_SETTINGS = [  # instruments, an option, a bad value, words of the error
    *((name, "parameters", "9.*", BadModel, "matching '9") for name in ANY),
    *((name, "parameters", 3, SettingError, "parameters as text or None, got int 3") for name in ANY),
    *((name, "engine", "cloud", UnknownName, "no engine 'cloud'") for name in ANY),
    *((name, "workers", 1.5, SettingError, "workers as whole number or None") for name in ANY),
    *((name, "operator", "kfac", SettingError, "operator as hessian or ggn") for name in CURVATURE),
    *((name, "memory", 0, SettingError, "memory as a number of bytes") for name in CURVATURE),
    *((name, "memory", "a lot", SettingError, "memory as a number of bytes") for name in CURVATURE),
    *((name, "memory", [1], SettingError, "memory as whole number or text or None") for name in CURVATURE),
    *((name, "preconditioner", torch.zeros(59), SettingError, "59 that are zero, negative") for name in IN_COORDINATES),
    *((name, "preconditioner", torch.ones(9), SettingError, r"preconditioner as \(59,\)") for name in IN_COORDINATES),
    *((name, "preconditioner", "adam", SettingError, "as Tensor or Optimizer") for name in IN_COORDINATES),
    *((name, "preconditioner", SGD, SettingError, "as Adam or RMSprop do, got SGD") for name in IN_COORDINATES),
    *((name, "basis", torch.ones(59), SettingError, r"basis as rows \(r, 59\)") for name in IN_COORDINATES),
    *((name, "basis", torch.ones(2, 59), SettingError, "basis that are independent") for name in IN_COORDINATES),
    *((name, "basis", torch.full((1, 59), math.nan), SettingError, "basis as finite") for name in IN_COORDINATES),
    ("edge_of_stability", "optimizer", "sgd", SettingError, "optimizer as Optimizer, got str 'sgd'"),
    ("edge_of_stability", "optimizer", SGD, SettingError, r"does not have '0\.weight'"),
    ("edge_of_stability", "tolerance", 0, SettingError, "tolerance > 0"),
    ("edge_of_stability", "max_products", 0, SettingError, "max_products"),
    ("gradient_noise_scale", "parameters", "9.*", BadModel, "matching '9"),
    ("gradient_noise_scale", "samples", len, SettingError, "samples= to be left out"),
    ("hessian_diagonal", "products", 5, SettingError, "at least 6 products"),
    ("hessian_blocks", "blocks", ["0.*"], SettingError, r"no pattern matches '3\.weight'"),
    ("hessian_blocks", "blocks", ["*", "3.*"], SettingError, r"'\*' and '3\.\*' both match '3\.weight'"),
    ("hessian_blocks", "blocks", ["*", "9.*"], SettingError, r"match parameters, got '9\.\*'"),
    ("hessian_blocks", "blocks", "rows", SettingError, "blocks as"),
    ("hessian_blocks", "k", 0, SettingError, "k ≥ 1"),
    ("hessian_blocks", "steps", 1, SettingError, "at least 2 probes, steps"),
    ("hessian_blocks", "basis", torch.eye(59)[:2], SettingError, "blocks of parameters, got a matrix restricted"),
    ("interpolate", "alphas", [], SettingError, "alphas as a non-empty list"),
    ("interpolate", "alphas", [0, math.nan], SettingError, "alphas as a non-empty list"),
    ("interpolate", "alphas", [[0, 1]], SettingError, "alphas as"),
    ("interpolate", "alphas", "all", SettingError, "alphas as"),
    ("interpolate", "alphas", 0.5, SettingError, "alphas as"),
    ("interpolate", "update_bn", 3, BadData, "got int"),
    ("surface", "x", [], SettingError, "x as a non-empty list"),
    ("surface", "y", [math.inf], SettingError, "y as a non-empty list"),
    ("surface", "y", ["low"], SettingError, "y as"),
    ("surface", "seed", -1, SettingError, "seed as"),
    ("surface", "directions", torch.ones(2, 3), BadModel, "shape \\(2, 59\\)"),
    ("surface", "directions", torch.full((2, 59), torch.nan), BadModel, "finite directions"),
    ("surface", "directions", "random", SettingError, "directions as Plane or Tensor or None"),
    ("surface", "directions", measure.random_plane(wider()), BadModel, r"'0\.weight'"),
    ("sensitivity", "per_sample", "no", SettingError, "per_sample as true or false"),
    ("sharpness", "method", "SAM", SettingError, "method as keskar or sam"),
    ("sharpness", "radius", 0, SettingError, "positive radius"),
    ("sharpness", "radius", math.inf, SettingError, "radius as"),
    ("sharpness", "radius", "small", SettingError, "radius as number or None, got str 'small'"),
    ("sharpness", "starts", 0, SettingError, "at least one start"),
    ("sharpness", "starts", 2.5, SettingError, "starts as whole number"),
    ("sharpness", "iterations", 0, SettingError, "at least one start and iteration"),
    ("connect", "epochs", -1, SettingError, "epochs of 0 or more"),
    ("connect", "epochs", 1.5, SettingError, "epochs as whole number"),
    ("connect", "learning_rate", 0, SettingError, "positive learning rate"),
    ("connect", "learning_rate", math.nan, SettingError, "learning_rate as"),
    ("connect", "points", 1, SettingError, "2 or more points"),
    ("connect", "seed", 2**64, SettingError, "seed as"),
    ("hessian_eigenvalues", "k", 0, SettingError, "k ≥ 1"),
    ("hessian_eigenvalues", "k", "all", SettingError, "k as whole number"),
    ("hessian_eigenvalues", "which", "middle", SettingError, "which as largest or smallest or both"),
    ("hessian_eigenvalues", "tolerance", 0, SettingError, "tolerance > 0"),
    ("hessian_eigenvalues", "tolerance", math.nan, SettingError, "tolerance as"),
    ("hessian_eigenvalues", "max_products", 0, SettingError, "max_products"),
    ("hessian_density", "probes", 1, SettingError, "at least 2 probes"),
    ("hessian_density", "steps", 0, SettingError, "at least 2 probes, steps"),
    ("hessian_density", "points", 1, SettingError, "points"),
    ("hessian_density", "width", -1.0, SettingError, "positive width"),
    ("hessian_density", "width", math.inf, SettingError, "width as"),
    ("hessian_trace", "method", "exact", SettingError, "method as"),
    ("hessian_trace", "products", 5, SettingError, "at least 6 products"),
    ("hessian_trace", "seed", -3, SettingError, "seed as"),
    ("find_critical_points", "starts", 0, SettingError, "at least one start"),
    ("find_critical_points", "starts", -1, SettingError, "at least one start"),
    ("find_critical_points", "starts", 2.5, SettingError, "starts as a number"),
    ("find_critical_points", "starts", "many", SettingError, "starts as a number"),
    ("find_critical_points", "starts", [3, 4], BadModel, "got int among them"),
    ("find_critical_points", "starts", [wider().state_dict()], BadModel, r"shape \(S, 59\)"),
    ("find_critical_points", "starts", [{"1": torch.ones(1)}], BadModel, r"lacks '0\.weight'"),
    ("find_critical_points", "starts", torch.ones(2, 3), BadModel, r"shape \(S, 59\)"),
    ("find_critical_points", "starts", torch.full((1, 59), math.nan), BadModel, "finite starts"),
    ("find_critical_points", "index", -1, SettingError, "index from 0 to 59"),
    ("find_critical_points", "index", [1, 2], SettingError, "index from 0 to 59"),
    ("find_critical_points", "symmetric", -1, SettingError, "symmetric of at least 0"),
    ("find_critical_points", "weight_decay", -0.1, SettingError, "weight_decay"),
    ("find_critical_points", "steps", -1, SettingError, "steps"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "option", "value", "error", "words"), BAD_SETTINGS)
def test_bad_settings_are_refused_by_name(name, option, value, error, words):
    with pytest.raises(error, match=words):
        ALL[name](network(), LOSS, (X, Y), **{option: value})


def test_numbers_of_numpy_and_pytorch_are_as_good_as_pythons():
    plain = measure.sharpness(MODEL, LOSS, (X, Y), radius=0.25, starts=2, seed=3)
    others = {"radius": np.float32(0.25), "starts": np.int64(2), "seed": torch.tensor(3)}
    assert measure.sharpness(MODEL, LOSS, (X, Y), **others).value == plain.value
    line = measure.interpolate(MODEL, MODEL, LOSS, (X, Y), np.linspace(0, 1, 3))
    assert line.alphas.tolist() == measure.interpolate(MODEL, MODEL, LOSS, (X, Y), [0, 0.5, 1]).alphas.tolist()


def test_an_error_of_ours_is_told_as_it_is_where_no_batch_is_at_fault(monkeypatch):
    """The batches are tried again after an unexpected error; one that is not theirs must not be blamed on them."""
    monkeypatch.setattr(sys.modules["theodolite.measure.sensitivity"], "check_finite", lambda *_: [][1])
    with pytest.raises(MeasurementError, match="IndexError") as caught:
        measure.sensitivity(MODEL, LOSS, (X, Y))
    assert type(caught.value) is MeasurementError
    assert isinstance(caught.value.__cause__, IndexError)
