"""A training with a recorder is the training without it, bit for bit."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset

import theodolite as th
from theodolite.measure.catalogue import in_recorder

LOSS = nn.CrossEntropyLoss()


def network(dropout=0.3):
    first = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.AvgPool2d(2)
    return nn.Sequential(*first, nn.Flatten(), nn.Dropout(dropout), nn.Linear(16, 3))


def samples():
    generator = torch.Generator().manual_seed(5)
    return torch.randn(24, 1, 4, 4, generator=generator), torch.arange(24) % 3


class Noisy(Dataset):
    """Images that are augmented from three sources of chance whenever they are read."""

    def __init__(self):
        self.images, self.targets = samples()

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, n):
        noise = torch.randn(1, 4, 4) * (1 + np.random.rand()) + random.random()
        return self.images[n] + 0.1 * noise, self.targets[n]


def plain():
    return DataLoader(TensorDataset(*samples()), batch_size=8, shuffle=True)


def noisy():
    return DataLoader(Noisy(), batch_size=8, shuffle=True)


def own_generator():
    return DataLoader(Noisy(), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(3))


def own_sampler():
    sampler = RandomSampler(range(24), generator=torch.Generator().manual_seed(3))
    return DataLoader(Noisy(), batch_size=8, sampler=sampler)


def workers():
    generator = torch.Generator().manual_seed(3)
    return DataLoader(Noisy(), batch_size=8, shuffle=True, num_workers=1, persistent_workers=True, generator=generator)


def everything(make, watch, epochs=3, dropout=0.3):
    """All that a training leaves behind: weights, buffers, gradients, optimizer, modes, hooks, states of chance."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    model, loader = network(dropout), make()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model[1].eval()  # a frozen BatchNorm among modules in training mode: each has a mode of its own
    recorder = watch(loader)
    for _ in range(epochs):
        for inputs, targets in loader:
            optimizer.zero_grad()
            LOSS(model(inputs), targets).backward()
            optimizer.step()
            if recorder is not None:
                recorder.step(model, LOSS, (inputs, targets))
    if recorder is not None:
        assert not recorder.table("failures").to_dict("records")
        assert len(recorder.table("costs"))
        recorder.close()
    moments = [tensor for state in optimizer.state.values() for tensor in state.values()]
    gradients = [parameter.grad for parameter in model.parameters()]
    return {
        "tensors": [*model.state_dict().values(), *gradients, *moments],
        "modes": [module.training for module in model.modules()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()],
        "flags": [parameter.requires_grad for parameter in model.parameters()],
        "chance": (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()),
        "generators": [
            part.generator.get_state().tolist()
            for part in (loader, loader.sampler)
            if getattr(part, "generator", None) is not None
        ],
    }


def assert_same(one, other):
    assert all(torch.equal(a, b) for a, b in zip(one.pop("tensors"), other.pop("tensors"), strict=True))
    assert one == other


ALL = {"weights": "*", "every": 2, "out": None}
CHEAP = {"gradient_norm": "gradient_norm", "top": ("hessian_eigenvalues", {"k": 2})}


def test_every_instrument_on_the_batch_of_the_step():
    watched = everything(plain, lambda loader: th.Recorder(in_recorder(), **ALL), epochs=1)
    assert_same(watched, everything(plain, lambda loader: None, epochs=1))


@pytest.mark.parametrize("make", [plain, noisy, own_generator, own_sampler])
def test_measuring_on_the_very_loader_that_the_training_reads(make):
    watched = everything(make, lambda loader: th.Recorder(CHEAP, data=loader, **ALL))
    assert_same(watched, everything(make, lambda loader: None))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12 warns of threads beside a fork
def test_measuring_on_a_loader_whose_workers_live_on():
    watched = everything(workers, lambda loader: th.Recorder(CHEAP, data=loader, **ALL), epochs=2)
    assert_same(watched, everything(workers, lambda loader: None, epochs=2))


@pytest.mark.parametrize("mode", ["training", "as it is"])
def test_measuring_in_training_mode_renews_no_running_statistic(mode):
    watched = everything(plain, lambda loader: th.Recorder(CHEAP, mode=mode, **ALL), dropout=0.0)
    assert_same(watched, everything(plain, lambda loader: None, dropout=0.0))


def test_a_record_on_disk_changes_nothing_either(tmp_path):
    options = {"weights": "*", "every": 2, "out": tmp_path / "own", "flush": 0.0}
    watched = everything(plain, lambda loader: th.Recorder(CHEAP, **options))
    assert_same(watched, everything(plain, lambda loader: None))


def test_a_failing_instrument_that_draws_and_meddles_leaves_the_training_alone():
    def meddler(model, loss, data):
        torch.rand(3)
        random.random()
        np.random.rand()
        raise RuntimeError("no luck")

    def watch(loader):
        return th.Recorder({"meddler": meddler, "ok": lambda model, loss, data: 1.0}, **ALL)

    torch.manual_seed(0)
    model, batch = network(), samples()
    model.train()
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    with pytest.warns(th.record.RecorderWarning, match="no luck"), watch(None) as recorder:
        recorder.step(model, LOSS, batch)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())
    assert all(module.training for module in model.modules())
