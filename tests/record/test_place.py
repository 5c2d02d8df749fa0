"""Which recording a training is: one seed however often it was stopped, and a second only where chance differs."""

import copy
import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import theodolite as th
from theodolite.errors import SettingError, StoreError
from theodolite.record import RecorderWarning, read_snapshots
from theodolite.specs import RecordingSpec
from theodolite.store import records

LOSS = nn.MSELoss()
DATA = torch.eye(2), torch.ones(2, 1)


class Stop(Exception):
    """A crash."""


class Training:
    """A training whose whole state can be put into a checkpoint."""

    def __init__(self, chance=0, hidden=3, rate=0.1):
        torch.manual_seed(chance)
        self.model = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=rate)
        self.step, self.kept = 0, None

    def checkpoint(self):
        parts = self.model.state_dict(), self.optimizer.state_dict(), torch.get_rng_state()
        return copy.deepcopy((self.step, *parts))

    def load(self, checkpoint):
        self.step, model, optimizer, chance = checkpoint
        self.model.load_state_dict(model)
        self.optimizer.load_state_dict(optimizer)
        torch.set_rng_state(chance)
        return self

    def run(self, recorder, until, crash=None, number=False, per_epoch=5):
        """Train, and keep a checkpoint of step 8."""
        while self.step < until:
            self.optimizer.zero_grad()
            LOSS(self.model(DATA[0] + 0.1 * torch.randn(2, 2)), DATA[1]).backward()
            self.optimizer.step()
            self.step += 1
            recorder.step(self.model, LOSS, DATA, number=self.step if number else None)
            if self.step % per_epoch == 0:
                recorder.epoch(self.model, LOSS, DATA)
            if self.step == 8:
                self.kept = self.checkpoint()
            if self.step == crash:
                raise Stop


def recorder(out, **options):
    instruments = {"gradient_norm": "gradient_norm", "places": lambda model, loss, data: model[0].bias.detach()}
    every = {"gradient_norm": 3, "places": "1 epoch", "weights": 4}
    return th.Recorder(instruments, every=every, weights="*", out=out, **options)


def read(out):
    record = records.read(out, "recorder")
    keys = ["step", "epoch", "instrument", "quantity"]
    numbers = record.table("numbers").query("quantity in ['value', 'loss']")[[*keys, "value"]]
    vectors = record.table("vectors")[[*keys, "place", "value"]]
    folders = sorted((out / "recorder" / "runs").iterdir())
    assert len(folders) == 1
    weights = {k: torch.cat([t.flatten() for t in s.values()]) for k, s in read_snapshots(folders[0]).items()}
    return record, numbers, vectors, weights


def crashed(out, at, **options):
    """A training that stopped at a step, and its checkpoint of step 8."""
    training = Training()
    with pytest.raises(Stop), recorder(out, seed=3, **options) as found:
        training.run(found, 20, crash=at)
    return training.kept


@pytest.mark.parametrize("how", ["number", "resume=8"])
def test_a_training_that_goes_on_from_a_checkpoint_is_recorded_as_if_it_had_never_stopped(tmp_path, how):
    """The checkpoint is of step 8 and the crash at 11: what was measured in between is measured again."""
    with recorder(tmp_path / "whole", seed=3) as found:
        Training().run(found, 20)
    checkpoint = crashed(tmp_path / "own", at=11)
    training = Training(chance=99).load(checkpoint)
    with (
        pytest.warns(RecorderWarning, match="steps 9 to 11 is measured again"),
        recorder(tmp_path / "own", seed=3, resume=True if how == "number" else 8) as found,
    ):
        training.run(found, 20, number=how == "number")
    record, *own = read(tmp_path / "own")
    _, *expected = read(tmp_path / "whole")
    for one, other in zip(own[:2], expected[:2], strict=True):
        columns = list(one.columns)
        assert one.sort_values(columns[:-1]).to_numpy().tolist() == other.sort_values(columns[:-1]).to_numpy().tolist()
    assert list(own[2]) == list(expected[2]) == [1, 4, 8, 12, 16, 20]
    assert all(torch.equal(own[2][step], expected[2][step]) for step in own[2])
    assert record.runs["seed"].tolist() == [3]
    assert record.runs["status"].tolist() == ["done"]
    ledger = record.table("ledger").set_index("instrument")
    counts = record.table("costs").groupby("instrument").size()
    assert ledger["measured"].to_dict() == counts.to_dict()
    assert record.table("costs")["training_seconds"].is_monotonic_increasing


def test_without_a_number_it_goes_on_after_the_last_step_recorded_and_says_so(tmp_path):
    crashed(tmp_path / "own", at=11)
    with (
        pytest.warns(RecorderWarning, match=r"goes on after step 11, the last one recorded.*pass resume=STEP"),
        recorder(tmp_path / "own", resume=True) as found,
    ):
        Training(chance=99).run(found, 4)
    record, numbers, *_ = read(tmp_path / "own")
    steps = numbers.query("instrument == 'gradient_norm' and quantity == 'value'")["step"]
    assert steps.tolist() == [1, 3, 6, 9, 12, 15]
    assert record.runs["seed"].tolist() == [3]


def test_a_script_that_always_resumes_begins_where_there_is_nothing_and_once_more_where_no_checkpoint_was(tmp_path):
    out = tmp_path / "own"
    crashed(out, at=5, resume=True)
    with pytest.warns(RecorderWarning, match="after step 0"), recorder(out, seed=3, resume=True) as found:
        Training().run(found, 7)
    _, numbers, *_ = read(out)
    steps = numbers.query("instrument == 'gradient_norm' and quantity == 'value'")["step"]
    assert steps.tolist() == [1, 3, 6, 7]


def test_a_recording_that_ended_is_not_erased_by_a_training_that_begins_anew(tmp_path):
    with recorder(tmp_path / "own", seed=3) as found:
        Training().run(found, 20)
    before = read(tmp_path / "own")[1].to_numpy().tolist()
    for options in ({}, {"number": True}):
        with pytest.raises(StoreError, match="ended after 20 steps, and this training begins anew"):
            Training().run(recorder(tmp_path / "own", seed=3, resume=True), 20, **options)
    with pytest.raises(StoreError, match=r"recorded already .*20 steps, ended.*resume=True.*replace=True"):
        Training(chance=1).run(recorder(tmp_path / "own", seed=3), 20)
    assert read(tmp_path / "own")[1].to_numpy().tolist() == before


def test_the_same_script_twice_is_not_two_seeds(tmp_path):
    out = tmp_path / "own"
    for options in ({}, {"replace": True}):
        with recorder(out, **options) as found:
            Training().run(found, 6)
    assert records.read(out, "recorder").runs["seed"].tolist() == [0]
    for seed in (None, 5):
        with pytest.raises(StoreError, match="the same again is no second seed"):
            Training().run(recorder(out, seed=seed), 6)
    with recorder(out) as found:
        Training(chance=1).run(found, 6)
    assert records.read(out, "recorder").runs["seed"].tolist() == [0, 1]


def test_a_setting_that_nobody_told_the_recorder_shows_by_the_random_state(tmp_path):
    Training().run(recorder(tmp_path / "own"), 6)
    with pytest.raises(StoreError, match="the same seed, and another setting"):
        Training(rate=0.01).run(recorder(tmp_path / "own"), 6)
    Training(rate=0.01).run(recorder(tmp_path / "own", labels={"rate": 0.01}), 6)
    Training(rate=0.01).run(recorder(tmp_path / "own", seed=1), 6)  # who names a seed knows what he does


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("options", "hidden", "loss", "message"),
    [
        ({}, 4, LOSS, "number of trained parameters: 13 there, 17 here"),
        ({"mode": "training"}, 3, LOSS, "mode: evaluation there, training here"),
        ({"every": 5}, 3, LOSS, "another every: 2 there, 5 here"),
        ({"data": DATA}, 3, LOSS, "data to measure on: the batch of the step there, a fixed set here"),
        ({"instruments": "sensitivity"}, 3, LOSS, "another instruments: gradient_norm there, sensitivity here"),
        ({"instruments": {"gradient_norm": ("gradient_norm", {"parameters": "0.*"})}}, 3, LOSS, "options of the"),
        ({"reduction": "sum"}, 3, lambda a, b: (a - b).square().sum(), "another loss: MSELoss"),
        ({}, 3, nn.L1Loss(), "another loss: MSELoss.* there, L1Loss.* here"),
        ({}, 3, nn.MSELoss(reduction="sum"), "another loss: .*'mean'.* there, .*'sum'.* here"),
    ],
)
@pytest.mark.parametrize("resume", [False, True])
def test_another_model_or_setting_is_no_second_seed(tmp_path, options, hidden, loss, message, resume):
    def take(loss, hidden=3, chance=0, **options):
        training = Training(chance, hidden)
        made = th.Recorder(**{"instruments": "gradient_norm", "every": 2, "out": tmp_path / "own", **options})
        made.step(training.model, loss, DATA)
        return made

    take(LOSS, seed=0).close()
    with pytest.raises(StoreError, match=message):
        take(loss, hidden, 1, seed=0 if resume else None, resume=resume, **options)
    take(loss, hidden, 1, labels={"another": "one"}, **options).close()
    assert len(records.read(tmp_path / "own", "recorder").runs) == 2


def test_which_recording_goes_on_must_be_clear(tmp_path):
    out = tmp_path / "own"
    with recorder(out) as found:
        Training().run(found, 6)
    with pytest.raises(SettingError, match=r"none was interrupted, and there are seeds 0\. .* seed=0"):
        Training(1).run(recorder(out, resume=True), 6)
    for chance in (1, 2):
        with pytest.raises(Stop), recorder(out) as found:
            Training(chance).run(found, 6, crash=3)
    with pytest.raises(SettingError, match="several were interrupted, seeds 1, 2"):
        Training(3).run(recorder(out, resume=True), 6)


KILLED = """
import sys, torch, theodolite as th
from torch import nn
from theodolite.record import asked
asked.FLUSH_SHARE = 1e9
torch.manual_seed(0)
model, data = nn.Linear(20, 10), (torch.randn(8, 20), torch.randn(8, 10))
recorder = th.Recorder("gradient_norm", every=1, weights="*", out=sys.argv[1], flush=0.0, seed=1, resume=True)
start = int(sys.argv[2])
for number in range(start + 1, start + 1 + int(sys.argv[3])):
    recorder.step(model, nn.MSELoss(), data, number=number)
recorder.close()
"""


def test_a_killed_recording_goes_on_and_is_one_training(tmp_path):
    out = tmp_path / "own"
    command = [sys.executable, "-c", KILLED, str(out)]
    child = subprocess.Popen([*command, "0", "1000000"])
    deadline = time.monotonic() + 60
    while not list(out.glob("recorder/runs/*/snapshot-0000000020*")):
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    killed = th.recordings(out).trainings
    assert killed[["seed", "status", "ended_by"]].to_numpy().tolist() == [[1, "interrupted", "a kill"]]
    subprocess.run([*command, "10", "5"], check=True, capture_output=True)
    record = records.read(out, "recorder")
    assert record.runs[["seed", "status"]].to_numpy().tolist() == [[1, "done"]]
    assert record.table("costs").query("instrument == 'gradient_norm'")["step"].tolist() == list(range(1, 16))
    folder = next((out / "recorder" / "runs").iterdir())
    assert list(read_snapshots(folder)) == list(range(1, 16))


def test_the_same_script_in_two_processes_is_not_two_seeds(tmp_path):
    """Whose other generators, of Python and NumPy, nobody seeded."""
    script = KILLED.replace("seed=1, resume=True", "seed=None")
    command = [sys.executable, "-c", script, str(tmp_path / "own"), "0", "3"]
    subprocess.run(command, check=True, capture_output=True)
    again = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "the same again is no second seed" in again.stderr
    subprocess.run([*command[:2], script.replace("seed(0)", "seed(1)"), *command[3:]], check=True, capture_output=True)
    assert records.read(tmp_path / "own", "recorder").runs["seed"].tolist() == [0, 1]


def test_a_program_that_ends_without_closing_can_go_on(tmp_path):
    made = recorder(tmp_path / "own")
    training = Training()
    training.run(made, 7)
    made._finish()  # what happens when the program ends
    training.step = 0
    with pytest.warns(RecorderWarning, match="after step 7, the last one recorded"):
        training.run(recorder(tmp_path / "own", resume=True), 2)


@pytest.mark.parametrize("options", [{"resume": True}, {"resume": True, "seed": 0}, {"replace": True}])
def test_a_recorder_that_an_error_left_open_gives_way_to_the_one_that_goes_on(tmp_path, options):
    """As in a notebook, which keeps all that the error went through, the recorder too."""
    left, training = recorder(tmp_path / "own"), Training()
    training.run(left, 7)
    again = Training() if "replace" in options else training
    again.step = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecorderWarning)  # that says where it goes on
        again.run(found := recorder(tmp_path / "own", **options), 2)
    found.close()
    assert th.recordings(tmp_path / "own").trainings[["seed", "status"]].to_numpy().tolist() == [[0, "done"]]
    with pytest.warns(RecorderWarning, match="This recorder is closed"):
        left.step(training.model, LOSS, DATA)


def test_recordings_that_are_under_way_side_by_side_are_left_alone(tmp_path):
    made = [recorder(tmp_path / "own", seed=seed, resume=True) for seed in (0, 1)]
    trainings = [Training(0), Training(1)]
    for _ in range(3):
        for one, training in zip(made, trainings, strict=True):
            training.run(one, training.step + 1)
    for one in made:
        one.close()
    assert th.recordings(tmp_path / "own").trainings["steps"].tolist() == [3, 3]


def test_steps_that_go_back_ask_for_another_recorder(tmp_path):
    made, training = recorder(tmp_path / "own"), Training()
    made.step(training.model, LOSS, DATA, number=6)
    with pytest.raises(SettingError, match=r"got step 5 after step 6.*resume=True"):
        made.step(training.model, LOSS, DATA, number=5)


def old_recording(out, **facts):
    """As a version without beginnings, shapes and losses wrote it."""
    import pandas as pd

    spec = RecordingSpec(study="recorder", labels={}, seed=0)
    known = {"model": "Sequential", "parameters": 13, "instruments": "gradient_norm", "mode": "evaluation", **facts}
    known |= {"measured on": "the batch of the step", "wall_seconds": 1.0, "device": "cpu", "steps": 4, "every": "2"}
    numbers = pd.DataFrame([(4, 0, "gradient_norm", "value", 0.5)], columns=[*read_columns(), "value"])
    records.claim_folder(out)
    records.add_to_plan(out, spec, command="python train.py", settings={})
    records.write(out, spec, tables={"numbers": numbers}, environment=known)


def read_columns():
    return ["step", "epoch", "instrument", "quantity"]


def test_a_recording_of_an_earlier_version_is_read_joined_and_gone_on_with(tmp_path):
    out = tmp_path / "own"
    out.mkdir()
    old_recording(out)
    made = th.Recorder("gradient_norm", every=2, out=out)
    made.step(Training().model, LOSS, DATA)
    made.close()
    assert records.read(out, "recorder").runs["seed"].tolist() == [0, 1]
    with th.Recorder("gradient_norm", every=2, out=out, seed=0, resume=True) as made:
        made.step(Training().model, LOSS, DATA, number=5)
    record = records.read(out, "recorder")
    own = record.table("numbers").query("seed == 0 and quantity == 'value'")
    assert own["step"].tolist() == [4, 5]
    with pytest.raises(StoreError, match="number of trained parameters"):
        th.Recorder("gradient_norm", out=out).step(Training(hidden=9).model, LOSS, DATA)


def test_a_part_that_cannot_be_read_says_what_to_do(tmp_path):
    crashed(tmp_path / "own", at=11)
    folder = next((tmp_path / "own" / "recorder" / "runs").iterdir())
    (folder / "numbers.parquet").write_bytes(b"cut")
    with pytest.raises(StoreError, match=r"the recording of seed 3 cannot go on: .*Pass replace=True"):
        Training(1).run(recorder(tmp_path / "own", seed=3, resume=8), 9)


def test_numbers_of_ones_own_are_recorded_beside_the_others(tmp_path):
    training = Training()
    with recorder(tmp_path / "own") as made:
        made.log(val_accuracy=0.1)
        training.run(made, 4)
        made.log(val_accuracy=torch.tensor(0.5), spread=np.array([1.0, 2.0]))
    own = records.read(tmp_path / "own", "recorder").table("numbers").query("instrument == 'val_accuracy'")
    assert own[["step", "value"]].to_numpy().tolist() == [[0, 0.1], [4, 0.5]]
    assert made.table("vectors").query("instrument == 'spread'")["value"].tolist() == [1.0, 2.0]
    with pytest.raises(SettingError, match="'gradient_norm', an instrument"):
        made.log(gradient_norm=1.0)
    with pytest.raises(SettingError, match="a number, a vector"):
        made.log(name="text")


def test_the_end_of_a_training_is_measured_once_and_not_where_it_was_or_where_it_crashed(tmp_path):
    for until, expected in ((4, [1, 3, 4]), (6, [1, 3, 6])):
        with recorder(None) as made:
            Training().run(made, until)
        assert made.table("costs").query("instrument == 'gradient_norm'")["step"].tolist() == expected
        assert list(made.snapshots())[-1] == until
    with pytest.raises(Stop), recorder(None) as made:
        Training().run(made, 9, crash=4)
    assert made.table("costs")["step"].tolist() == [1, 1, 3, 4]  # weights are kept every 4 steps


def test_the_model_measured_at_the_end_is_that_of_the_last_step():
    made = th.Recorder({"bias": lambda model, loss, data: model.bias.item()}, every=10, out=None)
    models = [nn.Linear(2, 1) for _ in range(3)]
    for model in models:
        made.step(model, LOSS, DATA)
    made.close()
    assert made.table("numbers")["value"].tolist() == [models[0].bias.item(), models[2].bias.item()]


def test_a_model_that_was_changed_after_the_last_step_is_not_measured_as_if_it_was_that_steps():
    training, made = Training(), recorder(None)
    training.run(made, 4)
    training.model.load_state_dict(Training(1).model.state_dict())
    with pytest.warns(RecorderWarning, match="changed after the last step, so nothing was measured at the end"):
        made.close()
    assert made.table("costs").query("instrument == 'gradient_norm'")["step"].tolist() == [1, 3]


def test_a_recorder_says_where_its_record_lies_and_what_to_do_next(tmp_path):
    made = recorder(tmp_path / "my own")
    assert f"folder: {tmp_path / 'my own'}, from the first step on" in str(made)
    Training().run(made, 1)
    assert f"folder: {made.folder}\nnext: theodolite report '{tmp_path / 'my own'}'" in str(made)
    assert "in memory: recorder.table('numbers')" in str(recorder(None))
