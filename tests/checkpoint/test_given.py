"""Data as people's functions give them, on the command line: the number is that of their own loop."""

import json
import sys

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from commands import called
from theodolite.checkpoint import given
from theodolite.code import running as code
from theodolite.errors import BadData, SettingError

OWN = """
import datasets, torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader, Dataset, TensorDataset

torch.manual_seed(0)
x, z = torch.randn(1200, 3).double(), torch.randn(1200, 3).double()
y, w = torch.randint(0, 2, (1200,)), torch.rand(1200).double()
CLASSES = torch.tensor([1.0, 9.0]).double()

def one():
    torch.manual_seed(1)
    return nn.Linear(3, 2).double()

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = one(), nn.Linear(3, 2).double()
    def forward(self, first, second):
        return self.a(first) + self.b(second)

class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = one()
    def forward(self, inputs, labels):
        return {"loss": cross_entropy(self.a(inputs), labels)}

class Pairs(Dataset):
    def __len__(self):
        return len(x)
    def __getitem__(self, i):
        return (x[i], z[i]), y[i]

class Dicts(Pairs):
    def __getitem__(self, i):
        return {"inputs": x[i], "labels": y[i]}

def two():
    torch.manual_seed(1)
    return Two()

def named():
    return Named()

def normed():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).double()

def classes(outputs, targets):
    return cross_entropy(outputs, targets, weight=CLASSES)

def weighted(outputs, targets):
    labels, weights = targets
    return (cross_entropy(outputs, labels, reduction="none") * weights).mean()

def of_model(outputs, batch):
    return outputs["loss"]

def both(outputs, targets):
    return cross_entropy(outputs, targets[0]) + mse_loss(outputs, targets[1])

def pair(): return x, y
def triple(): return x, y, w
def loader_of_triples(): return DataLoader(TensorDataset(x, y, w), 400)
def two_inputs(): return (x, z), y
def loader_of_two(): return DataLoader(Pairs(), 400)
def dataset_of_two(): return Pairs()
def two_targets(): return x, (y, z[:, :2])
def mapping(): return {"inputs": x, "labels": y}
def loader_of_dicts(): return DataLoader(Dicts(), 400)
def dataset_of_dicts(): return Dicts()
def hugging_face(): return datasets.Dataset.from_dict({"inputs": x.float().tolist(), "labels": y.tolist()})
ready = DataLoader(Pairs(), 400)
def either(): return (x[:2], y[:2]), (x[2:], y[2:])
def graph(): return (x, torch.eye(4).double()), y
"""


@pytest.fixture
def own(tmp_path, monkeypatch) -> dict:
    """What own.py defines; it lies in the folder in which the shell stands."""
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("COLUMNS", "200")
    return code.named("own.py:one", "--model").__globals__


def shell(model: str, data: str, *more: str) -> dict:
    done = called("measure", "gradient_norm", "--model", f"own.py:{model}", "--data", f"own.py:{data}", *more, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def norm(model: nn.Module, loss: torch.Tensor) -> float:
    loss.backward()
    return float(torch.cat([p.grad.flatten() for p in model.parameters()]).norm())


def test_a_pair_that_is_given_whole_is_measured_whole(own):
    model = own["one"]()
    true = norm(model, cross_entropy(model(own["x"]), own["y"], weight=own["CLASSES"]))
    found = shell("one", "pair", "--loss", "own.py:classes")
    assert found["result"]["value"] == pytest.approx(true, rel=1e-10)
    assert found["measured"]["samples used"] == 1200


def test_statistics_of_a_batch_are_those_of_the_whole_pair(own):
    model = own["normed"]().train()
    true = norm(model, cross_entropy(model(own["x"]), own["y"]))
    assert shell("normed", "pair", "--mode", "train")["result"]["value"] == pytest.approx(true, rel=1e-10)


@pytest.mark.parametrize("data", ["two_inputs", "loader_of_two", "dataset_of_two", "ready"])
def test_two_inputs_are_the_models_own_two(data, own):
    model = own["two"]()
    true = norm(model, cross_entropy(model(own["x"], own["z"]), own["y"]))
    assert shell("two", data)["result"]["value"] == pytest.approx(true, rel=1e-10)


@pytest.mark.parametrize("data", ["triple", "loader_of_triples"])
def test_of_three_parts_the_loss_gets_the_last_two(data, own):
    model = own["one"]()
    each = cross_entropy(model(own["x"]), own["y"], reduction="none")
    true = norm(model, (each * own["w"]).mean())
    found = shell("one", data, "--loss", "own.py:weighted")
    assert found["result"]["value"] == pytest.approx(true, rel=1e-10)


def test_two_targets_are_one_pair(own):
    model = own["one"]()
    outputs = model(own["x"])
    true = norm(model, cross_entropy(outputs, own["y"]) + mse_loss(outputs, own["z"][:, :2]))
    assert shell("one", "two_targets", "--loss", "own.py:both")["result"]["value"] == pytest.approx(true, rel=1e-10)


@pytest.mark.parametrize("data", ["mapping", "loader_of_dicts", "dataset_of_dicts", "hugging_face"])
def test_dicts_are_the_models_keyword_arguments_and_the_losses_targets(data, own):
    model = own["named"]()
    true = norm(model, model(own["x"], own["y"])["loss"])
    found = shell("named", data, "--loss", "own.py:of_model")
    assert found["result"]["value"] == pytest.approx(true, rel=1e-6 if data == "hugging_face" else 1e-10)


def test_the_first_samples_of_whatever_form_are_taken(own):
    model = own["two"]()
    true = norm(model, cross_entropy(model(own["x"][:500], own["z"][:500]), own["y"][:500]))
    for data in ("two_inputs", "loader_of_two"):
        found = shell("two", data, "--samples", "500")
        assert found["result"]["value"] == pytest.approx(true, rel=1e-10)
        assert found["measured"]["samples used"] == 500


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--data", "own.py:pair", "--batch-size", "100"), "return a torch data set"),
        (("--data", "own.py:triple"), "expected --loss FILE.py:NAME for targets that are tuple, got none"),
        (("--data", "own.py:mapping", "--loss", "mse"), "for targets that are dict, got mse"),
        (("--data", "own.py:either"), "Return a list: [(inputs, targets)], or"),
        (("--data", "own.py:graph", "--samples", "2"), "got [4, 1200], of which the first 2 cannot be taken"),
        (("--data", "own.py:CLASSES"), "to give (inputs, targets)"),
    ],
)
def test_what_may_be_meant_in_two_ways_is_refused_with_what_to_write(arguments, told, own):
    done = called("measure", "gradient_norm", "--model", "own.py:one", *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_errors_have_the_kinds_that_the_docstring_says(own):
    with pytest.raises(SettingError):
        given.batches("own.py:pair", None, 3, torch.float64)
    with pytest.raises(BadData):
        given.batches("own.py:either", None, None, torch.float64)
