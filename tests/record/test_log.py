"""The record on disk: that of a study, whole whenever its writer is killed, and read while it grows."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import theodolite as th
from theodolite import report, survey
from theodolite.errors import SettingError, StoreError
from theodolite.record import RecorderWarning, read_snapshots
from theodolite.store import files, records

LOSS = nn.MSELoss()


def train(out, steps=20, model=None, close=True, chance=0, **options):
    torch.manual_seed(chance)
    model = model or nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = torch.eye(2), torch.ones(2, 1)
    recorder = th.Recorder("gradient_norm", **{"every": 5, "weights": "*", "out": out, **options})
    for _ in range(steps):
        optimizer.zero_grad()
        LOSS(model(data[0]), data[1]).backward()
        optimizer.step()
        recorder.step(model, LOSS, data)
    if close:
        recorder.close()
    return recorder


def test_a_recording_has_the_form_of_a_run_and_every_checksum_fits(tmp_path):
    recorder = train(tmp_path / "own", labels={"optimizer": "SGD"}, seed=7)
    status = records.read_status(recorder.folder)
    assert status.state == "done"
    assert set(status.files) == {path.name for path in recorder.folder.iterdir()} - {"status.json", ".lock"}
    assert all(files.checksum((recorder.folder / name).read_bytes()) == sum_ for name, sum_ in status.files.items())
    facts = json.loads((recorder.folder / "spec.json").read_text())
    assert (facts["spec"]["labels"], facts["seed"]) == ({"optimizer": "SGD"}, 7)
    assert (facts["parameters"], facts["model"], facts["device"], facts["steps"]) == (13, "Sequential", "cpu", 20)
    assert facts["versions"]["torch"] == torch.__version__.split("+")[0] or facts["versions"]["torch"]


def test_what_was_recorded_is_read_back_from_the_folder(tmp_path):
    recorder = train(tmp_path / "own")
    read = records.read(tmp_path / "own", "recorder")
    for name in ("numbers", "costs", "ledger"):
        own = read.table(name).drop(columns=["fingerprint", "seed"])
        assert own.to_dict("list") == recorder.table(name).to_dict("list")
    kept = read_snapshots(recorder.folder)
    assert list(kept) == [1, 5, 10, 15, 20]
    assert list(kept[1]) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_recordings_without_a_seed_take_the_next_that_is_free(tmp_path):
    for chance in range(3):
        train(tmp_path / "own", chance=chance)
    train(tmp_path / "own", labels={"optimizer": "SGD"})
    read = records.read(tmp_path / "own", "recorder")
    assert read.runs["seed"].tolist() == [0, 1, 2, 0]
    assert read.runs["status"].tolist() == ["done"] * 4


def test_a_recording_of_the_same_seed_replaces_the_earlier_one_whole_where_asked(tmp_path):
    train(tmp_path / "own", seed=3, steps=20)
    recorder = train(tmp_path / "own", seed=3, steps=5, weights=None, replace=True)
    read = records.read(tmp_path / "own", "recorder")
    assert read.runs["seed"].tolist() == [3]
    assert read.table("numbers")["step"].max() == 5
    assert not list(recorder.folder.glob("snapshot-*"))


def test_two_recorders_at_once_cannot_write_the_same_seed(tmp_path):
    first = train(tmp_path / "own", seed=3, close=False)
    with pytest.raises(StoreError, match="another recorder is writing seed 3"):
        train(tmp_path / "own", seed=3)
    second = train(tmp_path / "own", seed=4, chance=1)
    first.close()
    assert first.folder != second.folder


def test_a_folder_with_other_files_is_refused_at_the_first_step(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match="holds other files"):
        train(tmp_path, steps=1)


def test_a_training_that_still_runs_shows_in_status_and_report(tmp_path):
    recorder = train(tmp_path / "own", close=False, flush=0.0)
    row = survey.status(tmp_path / "own")[0]
    assert (row["study"], row["done"], row["running"], row["left"]) == ("recorder", 0, 1, 0)
    found = survey.findings(tmp_path / "own")[0]
    assert [figure.name for figure in found.figures][:2] == ["gradient-norm", "gradient-norm-norms-lines"]
    recorder.close()
    row = survey.status(tmp_path / "own")[0]
    assert (row["done"], row["running"]) == (1, 0)


KILLED = """
import sys, torch, theodolite as th
from torch import nn
from theodolite.record import asked
asked.FLUSH_SHARE = 1e9  # write all the time, so that the kill falls into a writing
model, data = nn.Linear(200, 100), (torch.randn(8, 200), torch.randn(8, 100))
recorder = th.Recorder("gradient_norm", every=1, weights="*", out=sys.argv[1], flush=0.0)
while True:
    recorder.step(model, nn.MSELoss(), data)
"""


def test_a_killed_recording_is_read_as_far_as_it_came(tmp_path):
    out = tmp_path / "own"
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(out)])
    deadline = time.monotonic() + 60
    while not list(out.glob("recorder/runs/*/snapshot-0000000030*")):
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    row = survey.status(out)[0]
    assert (row["runs"], row["done"], row["running"], row["left"]) == (1, 0, 0, 1)
    assert records.read(out, "recorder").table("numbers")["step"].max() >= 29
    assert report.build(out, survey.findings(out)).exists()


ENDED = """
import sys, torch, theodolite as th
from torch import nn
recorder = th.Recorder("gradient_norm", every=1, out=sys.argv[1], flush=3600.0)
for _ in range(9):
    recorder.step(nn.Linear(2, 1), nn.MSELoss(), (torch.eye(2), torch.ones(2, 1)))
"""


def test_a_program_that_ends_without_closing_loses_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", ENDED, str(tmp_path / "own")], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    read = records.read(tmp_path / "own", "recorder")
    assert read.runs["status"].tolist() == ["done"]
    assert read.table("costs")["step"].tolist() == list(range(1, 10))


def test_a_training_that_fails_keeps_its_record_and_its_own_error(tmp_path):
    recorder = th.Recorder("gradient_norm", every=1, out=tmp_path / "own")

    def fail():
        with recorder:
            recorder.step(nn.Linear(2, 1), LOSS, (torch.eye(2), torch.ones(2, 1)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    facts = json.loads((recorder.folder / "spec.json").read_text())
    assert facts["ended_by"] == "ZeroDivisionError"


def test_a_folder_that_goes_away_under_the_training_does_not_end_it(tmp_path, monkeypatch):
    recorder = train(tmp_path / "own", close=False, flush=0.0)

    def full(path, content):
        raise StoreError("the disk is full")

    monkeypatch.setattr(files, "write", full)
    with pytest.warns(RecorderWarning, match="the disk is full"):
        recorder.measure(nn.Linear(2, 1), LOSS, (torch.eye(2), torch.ones(2, 1)))
    recorder.close()
    failures = recorder.table("failures")
    assert set(failures["instrument"]) == {"weights", "writing the record"}
    assert Path(recorder.folder / "status.json").exists()


def test_writing_is_put_off_where_it_takes_too_long(tmp_path):
    now = iter(range(10**9))
    recorder = train(tmp_path / "own", every=1, steps=50, clock=lambda: float(next(now)), flush=10.0, close=False)
    rows = records.read(tmp_path / "own", "recorder").table("costs")
    assert 0 < len(rows) < len(recorder.table("costs"))  # every reading of this clock takes a second
    recorder.close()


@pytest.mark.parametrize("name", ["seed", "step", "instrument", "value", "parameters"])
def test_labels_that_are_columns_of_recordings_are_refused(name, tmp_path):
    with pytest.raises(SettingError, match=f"got '{name}'"):
        th.Recorder("gradient_norm", out=tmp_path, labels={name: 3})
