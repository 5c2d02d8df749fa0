"""Where a command is called: without docstrings, streams or a working folder, and beside files of modules' names."""

import os
import subprocess
import sys

import tiny as survey_of
from commands import called, theodolite


def test_a_python_without_docstrings_is_said(tmp_path):
    done = theodolite("status", str(tmp_path), env={**os.environ, "PYTHONOPTIMIZE": "2"})
    assert done.returncode == 2
    assert "keeps docstrings" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_working_folder_that_is_gone_is_needed_by_relative_names_alone(whole, tiny, tmp_path):
    source, right = whole
    gone = tmp_path / "gone"
    gone.mkdir()
    before = os.getcwd()
    os.chdir(gone)
    gone.rmdir()
    try:
        assert called("status", str(source)).returncode == 0
        assert called("run", "tiny", "--preset", "smoke", "--out", str(tmp_path / "r")).returncode == 0
        for words in (["status", "r"], ["run", "tiny", "--preset", "smoke"], ["new", "study", "a.py"], ["run", "a.py"]):
            done = called(*words)
            assert done.returncode == 2
            assert "Traceback" not in done.stderr
    finally:
        os.chdir(before)
    assert survey_of.seen(tmp_path / "r") == right


def test_a_worker_takes_no_module_of_the_working_folder(tmp_path):
    for name in ("torch", "theodolite", "numpy", "random", "selectors"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    script = "import theodolite.cli, sys; sys.argv[0] = 'theodolite'\nif __name__ == '__main__': theodolite.cli.main()"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "theodolite").write_text(script)
    words = ["run", "gradient-norm", "--preset", "smoke", "--seeds", "1", "--jobs", "1", "--out", "r"]
    done = subprocess.run(
        [sys.executable, "bin/theodolite", *words], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
