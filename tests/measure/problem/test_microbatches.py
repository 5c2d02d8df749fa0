"""Batches in pieces: the same numbers where the loss adds up, and left whole where it does not."""

from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

import cases
import oracles
from theodolite.measure import HessianOperator
from theodolite.measure.problem.join import objective
from theodolite.measure.problem.microbatches import Microbatches, in_microbatches


def cut(layer, loss, size=2, batch=10):
    case = cases.make(layer, loss)
    inputs, targets = (torch.cat(parts)[:batch] for parts in zip(*case.batches, strict=True))
    whole = objective(case.model, case.loss, (inputs, targets))
    return whole, in_microbatches(whole, whole.vector, size, samples_independent=False)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("layer", ["tanh", "layer_norm", "attention", "gru", "batch_norm_eval", "tied_embedding"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "label_smoothing"])
def test_a_mean_over_samples_comes_in_pieces_of_the_same_curvature(layer, loss):
    whole, parts = cut(layer, loss, size=3)
    assert isinstance(parts.data, Microbatches)
    assert [len(targets) for (_, targets), _ in parts.batches()] == [2, 3, 2, 3]
    assert sum(share for _, share in parts.batches()) == pytest.approx(1)
    pieces = [batch for batch, _ in parts.batches()]
    expected = oracles.hessian(whole.model, whole.loss, list(whole.data))
    found = oracles.hessian(whole.model, whole.loss, pieces)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("loss", ["class_weights", "ignore_index"])
def test_a_loss_that_divides_by_the_weights_of_its_targets_comes_in_microbatches_weighted_alike(loss):
    whole, parts = cut("tanh", loss)
    assert isinstance(parts.data, Microbatches)
    expected = oracles.hessian(whole.model, whole.loss, [batch for batch, _ in whole.batches()])
    found = oracles.hessian(whole.model, whole.loss, [batch for batch, _ in parts.batches()])
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-13)


def test_a_loss_that_divides_by_something_else_stays_whole():
    weights = torch.tensor([0.2, 1.0, 3.0]).double()

    def own(outputs, targets):
        return cross_entropy(outputs, targets, weight=weights)

    whole = objective(nn.Linear(8, 3).double(), own, (torch.randn(10, 8).double(), torch.arange(10) % 3))
    assert in_microbatches(whole, whole.vector, 2, samples_independent=False) is whole


def test_statistics_of_the_batch_stay_whole():
    whole, parts = cut("batch_norm_train", "cross_entropy")
    assert parts is whole


def test_samples_that_only_meet_in_the_loss_stay_whole():
    x = torch.randn(10, 8).double()
    for loss in (
        lambda o, t: ((o - t) ** 2).mean().sqrt(),
        lambda o, t: ((o - t) ** 2).mean() + o.mean() ** 2,
        lambda o, t: ((o - t) ** 2).sum(),
    ):  # of one batch the last need not be a mean
        whole = objective(nn.Linear(8, 3).double(), loss, (x, torch.randn(10, 3).double()))
        assert in_microbatches(whole, whole.vector, 2, samples_independent=True) is whole


def test_the_operator_cuts_batches_to_the_memory_and_its_numbers_stay():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.LayerNorm(30), nn.Tanh(), nn.Linear(30, 3)).double()
    data = torch.randn(400, 20).double(), torch.randint(0, 3, (400,))
    free = HessianOperator(model, nn.CrossEntropyLoss(), data)
    tight = HessianOperator(model, nn.CrossEntropyLoss(), data, memory="300kB")
    assert (free.path, tight.path) == ("operation by operation", "operation by operation, anew")
    assert len([batch for batch, _ in tight.objective.batches()]) > 5
    V = torch.randn(free.shape[0], 3, dtype=torch.float64)
    assert torch.allclose(free @ V, tight @ V, rtol=1e-12, atol=1e-15)


SEEN: list[int] = []  # not on the model, which is put back as it was


class Keywords(nn.Module):
    """Takes its input by name, and writes down how many samples it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 3))

    def forward(self, x, labels=None):
        SEEN.append(len(x))
        return self.layers(x)


class Pair(NamedTuple):
    inputs: dict[str, torch.Tensor]
    targets: torch.Tensor


def shuffled(x, labels):
    rows = [{"x": a, "labels": b} for a, b in zip(x, labels, strict=True)]
    return DataLoader(rows, batch_size=300, shuffle=True, generator=torch.Generator().manual_seed(1))


WAYS_TO_GIVE = {
    "one dict": lambda x, y: {"x": x, "labels": y},
    "list of two dicts": lambda x, y: [{"x": x[:300], "labels": y[:300]}, {"x": x[300:], "labels": y[300:]}],
    "shuffled loader of dicts": shuffled,
    "named tuples": lambda x, y: [Pair({"x": a}, b) for a, b in zip(x.split(300), y.split(300), strict=True)],
}


@pytest.mark.parametrize("way", WAYS_TO_GIVE)
def test_batches_that_are_dicts_come_in_pieces_of_the_same_curvature(way):
    """However they were given, the model never sees a batch whole where memory is short, and the numbers stay."""
    torch.manual_seed(0)
    x, y = torch.randn(600, 4).double(), torch.randint(0, 3, (600,))
    model, data = Keywords().double(), WAYS_TO_GIVE[way](x, y)

    def loss(outputs, batch):
        return cross_entropy(outputs, batch if torch.is_tensor(batch) else batch["labels"])

    expected = oracles.hessian(model.layers, cross_entropy, [(x, y)])
    SEEN.clear()
    tight = HessianOperator(model, loss, data, memory="100kB")
    assert tight.path == "operation by operation, anew"
    assert max(SEEN) < 300  # a batch
    assert torch.allclose(tight @ torch.eye(len(expected)).double(), expected, rtol=1e-9, atol=1e-13)


def test_a_loader_measured_in_pieces_has_its_generator_left_as_it_was():
    data = shuffled(torch.randn(600, 4).double(), torch.randint(0, 3, (600,)))
    before = data.generator.get_state()
    H = HessianOperator(Keywords().double(), lambda o, b: cross_entropy(o, b["labels"]), data, memory="100kB")
    _ = H @ torch.ones(H.shape[0], dtype=torch.float64)
    assert torch.equal(data.generator.get_state(), before)
