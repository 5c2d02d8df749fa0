"""What is said of the package in several places is one thing."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pythons(text: str) -> list[str]:
    return sorted(set(re.findall(r"3\.1\d", text)))


def test_the_citation_is_of_this_version():
    assert f"\nversion: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text()


def test_each_python_that_is_named_is_tested():
    named = pythons(" ".join(PROJECT["classifiers"]))
    assert pythons((ROOT / ".github" / "workflows" / "test.yml").read_text()) == named
    assert pythons(re.search(r"PYTHONS = (.*)", (ROOT / "tests" / "matrix.py").read_text())[1]) == named
    assert PROJECT["requires-python"] == f">={named[0]}"


def test_extras_that_draw_bring_what_draws():
    extras = PROJECT["optional-dependencies"]
    for name in ("mlflow", "tensorboard"):
        assert "theodolite[studies]" in extras[name]
