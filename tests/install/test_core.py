"""What `pip install theodolite` gives, without what the extra "studies" adds."""

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

import theodolite
from without import CORE, python

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = {
    "pillow": "PIL",
    "scikit-learn": "sklearn",
    "vl-convert-python": "vl_convert",
}  # else as the package is called


def modules(requirements):
    names = (Requirement(line).name for line in requirements)
    return [MODULES.get(name, name) for name in names]


EXTRA = modules(PROJECT["optional-dependencies"]["studies"])
ADVICE = "pip install 'theodolite[studies]'"

NET = """
import torch
def make(): return torch.nn.Linear(2, 1, bias=False)
def data(): return torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.ones(2, 1)
"""

COMMANDS = """
import json, sys
from theodolite.cli import main

for line in json.loads(sys.argv[1]):
    sys.argv = ["theodolite", *line]
    try:
        main()
    except SystemExit as end:
        print("==", *line, "==", end.code, flush=True)
"""
DOES = [
    "measure hessian_eigenvalues --model net.py:make --data net.py:data --loss mse --set k=1 --out top.safetensors",
    "measure --list",
    "test runs.csv --value loss --seed seed --below 100",
    "budget --parameters 671 --layers 4",
]
CANNOT = [
    "list",
    "survey --preset smoke",
    "report results",
    "claims results",
    "status results",
    "serve results",
    "data digits",
    "data mnist1d",
    "measure gradient_norm --model net.py:make --data hub:ylecun/mnist",
    "measure gradient_norm --model net.py:make --data dir:.",
    "measure gradient_norm --model net.py:make --data net.py:data --figure a.svg",
]

MISSING = """
import torch, theodolite as th

pair = (torch.ones(2, 1), torch.ones(2, 1))
for call in (
    lambda: th.studies.INDEX,
    lambda: th.survey.prepare(["capacity"], "smoke"),
    lambda: th.measure.gradient_norm(torch.nn.Linear(1, 1), torch.nn.MSELoss(), pair).plot(),
    lambda: th.data.load(th.data.DataSpec(source="digits")),
):
    try:
        call()
    except th.errors.MissingExtra as error:
        print(error)
"""


EVERY_MODULE = """
import importlib, pkgutil, theodolite
from theodolite.errors import MissingExtra

for module in pkgutil.walk_packages(theodolite.__path__, "theodolite.", onerror=lambda name: None):
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except MissingExtra as error:
        assert "pip install 'theodolite[" in str(error), error
    except ImportError as error:
        print(module.name, error)
"""


def test_a_module_that_the_core_cannot_import_says_what_to_install(tmp_path):
    done = python(EVERY_MODULE, hidden=EXTRA, here=tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_instruments_recorder_and_claims_need_no_more_than_the_core(tmp_path):
    done = python(CORE, hidden=EXTRA, here=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """What each command prints, and the code it ends with."""
    here = tmp_path_factory.mktemp("core")
    (here / "net.py").write_text(NET)
    numbers = np.random.default_rng(0).normal(0, 1, 8)
    (here / "runs.csv").write_text("seed,loss\n" + "".join(f"{n},{x}\n" for n, x in enumerate(numbers)))
    lines = json.dumps([line.split() for line in [*DOES, *CANNOT]])
    environment = {"THEODOLITE_CACHE": str(here / "cache"), "COLUMNS": "200"}
    done = python(COMMANDS, hidden=EXTRA, here=here, arguments=[lines], environment=environment)
    parts = re.findall(r"(.*?)== (.*?) == (\w+)\n", done.stdout, re.DOTALL)
    return here, {line: (int(code) if code.isdigit() else code, text) for text, line, code in parts}, done.stderr


@pytest.mark.parametrize("line", DOES)
def test_from_the_shell_the_core_measures_and_tests_claims(shell, line):
    _, said, errors = shell
    assert said[line][0] == 0, errors


def test_what_the_core_measures_from_the_shell_is_right(shell):
    top = theodolite.measure.load(shell[0] / "top.safetensors")
    assert top.eigenvalues.tolist() == pytest.approx([4.0], rel=1e-5)  # the largest of diag(1, 4)


@pytest.mark.parametrize("line", CANNOT)
def test_a_command_that_the_core_lacks_ends_as_wrong_use(shell, line):
    _, said, _ = shell
    assert said[line][0] == 2


def test_each_of_these_says_what_to_install(shell):
    _, _, errors = shell
    assert " ".join(errors.split()).count(ADVICE) == len(CANNOT)
    assert "Traceback" not in errors


def test_from_python_it_is_a_missing_extra(tmp_path):
    environment = {"THEODOLITE_CACHE": str(tmp_path / "cache")}
    done = python(MISSING, hidden=EXTRA, here=tmp_path, environment=environment)
    assert done.stdout.count(ADVICE) == 4, done.stderr
