"""Stacks of networks that are no perceptrons: against a plain script, and against themselves in other company."""

import textwrap
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap
from torch.nn import functional as F  # noqa: N812

from theodolite import studies
from theodolite.errors import SettingError
from theodolite.models import CNN, MLP, build, code
from theodolite.models.stacks import pays
from theodolite.store import weights
from theodolite.streams import named_seed
from theodolite.study import Training
from theodolite.train import Outcome, Replica, Split, TrainingData, stackable, train, train_replicas
from theodolite.train.resume import Every, Keeper
from theodolite.train.rules import Rules

FILE = """
import numpy as np
import torch
from torch import nn

class Own(nn.Module):
    def __init__(self, drop=0.0, norm=False):
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 5, 3, stride=2)
        self.norm = nn.BatchNorm2d(5) if norm else nn.Identity()
        self.drop, self.three, self.four = nn.Dropout(drop), nn.Linear(45, 13), nn.Linear(13, 3)
        self.register_buffer("scale", torch.rand(()))
        self.one.bias.requires_grad_(False)
    def forward(self, x):
        x = self.norm(self.two(torch.relu(self.one(x)))).tanh() * self.scale
        return self.four(torch.nn.functional.gelu(self.three(self.drop(x.flatten(1)))))

class Tokens(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.into, self.out = nn.Embedding(11, width), nn.Linear(width, 11)
        self.block = nn.TransformerEncoderLayer(width, 2, 24, dropout=0.0, batch_first=True)
    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=self.out.weight.dtype)
        return self.out(self.block(self.into(x), src_mask=mask, is_causal=True))

class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.into, self.on, self.out = nn.Linear(8, 9), nn.Linear(9, 9), nn.Linear(9, 3)
    def forward(self, x):
        state = x.new_zeros(len(x), 9)
        for row in x[:, 0].unbind(1):
            state = torch.tanh(self.into(row) + self.on(state))
        return self.out(state)

class Flat(nn.Module):
    def __init__(self, what="plain"):
        super().__init__()
        self.what, self.calls, self.layer, self.gate = what, 0, nn.Linear(64, 3), nn.Parameter(torch.zeros(()))
        self.register_buffer("seen", torch.zeros(()))
    def forward(self, x):
        y = self.layer(x.flatten(1))
        if self.what == "unused":
            return y
        y = y + self.gate * (y.mean(0) if self.what == "mixes samples" else 1)
        if self.what == "branches":
            return y if y.sum() > 0 else 2 * y
        if self.what == "buffer":
            self.seen += 1
        self.calls += self.what == "counts"
        return y * np.random.rand() if self.what == "draws" else y

class Gru(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.out = nn.GRU(8, 4, batch_first=True), nn.Linear(4, 3)
    def forward(self, x):
        return self.out(self.gru(x[:, 0])[0][:, -1])

def make(kind, **settings):
    return globals()[kind](**settings)
"""
SMALL = CNN(image=(1, 8, 8), channels=(4, 8), outputs=3)
CNNS = {
    "cnn": SMALL,
    "cnn, odd widths, tanh": CNN(image=(1, 8, 8), channels=(3, 5), hidden=(7,), outputs=3, activation="tanh"),
    "cnn, gelu": CNN(image=(1, 8, 8), channels=(8,), hidden=(17,), outputs=3, activation="gelu"),
}
CODES = {"own": {"kind": "Own"}, "tokens": {"kind": "Tokens"}, "recurrent": {"kind": "Recurrent"}}
LOSSES = ["cross_entropy", "label_smoothing", "hinge", "mse_one_hot"]


@pytest.fixture(scope="session")
def described(tmp_path_factory):
    """A description by its name."""
    path = tmp_path_factory.mktemp("networks") / "net.py"
    path.write_text(textwrap.dedent(FILE))
    return lambda name: CNNS.get(name) or code(f"{path}:make", **CODES.get(name, {"kind": "Flat", "what": name}))


def made(name="cnn", *, seed=0, dtype=torch.float32, samples=77):
    """Images, or tokens each of which is to be the next; 77 samples, so a batch of 20 leaves 17 over."""
    draw = torch.Generator().manual_seed(seed)

    def split(count):
        if name == "tokens":
            text = torch.randint(11, (count, 7), generator=draw)
            return Split(text[:, :-1], text[:, 1:])
        images = torch.randn(count, 1, 8, 8, generator=draw, dtype=torch.float64).to(dtype)
        return Split(images, torch.randint(3, (count,), generator=draw))

    return TrainingData(split(samples), split(21))


def how(**fields):
    return Training(**{"loss": "cross_entropy", "learning_rate": 1e-2, "batch_size": 20, "epochs": 3} | fields)


def replicas(count):
    return [Replica(weights_seed=n, order_seed=50 + n, learning_rate=(1e-3, 3e-3)[n % 3 == 0]) for n in range(count)]


def same(a: Outcome, b: Outcome) -> bool:
    """Bit for bit, the sign of zero and all."""
    return (
        weights.to_bytes(a.weights) == weights.to_bytes(b.weights)
        and a.metrics.to_csv() == b.metrics.to_csv()
        and (a.converged_epoch, a.diverged_epoch, a.samples) == (b.converged_epoch, b.diverged_epoch, b.samples)
    )


def distance(a, b):
    return max(float((a[key] - b[key]).abs().max() / (1e-3 + b[key].abs().max())) for key in b)


def by_hand(architecture, data, replica, *, epochs, dtype):
    """The script that everybody writes."""
    model = build(architecture, seed=replica.weights_seed, dtype=dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=replica.learning_rate)
    order = torch.Generator().manual_seed(named_seed(replica.order_seed, "order"))
    for _ in range(epochs):
        for batch in torch.randperm(len(data.train), generator=order).split(20):
            optimizer.zero_grad()
            outputs = model(data.train.inputs[batch])
            F.cross_entropy(outputs.flatten(0, -2), data.train.targets[batch].flatten()).backward()
            optimizer.step()
    outputs = model(data.test.inputs)
    return model.state_dict(), F.cross_entropy(outputs.flatten(0, -2), data.test.targets.flatten()).item()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", [*CNNS, *CODES])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 2e-3)])
def test_each_ends_where_a_plain_script_of_it_alone_ends(described, name, dtype, tolerance):
    architecture, data = described(name), made(name, dtype=getattr(torch, dtype))
    several = replicas(2)
    together = train_replicas(architecture, data, how(epochs=4, dtype=dtype), several)
    for replica, outcome in zip(several, together, strict=True):
        expected, loss = by_hand(architecture, data, replica, epochs=4, dtype=getattr(torch, dtype))
        if (name, dtype) != ("tokens", "float32"):  # a bias of keys has gradient zero, and Adam makes steps of rounding
            assert distance(outcome.weights, expected) < tolerance
        assert outcome.metrics.test_loss.iloc[-1] == pytest.approx(loss, rel=tolerance)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", [*CNNS, *CODES])
@pytest.mark.parametrize("batch", [20, None])
def test_each_is_the_same_bit_for_bit_in_every_stack(described, name, batch):
    architecture, data, training = described(name), made(name), how(batch_size=batch, epochs=2)
    several = replicas(16)
    together = train_replicas(architecture, data, training, several)
    for members in ([3], [9, 4], [1, 15, 0, 7, 11], [*range(15, 2, -1)]):
        part = train_replicas(architecture, data, training, [several[member] for member in members])
        assert all(same(outcome, together[member]) for member, outcome in zip(members, part, strict=True)), members


@pytest.mark.parametrize(
    "fields",
    [
        {"optimizer": "sgd", "momentum": 0.9, "schedule": "one_cycle"},
        {"optimizer": "adamw", "weight_decay": 0.1, "schedule": "cosine", "warmup": 1},
        {"optimizer": "Rprop", "batch_size": None},
        {"augment": True},
        *({"loss": loss} for loss in LOSSES[1:]),
    ],
    ids=str,
)
def test_losses_optimizers_schedules_and_augmentation_are_the_loops(fields):
    data, training, several = made(dtype=torch.float64), how(dtype="float64", **fields), replicas(3)
    for replica, fast in zip(several, train_replicas(SMALL, data, training, several), strict=True):
        own = training.model_copy(update={"learning_rate": replica.learning_rate})
        slow = train(build(SMALL, seed=replica.weights_seed), data, own, order_seed=replica.order_seed)
        assert distance(fast.weights, slow.weights) < 1e-8
        assert fast.metrics[["epoch", "step"]].equals(slow.metrics[["epoch", "step"]])
        assert fast.metrics.train_accuracy.equals(slow.metrics.train_accuracy)
        assert same(fast, train_replicas(SMALL, data, training, [replica])[0])


def test_targets_and_data_of_their_own():
    sets = [made(seed=n) for n in range(3)]
    mixed = [
        replicas(1)[0],
        replace(replicas(2)[1], train_targets=sets[2].train.targets),
        replace(replicas(3)[2], data=sets[1]),
    ]
    first, second, third = train_replicas(SMALL, sets[0], how(), mixed)
    given = replace(sets[0], train=replace(sets[0].train, targets=sets[2].train.targets))
    assert same(first, train_replicas(SMALL, sets[0], how(), replicas(1))[0])
    assert same(second, train_replicas(SMALL, given, how(), [replicas(2)[1]])[0])
    assert same(third, train_replicas(SMALL, sets[1], how(), [replicas(3)[2]])[0])
    assert not same(third, train_replicas(SMALL, sets[0], how(), [replicas(3)[2]])[0])


def test_those_that_converge_or_diverge_leave_and_disturb_no_other():
    training = how(optimizer="sgd", epochs=12, convergence=1.0, stop_at_convergence=True)
    several = [Replica(n, n, rate) for n, rate in enumerate([0.5, 1e8, 1e-4, 0.3])]
    together = train_replicas(SMALL, made(), training, several)
    assert together[1].diverged_epoch is not None
    assert together[2].converged_epoch is None
    assert together[0].converged_epoch != together[3].converged_epoch  # so each leaves from another stack
    for replica, outcome in zip(several, together, strict=True):
        assert same(outcome, train_replicas(SMALL, made(), training, [replica])[0])


class Killed(Exception):
    """In place of kill -9."""


@pytest.mark.parametrize(
    "fields",
    [{"optimizer": "sgd", "momentum": 0.9}, {"schedule": "cosine", "snapshot_every": 2}, {"augment": True}],
    ids=str,
)
def test_killed_between_epochs_they_go_on_in_other_stacks_bit_for_bit(tmp_path, fields):
    training, several = how(epochs=6, **fields), replicas(5)
    undisturbed = train_replicas(SMALL, made(), training, several)

    def run(numbers, every, killed=6):
        def told(epoch, _):
            if epoch > killed:
                raise Killed

        keepers = [Keeper(tmp_path / str(number), every) for number in numbers]
        own = [several[number] for number in numbers]
        return train_replicas(SMALL, made(), training, own, on_epoch=told, keepers=keepers)

    for numbers, kept, epoch in (([0, 1], 1, 2), ([2], 2, 5)):
        with pytest.raises(Killed):
            run(numbers, Every(epochs=kept), epoch)
    for found, number in zip(run([4, 3, 2, 1, 0], None), (4, 3, 2, 1, 0), strict=True):
        assert same(found, undisturbed[number])
        for epoch, snapshot in undisturbed[number].snapshots.items():
            assert weights.to_bytes(found.snapshots[epoch]) == weights.to_bytes(snapshot)


CODES |= {
    "gru": {"kind": "Gru"}, "dropout": {"kind": "Own", "drop": 0.5}, "batch norm": {"kind": "Own", "norm": True}
}  # fmt: skip
REFUSED = {
    "gru": "Batching rule not implemented",
    "dropout": "random operation",
    "batch norm": "samples that count nothing",
    "mixes samples": "samples that count nothing",
    "branches": "data-dependent control flow",
    "buffer": "inplace|in-place|buffers that change",
    "counts": "'calls' changed",
    "draws": "another one",
    "unused": "not have been used",
}


@pytest.mark.parametrize(("name", "message"), REFUSED.items())
def test_what_cannot_be_a_stack_is_refused_with_the_reason(described, name, message):
    with pytest.raises(SettingError, match=f"(?s)can be one stack, but .*({message}).*one by one"):
        train_replicas(described(name), made(), how(), replicas(1))


def test_without_what_hinders_them_the_same_networks_are_stacks(described):
    assert stackable.reason(described("plain"), made(), how()) == ""
    assert "autocast" in stackable.reason(SMALL, made(), how(autocast=True))


def test_a_stack_pays_up_to_a_bound_of_work():
    wide = CNN(image=(1, 8, 8), channels=(32, 64), outputs=3)
    assert stackable.reason(SMALL, made(), how(), paying=True) == ""
    assert "multiplications" in stackable.reason(wide, made(), how(), paying=True)
    assert stackable.reason(wide, made(), how()) == ""
    for architecture in (SMALL, wide):  # PyTorch counts what the description says
        found = stackable.multiplications(build(architecture), made().train.inputs)
        assert found == architecture.multiplications


@pytest.mark.parametrize("preset", ["quick", "full"])
def test_no_convolutional_network_of_the_ten_studies_is_so_small_that_its_stored_numbers_would_change(preset):
    found = 0
    for name, study in studies.INDEX.items():
        for spec in study.expand(study.presets[preset].model_copy(update={"seeds": 1})):
            if not isinstance(spec.model, MLP):
                found += 1
                batch = spec.training.batch_size or spec.data.train
                assert not pays(spec.model.multiplications, batch), (name, spec.model)
    assert found > 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (F.linear, [(4, 5, 7), (3, 7), (3,)]),
        (F.linear, [(4, 7), (10, 7)]),
        (F.conv2d, [(4, 2, 6, 5), (3, 2, 3, 3), (3,)]),
        (lambda x, w: F.conv2d(x, w, stride=2, padding=1, dilation=2, groups=2), [(4, 2, 7, 7), (6, 1, 3, 3)]),
        (lambda x, w: F.conv2d(x, w, padding="same"), [(4, 2, 6, 6), (3, 2, 5, 5)]),
        (lambda x: F.max_pool2d(x, 3, stride=2, padding=1, ceil_mode=True), [(4, 3, 8, 7)]),
        (nn.MaxPool2d(2), [(4, 3, 8, 7)]),
        (F.gelu, [(4, 5)]),
        (lambda x: F.gelu(x, approximate="tanh"), [(4, 5)]),
    ],
)
@pytest.mark.parametrize("shared", [False, True])
def test_the_rules_compute_what_the_functions_do(function, shapes, shared, dtype):
    draw = torch.Generator().manual_seed(0)
    given = [torch.randn(3, *shape, generator=draw, dtype=dtype, requires_grad=True) for shape in shapes]
    dims = [0] * len(given)
    if shared and len(given) > 1:  # the last is all networks' own
        given[-1], dims[-1] = given[-1][0].detach().requires_grad_(), None
    with Rules():
        together = vmap(function, in_dims=tuple(dims))(*given)
    alone = torch.stack(
        [function(*(g if d is None else g[n] for g, d in zip(given, dims, strict=True))) for n in range(3)]
    )
    torch.testing.assert_close(together, alone)
    probe = torch.randn(alone.shape, generator=draw, dtype=dtype)
    for a, b in zip(*(torch.autograd.grad((out * probe).sum(), given) for out in (together, alone)), strict=True):
        torch.testing.assert_close(a, b)


def test_a_vmap_within_the_network_is_left_alone():
    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            return vmap(self.layer)(x)

    modules = [Inner() for _ in range(3)]
    stacked = {name: torch.stack([m.state_dict()[name] for m in modules]) for name in modules[0].state_dict()}
    x = torch.randn(3, 5, 4)
    with Rules():
        found = vmap(lambda own, x: functional_call(modules[0], own, (x,)))(stacked, x)
    torch.testing.assert_close(found, torch.stack([m(part) for m, part in zip(modules, x, strict=True)]))
