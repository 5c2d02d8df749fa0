"""A training that is killed between two epochs and goes on, against the same one undisturbed, bit for bit."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from theodolite.errors import RecordCorrupt, SettingError
from theodolite.models import MLP, cnn
from theodolite.recipes import SAM, Muon, Optimizer
from theodolite.store import states, weights
from theodolite.store.record import STATE
from theodolite.study import Training
from theodolite.train import Outcome, Replica, Split, TrainingData, train, train_replicas
from theodolite.train.resume import Every, Keeper

EPOCHS = 7
DRAW = torch.Generator().manual_seed(0)
IMAGES = TrainingData(
    *(Split(torch.randn(n, 1, 8, 8, generator=DRAW), torch.randint(3, (n,), generator=DRAW)) for n in (40, 20))
)
LINE = torch.linspace(-1, 1, 40)[:, None]
FIT = TrainingData(Split(LINE, LINE**2), Split(2 * LINE, 4 * LINE**2))
MLP_OF_FIT = MLP(inputs=1, hidden=(9, 7), outputs=1, activation="tanh")
ONE_EPOCH = Every(epochs=1)


class Killed(Exception):
    """In place of kill -9: a test in the suite of whole surveys kills for real."""


class Averaging(torch.optim.Optimizer):
    """Steps along the mean of all gradients so far, which it keeps in its state, as it should."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        if closure:
            with torch.enable_grad():
                closure()
        for group in self.param_groups:
            for p in group["params"]:
                own = self.state[p]
                own["count"] = own.get("count", 0) + 1
                own["mean"] = own.get("mean", torch.zeros_like(p)).lerp(p.grad, 1 / own["count"])
                p.sub_(own["mean"], alpha=group["lr"])


class Forgetful(Averaging):
    """The same with a count of its own, outside of its state, on which every step depends."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, lr)
        self.steps = 0

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        self.steps += 1
        return super().step(closure)


class Mean(Optimizer, kind="test-mean"):
    elementwise = True

    def make(self, parameters: Any, *, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
        return Averaging(parameters, learning_rate)


class Counting(Optimizer, kind="test-counting"):
    elementwise = True

    def make(self, parameters: Any, *, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
        return Forgetful(parameters, learning_rate)


class Noisy(nn.Module):
    """Draws from every generator there is, and has a buffer that no state dict has."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
            return x + torch.randn_like(x) / 10 + np.random.rand() / 10 + self.calls / 1000
        return x


def network() -> nn.Module:
    model = cnn(image=(1, 8, 8), channels=(4,), hidden=(6,), outputs=3, batch_norm=True, seed=0)
    return nn.Sequential(*model[:-1], nn.Dropout(0.3), Noisy(), model[-1])


def killed_after(epoch: int) -> Callable[[int, int], None]:
    def told(now: int, _: int) -> None:
        if now > epoch:
            raise Killed

    return told


def same(a: Outcome, b: Outcome) -> None:
    pd.testing.assert_frame_equal(a.metrics, b.metrics, check_exact=True)
    assert (a.converged_epoch, a.diverged_epoch, a.samples) == (b.converged_epoch, b.diverged_epoch, b.samples)
    for one, other in ((a.weights, b.weights), *((a.snapshots[e], b.snapshots[e]) for e in b.snapshots)):
        assert weights.to_bytes(one) == weights.to_bytes(other)  # minus zero is not zero


@pytest.mark.parametrize(
    "fields",
    [
        {"optimizer": "sgd", "momentum": 0.9, "schedule": "one_cycle"},
        {"optimizer": "adam", "schedule": "cosine", "warmup": 2, "weight_decay": 0.1, "snapshot_every": 2},
        {"optimizer": "adam", "augment": True, "schedule": "step", "step_epochs": 3},
        {"optimizer": SAM(momentum=0.9)},
        {"optimizer": "adam", "autocast": True},
        {"optimizer": Muon()},
        {"optimizer": "NAdam"},
        {"optimizer": "LBFGS"},
        {"optimizer": Mean()},
    ],
    ids=lambda fields: str(fields["optimizer"]),
)
@pytest.mark.parametrize("kept", [1, 3])
def test_a_training_in_the_loop_that_was_killed_ends_as_an_undisturbed_one(tmp_path, fields, kept):
    training = Training(loss="cross_entropy", learning_rate=0.01, batch_size=16, epochs=EPOCHS, **fields)
    undisturbed = train(network(), IMAGES, training, order_seed=3)
    every = Every(epochs=kept)
    with pytest.raises(Killed):
        train(
            network(), IMAGES, training, order_seed=3, on_epoch=killed_after(4), keeper=Keeper(tmp_path, every)
        )  # fmt: skip
    torch.rand(5)  # whatever else a process draws
    keeper = Keeper(tmp_path, every)
    told: list[int] = []
    again = train(network(), IMAGES, training, order_seed=3, keeper=keeper, on_epoch=lambda now, _: told.append(now))
    assert (keeper.resumed, told[0]) == (4 // kept * kept, 4 // kept * kept + 1)  # nothing was trained twice
    same(again, undisturbed)


@pytest.mark.parametrize(
    "fields",
    [
        {"optimizer": "sgd", "momentum": 0.9, "schedule": "one_cycle"},
        {"optimizer": "adam", "schedule": "cosine", "snapshot_every": 2},
        {"optimizer": "adam", "autocast": True},
        {"optimizer": "adamw", "weight_decay": 0.1},
        {"optimizer": "Rprop"},
        {"optimizer": Mean()},
    ],
    ids=lambda fields: str(fields["optimizer"]),
)
def test_replicas_go_on_in_other_stacks_than_they_were_killed_in(tmp_path, fields):
    training = Training(loss="mse", batch_size=16, epochs=EPOCHS, **fields)
    replicas = [Replica(weights_seed=n, order_seed=n, learning_rate=(0.01, 0.02)[n % 2]) for n in range(5)]
    undisturbed = train_replicas(MLP_OF_FIT, FIT, training, replicas)
    folders = [tmp_path / str(number) for number in range(5)]

    def run(numbers: list[int], every: Every | None, killed: int = EPOCHS) -> list[Outcome]:
        keepers = [Keeper(folders[number], every) for number in numbers]
        own = [replicas[number] for number in numbers]
        return train_replicas(MLP_OF_FIT, FIT, training, own, on_epoch=killed_after(killed), keepers=keepers)

    for numbers, kept, epoch in (([0, 1], 1, 2), ([2, 3], 2, 5)):  # killed after states of epochs 2 and 4
        with pytest.raises(Killed):
            run(numbers, Every(epochs=kept), epoch)
    assert [states.read(folder / STATE)["epoch"] for folder in folders[:4]] == [2, 2, 4, 4]
    for found, expected in zip(run([4, 3, 2, 1, 0], None), undisturbed[::-1], strict=True):
        same(found, expected)


def test_a_replica_that_had_left_its_stack_is_not_trained_again(tmp_path):
    training = Training(loss="mse", epochs=300, convergence=0.02, stop_at_convergence=True)
    rates = [0.05, 1e-4, 0.03]
    replicas = [Replica(weights_seed=n, order_seed=n, learning_rate=rate) for n, rate in enumerate(rates)]
    undisturbed = train_replicas(MLP_OF_FIT, FIT, training, replicas)
    ends = [outcome.converged_epoch for outcome in undisturbed]
    assert ends[0] < ends[2] < 200
    assert ends[1] is None
    keepers = [Keeper(tmp_path / str(number), Every(epochs=100)) for number in range(3)]
    with pytest.raises(Killed):
        train_replicas(
            MLP_OF_FIT, FIT, training, replicas, keepers=keepers, on_epoch=killed_after((150 + 2 * 300) // 3)
        )
    again = [Keeper(tmp_path / str(number), None) for number in range(3)]
    for found, expected in zip(
        train_replicas(MLP_OF_FIT, FIT, training, replicas, keepers=again), undisturbed, strict=True
    ):
        same(found, expected)
    assert [keeper.resumed for keeper in again] == [ends[0], 100, ends[2]]


def test_what_an_optimizer_keeps_outside_of_its_state_is_refused_after_the_first_epoch(tmp_path):
    training = Training(loss="mse", optimizer=Counting(), epochs=50)
    message = "Forgetful has 'steps' beside.*--resume-every"
    with pytest.raises(SettingError, match=message):
        train(nn.Linear(1, 1), FIT, training, order_seed=0, keeper=Keeper(tmp_path, Every(epochs=40)))
    replicas = [Replica(weights_seed=0, order_seed=0, learning_rate=0.1)]
    with pytest.raises(SettingError, match=message):
        train_replicas(MLP_OF_FIT, FIT, training, replicas, keepers=[Keeper(tmp_path, Every(epochs=40))])
    train(nn.Linear(1, 1), FIT, training, order_seed=0, keeper=Keeper(tmp_path, None))  # who does not ask may have it


def test_an_optimizer_around_another_has_to_hand_over_its_state(tmp_path):
    class Around(torch.optim.Optimizer):
        def __init__(self, parameters: list[Tensor], lr: float) -> None:
            super().__init__(parameters, {"lr": lr})
            self.inner = torch.optim.SGD(parameters, lr=lr, momentum=0.9)

        def step(self, closure: Callable[[], Any]) -> None:  # type: ignore[override]
            self.inner.step(closure)

    class Wrapped(Optimizer, kind="test-wrapped"):
        def make(self, parameters: Any, *, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
            return Around(parameters, learning_rate)

    training = Training(loss="mse", optimizer=Wrapped(), epochs=2)
    with pytest.raises(SettingError, match="'inner' beside"):
        train(nn.Linear(1, 1), FIT, training, order_seed=0, keeper=Keeper(tmp_path, ONE_EPOCH))


def test_a_network_that_counts_on_itself_is_refused(tmp_path):
    class Counts(nn.Linear):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += self.training
            return super().forward(x) / self.calls if self.calls else super().forward(x)

    with pytest.raises(SettingError, match=r"'0\.calls' changed"):
        train(
            nn.Sequential(Counts(1, 1)), FIT, Training(loss="mse", epochs=3), order_seed=0,
            keeper=Keeper(tmp_path, ONE_EPOCH),
        )  # fmt: skip


def test_dropout_draws_from_the_seed_of_the_run_and_leaves_the_callers_generators_alone():
    training = Training(loss="cross_entropy", epochs=2)
    torch.manual_seed(1)
    first = train(network(), IMAGES, training, order_seed=3)
    torch.manual_seed(2)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    same(train(network(), IMAGES, training, order_seed=3), first)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    other = train(network(), IMAGES, training, order_seed=4)
    assert not torch.equal(other.weights["0.weight"], first.weights["0.weight"])


def test_a_state_is_kept_when_its_time_has_come(tmp_path):
    now = [0.0]
    keeper = Keeper(tmp_path, Every(seconds=10), clock=lambda: now[0])
    due = []
    for epoch, time in enumerate((0, 4, 9, 11, 15, 20.5, 21, 40)):
        now[0] = time
        due.append(keeper.due(epoch))
    assert due == [False, False, False, True, False, False, True, True]


@pytest.mark.parametrize("text", ["0", "0s", "-1", "1.5", "often", "3 days", ""])
def test_a_time_that_is_none_is_refused(text):
    with pytest.raises(SettingError, match="10, 90s, 5min"):
        Every.parsed(text)


def test_tensors_come_back_in_their_layout_and_any_damage_is_noticed(tmp_path):
    image = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    state = {
        "image": image, "turned": torch.arange(6.0).view(2, 3).T, "half": torch.ones(3, dtype=torch.bfloat16),
        "scalar": torch.tensor(2), "groups": [{"betas": (0.9, 0.99), "lr": float("nan")}], "by": {3: None, "a": True},
    }  # fmt: skip
    path = tmp_path / STATE
    assert states.read(path) is None
    states.write(path, state)
    found = states.read(path)
    for name in ("image", "turned", "half", "scalar"):
        assert torch.equal(found[name], state[name])
        assert found[name].dtype == state[name].dtype
        assert found[name].stride() == state[name].stride()
    assert repr(found["groups"]) == repr(state["groups"])
    assert found["by"] == state["by"]
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[: len(whole) // 2], b"", whole[:200] + b"\0" + whole[201:], b"x" * 100):
        path.write_bytes(damaged)
        with pytest.raises(RecordCorrupt, match="begins anew"):
            states.read(path)
        assert Keeper(Path(tmp_path), None).read() is None


def test_a_state_of_another_run_device_or_version_is_left_alone(tmp_path, monkeypatch):
    folders = [tmp_path / "a", tmp_path / "b"]
    Keeper(folders[0], ONE_EPOCH).write({"epoch": 3})
    assert Keeper(folders[0], None).read()["epoch"] == 3
    assert Keeper(folders[0], None, "cuda:0").read() is None
    folders[1].mkdir()
    (folders[1] / STATE).write_bytes((folders[0] / STATE).read_bytes())
    assert Keeper(folders[1], None).read() is None
    from theodolite import machine

    described = copy.deepcopy(dict(machine.describe()))
    described["versions"]["torch"] = "1.0"
    monkeypatch.setattr(machine, "describe", lambda: described)
    assert Keeper(folders[0], None).read() is None
