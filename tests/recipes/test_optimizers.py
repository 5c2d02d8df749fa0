"""Optimizers of a description, against PyTorch's own in a plain script, in the loop and in stacks."""

import copy
import json
import pickle  # noqa: TID251 - what worker processes get
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Muon, NAdam, RMSprop

from theodolite.errors import CodeFailed, SettingError, UnknownName
from theodolite.models import MLP, build, mlp
from theodolite.recipes import SAM, Optimizer
from theodolite.recipes.optimizers import ELEMENTWISE
from theodolite.specs import RunSpec
from theodolite.streams import named_seed
from theodolite.study import Seeds, Training
from theodolite.train import Replica, Split, TrainingData, train, train_replicas

SHAPE = MLP(inputs=5, hidden=(11, 9), outputs=3, activation="tanh")


def made(dtype=torch.float64):
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 5, generator=draw, dtype=dtype)
    split = Split(inputs, torch.randint(3, (40,), generator=draw))
    return TrainingData(split, split)


def training(optimizer, **fields):
    return Training(
        loss="cross_entropy", optimizer=optimizer, **{"learning_rate": 1e-2, "batch_size": 15, "epochs": 6} | fields
    )


def plainly(model, data, step, *, epochs=6):
    order = torch.Generator().manual_seed(named_seed(1, "order"))
    for _ in range(epochs):
        for index in torch.randperm(40, generator=order).split(15):
            step(model, data.train.inputs[index], data.train.targets[index])


def steps_of(make):
    """A plain step with an optimizer that is made at the first."""
    made = []

    def step(model, inputs, targets):
        made[:] = made or make(model)
        model.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        for optimizer in made:
            optimizer.step()

    return step


def sam(model, inputs, targets, momentum={}):  # noqa: B006 - kept over the steps
    """Algorithm 1 of the paper with momentum, written out by hand."""

    def gradient():
        return torch.autograd.grad(nn.functional.cross_entropy(model(inputs), targets), list(model.parameters()))

    first = gradient()
    length = torch.sqrt(sum((g**2).sum() for g in first))
    with torch.no_grad():
        for p, g in zip(model.parameters(), first, strict=True):
            p += 0.1 * g / length
    second = gradient()
    with torch.no_grad():
        for p, g, h in zip(model.parameters(), first, second, strict=True):
            p -= 0.1 * g / length
            momentum[id(p)] = 0.9 * momentum[id(p)] + h if id(p) in momentum else h.clone()
            p -= 1e-2 * momentum[id(p)]


def matrices(model, wanted):
    return [p for p in model.parameters() if (p.ndim == 2) == wanted]


def muon(model):
    how = {"lr": 1e-2, "weight_decay": 0.1}
    return [Muon(matrices(model, True), adjust_lr_fn="match_rms_adamw", **how), AdamW(matrices(model, False), **how)]


CASES = {  # name -> (optimizer, fields, plain step)
    "adamw": ("adamw", {"weight_decay": 0.1}, steps_of(lambda m: [AdamW(m.parameters(), 1e-2, weight_decay=0.1)])),
    "adamw, betas": (
        Optimizer.named("adamw", betas=(0.8, 0.9)), {},
        steps_of(lambda m: [AdamW(m.parameters(), 1e-2, betas=(0.8, 0.9), weight_decay=0)]),
    ),
    "rmsprop": (
        {"kind": "rmsprop", "alpha": 0.9, "momentum": 0.5, "centered": True}, {"weight_decay": 0.1},
        steps_of(lambda m: [RMSprop(m.parameters(), 1e-2, 0.9, momentum=0.5, centered=True, weight_decay=0.1)]),
    ),
    "muon": ("muon", {"weight_decay": 0.1}, steps_of(muon)),
    "sam": (SAM(rho=0.1, momentum=0.9), {}, sam),
    "any of PyTorch's": ("NAdam", {}, steps_of(lambda m: [NAdam(m.parameters(), 1e-2)])),
    "one with settings": (
        Optimizer.named("SGD", momentum=0.9, nesterov=True), {},
        steps_of(lambda m: [SGD(m.parameters(), 1e-2, momentum=0.9, nesterov=True)]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_loop_does_what_the_plain_script_does(name):
    optimizer, fields, step = CASES[name]
    data, model = made(), build(SHAPE, seed=3, dtype=torch.float64)
    other = copy.deepcopy(model)
    outcome = train(model, data, training(optimizer, dtype="float64", **fields), order_seed=1)
    plainly(other, data, step)
    for key, expected in other.state_dict().items():
        assert torch.allclose(outcome.weights[key], expected, rtol=1e-9, atol=1e-12), key


def test_one_that_asks_for_the_gradient_several_times_gets_it():
    model = mlp(inputs=5, outputs=3, seed=0, dtype=torch.float64)
    outcome = train(model, made(), training("LBFGS", learning_rate=1.0, batch_size=None, dtype="float64"), order_seed=1)
    design = torch.cat([made().train.inputs, torch.ones(40, 1, dtype=torch.float64)], 1)
    slope = (torch.softmax(model(made().train.inputs), 1) - nn.functional.one_hot(made().train.targets, 3)).T @ design
    assert slope.abs().max() < 1e-3  # a convex problem: its gradient by hand is nearly zero
    assert outcome.metrics.train_loss.is_monotonic_decreasing


STACKED = ["adamw", "rmsprop", {"kind": "rmsprop", "momentum": 0.5, "centered": True}]
STACKED += [name for name in ELEMENTWISE if name not in {"AdamW", "RMSprop"}]


def replicas(count):
    return [Replica(weights_seed=n, order_seed=50 + n, learning_rate=(1e-3, 3e-3)[n % 3 == 0]) for n in range(count)]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("optimizer", STACKED, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-8), ("float32", 2e-3)])
def test_a_stack_ends_where_the_loop_ends_one_after_another(optimizer, dtype, tolerance):
    how = training(optimizer, dtype=dtype, schedule="one_cycle", epochs=20)
    if isinstance(optimizer, str) and optimizer == "Rprop":
        how = how.model_copy(update={"batch_size": None, "epochs": 5})  # by signs: rounding flips them
    several = replicas(5)
    together = train_replicas(SHAPE, made(), how, several)
    for replica, fast in zip(several, together, strict=True):
        own = how.model_copy(update={"learning_rate": replica.learning_rate})
        slow = train(build(SHAPE, seed=replica.weights_seed), made(), own, order_seed=replica.order_seed)
        for key, expected in slow.weights.items():
            assert (fast.weights[key] - expected).abs().max() <= tolerance * expected.abs().max(), key


@pytest.mark.parametrize("optimizer", STACKED, ids=str)
def test_a_replica_is_the_same_bit_for_bit_in_every_stack(optimizer):
    several = replicas(7)
    together = train_replicas(SHAPE, made(), training(optimizer), several)
    for replica, outcome in zip(several, together, strict=True):
        alone = train_replicas(SHAPE, made(), training(optimizer), [replica])[0]
        assert all(torch.equal(outcome.weights[key], alone.weights[key]) for key in alone.weights)


@pytest.mark.parametrize("optimizer", STACKED, ids=str)
def test_those_that_stay_do_not_notice_who_leaves(optimizer):
    several = replicas(6)
    several[1], several[4] = (replace(several[n], data=diverging()) for n in (1, 4))
    how = training(optimizer, epochs=8)
    together = train_replicas(SHAPE, made(), how, several)
    left = [outcome.diverged_epoch for outcome in together]
    assert [epoch is not None for epoch in left] == [False, True, False, False, True, False], left
    alone = train_replicas(SHAPE, made(), how, [replace(several[5], data=made())])[0]
    assert all(torch.equal(together[5].weights[key], alone.weights[key]) for key in alone.weights)


def diverging():
    """Inputs that overflow float32 within the network after the first epoch or before."""
    data = made()
    huge = Split(data.train.inputs * 3e38, data.train.targets)
    return TrainingData(huge, huge)


def test_an_optimizer_that_sees_all_weights_at_once_is_not_stacked():
    with pytest.raises(SettingError, match="one by one"):
        train_replicas(SHAPE, made(), training("sam"), replicas(2))


def taken():
    class Mine(Optimizer, kind="sam"):
        pass


def by_the_loop(optimizer, **fields):
    return train(build(SHAPE), made(), training(optimizer, **fields), order_seed=0)


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda: training("adamv"), UnknownName, "Did you mean 'adam"),
        (lambda: Optimizer.named("adamw", beta=0.9), SettingError, "Its settings: betas, eps"),
        (lambda: Optimizer.named("NAdam", beta=0.9), SettingError, "takes no 'beta' here. Its settings: betas"),
        (lambda: Optimizer.named("NAdam", lr=0.9), SettingError, "The training has learning_rate"),
        (lambda: Optimizer.named("NAdam", betas=(2.0, 0.9)), SettingError, "refuses its settings"),
        (lambda: training("adamw", momentum=0.9), ValueError, "momentum 0 with adamw"),
        (lambda: Optimizer.named("sam", base="adam", momentum=0.9), SettingError, "momentum 0 with the base adam"),
        (taken, SettingError, "that no other optimizer has"),
        (lambda: by_the_loop("LBFGS", weight_decay=0.1), SettingError, "has none"),
        (lambda: by_the_loop({"kind": "gone", "code": "ab"}), CodeFailed, "it is not here"),
    ],
)
def test_what_is_wrong_is_said(wrong, error, says):
    with pytest.raises(error, match=says):
        wrong()


def spec(**fields):
    return RunSpec(
        study="s", labels={}, seed=0, data={"source": "digits"}, model=SHAPE, seeds=Seeds(weights=0, order=0),
        training=Training(**{"loss": "mse", "epochs": 3} | fields),
    )  # fmt: skip


def test_a_default_that_is_written_out_makes_no_other_name_and_another_value_does():
    written = ("adamw", {"kind": "adamw", "eps": 1e-8}, Optimizer.named("adamw"))
    names = [spec(optimizer=how).fingerprint() for how in written]
    assert len(set(names)) == 1
    other = spec(optimizer=Optimizer.named("adamw", eps=1e-7)).fingerprint()
    assert len({*names, other, spec().fingerprint()}) == 3
    assert spec(schedule="step", step_epochs=3).fingerprint() == spec().fingerprint()  # it never comes


@pytest.mark.parametrize("name", CASES)
def test_a_spec_comes_back_from_its_file_and_from_another_process(name):
    one = spec(optimizer=CASES[name][0])
    assert RunSpec.model_validate(json.loads(one.model_dump_json())).fingerprint() == one.fingerprint()
    assert pickle.loads(pickle.dumps(one)).fingerprint() == one.fingerprint()  # noqa: S301 - our own bytes


OWN = """
import theodolite as th, torch, sys, pickle, json
class Slow(th.Optimizer, kind="slow"):
    share: float = 0.5
    elementwise = True
    def make(self, parameters, *, learning_rate, weight_decay):
        return torch.optim.SGD(parameters, lr=self.share * learning_rate)
class Bent(th.Loss, kind="bent"):
    def per_sample(self, outputs, targets):
        return (outputs - targets).abs().mean(1)
if __name__ == "__main__":
    from theodolite.specs import Training
    training = Training(loss="bent", optimizer={"kind": "slow", "share": 0.25}, epochs=1)
    sys.stdout.buffer.write(pickle.dumps(training))
"""
READ = """
import pickle, sys, torch
training = pickle.load(sys.stdin.buffer)
print(type(training.optimizer).__name__, training.optimizer.share, type(training.loss).__name__)
print(training.optimizer.make([torch.zeros(1)], learning_rate=1.0, weight_decay=0.0).param_groups[0]["lr"])
"""


@pytest.mark.thorough
def test_a_class_of_a_file_goes_to_another_process_as_that_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(OWN)

    def run(*command, given=b""):
        return subprocess.run([sys.executable, *command], input=given, capture_output=True, check=True).stdout

    sent = run(str(path))
    assert run("-c", READ, given=sent).decode().split() == ["Slow", "0.25", "Bent", "0.25"]
    path.write_text(OWN.replace("0.5", "0.6"))
    changed = subprocess.run([sys.executable, "-c", READ], input=sent, capture_output=True, check=False)
    assert b"Slow" not in changed.stdout
