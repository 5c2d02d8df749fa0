"""Type hints as a user's own type checker sees them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import theodolite

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("a_users_script.py")


def mypy(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """In a folder of its own, strictly, with what `make check` already knows of torch."""
    (folder / "script.py").write_text(text)
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "script.py"]
    command += ["--cache-dir", str(ROOT / ".mypy_cache")]
    environment = {**os.environ, "MYPYPATH": str(Path(theodolite.__file__).parents[1])}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)


def test_a_users_script_passes_the_strict_checks_and_its_mistakes_are_seen(tmp_path):
    done = mypy(tmp_path, SCRIPT.read_text())
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = mypy(
        tmp_path, SCRIPT.read_text().replace("assert_type(steep.value, float)", "assert_type(steep.value, str)")
    )
    assert "Expression is of type" in wrong.stdout


def test_the_package_says_that_it_is_typed():
    assert Path(theodolite.__file__).with_name("py.typed").is_file()
    assert '"py.typed"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("name", ["measure", "theodolite"])
def test_checkers_see_the_same_public_names_as_python(name):
    module = theodolite if name == "theodolite" else theodolite.measure
    text = Path(module.__file__).read_text().partition("if TYPE_CHECKING:")[2].partition("\n\n")[0]
    lines = [line.rpartition("import ")[2] for line in text.splitlines() if "import " in line]
    assert {part.split(" as ")[0].strip() for line in lines for part in line.split(",")} == set(module.__all__)
