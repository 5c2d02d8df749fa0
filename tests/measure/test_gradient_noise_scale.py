"""The noise of gradients, against samples taken one by one and closed forms of a linear model."""

import math

import pytest
import torch
from torch import nn

import cases
import oracles
from theodolite.errors import BadData, BadLoss
from theodolite.measure import gradient_noise_scale
from theodolite.measure.problem import own_gradients


def by_hand(rows):
    N, mean = len(rows), rows.mean(0)
    variance = float((rows - mean).square().sum()) / (N - 1)
    return variance, variance / (float(mean @ mean) - variance / N)


@pytest.mark.parametrize("layer", ["tanh", "conv2d", "attention", "gru", "batch_norm_eval", "tied_embedding"])
def test_it_is_that_of_gradients_of_samples_taken_alone(layer):
    case = cases.make(layer, "cross_entropy")
    rows = oracles.own_gradients(case.model, case.loss, case.batches)
    found = gradient_noise_scale(case.model, case.loss, case.batches)
    variance, scale = by_hand(rows)
    assert found.variance == pytest.approx(variance)
    assert found.value == pytest.approx(scale if scale > 0 else math.inf)
    assert found.gradient_norm == pytest.approx(float(rows.mean(0).norm()))
    sizes = [p.numel() for p in oracles.trainable(case.model)]
    for part, own in zip(rows.split(sizes, 1), found.variances.values(), strict=True):
        assert own == pytest.approx(by_hand(part)[0], abs=1e-12)
    assert found.samples == 10
    assert found.batch_size == pytest.approx(10 / 3)


def test_one_sample_after_the_other_gives_the_same(monkeypatch):
    given = linear(20, 1.0, 0)
    expected = gradient_noise_scale(*given)
    monkeypatch.setattr(own_gradients, "_all_at_once", lambda *_: None)
    found = gradient_noise_scale(*given)
    assert found.value == pytest.approx(expected.value)
    assert found.standard_error == pytest.approx(expected.standard_error)


def test_a_sum_has_the_scale_of_its_mean():
    case = cases.make("tanh", "mse")
    mean = gradient_noise_scale(case.model, case.loss, case.batches)
    summed = lambda z, y: ((z - y) ** 2).sum() / 3  # noqa: E731
    found = gradient_noise_scale(case.model, summed, case.batches, reduction="sum")
    assert (found.value, found.variance) == pytest.approx((mean.value, mean.variance))


def linear(samples, signal, seed):
    """g_n = -2 y_n e with y ~ N(signal, 1): a scale of 1 / signal²."""
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(model.weight)
    draw = torch.Generator().manual_seed(seed)
    y = signal + torch.randn(samples, 1, generator=draw, dtype=torch.float64)
    return model, nn.MSELoss(), (torch.ones(samples, 1).double(), y)


def test_over_many_data_sets_it_lies_around_the_truth_as_its_error_says():
    found = [gradient_noise_scale(*linear(400, 0.5, seed)) for seed in range(60)]
    values = torch.tensor([each.value for each in found])
    errors = torch.tensor([each.standard_error for each in found])
    assert (
        abs(float(values.mean()) - 4) < 4 * float(values.std()) / 60**0.5 + 0.1
    )  # a ratio's own bias is of order 1 / N
    assert 0.75 < float(errors.mean() / values.std()) < 1.3


def test_the_cosine_of_batches_is_the_mean_over_pairs_by_hand():
    case = cases.make("tanh", "cross_entropy")
    units = torch.stack([oracles.gradient(case.model, case.loss, [batch]) for batch in case.batches])
    units = units / units.norm(dim=1, keepdim=True)
    pairs = (units @ units.mT)[[0, 0, 1], [1, 2, 2]]
    found = gradient_noise_scale(case.model, case.loss, case.batches)
    assert found.cosine == pytest.approx(float(pairs.mean()))
    left = torch.stack([pairs[2], pairs[1], pairs[0]])
    assert found.cosine_standard_error == pytest.approx(float((2 / 3 * (left - left.mean()).square().sum()).sqrt()))
    one = tuple(torch.cat(part) for part in zip(*case.batches, strict=True))
    assert math.isnan(gradient_noise_scale(case.model, case.loss, one).cosine)


def test_what_it_says_of_the_batch_size():
    model, loss, (x, y) = linear(400, 0.5, 1)
    found = gradient_noise_scale(model, loss, [(x[i : i + 4], y[i : i + 4]) for i in range(0, 400, 4)])
    assert found.steps_factor == pytest.approx(1 + found.value / 4)
    assert found.samples_factor == pytest.approx(1 + 4 / found.value)


def test_a_gradient_that_is_all_noise_has_no_finite_scale():
    model, loss, (x, y) = linear(50, 0.0, 2)
    found = gradient_noise_scale(model, loss, (x, y - y.mean()))
    assert found.value == math.inf
    assert math.isnan(found.standard_error)


def test_samples_that_are_mixed_or_too_few_are_refused():
    case = cases.make("batch_norm_train", "cross_entropy")
    with pytest.raises(BadLoss, match="BatchNorm mixes samples"):
        gradient_noise_scale(case.model, case.loss, case.batches)
    model, loss, (x, y) = linear(2, 1.0, 0)
    with pytest.raises(BadData, match="at least three samples"):
        gradient_noise_scale(model, loss, (x, y))
