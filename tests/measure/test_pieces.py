"""Batches in pieces: the same numbers where the loss adds up, and left whole where it does not."""

import pytest
import torch
from torch import nn

import cases
import oracles
from theodolite.measure import HessianOperator
from theodolite.measure.objective import objective
from theodolite.measure.pieces import Pieces, in_pieces


def cut(layer, loss, size=2, batch=10):
    case = cases.make(layer, loss)
    inputs, targets = (torch.cat(parts)[:batch] for parts in zip(*case.batches, strict=True))
    whole = objective(case.model, case.loss, (inputs, targets))
    return whole, in_pieces(whole, whole.vector, size, apart=False)


@pytest.mark.parametrize("layer", ["tanh", "layer_norm", "attention", "gru", "batch_norm_eval", "tied_embedding"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "label_smoothing"])
def test_a_mean_over_samples_comes_in_pieces_of_the_same_curvature(layer, loss):
    whole, parts = cut(layer, loss, size=3)
    assert isinstance(parts.data, Pieces)
    assert [len(targets) for (_, targets), _ in parts.batches()] == [2, 3, 2, 3]
    assert sum(share for _, share in parts.batches()) == pytest.approx(1)
    pieces = [batch for batch, _ in parts.batches()]
    expected = oracles.hessian(whole.model, whole.loss, list(whole.data))
    found = oracles.hessian(whole.model, whole.loss, pieces)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("loss", ["class_weights", "ignore_index"])
def test_a_loss_that_divides_by_something_else_stays_whole(loss):
    whole, parts = cut("tanh", loss)
    assert parts is whole


def test_statistics_of_the_batch_stay_whole():
    whole, parts = cut("batch_norm_train", "cross_entropy")
    assert parts is whole


def test_samples_that_only_meet_in_the_loss_stay_whole():
    x = torch.randn(10, 8).double()
    for loss in (
        lambda o, t: ((o - t) ** 2).mean().sqrt(),
        lambda o, t: ((o - t) ** 2).mean() + o.mean() ** 2,
        lambda o, t: ((o - t) ** 2).sum(),
    ):
        whole = objective(nn.Linear(8, 3).double(), loss, (x, torch.randn(10, 3).double()))
        assert in_pieces(whole, whole.vector, 2, apart=True) is whole


def test_the_operator_cuts_batches_to_the_memory_and_its_numbers_stay():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.LayerNorm(30), nn.Tanh(), nn.Linear(30, 3)).double()
    data = torch.randn(400, 20).double(), torch.randint(0, 3, (400,))
    free = HessianOperator(model, nn.CrossEntropyLoss(), data)
    tight = HessianOperator(model, nn.CrossEntropyLoss(), data, memory="300kB")
    assert (free.path, tight.path) == ("kept graph", "graph anew")
    assert len([batch for batch, _ in tight.objective.batches()]) > 5
    V = torch.randn(free.shape[0], 3, dtype=torch.float64)
    assert torch.allclose(free @ V, tight @ V, rtol=1e-12, atol=1e-15)
