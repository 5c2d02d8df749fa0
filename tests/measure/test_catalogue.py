"""The one record of each instrument, and those that a user adds."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn

import theodolite as th
from theodolite import measure
from theodolite.errors import SettingError, UnknownName
from theodolite.figures import measured
from theodolite.measure import catalogue

DATA = (torch.eye(2), torch.zeros(2, 1))


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Instruments that a test registers are not known to the next."""
    before = dict(catalogue.INSTRUMENTS)
    yield
    catalogue.INSTRUMENTS.clear()
    catalogue.INSTRUMENTS.update(before)


def length(model, loss, data, *, power: float = 2.0):
    return {"length": sum(float(p.detach().abs().pow(power).sum()) for p in model.parameters()) ** (1 / power)}


def test_every_file_of_an_instrument_has_its_record_and_every_record_its_file():
    folder = Path(measure.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "catalogue", "planes"}
    assert files == {one.name for one in catalogue.BUILT_IN}
    for one in catalogue.BUILT_IN:
        assert one.function is getattr(measure, one.name)
        assert one.function.__module__ == f"theodolite.measure.{one.name}"


def test_a_kind_is_what_the_class_that_an_instrument_returns_is_saved_as():
    assert {kind for one in catalogue.BUILT_IN for kind in one.charts} == set(catalogue.OF_KIND)
    for one in catalogue.BUILT_IN:
        returned = one.function.__annotations__["return"]
        assert returned._kind in one.charts
        assert all(callable(getattr(measured, chart)) for chart in one.charts.values())


def test_what_type_checkers_are_told_is_what_there_is():
    tree = ast.parse(Path(measure.__file__).read_text())
    told = {
        alias.asname: node.module
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If)
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told == {name: f"theodolite.measure.{file}" for name, file in measure.FILES.items()}


def test_a_recorder_takes_what_looks_at_one_model_loss_and_data():
    for name in catalogue.in_recorder():
        assert list(import_module("inspect").signature(getattr(measure, name)).parameters)[:3] == [
            "model", "loss", "data",
        ]  # fmt: skip
    assert not {"interpolate", "connect", "trajectory", "align"} & set(catalogue.in_recorder())


def test_an_instrument_of_one_s_own_is_recorded_by_its_name():
    assert th.instrument(asks="How long are the weights?", cost="weights alone")(length) is length
    model = nn.Linear(2, 1)
    recorder = th.Recorder({"length": "length", "sum": ("length", {"power": 1.0})}, out=None)
    with recorder:
        recorder.step(model, nn.MSELoss(), DATA)
    found = recorder.table("numbers").set_index("instrument")["value"]
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert found["length"] == pytest.approx(float(weights.norm()))
    assert found["sum"] == pytest.approx(float(weights.abs().sum()))
    with pytest.raises(UnknownName, match="Did you mean 'power'"):
        th.Recorder(("length", {"powr": 1.0}) and {"l": ("length", {"powr": 1.0})}, out=None)


def test_a_name_that_is_taken_and_a_cost_that_is_none_are_refused():
    register = th.instrument(asks="?", cost="weights alone")
    with pytest.raises(SettingError, match="got 'gradient_norm' again"):
        register(measure.gradient_norm)
    with pytest.raises(SettingError, match="Write it with def"):
        register(lambda model, loss, data: 0.0)
    with pytest.raises(UnknownName, match="cost 'one gradeint'. Did you mean 'one gradient'"):
        th.instrument(asks="?", cost="one gradeint")
    register(length)
    register(length)  # a cell of a notebook, run again
    elsewhere = type(length)(length.__code__, {"__name__": "elsewhere"}, "length")
    with pytest.raises(SettingError, match="got 'length' again"):
        register(elsewhere)


def test_registering_an_instrument_imports_no_torch():
    script = "import sys, theodolite as th; th.instrument; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


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
    gaps = [(a - b).square().sum() for a, b in zip(first.parameters(), second.parameters())]
    return Lengths(float(sum(gaps)) ** 0.5, torch.stack(gaps).detach())

def number(model, loss, data):
    return 1.0

def wrong(model, loss, data):
    return 1 / 0

ready = 3

def make():
    return nn.Linear(2, 1)

def pair():
    return torch.eye(2), torch.zeros(2, 1)
"""


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    for name, weight in (("a", 3.0), ("b", 0.0)):
        torch.save({"weight": torch.tensor([[weight, weight / 3 * 4]]), "bias": torch.zeros(1)}, f"{name}.pt")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "theodolite", "measure", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


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
        (("own.py:wrong", *MODEL), "it raised ZeroDivisionError in line 27 of own.py"),
        (("own.py:ready", *MODEL), "expected own.py:ready to be a function, got int"),
        (("own.py:length", *MODEL), "Did you mean 'lengths'"),
        (("own.py:apart", *MODEL, "--weights", "a.pt"), "two --weights, of both models, for apart"),
        (("align", *MODEL), "there is no instrument 'align'"),
    ],
)
def test_what_is_wrong_with_an_instrument_of_one_s_own_is_told_in_one_sentence(arguments, says, shell):
    told = shell(*arguments)
    assert told.returncode == 2
    assert says in " ".join(told.stderr.split())
