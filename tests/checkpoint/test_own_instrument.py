"""`theodolite measure FILE.py:NAME`: an instrument of the user's own, whose result is kept and drawn."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from commands import called
from theodolite.measure import catalogue
from theodolite.measure.results import kinds

OWN = """
from dataclasses import dataclass
import torch
from torch import nn
import theodolite as th

@dataclass(frozen=True, slots=True)
class Lengths(th.Result, kind="lengths"):
    value: float
    lengths: torch.Tensor

@th.instrument(asks="How long is each weight?", cost="weights alone")
def lengths(model, loss, data, *, power: float = 2.0) -> Lengths:
    each = torch.stack([p.detach().abs().pow(power).sum() for p in model.parameters()])
    return Lengths(float(each.sum() ** (1 / power)), each)

@th.instrument(asks="How far apart are two?", cost="weights alone", checkpoints="two")
def apart(first, second, loss, data):
    gaps = [(a - b).detach().square().sum() for a, b in zip(first.parameters(), second.parameters())]
    return Lengths(float(sum(gaps)) ** 0.5, torch.stack(gaps))

def number(model, loss, data):
    return 1.0

def wrong(model, loss, data):
    return 1 / 0

def short(model):
    return 1.0

def unread(model, loss, data, *, k: "Absent" = 3):
    return 1.0

ready = 3

def make():
    return nn.Linear(2, 1)

def pair():
    return torch.eye(2), torch.zeros(2, 1)
"""


@pytest.fixture
def shell(tmp_path, monkeypatch) -> Iterator[Any]:
    """Runs the command beside own.py; what that registers is not known to the next test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("own.py").write_text(OWN)
    for name, weight in (("a", 3.0), ("b", 0.0)):
        torch.save({"weight": torch.tensor([[weight, weight / 3 * 4]]), "bias": torch.zeros(1)}, f"{name}.pt")
    known = (kinds.KINDS, catalogue.INSTRUMENTS)
    before = [dict(table) for table in known]
    yield lambda *arguments: called("measure", *arguments)
    for table, was in zip(known, before, strict=True):
        table.clear()
        table.update(was)


MODEL = ("--model", "own.py:make", "--data", "own.py:pair")


def test_an_instrument_of_one_s_own_measures_in_the_shell_and_its_result_is_kept_and_drawn(shell):
    measured = shell("own.py:lengths", *MODEL, "--weights", "a.pt", "--out", "r", "--figure", "r.svg", "--json")
    assert measured.returncode == 0, measured.stderr
    found = json.loads(measured.stdout.splitlines()[0])
    assert found["instrument"] == "lengths"
    assert found["result"] == {"value": 5.0, "lengths": [25.0, 0.0]}
    assert "<svg" in Path("r.svg").read_text()
    read = "import own, theodolite as th; r = th.measure.load('r'); print(type(r) is own.Lengths, r.value)"
    assert subprocess.check_output([sys.executable, "-c", read], text=True).split() == ["True", "5.0"]
    two = shell("own.py:apart", *MODEL, "--weights", "a.pt", "--weights", "b.pt", "--json")
    assert json.loads(two.stdout)["result"]["value"] == 5.0
    powered = shell("own.py:lengths", *MODEL, "--weights", "a.pt", "--set", "power=1", "--json")
    assert json.loads(powered.stdout)["result"]["value"] == 7.0
    assert json.loads(shell("own.py:lengths", "--list", "--json").stdout)[0]["option"] == "power"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("own.py:number", *MODEL), "expected own.py:number to return a theodolite.Result, got float"),
        (("own.py:wrong", *MODEL), "it raised ZeroDivisionError in line 26 of own.py"),
        (("own.py:ready", *MODEL), "expected own.py:ready to be a function, got int"),
        (("own.py:length", *MODEL), "Did you mean 'lengths'"),
        (("own.py:apart", *MODEL, "--weights", "a.pt"), "two --weights, of both models, for apart"),
        (("own.py:short", *MODEL), "expected own.py:short to take (model, loss, data) and options with defaults"),
        (("own.py:unread", *MODEL), "expected annotations of unread that can be read, but name 'Absent'"),
        (("own.py:Lengths", *MODEL), "expected own.py:Lengths to be a function, got type"),
        (("align", *MODEL), "there is no instrument 'align'"),
    ],
)
def test_what_is_wrong_with_an_instrument_of_one_s_own_is_told_in_one_sentence(arguments, says, shell):
    told = shell(*arguments)
    assert told.returncode == 2
    assert says in " ".join(told.stderr.split())
