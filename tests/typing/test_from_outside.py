"""Type hints as a user's own type checker sees them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import theodolite

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("a_users_script.py")


def test_a_users_script_passes_the_strict_checks_and_its_mistakes_are_seen(tmp_path):
    wrong = SCRIPT.read_text().replace("assert_type(steep.value, float)", "assert_type(steep.value, str)")
    for name, text in {"right.py": SCRIPT.read_text(), "wrong.py": wrong}.items():
        (tmp_path / name).write_text(text)
    # From where `make check` runs, so that what it found out of theodolite and torch is known.
    command = [sys.executable, "-m", "mypy", str(tmp_path / "right.py"), str(tmp_path / "wrong.py")]
    environment = {**os.environ, "MYPYPATH": "src"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    said = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(said) == 1, done.stdout + done.stderr
    assert "wrong.py" in said[0]
    assert "Expression is of type" in said[0]


def test_the_package_says_that_it_is_typed():
    assert Path(theodolite.__file__).with_name("py.typed").is_file()
    assert '"py.typed"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("name", ["measure", "theodolite"])
def test_checkers_see_the_same_public_names_as_python(name):
    module = theodolite if name == "theodolite" else theodolite.measure
    text = Path(module.__file__).read_text().partition("if TYPE_CHECKING:")[2].partition("\n\n")[0]
    lines = [line.rpartition("import ")[2] for line in text.splitlines() if "import " in line]
    assert {part.split(" as ")[0].strip() for line in lines for part in line.split(",")} == set(module.__all__)
