"""Options that instruments of curvature share look as if each had been written out."""

import inspect

import pytest
import torch
from torch import nn

from theodolite import measure
from theodolite.checkpoint import settings
from theodolite.errors import SettingError
from theodolite.measure.curvature.operator import HessianOperator

INSTRUMENTS = ("hessian_eigenvalues", "hessian_trace", "hessian_density", "hessian_spectrum", "minimal_ratio")
SHARED = ("operator", "parameters", "memory", "engine", "workers", "address")
IN_PYTHON = ("preconditioner", "basis")  # no text in a shell says them
DATA = torch.eye(2), torch.zeros(2, 1)


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_signature_documentation_and_shell_name_each_shared_option_once(name):
    function = getattr(measure, name)
    own = inspect.signature(function).parameters
    assert set(SHARED) <= set(own)
    assert "options" not in own
    assert set(SHARED) <= set(settings.options(function))
    assert set(IN_PYTHON) <= set(own)
    assert not set(IN_PYTHON) & set(settings.options(function))
    for option in (*SHARED, *IN_PYTHON):
        assert function.__doc__.count(f"\n    {option}: ") == 1
    assert settings.read(function, ["memory=2GB"]) == {"memory": "2GB"}


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_defaults_are_those_of_the_operator(name):
    own, operators = (inspect.signature(each).parameters for each in (getattr(measure, name), HessianOperator))
    assert [own[option].default for option in (*SHARED, *IN_PYTHON)] == [
        operators[option].default for option in (*SHARED, *IN_PYTHON)
    ]


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_a_shared_option_of_the_wrong_kind_is_refused_by_name(name):
    with pytest.raises(SettingError, match="expected workers as"):
        getattr(measure, name)(nn.Linear(2, 1), nn.MSELoss(), DATA, workers="two")
    with pytest.raises(TypeError, match="memroy"):
        getattr(measure, name)(nn.Linear(2, 1), nn.MSELoss(), DATA, memroy="2GB")


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_fields_of_results_are_read_by_their_old_names_as_well(name):
    result = getattr(measure, name)(nn.Linear(2, 1), nn.MSELoss(), DATA)
    assert (result.path, result.check) == (result.backend, result.check_error)
    assert {"backend", "check_error"} <= set(result.to_frame())


def test_no_two_generators_of_one_call_are_seeded_alike(monkeypatch):
    seeds = []
    manual_seed = torch.Generator.manual_seed

    class Noted(torch.Generator):
        def manual_seed(self, seed):
            seeds.append(seed)
            return manual_seed(self, seed)

    monkeypatch.setattr(torch, "Generator", Noted)
    for name in ("hessian_eigenvalues", "hessian_trace", "hessian_density"):
        seeds.clear()
        getattr(measure, name)(nn.Linear(2, 1), nn.MSELoss(), DATA, seed=3)
        assert len(seeds) >= 2
        assert len(set(seeds)) == len(seeds)
