"""Numbers that no survey can be made of are refused in a sentence, in little time and memory, before any planning."""

import time

import pytest
import torch
from torch import nn

import tiny as survey_of
from commands import called
from theodolite import execute, machine, measure, studies, survey
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
        ("error-surface", "grid=100000", "5e+06 evaluations, got 3.0e+10"),
        ("error-surface", "directions=1000000", "5e+06 evaluations, got 6.0e+07"),
        ("interpolation", "alphas=3000001", "5e+06 evaluations, got 3.6e+07"),
        ("gradient-norm", "batches=100000000", "5e+06 evaluations, got 1.0e+09"),
        ("minimal-ratio", "random=100000000", "5e+06 evaluations, got 2.0e+08"),
        ("minimal-ratio", "features=1000000000", "setting 'features' of minimal-ratio"),
        ("weight-trajectory", "hidden=[200000, 200000]", "1e+11 kept weights"),
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
        costs = [{"evaluations": item.settings.evaluations()}, *(bounds._costs(spec) for spec in item.runs)]
        assert all(50 * cost[name] < most for cost in costs for name, (most, _) in bounds.MOST.items() if name in cost)


LAYER = nn.Linear(2, 1)
DATA = torch.eye(2), torch.ones(2, 1)


@pytest.mark.parametrize("value", [10**9, 10**12, 10**400])
@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("hessian_density", "probes"),
        ("hessian_density", "steps"),
        ("hessian_density", "points"),
        ("hessian_eigenvalues", "k"),
        ("hessian_eigenvalues", "max_products"),
        ("hessian_trace", "products"),
        ("sharpness", "starts"),
        ("find_critical_points", "starts"),
    ],
)
def test_a_count_that_no_instrument_comes_to_the_end_of_is_refused_at_once(name, option, value):
    with pytest.raises(SettingError, match=f"expected {option} of at most 100,000,000"):
        getattr(measure, name)(LAYER, nn.MSELoss(), DATA, **{option: value})
    with pytest.raises(SettingError, match="density of each probe"):
        measure.hessian_density(LAYER, nn.MSELoss(), DATA, probes=10**5, points=10**5)


def test_a_report_is_written_beside_nobody_elses(tiny, tmp_path):
    survey_of.run(tmp_path / "r")
    for name in ("report.html", "report.md"):
        other = tmp_path / name.replace(".", "-")
        other.mkdir()
        (other / name).write_text("mine")
        done = called("report", str(tmp_path / "r"), "--out", str(other))
        assert done.returncode == 2
        assert f"{name} is there and is none of ours" in " ".join(done.stderr.split())
        assert [path.name for path in other.iterdir()] == [name]
        assert (other / name).read_text() == "mine"
    for _ in range(2):  # over one of ours, again and again
        assert called("report", str(tmp_path / "r"), "--out", str(tmp_path / "out")).returncode == 0
