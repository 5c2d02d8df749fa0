"""The one record of each instrument, and those that a user adds."""

import ast
import subprocess
import sys
from functools import partial
from inspect import signature
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


def length(model, loss, data, *, power: float = 2.0):
    return {"length": sum(float(p.detach().abs().pow(power).sum()) for p in model.parameters()) ** (1 / power)}


def test_every_file_of_an_instrument_has_its_record_and_every_record_its_file():
    folder = Path(measure.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "catalogue", "parts", "planes"}
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
        assert list(signature(getattr(measure, name)).parameters)[:3] == ["model", "loss", "data"]
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
        th.Recorder({"length": ("length", {"powr": 1.0})}, out=None)


def test_a_name_that_is_taken_and_a_cost_that_is_none_are_refused():
    register = th.instrument(asks="?", cost="weights alone")
    with pytest.raises(SettingError, match="got 'gradient_norm' again"):
        register(measure.gradient_norm)
    with pytest.raises(SettingError, match="Write it with def"):
        register(lambda model, loss, data: 0.0)
    with pytest.raises(SettingError, match="got partial"):
        register(partial(length, power=1.0))
    with pytest.raises(UnknownName, match=r"cost 'one gradeint'\. Did you mean 'one gradient'"):
        th.instrument(asks="?", cost="one gradeint")
    register(length)
    register(length)  # a cell of a notebook, run again
    elsewhere = type(length)(length.__code__, {"__name__": "elsewhere"}, "length")
    with pytest.raises(SettingError, match="got 'length' again"):
        register(elsewhere)


def test_registering_an_instrument_imports_no_torch():
    script = "import sys, theodolite as th; th.instrument; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
