"""One table of what a caller, a model, data and a function may do: no recorded number changes, and no training."""

import contextlib
import random
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import theodolite as th
from states import STATES
from theodolite.measure.catalogue import in_recorder
from theodolite.record.instruments import resolve

LOSS = nn.CrossEntropyLoss()


class Embedded(nn.Module):
    """Writes into its own weight in every forward pass: rows longer than the norm are shortened."""

    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(9, 4, max_norm=0.5), nn.Linear(4, 3)

    def forward(self, tokens):
        return self.out(self.table(tokens).mean(1))


class Keeping(nn.Module):
    """Keeps features, a count and a list on itself, and trains by the count."""

    def __init__(self):
        super().__init__()
        self.inner, self.count, self.seen = nn.Linear(4, 3), 0, []

    def forward(self, inputs):
        self.count += 1
        self.features = torch.tanh(inputs)
        self.seen.append(self.features.detach().sum())
        return self.inner(self.features) / (1 + 0.1 * min(self.count, len(self.seen)))


class Writing(nn.Module):
    """Alters what it gets in place."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 3)

    def forward(self, inputs):
        return self.inner(inputs.mul_(1.01))


class Normed(nn.Sequential):
    """Running statistics of every forward pass in training mode."""

    def __init__(self):
        super().__init__(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))


class Grown(nn.Module):
    """Keeps an average of what it saw in a buffer, in any mode."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 3)
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, inputs):
        self.mean += 0.1 * (inputs.detach().mean(0) - self.mean)
        return self.inner(inputs - self.mean)


MODELS = {"max_norm": Embedded, "keeps": Keeping, "writes": Writing, "batch norm": Normed, "buffer": Grown}


def data_for(make):
    generator = torch.Generator().manual_seed(5)
    targets = torch.arange(12) % 3
    if make is Embedded:
        return torch.randint(0, 9, (12, 2), generator=generator), targets
    return torch.randn(12, 4, generator=generator), targets


# What functions of a user's own do to what they are handed.
def plain_loss(model, loss, data):
    return loss(model(data[0]), data[1]).item()


def backward(model, loss, data):
    loss(model(data[0]), data[1]).backward()
    return sum(float(p.grad.norm()) for p in model.parameters())


def perturb(model, loss, data):
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1).sub_(0.1)
            p.data.mul_(1.001)
    return plain_loss(model, loss, data)


def convert(model, loss, data):
    model.double()
    for p in model.parameters():
        p.requires_grad_(False)
        p.grad = None
    return 1.0


def train_mode(model, loss, data):
    model.train()
    torch.manual_seed(0)
    random.random()
    np.random.rand()
    model.register_forward_hook(lambda *given: None)
    model.extra = nn.Linear(1, 1)
    data[1].zero_()
    return plain_loss(model, loss, data)


def failing(model, loss, data):
    perturb(model, loss, data)
    raise ZeroDivisionError


OWN = [plain_loss, backward, perturb, convert, train_mode, failing]


def everything(make, recorder, steps=6):
    """All that a training leaves behind."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    model, data = make(), data_for(make)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(steps):
        if recorder is not None:
            recorder.measure(model, LOSS, data)  # among gradients of the last step, which go on to be accumulated
        LOSS(model(data[0]), data[1]).backward()
        optimizer.step()
        if recorder is not None:
            recorder.step(model, LOSS, data)
    moments = [tensor for state in optimizer.state.values() for tensor in state.values()]
    gradients = [p.grad for p in model.parameters()]
    kept = {name: value for name, value in vars(model).items() if isinstance(value, (int, list, torch.Tensor))}
    tensors = [*model.state_dict().values(), *gradients, *moments, *data, torch.get_rng_state()]
    return {
        "tensors": [tensor.detach().clone() for tensor in tensors],
        "kept": {name: torch.as_tensor(value).tolist() for name, value in kept.items()},
        "modules": [(name, module.training, len(module._forward_hooks)) for name, module in model.named_modules()],
        "parameters": [(name, p.requires_grad, p.dtype) for name, p in model.named_parameters()],
        "chance": (random.getstate(), np.random.get_state()[1].tolist()),
    }


@cache
def unwatched(make):
    """The same without a recorder."""
    return everything(make, None)


def assert_same(one, other):
    tensors = zip(one["tensors"], other["tensors"], strict=True)
    assert all(torch.equal(a, b) for a, b in tensors)
    assert {**one, "tensors": None} == {**other, "tensors": None}


@pytest.mark.sampled(3)
@pytest.mark.filterwarnings("ignore::theodolite.record.RecorderWarning")  # not all can be measured on all
@pytest.mark.parametrize("what", [*in_recorder(), *OWN], ids=lambda what: getattr(what, "__name__", what))
@pytest.mark.parametrize("name", MODELS)
def test_a_training_is_the_same_bit_for_bit(name, what):
    watched = everything(MODELS[name], th.Recorder(what, every=1, out=None))
    assert_same(watched, unwatched(MODELS[name]))


@pytest.mark.filterwarnings("ignore::theodolite.record.RecorderWarning")
@pytest.mark.parametrize("what", ["gradient_norm", "hessian_eigenvalues", plain_loss, backward])
def test_a_training_on_the_recorders_own_set_is_the_same_bit_for_bit(what):
    for make in MODELS.values():
        watched = everything(make, th.Recorder(what, every=1, data=data_for(make), weights="*", out=None))
        assert_same(watched, unwatched(make))


def test_a_set_to_measure_on_stays_the_same_when_the_training_alters_its_data():
    inputs, targets = data_for(Normed)
    torch.manual_seed(0)
    model = Normed().eval()
    expected = LOSS(model(inputs), targets).item()
    recorder = th.Recorder({"loss": plain_loss}, every=1, data=(inputs, targets), out=None)
    inputs.mul_(3.0)
    recorder.step(model, LOSS)
    assert recorder.table("numbers")["value"].tolist() == [expected]


def numbers(what, state, data=None):
    torch.manual_seed(0)
    model, batch = Normed(), data_for(Normed)
    recorder = th.Recorder(what, every=1, data=data, out=None)
    with state():
        recorder.step(model, LOSS, batch)
    assert not recorder.table("failures").to_dict("records")
    rows = recorder.table("numbers")
    return (
        rows[~rows["quantity"].str.contains("second")].drop(columns=["epoch"]).replace({np.nan: None}).to_dict("list")
    )


@cache
def undisturbed(what):
    """On the batch of the step, and on the recorder's own set."""
    return numbers(what, contextlib.nullcontext), numbers(what, contextlib.nullcontext, data=data_for(Normed))


@pytest.mark.sampled(4)
@pytest.mark.parametrize("what", [*in_recorder(), plain_loss, backward], ids=lambda w: getattr(w, "__name__", w))
@pytest.mark.parametrize("state", STATES)
def test_no_state_of_the_callers_changes_a_number(state, what):
    own = numbers(what, STATES[state], data=data_for(Normed))
    assert (numbers(what, STATES[state]), own) == undisturbed(what)


def test_data_made_in_inference_mode_are_measured():
    torch.manual_seed(0)
    model = Normed()
    recorder = th.Recorder([*in_recorder(), backward], every=1, out=None)
    with torch.inference_mode():
        recorder.step(model, LOSS, tuple(part.clone() for part in data_for(Normed)))
    assert not recorder.table("failures").to_dict("records")


def test_samples_and_reduction_reach_every_instrument_that_has_them():
    """A loss of two halves: the second counts three times, and a sum is no mean."""
    inputs, targets = data_for(Normed)
    batches = [(inputs[:6], targets[:6]), (inputs[6:], targets[6:])]

    def weight(batch):
        return 1.0 if bool(torch.equal(batch[0], inputs[:6])) else 3.0

    torch.manual_seed(0)
    model = Normed().eval()
    parts = [LOSS(model(x), y).item() for x, y in batches]
    for options, expected in (
        ({"samples": weight}, (parts[0] + 3 * parts[1]) / 4),
        ({}, sum(parts) / 2),
    ):
        recorder = th.Recorder(["gradient_norm", "sharpness"], every=1, data=batches, out=None, **options)
        recorder.step(model, LOSS)
        losses = recorder.table("numbers").query("quantity == 'loss'")["value"]
        assert losses.tolist() == pytest.approx([expected] * 2, rel=1e-5)

    def summed(outputs, target):
        return nn.functional.cross_entropy(outputs, target, reduction="sum")

    recorder = th.Recorder("gradient_norm", every=1, data=batches, reduction="sum", out=None)
    recorder.step(model, summed)
    losses = recorder.table("numbers").query("quantity == 'loss'")["value"]
    assert losses.tolist() == pytest.approx([6 * sum(parts)], rel=1e-5)
    shared = {"samples": weight, "reduction": "sum"}
    for name, one in resolve(in_recorder(), shared).items():
        assert {key: one.function.keywords[key] for key in shared} == shared, name
    given = resolve({"a": ("gradient_norm", {"reduction": "mean"}), "own": plain_loss}, shared)
    assert given["a"].function.keywords["reduction"] == "mean"  # what one was given itself
    assert given["own"].function is plain_loss


def test_an_integer_for_samples_keeps_so_many_as_it_did_before():
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data_for(Normed)), batch_size=4)
    for options in ({"samples": 5}, {"first": 5}, {"first": 5, "samples": lambda batch: len(batch[1])}):
        recorder = th.Recorder("gradient_norm", every=1, data=loader, out=None, **options)
        recorder.step(Normed(), LOSS)
        assert recorder.table("numbers").query("quantity == 'samples'")["value"].tolist() == [8.0]


def test_a_data_set_is_read_in_batches():
    inputs, targets = data_for(Normed)
    recorder = th.Recorder("gradient_norm", every=1, data=torch.utils.data.TensorDataset(inputs, targets), out=None)
    torch.manual_seed(0)
    model = Normed()
    recorder.step(model, LOSS)
    loss = recorder.table("numbers").query("quantity == 'loss'")["value"].item()
    assert loss == pytest.approx(LOSS(model.eval()(inputs), targets).item(), rel=1e-6)
