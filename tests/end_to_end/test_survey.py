"""A whole survey through the command line: interrupted, killed, resumed, and what is read when something is wrong."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commands import LONG, alone, called, finished, start, tables, theodolite, wait_for_runs

SMALL = ["--preset", "smoke", "--set", "epochs=80", "--set", "batch_epochs=10", "--set", "points=32"]
ENDLESS = ["--preset", "smoke", "--set", "epochs=1000000", "--set", "batch_size=null"]


def workers_of(parent: int) -> list[int]:
    """Child processes that run jobs (not multiprocessing's resource tracker)."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(c) for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a small survey, and what it printed."""
    directory = tmp_path_factory.mktemp("small") / "results"
    done = theodolite("run", "simulate-function", *SMALL, "--out", str(directory))
    assert done.returncode == 0, done.stdout + done.stderr
    return directory, done.stdout


@pytest.fixture(scope="module")
def small(first: tuple[Path, str]) -> Path:
    return first[0]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("undisturbed") / "results"
    done = alone("run", "simulate-function", *LONG, "--out", str(directory), pictures=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


def test_one_command_gives_page_tables_figures_and_verdicts(small):
    study = small / "simulate-function"
    assert (small / "report.html").stat().st_size > 10_000
    assert (small / "report.md").exists()
    assert {p.suffix for p in (study / "figures").iterdir()} == {".png", ".svg", ".pdf"}
    assert {p.name for p in (study / "tables").iterdir()} == {
        f"{name}.{kind}" for name in ("table-1", "learning-curves") for kind in ("csv", "md")
    }
    claims = json.loads((study / "claims.json").read_text())
    assert [c["id"] for c in claims] == [
        "fits-inside", "fails-outside", "same-depth-alike", "same-depth-performs-alike", "same-depth-learns-alike",
        "deeper-twice-as-fast", "deeper-performs-better", "deeper-starts-slower", "deeper-ends-lower",
        "shallow-takes-much-longer", "exponential-is-harder",
    ]  # fmt: skip
    assert {c["id"]: c["seeds"] for c in claims if c["seeds"] != 3} == {"same-depth-learns-alike": 1}  # pairs


def test_the_same_command_again_trains_nothing_anew(small):
    before, shown = finished(small), tables(small)
    again = called("run", "simulate-function", *SMALL, "--out", str(small))
    assert again.returncode == 0, again.stderr
    assert finished(small) == before
    assert tables(small) == shown


def test_the_number_of_workers_and_the_grouping_change_no_number(small, tmp_path):
    one = called("run", "simulate-function", *SMALL, "--jobs", "1", "--out", str(tmp_path / "one"), pictures=False)
    assert one.returncode == 0, one.stderr
    assert tables(tmp_path / "one") == tables(small)


@pytest.mark.thorough
def test_a_worker_killed_midway_costs_only_its_own_runs(undisturbed, tmp_path):
    survey = start("run", "simulate-function", *LONG, "--out", str(tmp_path / "r"))
    wait_for_runs(tmp_path / "r", "running", 1)
    os.kill(workers_of(survey.pid)[0], signal.SIGKILL)
    output, _ = survey.communicate(timeout=240)
    assert survey.returncode == 0, output
    assert tables(tmp_path / "r") == tables(undisturbed)


@pytest.mark.thorough  # test_resume.py kills it inside its runs
def test_the_whole_program_killed_midway_loses_no_finished_run_and_ends_byte_for_byte_alike(undisturbed, tmp_path):
    directory = tmp_path / "r"
    survey = start("run", "simulate-function", *LONG, "--jobs", "1", "--out", str(directory))
    wait_for_runs(directory, "done", 3)
    os.killpg(survey.pid, signal.SIGKILL)
    survey.communicate(timeout=30)
    kept = finished(directory)
    assert 3 <= len(kept) < 24
    status = json.loads(called("status", str(directory), "--json").stdout)
    assert status[0]["done"] == len(kept)
    assert status[0]["running"] == 0
    again = called("run", "simulate-function", *LONG, "--jobs", "1", "--out", str(directory), pictures=False)
    assert again.returncode == 0, again.stderr
    assert {name: finished(directory)[name] for name in kept} == kept
    assert tables(directory) == tables(undisturbed)


def test_ctrl_c_stops_within_two_seconds_and_says_how_to_go_on(tmp_path):
    took: list[float] = []
    while not took or (min(took) >= 2 and len(took) < 3):  # others may be using the machine
        directory = tmp_path / f"r{len(took)}"
        survey = start("run", "simulate-function", *ENDLESS, "--out", str(directory))
        wait_for_runs(directory, "running", 1)
        started = time.monotonic()
        os.killpg(survey.pid, signal.SIGINT)
        output, _ = survey.communicate(timeout=30)
        took.append(time.monotonic() - started)
        assert survey.returncode == 130
        assert "To go on: theodolite run simulate-function --preset smoke" in output
        assert "Traceback" not in output
    assert min(took) < 2


def test_a_damaged_record_is_named_by_the_report_and_redone_by_the_next_run(small, tmp_path):
    directory = tmp_path / "r"
    shutil.copytree(small, directory)
    victim = min(directory.glob("*/runs/*/metrics.parquet"))
    victim.write_bytes(victim.read_bytes()[:-7])
    report = called("report", str(directory))
    assert report.returncode == 2
    assert str(victim) in report.stderr.replace("\n", "")
    assert alone("run", "simulate-function", *SMALL, "--out", str(directory), pictures=False).returncode == 0
    assert tables(directory) == tables(small)


def test_the_report_is_rebuilt_from_a_copied_folder_without_torch(small, tmp_path):
    directory = tmp_path / "copy"
    shutil.copytree(small, directory)
    for path in [*directory.glob("*/tables/*"), *directory.glob("*/claims.json"), directory / "report.html"]:
        path.unlink()
    script = (
        "import sys\n"
        "class NoTorch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'torch':\n"
        "            raise ModuleNotFoundError('torch is not installed here')\n"
        "sys.meta_path.insert(0, NoTorch())\n"
        "from theodolite.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script, "report", str(directory)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert tables(directory) == tables(small)
    assert (directory / "report.html").read_bytes() == (small / "report.html").read_bytes()


def test_two_surveys_do_not_write_into_one_folder_at_once(tmp_path):
    first = start("run", "simulate-function", *ENDLESS, "--jobs", "1", "--out", str(tmp_path / "r"))
    try:
        wait_for_runs(tmp_path / "r", "running", 1)
        second = called("run", "simulate-function", *ENDLESS, "--out", str(tmp_path / "r"))
        assert second.returncode == 2
        assert "another survey is writing" in second.stderr
        status = json.loads(called("status", str(tmp_path / "r"), "--json").stdout)
        assert status[0]["running"] >= 1
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "simulate-funtion"], "Did you mean 'simulate-function'?"),
        (["run", "simulate-function", "--preset", "quik"], "Did you mean 'quick'?"),
        (["run", "simulate-function", "--set", "epoch=3"], "Did you mean 'epochs'?"),
        (["run", "simulate-function", "--set", "epochs"], "expected --set key=value, got 'epochs'"),
        (["run", "simulate-function", "--set", "epochs=-3"], "setting 'epochs' of simulate-function"),
        (["run", "simulate-function", "--set", "learning_rate=fast"], "learning_rate"),
        (["run", "simulate-function", "--set", 'functions=["cos("]'], "cos("),
        (["run", "simulate-function", "--engine", "cloud"], "there is no engine 'cloud'"),
        (["run", "simulate-function", "--seeds", "0"], "seeds"),
        (["run", "simulate-function", "--device", "cuda:99"], "cuda:99"),
        (["report", "nowhere"], "expected a results folder"),
        (["claims", "nowhere"], "expected a results folder"),
        (["status", "nowhere"], "expected a results folder"),
        (["data", "minst"], "Did you mean 'mnist'?"),
        (["budget", "--parameters", "12", "--layers", "4"], "the closest have"),
        (["list", "nothing"], "there is no study 'nothing'"),
        (["frobnicate"], "No such command"),
        (["run"], "Missing argument"),
    ],
)
def test_wrong_use_is_one_clear_paragraph_and_exit_code_two(arguments, said, tmp_path):
    done = called(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.json")), "something was written"


def test_a_folder_that_may_not_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    done = called("run", "simulate-function", *SMALL, "--out", str(tmp_path / "file" / "r"))
    assert done.returncode == 2
    assert "a part of its path is a file" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_ends_in_one_clear_error_and_keeps_what_is_finished(small, monkeypatch):
    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = tables(small)
    monkeypatch.setattr(Path, "write_bytes", full)
    done = called("report", str(small))
    assert done.returncode == 2
    assert "the disk is full. Free some space" in done.stderr
    assert "Traceback" not in done.stderr
    assert tables(small) == before


def test_a_folder_of_another_format_is_refused_and_left_alone(tmp_path):
    (tmp_path / "theodolite.json").write_text('{"format": 999}')
    done = called("run", "simulate-function", *SMALL, "--out", str(tmp_path))
    assert done.returncode == 2
    assert "has format 999" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["theodolite.json"]


def test_lists_are_there_for_programs_too(small):
    for arguments in (
        ["list"],
        ["list", "simulate-function"],
        ["data"],
        ["claims", str(small)],
        ["status", str(small)],
    ):
        done = called(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)


def test_progress_is_plain_lines_away_from_a_terminal(first):
    _, shown = first
    assert "simulate-function: 100%" in shown
    assert "\x1b[" not in shown


def test_runs_that_fail_are_listed_with_the_reason_and_the_rest_is_finished(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if '--multiprocessing-fork' in sys.orig_argv:  # in the workers only\n"
        "    from theodolite.studies.simulate_function import study\n"
        "    right = study.measure\n"
        "    def measure(spec, outcome):\n"
        "        if spec.labels['model'] == 'Model 2':\n"
        "            raise ValueError('the barometer fell')\n"
        "        return right(spec, outcome)\n"
        "    study.measure = measure\n"
    )
    directory = str(tmp_path / "r")
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        done = called("run", "simulate-function", *SMALL, "--jobs", "1", "--out", directory, pictures=False)
    assert done.returncode == 1
    assert "15 failed" in done.stderr
    assert "ValueError: the barometer fell" in done.stderr
    status = json.loads(called("status", directory, "--json").stdout)[0]
    assert (status["done"], status["failed"], status["left"]) == (30, 15, 0)
    again = alone("run", "simulate-function", *SMALL, "--out", directory, pictures=False)
    assert again.returncode == 0, again.stderr
    assert json.loads(called("status", directory, "--json").stdout)[0]["done"] == 45
