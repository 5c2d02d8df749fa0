"""Replicas by memory: what a stack is said to take against what it takes, and how many then go together."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from theodolite.data import DataSpec
from theodolite.errors import SettingError
from theodolite.execute import local
from theodolite.jobs import check_device, plan
from theodolite.models import MLP
from theodolite.study import RunSpec, Seeds, Training
from theodolite.train import Replica, Split, TrainingData, perceptrons, replicas
from theodolite.train.aligned import layers
from theodolite.train.memory import replicas_that_fit, stack_bytes
from theodolite.train.stacked import StackedSplit

WIDE = MLP(inputs=100, hidden=(300, 200), outputs=10)
FIELDS = {"loss": "cross_entropy", "epochs": 1, "batch_size": 32}


def split(samples: int, architecture: MLP = WIDE) -> StackedSplit:
    data = Split(torch.zeros(samples, architecture.inputs), torch.zeros(samples, dtype=torch.int64))
    return StackedSplit.of(data, layers(architecture, torch.float32)[0], torch.float32)


def taken(count: int, own_targets: bool = False, own_data: bool = False, **fields: object) -> int:
    training = Training(**{**FIELDS, **fields})
    return stack_bytes(WIDE, training, split(1000), split(500), count, own_targets=own_targets, own_data=own_data)


@pytest.mark.parametrize("fields", [{}, {"batch_size": None}, {"optimizer": "sgd"}])
def test_memory_grows_in_proportion_to_the_replicas(fields):
    one, two, five = (taken(count, **fields) for count in (1, 2, 5))
    assert five - two == 3 * (two - one)
    assert replicas_that_fit(one, two, five) == 5
    assert replicas_that_fit(one, two, five - 1) == 4
    assert replicas_that_fit(one, two, 0) == 1


def test_two_moments_of_adam_are_there_twice_while_a_stack_is_copied_and_labels_of_its_own_are_counted():
    weights = 4 * sum(layer.rows * layer.columns for layer in layers(WIDE, torch.float32))
    adam, sgd = (taken(2, optimizer=name) - taken(1, optimizer=name) for name in ("adam", "sgd"))
    assert adam - sgd == 2 * 2 * weights
    own = taken(3, own_targets=True) - taken(2, own_targets=True)
    assert own >= adam + 2 * 8 * 1000  # int64 classes of a thousand samples, and the copy
    sets = taken(3, own_data=True) - taken(2, own_data=True)
    assert sets >= adam + 2 * (4 * 100 + 8) * 1500  # inputs and classes of both sets, and the copy


SCRIPT = """
import json, sys, torch
from theodolite.machine import peak_memory
from theodolite.models import MLP
from theodolite.study import Training
from theodolite.train import Replica, Split, TrainingData, perceptrons, train_replicas
perceptrons.CACHE_BYTES = 2**40  # one stack
model, count = MLP(inputs=100, hidden=(300, 200), outputs=10), int(sys.argv[1])
data = TrainingData(*(Split(torch.randn(n, 100), torch.arange(n) % 10) for n in (1000, 500)))
training = Training(loss="cross_entropy", epochs=2, batch_size=32)
outcomes = train_replicas(model, data, training, [Replica(n, n, 1e-3 if n else 1e30) for n in range(count)])
assert [outcome.diverged_epoch for outcome in outcomes] == [1] + [None] * (count - 1)  # one leaves: the stack is copied
print(json.dumps(peak_memory()))
"""


@pytest.mark.thorough
def test_what_a_stack_is_said_to_take_is_what_a_training_takes_in_which_a_replica_leaves():
    def peak(count: int) -> int:
        found = subprocess.run([sys.executable, "-c", SCRIPT, str(count)], capture_output=True, text=True, check=True)
        return int(json.loads(found.stdout))

    measured, said = (peak(70) - peak(10)) / 60, taken(2) - taken(1)
    assert 0.85 * said < measured < 1.05 * said


def test_a_stack_on_a_gpu_is_cut_by_the_memory_that_is_free(monkeypatch: pytest.MonkeyPatch):
    one, two = taken(1), taken(2)
    free = (one + 6 * (two - one)) / perceptrons.SHARE  # room for seven
    monkeypatch.setattr(perceptrons, "free", lambda device: free)
    several = [Replica(n, n, 1e-3) for n in range(20)]
    data = TrainingData(*(Split(torch.zeros(n, 100), torch.zeros(n, dtype=torch.int64)) for n in (1000, 500)))
    monkeypatch.setattr(torch.Tensor, "is_cpu", False)
    most = perceptrons.Perceptrons(WIDE, data, Training(**FIELDS), several).most
    assert most == 7
    assert replicas._width(20, most) == 7
    assert replicas._width(20, 19) == 10  # two stacks of about equal size


def specs(count: int, hidden: tuple[int, ...]) -> list[RunSpec]:
    model = MLP(inputs=1, hidden=hidden, outputs=1)
    return [
        RunSpec(
            study="tiny", labels={}, seed=seed, data=DataSpec(source="function:cos", train=16, test=16), model=model,
            training=Training(loss="mse", epochs=1), seeds=Seeds(weights=seed, order=seed),
        )
        for seed in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("hidden", [(8,), (500, 500)])
def test_jobs_of_a_gpu_are_as_large_as_leaves_one_for_each(tmp_path: Path, hidden: tuple[int, ...]):
    def sizes(device: str, workers: int) -> list[int]:
        jobs = plan(tmp_path, specs(40, hidden), lambda spec, outcome: {}, device=device, workers=workers)
        return [len(job.specs) for job in jobs]

    assert sizes("cuda", 1) == [40]
    assert sizes("cuda", 2) == [20, 20]
    assert max(sizes("cpu", 1)) == (16 if hidden == (8,) else 1)


def test_a_gpu_has_one_worker_and_processors_as_many_as_there_are():
    with (
        local.start(workers=None, device="cuda", address=None) as gpu,
        local.start(workers=None, device="cpu", address=None) as cpu,
    ):
        assert (gpu.workers, cpu.workers) == (1, local.os.cpu_count())


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "gpu"])
def test_a_device_that_is_not_there_is_named_with_what_to_use(device: str):
    with pytest.raises(SettingError, match=f"expected a device of this machine, got '{device}' .* Use cpu"):
        check_device(device)
