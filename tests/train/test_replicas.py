"""Replicas against the loop, and against themselves in other company."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from theodolite.errors import SettingError
from theodolite.models import MLP, build
from theodolite.study import Training
from theodolite.train import Outcome, Replica, Split, TrainingData, train, train_replicas

ACTIVATIONS = ["relu", "tanh", "gelu", "silu", "sigmoid", "softplus", "identity"]
TASKS = {  # name -> (architecture, batch size); 101 samples, so a batch of 20 leaves one over
    "fit, full batch": (MLP(inputs=1, hidden=(15, 19, 16), outputs=1), None),
    "fit, odd last batch": (MLP(inputs=1, hidden=(13, 12, 12), outputs=1, activation="tanh"), 20),
    "fit, two outputs": (MLP(inputs=3, hidden=(5,), outputs=2, activation="gelu"), 7),
    "classes": (MLP(inputs=70, hidden=(37, 23), outputs=7), 32),
    "classes, silu": (MLP(inputs=70, hidden=(20,), outputs=10, activation="silu"), 33),
    "classes, no bias": (MLP(inputs=70, hidden=(21,), outputs=5, bias=False, activation="softplus"), 50),
    "classes, linear": (MLP(inputs=70, outputs=3), 101),
    "one sample a batch": (MLP(inputs=2, hidden=(4,), outputs=1, activation="sigmoid"), 1),
}


def made_data(architecture: MLP, loss: str, *, samples: int = 101, seed: int = 0) -> TrainingData:
    draw = torch.Generator().manual_seed(seed)

    def split(count: int) -> Split:
        inputs = torch.randn(count, architecture.inputs, generator=draw, dtype=torch.float64)
        if loss == "mse":
            return Split(inputs, torch.randn(count, architecture.outputs, generator=draw, dtype=torch.float64))
        return Split(inputs, torch.randint(architecture.outputs, (count,), generator=draw))

    return TrainingData(split(samples), split(43))


def kind(dtype: str) -> dict[str, object]:
    """Fields of a training whose passes are computed in a type."""
    return {"autocast": True} if dtype == "bfloat16" else {"dtype": dtype}


def loss_of(name: str) -> str:
    return "cross_entropy" if name.startswith("classes") else "mse"


def replicas(count: int) -> list[Replica]:
    """Each differs from all others in everything but the learning rate, of which there are two."""
    return [
        Replica(weights_seed=10 + n, order_seed=50 + n, learning_rate=(1e-3, 3e-3)[n % 3 == 0]) for n in range(count)
    ]


def distance(a: Outcome, b: Outcome) -> float:
    """Largest relative difference of two runs' weights, each layer measured by its largest weight."""
    return max(float((a.weights[k] - b.weights[k]).abs().max() / b.weights[k].abs().max()) for k in b.weights)


def same(a: Outcome, b: Outcome) -> bool:
    """Bit for bit."""
    return (
        all(torch.equal(a.weights[name], b.weights[name]) for name in b.weights)
        and list(a.metrics) == list(b.metrics)
        and a.metrics.to_numpy("float64").tobytes() == b.metrics.to_numpy("float64").tobytes()
        and (a.converged_epoch, a.diverged_epoch, a.samples) == (b.converged_epoch, b.diverged_epoch, b.samples)
    )


def by_the_loop(architecture: MLP, data: TrainingData, training: Training, replica: Replica) -> Outcome:
    data = replica.data or data
    if replica.train_targets is not None:
        data = replace(data, train=replace(data.train, targets=replica.train_targets))
    model = build(architecture, seed=replica.weights_seed)
    own = training.model_copy(update={"learning_rate": replica.learning_rate})
    return train(model, data, own, order_seed=replica.order_seed)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 2e-3), ("bfloat16", 0.05)])
def test_a_replica_ends_where_the_loop_ends_after_200_steps(name, optimizer, dtype, tolerance):
    architecture, batch = TASKS[name]
    steps = 1 if batch is None else -(-101 // batch)
    training = Training(
        loss=loss_of(name), optimizer=optimizer, momentum=0.9 * (optimizer == "sgd"), weight_decay=1e-3,
        schedule="cosine", batch_size=batch, epochs=-(-200 // steps), evaluate_every=3, **kind(dtype),
    )  # fmt: skip
    data = made_data(architecture, training.loss)
    several = replicas(3)
    for replica, fast in zip(several, train_replicas(architecture, data, training, several), strict=True):
        slow = by_the_loop(architecture, data, training, replica)
        assert distance(fast, slow) < tolerance
        assert fast.metrics[["epoch", "step"]].equals(slow.metrics[["epoch", "step"]])
        for column in ("train_loss", "test_loss"):
            assert fast.metrics[column].to_list() == pytest.approx(slow.metrics[column].to_list(), rel=tolerance)
        if dtype == "float64":
            assert fast.metrics.filter(like="accuracy").equals(slow.metrics.filter(like="accuracy"))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_a_replica_is_the_same_bit_for_bit_in_every_stack(name, optimizer, dtype, monkeypatch):
    monkeypatch.setattr("theodolite.train.perceptrons.CACHE_BYTES", 1 << 40)  # one stack, however large
    architecture, batch = TASKS[name]
    training = Training(loss=loss_of(name), optimizer=optimizer, momentum=0.5 * (optimizer == "sgd"),
                        batch_size=batch, epochs=1 if batch == 1 else 2, **kind(dtype))  # fmt: skip
    data = made_data(architecture, training.loss)
    several = replicas(16)
    alone = [train_replicas(architecture, data, training, [replica])[0] for replica in several]
    for size in (2, 5, 8, 15):
        members = [(7 * n + size) % 16 for n in range(size)]  # another order and other neighbours each time
        stacked = train_replicas(architecture, data, training, [several[member] for member in members])
        for member, outcome in zip(members, stacked, strict=True):
            assert same(outcome, alone[member]), f"replica {member} in a stack of {size}"


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_activation_is_the_same_bit_for_bit_in_a_stack(activation, dtype, monkeypatch):
    monkeypatch.setattr("theodolite.train.perceptrons.CACHE_BYTES", 1 << 40)
    architecture = MLP(inputs=5, hidden=(11, 9), outputs=3, activation=activation)
    training = Training(loss="cross_entropy", batch_size=30, epochs=5, **kind(dtype))
    data, several = made_data(architecture, "cross_entropy"), replicas(5)
    together = train_replicas(architecture, data, training, several)
    for replica, outcome in zip(several, together, strict=True):
        assert same(outcome, train_replicas(architecture, data, training, [replica])[0])


def test_cutting_a_stack_to_the_cache_changes_no_bit(monkeypatch):
    architecture, batch = TASKS["fit, odd last batch"]
    training = Training(loss="mse", batch_size=batch, epochs=5)
    data, several = made_data(architecture, "mse"), replicas(7)
    whole = train_replicas(architecture, data, training, several)
    monkeypatch.setattr("theodolite.train.perceptrons.CACHE_BYTES", 1)
    assert all(map(same, train_replicas(architecture, data, training, several), whole))


def test_threads_of_the_caller_change_no_bit_and_are_left_as_they_were():
    architecture, batch = TASKS["classes"]
    training = Training(loss="cross_entropy", batch_size=batch, epochs=3)
    data, several = made_data(architecture, "cross_entropy", samples=3000), replicas(4)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(train_replicas(architecture, data, training, several))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert all(map(same, *results))


PROCESS = """
import hashlib, sys
from tests_of_replicas import *
for name in ("fit, full batch", "classes"):
    architecture, batch = TASKS[name]
    training = Training(loss=loss_of(name), batch_size=batch, epochs=4)
    several = replicas(16)[-int(sys.argv[1]):]
    last = train_replicas(architecture, made_data(architecture, training.loss), training, several)[-1]
    content = b"".join(t.numpy().tobytes() for t in last.weights.values()) + last.metrics.to_csv().encode()
    print(name, hashlib.sha256(content).hexdigest())
"""


@pytest.mark.thorough
def test_another_process_with_another_stack_gives_the_same_bits(tmp_path):
    (tmp_path / "tests_of_replicas.py").write_bytes(Path(__file__).read_bytes())
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    digests = {
        subprocess.run(
            [sys.executable, "-c", PROCESS, str(count)],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for count in (1, 3, 16)
    }
    assert len(digests) == 1
    assert len(digests.pop().splitlines()) == 2


@pytest.mark.parametrize("batch", [None, 20])
def test_a_diverged_replica_is_recorded_and_disturbs_no_other(batch):
    architecture = MLP(inputs=1, hidden=(15, 19, 16), outputs=1)
    training = Training(loss="mse", optimizer="sgd", batch_size=batch, epochs=20, evaluate_every=4)
    data, good = made_data(architecture, "mse"), replicas(3)
    bad = Replica(weights_seed=1, order_seed=1, learning_rate=1e6)
    with_it = train_replicas(architecture, data, training, [good[0], bad, *good[1:]])
    without_it = train_replicas(architecture, data, training, good)
    assert all(map(same, with_it[:1] + with_it[2:], without_it))
    fallen, reference = with_it[1], by_the_loop(architecture, data, training, bad)
    assert fallen.diverged_epoch == reference.diverged_epoch == 4
    assert fallen.metrics.epoch.to_list() == [0, 4]
    assert fallen.samples == 4 * 101
    assert not math.isfinite(fallen.metrics.train_loss.iloc[-1])
    assert all(outcome.diverged_epoch is None for outcome in without_it)


def test_replicas_that_converge_leave_and_disturb_no_other():
    architecture = MLP(inputs=1, hidden=(8,), outputs=1, activation="tanh")
    x = torch.linspace(-1, 1, 101, dtype=torch.float64)[:, None]
    data = TrainingData(Split(x, x**2), Split(x, x**2))
    free = Training(loss="mse", batch_size=10, epochs=80, convergence=5e-3)
    stopping = free.model_copy(update={"stop_at_convergence": True})
    several = [Replica(weights_seed=n, order_seed=n, learning_rate=1e-2) for n in range(6)]
    through, stopped = (train_replicas(architecture, data, training, several) for training in (free, stopping))
    epochs = [outcome.converged_epoch for outcome in through]
    assert len({epoch for epoch in epochs if epoch}) > 2  # or nothing would leave before anything else
    for replica, a, b in zip(several, through, stopped, strict=True):
        assert a.converged_epoch == b.converged_epoch == by_the_loop(architecture, data, free, replica).converged_epoch
        losses = a.metrics.train_loss
        assert a.converged_epoch == next((e for e, loss in enumerate(losses) if loss <= 5e-3), None)
        assert b.metrics.to_csv() == a.metrics[: len(b.metrics)].to_csv()
        assert len(b.metrics) == 1 + (80 if b.converged_epoch is None else b.converged_epoch)
        assert same(b, train_replicas(architecture, data, stopping, [replica])[0])


def test_each_replica_may_have_its_own_labels():
    architecture, batch = TASKS["classes"]
    training = Training(loss="cross_entropy", batch_size=batch, epochs=10, dtype="float64")
    data = made_data(architecture, "cross_entropy")
    draw = torch.Generator().manual_seed(9)
    own: list[Tensor | None] = [None, *(torch.randint(7, (101,), generator=draw) for _ in range(2))]
    several = [replace(replica, train_targets=labels) for replica, labels in zip(replicas(3), own, strict=True)]
    for replica, fast in zip(several, train_replicas(architecture, data, training, several), strict=True):
        slow = by_the_loop(architecture, data, training, replica)
        assert distance(fast, slow) < 1e-9
        assert fast.metrics.train_accuracy.equals(slow.metrics.train_accuracy)


@pytest.mark.parametrize("name", ["fit, full batch", "fit, two outputs", "classes"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_a_replica_with_data_of_its_own_is_the_same_bit_for_bit_alone_with_others_and_where_it_shares_them(name, dtype):
    architecture, batch = TASKS[name]
    training = Training(loss=loss_of(name), batch_size=batch, epochs=6, **kind(dtype))
    sets = [made_data(architecture, training.loss, seed=n) for n in range(4)]
    several = [replace(replica, data=data) for replica, data in zip(replicas(4), sets, strict=True)]
    several[2] = replace(several[2], data=None)  # has the stack's
    together = train_replicas(architecture, sets[2], training, several)
    assert not same(together[0], train_replicas(architecture, sets[2], training, [replicas(1)[0]])[0])
    for replica, shared, data, outcome in zip(several, replicas(4), sets, together, strict=True):
        assert same(outcome, train_replicas(architecture, sets[2], training, [replica])[0])
        assert same(outcome, train_replicas(architecture, data, training, [shared, replicas(9)[8]])[0])
        if dtype == "float64":
            assert distance(outcome, by_the_loop(architecture, data, training, shared)) < 1e-9


def test_replicas_with_data_of_their_own_that_converge_leave_and_disturb_no_other():
    architecture = MLP(inputs=1, hidden=(8,), outputs=1, activation="tanh")
    x = torch.linspace(-1, 1, 101, dtype=torch.float64)[:, None]
    sets = [TrainingData(Split(x, x**2 + n / 9), Split(x, x**2 + n / 9)) for n in range(6)]
    training = Training(loss="mse", batch_size=10, epochs=80, convergence=5e-3, stop_at_convergence=True)
    several = [Replica(n, n, 1e-2, data=data) for n, data in enumerate(sets)]
    together = train_replicas(architecture, sets[0], training, several)
    assert len({outcome.converged_epoch for outcome in together}) > 2  # or nothing would leave before anything else
    for replica, outcome in zip(several, together, strict=True):
        assert same(outcome, train_replicas(architecture, sets[0], training, [replica])[0])


def test_sets_of_unlike_size_are_no_stack():
    architecture, _ = TASKS["classes"]
    data, fewer = (made_data(architecture, "cross_entropy", samples=n) for n in (101, 100))
    several = [replicas(2)[0], replace(replicas(2)[1], data=fewer)]
    with pytest.raises(SettingError, match=r"as many training samples .* got 101 and 100"):
        train_replicas(architecture, data, Training(loss="cross_entropy", epochs=1), several)


def test_a_large_set_is_evaluated_in_chunks_to_the_same_mean():
    architecture = MLP(inputs=2, hidden=(6,), outputs=3)
    training = Training(loss="cross_entropy", epochs=0, dtype="float64")
    data = made_data(architecture, "cross_entropy", samples=2500)
    (outcome,) = train_replicas(architecture, data, training, replicas(1))
    model = build(architecture, seed=10, dtype=torch.float64)
    logits = model(data.train.inputs)
    expected = torch.nn.functional.cross_entropy(logits, data.train.targets).item()
    assert outcome.metrics.train_loss.to_list() == [pytest.approx(expected, rel=1e-12)]
    assert outcome.metrics.train_accuracy.to_list() == [(logits.argmax(1) == data.train.targets).double().mean().item()]


def test_no_epochs_leave_the_initial_weights_and_one_evaluation():
    architecture = MLP(inputs=1, hidden=(3,), outputs=1)
    training = Training(loss="mse", epochs=0, snapshot_every=1)
    (outcome,) = train_replicas(architecture, made_data(architecture, "mse"), training, replicas(1))
    initial = build(architecture, seed=10).state_dict()
    assert all(torch.equal(outcome.weights[name], initial[name]) for name in initial)
    assert outcome.metrics.epoch.to_list() == [0]
    assert (outcome.samples, list(outcome.snapshots)) == (0, [0])


def test_one_sample_is_enough():
    architecture = MLP(inputs=1, hidden=(3,), outputs=1, activation="tanh")
    data = made_data(architecture, "mse", samples=1)
    training = Training(loss="mse", epochs=200, learning_rate=1e-2, dtype="float64")
    (outcome,) = train_replicas(architecture, data, training, replicas(1))
    assert distance(outcome, by_the_loop(architecture, data, training, replicas(1)[0])) < 1e-9


def test_a_batch_larger_than_the_data_is_the_full_batch():
    architecture = MLP(inputs=1, hidden=(3,), outputs=1)
    data, one = made_data(architecture, "mse"), replicas(1)
    full = Training(loss="mse", epochs=5)
    large = full.model_copy(update={"batch_size": 1000})
    assert same(*(train_replicas(architecture, data, training, one)[0] for training in (full, large)))


def test_no_replicas_give_no_outcomes():
    architecture = MLP(inputs=1, hidden=(3,), outputs=1)
    assert train_replicas(architecture, made_data(architecture, "mse"), Training(loss="mse", epochs=5), []) == []


def test_snapshots_are_the_weights_of_their_epoch():
    architecture = MLP(inputs=1, hidden=(3,), outputs=1)
    data, several = made_data(architecture, "mse"), replicas(2)
    training = Training(loss="mse", epochs=7, batch_size=20, snapshot_every=3)
    long = train_replicas(architecture, data, training, several)
    assert [list(outcome.snapshots) for outcome in long] == [[0, 3, 6, 7]] * 2
    short = train_replicas(architecture, data, training.model_copy(update={"epochs": 3}), several)
    for a, b in zip(long, short, strict=True):
        assert all(torch.equal(a.snapshots[3][name], b.weights[name]) for name in b.weights)
        assert all(torch.equal(a.snapshots[7][name], a.weights[name]) for name in a.weights)


def test_progress_counts_every_sample_once_and_never_falls(monkeypatch):
    monkeypatch.setattr("theodolite.train.perceptrons.CACHE_BYTES", 1)  # a stack each
    architecture = MLP(inputs=1, hidden=(3,), outputs=1)
    told: list[tuple[int, int]] = []
    training = Training(loss="mse", epochs=6)
    train_replicas(
        architecture, made_data(architecture, "mse"), training, replicas(3), on_epoch=lambda *now: told.append(now)
    )
    assert told == sorted(told)
    assert told[-1] == (6, 3 * 6 * 101)
    assert len(told) == 18


def test_training_leaves_the_random_state_alone():
    architecture = MLP(inputs=1, hidden=(3,), outputs=1)
    before = torch.random.get_rng_state()
    train_replicas(
        architecture, made_data(architecture, "mse"), Training(loss="mse", epochs=2, batch_size=5), replicas(2)
    )
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("architecture", "loss", "message"),
    [
        (MLP(inputs=3, outputs=1), "mse", "expected training inputs of 3 numbers, as the network takes, got 2"),
        (MLP(inputs=2, outputs=4), "mse", r"expected training targets of shape \(101, 4\)"),
        (
            MLP(inputs=2, outputs=1),
            "cross_entropy",
            "with a class each for the loss 'cross_entropy', got torch.float32",
        ),
    ],
)
def test_data_that_do_not_fit_the_network_are_refused(architecture, loss, message):
    data = made_data(MLP(inputs=2, outputs=1), "mse")
    with pytest.raises(SettingError, match=message):
        train_replicas(architecture, data, Training(loss=loss, epochs=1), replicas(1))


def test_a_class_beyond_the_outputs_is_refused():
    data = made_data(MLP(inputs=2, outputs=5), "cross_entropy")
    with pytest.raises(SettingError, match="expected training classes from 0 to 2, one an output, got 0 to 4"):
        train_replicas(MLP(inputs=2, outputs=3), data, Training(loss="cross_entropy", epochs=1), replicas(1))


def test_images_are_flattened():
    architecture = MLP(inputs=12, hidden=(4,), outputs=2)
    flat = made_data(architecture, "cross_entropy")
    images = replace(flat, train=replace(flat.train, inputs=flat.train.inputs.view(-1, 3, 2, 2)))
    training = Training(loss="cross_entropy", epochs=2, batch_size=8)
    assert same(*(train_replicas(architecture, data, training, replicas(1))[0] for data in (flat, images)))


def test_an_outcome_gives_the_trained_network_back():
    architecture = MLP(inputs=2, hidden=(4,), outputs=3)
    data = made_data(architecture, "cross_entropy")
    training = Training(loss="cross_entropy", epochs=5, batch_size=8, dtype="float64")
    (outcome,) = train_replicas(architecture, data, training, replicas(1))
    logits = torch.from_numpy(outcome.predict(data.test.inputs.numpy()))
    assert outcome.metrics.test_loss.iloc[-1] == pytest.approx(
        torch.nn.functional.cross_entropy(logits, data.test.targets).item(), rel=1e-12
    )
    assert sum(p.numel() for p in outcome.module().parameters()) == architecture.parameters


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_agrees_with_the_cpu():
    architecture, batch = TASKS["classes"]
    training = Training(loss="cross_entropy", batch_size=batch, epochs=20, dtype="float64")
    data, several = made_data(architecture, "cross_entropy"), replicas(3)
    there = train_replicas(architecture, data, training, several, device="cuda")
    here = train_replicas(architecture, data, training, several)
    assert all(distance(a, b) < 1e-9 for a, b in zip(there, here, strict=True))
