"""The loop against a training written out in plain PyTorch."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from theodolite.errors import SettingError
from theodolite.models import cnn, mlp
from theodolite.recipes import Optimizer
from theodolite.streams import named_seed
from theodolite.study import Training
from theodolite.train import Split, TrainingData, train
from theodolite.train.schedule import factor


def images(samples: int, seed: int) -> Split:
    draw = torch.Generator().manual_seed(seed)
    return Split(torch.randn(samples, 1, 8, 8, generator=draw), torch.randint(3, (samples,), generator=draw))


CLASSES = TrainingData(images(50, 0), images(30, 1))
LINE = torch.linspace(-1, 1, 40)[:, None]
FIT = TrainingData(Split(LINE, LINE**2), Split(2 * LINE, 4 * LINE**2))


def plainly(model, data, make_optimizer, *, epochs, batch, order_seed, loss, cosine=False):
    """What a student would write, with the same order of samples."""
    optimizer = make_optimizer(model.parameters())
    steps = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs) if cosine else None
    order = torch.Generator().manual_seed(named_seed(order_seed, "order"))
    for _ in range(epochs):
        for index in torch.randperm(len(data.train), generator=order).split(batch):
            optimizer.zero_grad()
            loss(model(data.train.inputs[index]), data.train.targets[index]).backward()
            optimizer.step()
        if steps:
            steps.step()


@pytest.mark.parametrize(
    ("fields", "make_optimizer"),
    [
        ({}, lambda p: torch.optim.Adam(p, lr=2e-3)),
        ({"weight_decay": 0.1}, lambda p: torch.optim.Adam(p, lr=2e-3, weight_decay=0.1)),
        ({"optimizer": "sgd", "momentum": 0.9}, lambda p: torch.optim.SGD(p, lr=2e-3, momentum=0.9)),
        ({"optimizer": "sgd", "weight_decay": 0.1}, lambda p: torch.optim.SGD(p, lr=2e-3, weight_decay=0.1)),
        ({"schedule": "cosine"}, lambda p: torch.optim.Adam(p, lr=2e-3)),
    ],
)
def test_the_loop_does_what_the_plain_script_does(fields, make_optimizer):
    model = cnn(image=(1, 8, 8), channels=(4,), hidden=(6,), outputs=3, seed=0, dtype=torch.float64)
    other, data = copy.deepcopy(model), CLASSES.to("cpu", torch.float64)
    training = Training(loss="cross_entropy", learning_rate=2e-3, batch_size=16, epochs=5, dtype="float64", **fields)
    outcome = train(model, data, training, order_seed=4)
    cosine = training.schedule == "cosine"
    plainly(other, data, make_optimizer, epochs=5, batch=16, order_seed=4, loss=nn.CrossEntropyLoss(), cosine=cosine)
    for name, expected in other.state_dict().items():
        assert torch.allclose(outcome.weights[name], expected, rtol=1e-9, atol=1e-12)
    logits = other(data.test.inputs)
    last = outcome.metrics.iloc[-1]
    assert last.test_loss == pytest.approx(nn.functional.cross_entropy(logits, data.test.targets).item(), rel=1e-9)
    assert last.test_accuracy == (logits.argmax(1) == data.test.targets).double().mean()
    assert (last.epoch, last.step, outcome.samples) == (5, 5 * 4, 250)


def test_the_full_batch_takes_the_samples_as_they_lie():
    model = mlp(inputs=1, hidden=(5,), outputs=1, seed=0)
    other = copy.deepcopy(model)
    train(model, FIT, Training(loss="mse", optimizer="sgd", learning_rate=0.1, epochs=1), order_seed=0)
    nn.functional.mse_loss(other(FIT.train.inputs), FIT.train.targets).backward()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b - 0.1 * b.grad)


def test_metrics_are_taken_in_evaluation_mode():
    model = nn.Sequential(nn.Dropout(0.9), nn.Linear(1, 1))
    reference = copy.deepcopy(model).eval()
    outcome = train(model, FIT, Training(loss="mse", epochs=0), order_seed=0)
    expected = nn.functional.mse_loss(reference(FIT.train.inputs), FIT.train.targets).item()
    assert outcome.metrics.train_loss[0] == pytest.approx(expected)


def test_running_statistics_are_part_of_the_weights():
    model = cnn(image=(1, 8, 8), channels=(4,), outputs=3, batch_norm=True, seed=0)
    outcome = train(model, CLASSES, Training(loss="cross_entropy", batch_size=25, epochs=2), order_seed=0)
    assert int(outcome.weights["1.num_batches_tracked"]) == 4
    inputs = CLASSES.test.inputs
    assert torch.equal(torch.from_numpy(outcome.predict(inputs.numpy())), model.eval()(inputs).detach())


@pytest.mark.parametrize(("every", "epochs", "rows"), [(1, 3, [0, 1, 2, 3]), (2, 5, [0, 2, 4, 5]), (9, 4, [0, 4])])
def test_evaluation_comes_at_the_start_every_so_many_epochs_and_at_the_end(every, epochs, rows):
    training = Training(loss="mse", epochs=epochs, evaluate_every=every, snapshot_every=every)
    outcome = train(mlp(inputs=1, outputs=1, seed=0), FIT, training, order_seed=0)
    assert outcome.metrics.epoch.to_list() == rows == list(outcome.snapshots)
    assert outcome.metrics.train_accuracy.isna().all()


def test_a_run_stops_at_convergence_only_if_asked_to():
    def run(**fields):
        training = Training(loss="mse", learning_rate=0.05, epochs=200, convergence=0.1, **fields)
        return train(mlp(inputs=1, hidden=(9,), outputs=1, seed=0), FIT, training, order_seed=0)

    through, stopped = run(), run(stop_at_convergence=True)
    first = next(epoch for epoch, loss in enumerate(through.metrics.train_loss) if loss <= 0.1)
    assert through.converged_epoch == stopped.converged_epoch == first
    assert (len(through.metrics), len(stopped.metrics)) == (201, first + 1)


def test_a_run_that_diverges_ends_with_its_epoch():
    training = Training(loss="mse", optimizer="sgd", learning_rate=1e6, epochs=100, evaluate_every=10)
    outcome = train(mlp(inputs=1, hidden=(9,), outputs=1, seed=0), FIT, training, order_seed=0)
    assert outcome.diverged_epoch == 10
    assert outcome.converged_epoch is None
    assert not math.isfinite(outcome.metrics.train_loss.iloc[-1])


def test_progress_is_told_after_every_epoch():
    told = []
    train(
        mlp(inputs=1, outputs=1, seed=0), FIT, Training(loss="mse", epochs=3, batch_size=7), order_seed=0,
        on_epoch=lambda *now: told.append(now),
    )  # fmt: skip
    assert told == [(1, 40), (2, 80), (3, 120)]


def test_the_cosine_schedule_is_pytorchs():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=7)
    for epoch in range(1, 8):
        cosine, constant = (Training(loss="mse", schedule=name, epochs=7) for name in ("cosine", "constant"))
        assert factor(cosine, epoch, 0, 1) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        assert factor(constant, epoch, 0, 1) == 1
        optimizer.step()
        schedule.step()


def rates(make_schedule, steps):
    """What PyTorch's own schedule makes of a learning rate of one, step by step."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule, found = make_schedule(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def factors(steps, **fields):
    training = Training(loss="mse", **fields)
    return [factor(training, epoch, step, steps) for epoch in range(1, training.epochs + 1) for step in range(steps)]


@pytest.mark.parametrize(("epochs", "steps"), [(10, 1), (3, 7), (1, 100)])
def test_one_cycle_is_pytorchs(epochs, steps):
    total = epochs * steps
    expected = rates(lambda o: lr_scheduler.OneCycleLR(o, 1.0, total_steps=total, cycle_momentum=False), total - 1)
    assert factors(steps, schedule="one_cycle", epochs=epochs)[:-1] == pytest.approx(expected)
    assert factors(steps, schedule="one_cycle", epochs=epochs)[-1] == pytest.approx(1 / 25 / 1e4)


def test_steps_are_pytorchs():
    expected = rates(lambda o: lr_scheduler.StepLR(o, 3, gamma=0.2), 8)
    assert factors(1, schedule="step", step_epochs=3, step_factor=0.2, epochs=8) == pytest.approx(expected)


def test_a_warm_up_is_pytorchs_and_the_schedule_has_the_rest():
    def schedule(optimizer):
        rise = lr_scheduler.LinearLR(optimizer, start_factor=1 / 12, total_iters=11)
        rest = lr_scheduler.LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * (step // 4) / 5)) / 2)
        return lr_scheduler.SequentialLR(optimizer, [rise, rest], milestones=[12])

    assert factors(4, schedule="cosine", warmup=3, epochs=8) == pytest.approx(rates(schedule, 32))


@pytest.mark.parametrize(
    "fields", [{"schedule": "step"}, {"step_epochs": 2}, {"step_factor": 0.5}, {"schedule": "one_cycle", "warmup": 1}]
)
def test_a_setting_without_effect_is_refused(fields):
    with pytest.raises(ValueError, match="expected"):
        Training(loss="mse", epochs=5, **fields)


class BySign(torch.optim.Optimizer):
    """Steps of one size against the sign of the gradient, by hand."""

    def __init__(self, parameters, calls):
        super().__init__(parameters, {"lr": 0.01})
        self.calls = calls

    @torch.no_grad()
    def step(self, closure=None):
        if self.calls:
            closure()
        for weight in self.param_groups[0]["params"]:
            if weight.grad is not None:
                weight.sub_(0.01 * weight.grad.sign())


class HandWritten(Optimizer, kind="by_hand"):
    calls: bool

    def make(self, parameters, *, learning_rate, weight_decay):
        return BySign(parameters, self.calls)


def test_an_optimizer_by_hand_calls_the_closure_or_is_refused():
    def fitted(calls):
        return train(mlp(inputs=1, outputs=1, seed=0), FIT, training(calls), order_seed=0)

    def training(calls):
        return Training(loss="mse", optimizer=HandWritten(calls=calls), epochs=1)

    before, after = (dict(mlp(inputs=1, outputs=1, seed=0).named_parameters()), fitted(True).weights)
    assert all(torch.allclose((before[name] - after[name]).abs(), torch.tensor(0.01)) for name in before)
    with pytest.raises(SettingError, match="BySign to call the closure"):
        fitted(False)
