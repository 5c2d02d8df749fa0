"""Where the code changes under finished runs: asked, kept or done anew, and never mixed without a word."""

import os

import pytest

from commands import finished
from theodolite.own.described import read_description
from theodolite.store import records

BODY = """
    @study.run(a=[1, 2])
    def go(seed, a):
        return {"x": seed + %s * a}
    study.claim("up", "It is more.", value="metrics.x", compare={"a": (2, 1)}, above=0)
"""


@pytest.fixture
def changed(write, run, tmp_path):
    """A study that ran, and was changed then."""
    assert run(write(BODY % "10"), "--seeds", "2").returncode == 0
    return write(BODY % "20")


def numbers(folder):
    return sorted(records.read(folder, "own").table("metrics")["x"])


def test_the_command_says_which_runs_and_does_nothing(changed, run, tmp_path):
    before = finished(tmp_path / "r")
    done = run(changed, "--seeds", "3")
    assert done.returncode == 2
    said = " ".join(done.stderr.split())
    assert "file.py has changed since 4 runs finished (a 1, seed 0; a 2, seed 0; a 1, seed 1; and 1 more)" in said
    assert "--keep" in said
    assert "--redo" in said
    assert finished(tmp_path / "r") == before
    assert numbers(tmp_path / "r") == [10, 11, 20, 21]


def test_kept_runs_stay_and_the_rest_is_done_by_the_code_of_now_also_when_it_goes_on(changed, run, tmp_path):
    before = finished(tmp_path / "r")
    done = run(changed, "--seeds", "3", "--keep")
    assert "4 runs of earlier code are kept" in done.stdout + done.stderr
    assert numbers(tmp_path / "r") == sorted([10, 11, 20, 21, 22, 42])
    assert before.items() <= finished(tmp_path / "r").items()
    again = run(changed, "--seeds", "3")
    assert again.returncode == 0
    assert "4 runs of earlier code are kept" in again.stdout + again.stderr
    assert len(read_description(tmp_path / "r", "own").kept) == 1


def test_kept_seeds_are_planned_again_though_the_file_asks_for_fewer_until_the_user_says_so(write, run, tmp_path):
    path = write(BODY % "10")  # four seeds
    assert run(path, "--seeds", "6").returncode == 0
    assert run(path, "--seeds", "8", "--set", "a=[2, 3]").returncode == 2  # the claim needs a 1: nothing is planned
    before = finished(tmp_path / "r")
    assert len(before) == 12
    write(BODY % "20")
    for arguments in (["--keep"], []):  # and when it goes on
        done = run(path, *arguments)
        assert done.returncode == 0, done.stderr
        assert "goes on with 6 seeds" in " ".join((done.stdout + done.stderr).split())
        plan = records.read_plan(tmp_path / "r", "own")
        assert plan.settings["seeds"] == 6
        assert numbers(tmp_path / "r") == sorted(seed + 10 * a for seed in range(6) for a in (1, 2))
    assert finished(tmp_path / "r") == before
    assert run(path, "--seeds", "2").returncode == 0
    assert records.read_plan(tmp_path / "r", "own").settings["seeds"] == 2


def test_a_seed_of_which_a_run_failed_is_no_finished_one(write, run, tmp_path):
    stumbling = BODY.replace("return", "assert (seed, a) != (5, 2); return")
    assert run(write(stumbling % "10"), "--seeds", "6").returncode == 1
    assert run(write(stumbling % "20"), "--keep").returncode == 0
    assert records.read_plan(tmp_path / "r", "own").settings["seeds"] == 5


def test_done_anew_none_of_the_earlier_is_read_also_when_it_goes_on(changed, run, tmp_path):
    assert run(changed, "--seeds", "2", "--redo").returncode == 0
    assert numbers(tmp_path / "r") == [20, 21, 40, 41]
    before = finished(tmp_path / "r")
    assert run(changed, "--seeds", "2").returncode == 0
    assert finished(tmp_path / "r") == before


def test_what_was_changed_back_is_found_again(changed, run, write, tmp_path):
    before = finished(tmp_path / "r")
    run(changed, "--seeds", "2", "--redo")
    assert run(write(BODY % "10"), "--seeds", "2").returncode == 0
    assert numbers(tmp_path / "r") == [10, 11, 20, 21]
    assert before.items() <= finished(tmp_path / "r").items()


def test_new_levels_alone_ask_nothing_of_runs_that_no_longer_belong_to_it(changed, run, write, tmp_path):
    path = write(BODY.replace("[1, 2]", "[3, 4]").replace("(2, 1)", "(4, 3)") % "10")
    assert run(path, "--seeds", "2").returncode == 0
    assert numbers(tmp_path / "r") == [30, 31, 40, 41]


def test_a_module_beside_the_file_is_a_part_of_it(write, run, tmp_path):
    (tmp_path / "helping.py").write_text("factor = 10\n")
    body = BODY.replace("return", "import helping; return") % "helping.factor"
    path = write(body)
    assert run(path, "--seeds", "2").returncode == 0
    when = (tmp_path / "helping.py").stat()
    (tmp_path / "helping.py").write_text("factor = 20\n")
    os.utime(tmp_path / "helping.py", ns=(when.st_atime_ns, when.st_mtime_ns))  # as long, and of the same second
    done = run(path, "--seeds", "2")
    assert "helping.py has changed since 4 runs" in " ".join(done.stderr.split())
    assert run(path, "--seeds", "2", "--redo").returncode == 0
    assert numbers(tmp_path / "r") == [20, 21, 40, 41]


def test_another_file_takes_no_name_that_is_in_the_folder(changed, run, write, tmp_path):
    done = run(write(BODY % "30", "other.py"), "--seeds", "2")
    assert done.returncode == 2
    assert "'own' of file.py is there" in " ".join(done.stderr.split())
    changed.rename(tmp_path / "renamed.py")
    write(BODY % "10").rename(tmp_path / "renamed.py")
    assert run(tmp_path / "renamed.py", "--seeds", "2").returncode == 0, "the same code under another name is the same"


def test_keep_and_redo_together_are_refused(changed, run):
    assert "got both" in run(changed, "--keep", "--redo").stderr
