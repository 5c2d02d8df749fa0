"""The package as a whole: its public names, how quick it loads, and what works without torch."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import theodolite


def python(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def test_the_public_names_are_these():
    assert set(theodolite.__all__) == {
        "Claim",
        "Evidence",
        "Loss",
        "Optimizer",
        "Recorder",
        "Result",
        "RunSpec",
        "Settings",
        "Study",
        "Trained",
        "claims",
        "data",
        "errors",
        "instrument",
        "measure",
        "models",
        "recordings",
        "studies",
        "study",
        "survey",
    }
    assert dir(theodolite) == theodolite.__all__


def test_importing_it_loads_neither_torch_nor_pandas():
    heavy = python("import sys, theodolite; print({'torch', 'pandas', 'altair', 'scipy'} & set(sys.modules))")
    assert heavy == "set()"


def test_a_command_waits_for_neither_torch_nor_statistics_before_it_needs_them():
    script = (
        "import sys, theodolite.cli, theodolite.survey; print({'torch', 'sklearn', 'scipy.stats'} & set(sys.modules))"
    )
    assert python(script) == "set()"


def test_every_public_name_can_be_had():
    for name in set(theodolite.__all__) - set(theodolite.ELSEWHERE):
        assert getattr(theodolite, name).__name__ == f"theodolite.{name}"
    for name in theodolite.ELSEWHERE:
        assert getattr(theodolite, name).__name__ == name


def test_a_wrong_name_says_which_there_are():
    with pytest.raises(AttributeError, match="it has Claim, Evidence, Loss, Optimizer, Recorder, Result, RunSpec"):
        theodolite.telescope  # noqa: B018


def test_the_version_is_that_of_the_project_and_is_not_looked_up_before_it_is_asked_for():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert theodolite.__version__ == project["version"]
    assert python("import sys, theodolite; print('importlib.metadata' in sys.modules)") == "False"


def test_a_study_is_made_by_a_function_also_when_the_module_of_that_name_is_imported():
    script = (
        "import theodolite as th, theodolite.study; from theodolite.study import Study; "
        "print(th.study.__name__, th.Study is Study, type(th.study('a')).__name__)"
    )
    assert python(script) == "study True OwnStudy"
