"""``th.recordings``: what several recorders wrote, as data frames, against the numbers that were put in."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

import theodolite as th
from theodolite import survey
from theodolite.errors import SettingError, StoreError, UnknownName

LOSS = nn.MSELoss()
DATA = torch.eye(2), torch.ones(2, 1)


def record(out, seed, scale=1.0, steps=4, crash=None, **labels):
    torch.manual_seed(seed)
    model, at = nn.Linear(2, 1), {}
    height = {
        "height": lambda model, loss, data: {
            "value": scale * (seed + at["step"]),
            "pair": torch.tensor([1.0, 3.0]) * seed,
        }
    }
    with th.Recorder(height, every=2, out=out, seed=seed, labels=labels) as recorder:
        for step in range(1, steps + 1):
            at["step"] = step
            recorder.step(model, LOSS, DATA)
            recorder.log(accuracy=step / 10)
            if step == crash:
                raise ZeroDivisionError


def test_a_number_over_seeds_has_a_row_a_step_and_a_column_a_seed(tmp_path):
    for seed in (0, 1, 7):
        record(tmp_path, seed, steps=4 if seed else 5)
    found = th.recordings(tmp_path)
    table = found.over_seeds("height")
    assert table.index.tolist() == [1, 2, 4, 5]
    assert table.columns.tolist() == [0, 1, 7]
    assert table[7].tolist()[:3] == [8.0, 9.0, 11.0]
    assert math.isnan(table.loc[5, 7])
    assert table.loc[5, 0] == 5.0
    assert found.over_seeds("accuracy").loc[3].tolist() == [0.3, 0.3, 0.3]
    assert found.vectors.query("seed == 7 and step == 2")["value"].tolist() == [7.0, 21.0]
    assert len(found.table("costs")) == 3 * 3 + 1


def test_labels_are_rows(tmp_path):
    for seed in (0, 1):
        for optimizer, scale in (("SGD", 1.0), ("Adam", 10.0)):
            record(tmp_path, seed, scale, optimizer=optimizer)
    table = th.recordings(tmp_path).over_seeds("height")
    assert table.index.names == ["optimizer", "step"]
    assert table.loc[("Adam", 4), 1] == 50.0
    assert len(table) == 6
    record(tmp_path, 0, steps=1, rate=0.1)  # another factor: each has none of the other's
    table = th.recordings(tmp_path).over_seeds("height")
    assert table.index.names == ["optimizer", "rate", "step"]
    assert len(table) == 7
    assert table.xs(0.1, level="rate")[0].tolist() == [1.0]


def test_trainings_say_how_they_ended(tmp_path):
    record(tmp_path, 0)
    with pytest.raises(ZeroDivisionError):
        record(tmp_path, 1, crash=3)
    found = th.recordings(str(tmp_path))
    assert found.trainings[["seed", "status", "steps", "ended_by"]].to_numpy().tolist() == [
        [0, "done", 4, ""],
        [1, "interrupted", 3, "ZeroDivisionError"],
    ]
    assert "ZeroDivisionError" in str(found)
    recorder = th.Recorder("gradient_norm", out=tmp_path, labels={"a": 1})
    recorder.step(nn.Linear(2, 1), LOSS, DATA)
    assert th.recordings(tmp_path).trainings["status"].tolist()[-1] == "running"
    recorder.close()


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(StoreError):
        th.recordings(tmp_path / "nowhere")
    with pytest.raises(SettingError, match="got int"):
        th.recordings(3)
    record(tmp_path, 0)
    found = th.recordings(tmp_path)
    with pytest.raises(UnknownName, match="Did you mean 'height'"):
        found.over_seeds("heigth")
    with pytest.raises(UnknownName, match="no quantity"):
        found.over_seeds("accuracy", "pair")
    with pytest.raises(UnknownName, match="table of a recording"):
        found.table("number")
    assert "height" in found.plot()


def test_reading_recordings_loads_no_torch(tmp_path):
    record(tmp_path, 0)
    script = "import sys, theodolite as th; th.recordings(sys.argv[1]).numbers; print('torch' in sys.modules)"
    command = [sys.executable, "-c", script, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_a_training_that_crashed_though_its_recording_was_closed_is_interrupted(tmp_path):
    def train(seed, error=None):
        torch.manual_seed(seed)
        model, recorder = nn.Linear(2, 1), th.Recorder("gradient_norm", every=1, out=tmp_path)
        try:
            recorder.step(model, LOSS, DATA)
            if error:
                raise error
        finally:
            recorder.close()

    with pytest.raises(ZeroDivisionError):
        train(0, ZeroDivisionError())
    try:
        raise KeyError
    except KeyError:  # whatever is being handled before the training begins did not end it
        train(1)
    assert th.recordings(tmp_path).trainings[["status", "ended_by"]].to_numpy().tolist() == [
        ["interrupted", "ZeroDivisionError"],
        ["done", ""],
    ]
    (row,) = survey.status(tmp_path)
    assert list(row["ended_by"].values()) == ["ZeroDivisionError"]


def test_eigenvalues_are_a_row_a_step_and_a_column_a_seed(tmp_path):
    for seed in (0, 1):
        record(tmp_path, seed)
        record(tmp_path, seed, optimizer="Adam")
    found = th.recordings(tmp_path)
    for rank, value in ((1, 3.0), (2, 1.0)):  # of (seed, 3 seed), the largest first
        table = found.over_seeds("height", "pair", rank=rank)
        assert table.index.names == ["optimizer", "step"]
        assert table.xs("Adam", level="optimizer")[1].tolist() == [value] * 3
    assert found.over_seeds("height", "pair").equals(found.over_seeds("height", "pair", rank=1))
    with pytest.raises(SettingError, match="from 1 to 2"):
        found.over_seeds("height", "pair", rank=3)
    with pytest.raises(SettingError, match="a number"):
        found.over_seeds("height", "value", rank=2)
