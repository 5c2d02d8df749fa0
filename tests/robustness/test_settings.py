"""Numbers that no survey can be made of are refused in a sentence, in little time and memory, before any planning."""

import time

import pytest

from commands import called
from theodolite import execute, machine, studies, survey
from theodolite.errors import SettingError, UsageError
from theodolite.survey import bounds


@pytest.mark.parametrize("study", studies.INDEX)
@pytest.mark.parametrize("seeds", [10**6, 10**20])
def test_more_runs_than_a_plan_can_hold_are_counted_and_not_made(study, seeds):
    machine.forget_peak_memory()
    before, started = machine.peak_memory(), time.process_time()
    with pytest.raises(SettingError, match=r"fewer seeds|expected numbers below"):
        survey.prepare([study], "smoke", seeds=seeds)
    assert time.process_time() - started < 5
    assert machine.peak_memory() - before < 100e6


HOSTILE = ["0", "-1", "NaN", "Infinity", "-Infinity", "1e400", "1" + "0" * 20, "1" + "0" * 400, "[]", "{}", '""']


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("name", ["seeds", "epochs", "learning_rate"])
def test_a_setting_that_is_no_such_number_is_one_sentence(name, value, tmp_path):
    done = called("run", "simulate-function", "--preset", "smoke", "--set", f"{name}={value}", cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert name in done.stderr or "seeds" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--jobs", "1000000"],
        ["--jobs", "0"],
        ["--jobs", "1" + "0" * 20, "--engine", "ray"],
        ["--engine", "ray", "--address", "me:SECRET@host:1"],
        ["--out", "https://me:SECRET@host/folder"],
        ["--jobs", "1" + "0" * 20],
        ["--seeds", "1" + "0" * 20],
        ["--seeds", "1" + "0" * 5000],
        ["--until-decided", "--budget", "0s"],
        ["--until-decided", "--budget", "nan"],
        ["--until-decided", "--budget", "-1h"],
        ["--until-decided", "--budget", "9" * 400 + "h"],
        ["--until-decided", "--max-seeds", "-1"],
        ["--out", "/dev/null"],
        ["--out", "/dev/full"],
        ["--out", "file"],
    ],
)
def test_an_option_that_nothing_can_be_done_with_is_one_sentence(arguments, tmp_path):
    (tmp_path / "file").write_text("x")
    done = called("run", "simulate-function", "--preset", "smoke", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stderr
    assert "SECRET" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("option", ["parameters", "layers", "inputs", "outputs", "tolerance", "limit"])
def test_a_budget_beyond_all_reason_is_one_sentence_at_once(option):
    asked = {"parameters": "100", "layers": "3", option: "1" + "0" * 20}
    done = called("budget", *(word for name, value in asked.items() for word in (f"--{name}", value)))
    assert done.returncode == 2
    assert f"expected {option} of at most" in done.stderr


@pytest.mark.parametrize("workers", [0, -1, 10**20])
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_no_engine_starts_with_none_or_with_more_workers_than_there_is_use_for(engine, workers):
    with pytest.raises(UsageError, match="job"), execute.engine(engine, workers=workers):
        pass


@pytest.mark.parametrize(
    ("study", "setting", "said"),
    [
        ("simulate-function", "epochs=100000000", "5e+06 evaluations, got 1.0e+07"),
        ("simulate-function", "points=100000000000", "setting 'points' of simulate-function"),
        ("random-labels", "train=100000000000", "1e+09 samples, got 1.0e+11"),
        ("random-labels", "hidden=[10000000, 10000000]", "1e+11 parameters, got 1.0e+14"),
    ],
)
def test_a_run_that_no_machine_holds_or_ends_is_refused_with_what_it_would_cost(study, setting, said, tmp_path):
    done = called("run", study, "--preset", "smoke", "--set", setting, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("preset", survey.PRESETS)
def test_every_preset_is_far_within_the_bounds_of_a_run(preset):
    for item in survey.prepare([], preset):
        costs = [bounds._costs(spec) for spec in item.runs]
        assert all(100 * cost[name] < most for cost in costs for name, (most, _) in bounds.MOST.items())
