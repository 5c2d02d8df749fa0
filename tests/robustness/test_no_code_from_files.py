"""Nothing in the package can run code that a file holds; the lint rules that say so cannot be switched off unseen."""

import ast
import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import theodolite

ROOT = Path(theodolite.__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "imp"}
CALLS = {"eval", "exec", "compile", "__import__"}
METHODS = {("os", "system"), ("os", "popen"), ("yaml", "load"), ("pd", "read_pickle")}
RULES = ("S102", "S301", "S302", "S307", "S506", "S602", "S604", "S605", "S614", "TID251")
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())


def faults(text: str) -> list[str]:
    """What a source does that could run code from a file."""
    found = []
    harmless = "pickle." in text and set(re.findall(r"\bpickle\.\w+", text)) == {"pickle.UnpicklingError"}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [n.name for n in node.names if n.name.partition(".")[0] in MODULES and not harmless]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
            found.append(node.module)
        elif isinstance(node, ast.Call):
            found += called(node)
    return found


def called(node: ast.Call) -> list[str]:
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    function = node.func
    if isinstance(function, ast.Name):
        return [function.id] if function.id in CALLS else []
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        name = (function.value.id, function.attr)
        if name in METHODS:
            return [".".join(name)]
        if name == ("np", "load") and keywords.get("allow_pickle") != "False":
            return ["np.load without allow_pickle=False"]
        if name == ("torch", "load") and keywords.get("weights_only") != "True":
            return ["torch.load without weights_only=True"]
    return ["shell=True"] if keywords.get("shell", "False") != "False" else []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_no_source_can_run_what_a_file_holds(path):
    assert faults(path.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from dill import load", "import yaml", "eval('1')", "exec(x)", "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f)", "np.load(f, allow_pickle=True)", "subprocess.run(x, shell=True)", "os.system('ls')",
    ],
)  # fmt: skip
def test_each_forbidden_thing_would_be_found(text):
    assert len(faults(text)) == 1


def test_the_lint_rules_hold_everywhere_and_one_line_of_the_package_is_exempt():
    lint = CONFIG["tool"]["ruff"]["lint"]
    assert {"S", "TID"} <= set(lint["select"])
    for ignored in (lint["ignore"], *lint["per-file-ignores"].values()):
        assert not [rule for rule in ignored if any(banned.startswith(rule) for banned in RULES)]
    assert {"pickle", "dill", "yaml.load"} <= set(lint["flake8-tidy-imports"]["banned-api"])
    exempt = re.compile(r"#\s*(?:ruff:\s*)?noqa(?!:)|#\s*(?:ruff:\s*)?noqa:.*\b(" + "|".join(RULES) + r")\b")
    assert [path.name for path in SOURCES if exempt.search(path.read_text())] == ["opened.py"]  # see `harmless`


def needed() -> set[str]:
    """The packages that a survey needs, and those that they need."""
    found: set[str] = set()

    def walk(name: str, extras: tuple[str, ...] = ()) -> None:
        for text in distribution(name).requires or []:
            requirement = Requirement(text)
            environments = [{"extra": extra} for extra in ("", *extras)]
            if requirement.marker and not any(requirement.marker.evaluate(e) for e in environments):
                continue
            key = canonicalize_name(requirement.name)
            if key not in found:
                found.add(key)
                walk(key, tuple(requirement.extras))

    walk("theodolite")
    return found


def test_the_lock_holds_every_package_of_a_survey_by_version_and_checksum_and_names_no_place():
    text = (ROOT / "lock.txt").read_text()
    entry = re.compile(r"^([a-z0-9-]+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}$", re.MULTILINE)
    locked = {name: version.partition("+")[0] for name, version in entry.findall(text)}
    assert needed() <= set(locked)
    assert not re.search(r"https?:|file:|--index|--find", text)
    pins = dict(
        line.partition(";")[0].strip().split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    assert {name: version for name, version in pins.items() if name in locked} == {
        name: version
        for name, version in locked.items()
        if name != "setuptools"  # torch takes any
    }
