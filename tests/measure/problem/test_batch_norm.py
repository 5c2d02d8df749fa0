import pytest
import torch
from torch import nn

from theodolite.measure.problem.batch_norm import renewed
from theodolite.measure.problem.join import objective


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3), nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    return model.double().eval()


def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(12, 3, generator=generator, dtype=torch.float64), torch.arange(12) % 2


def test_one_batch_gives_the_mean_and_variance_of_the_data_without_dropout():
    model, (X, y) = network(), data()
    state = renewed(objective(model, nn.CrossEntropyLoss(), (X, y)), {})
    assert torch.allclose(state["1.running_mean"], X.mean(0), rtol=1e-12)
    assert torch.allclose(state["1.running_var"], X.var(0), rtol=1e-12)
    hidden = (X - X.mean(0)) / (X.var(0, unbiased=False) + 1e-5).sqrt() @ model[2].weight.T + model[2].bias
    assert torch.allclose(state["3.running_mean"], hidden.mean(0), rtol=1e-10)
    assert torch.allclose(state["3.running_var"], hidden.var(0), rtol=1e-10)


def test_batches_count_with_their_share_of_the_samples():
    X, y = data()
    parts = [(X[:7], y[:7]), (X[7:9], y[7:9]), (X[9:], y[9:])]
    state = renewed(objective(network(), nn.CrossEntropyLoss(), parts), {})
    assert torch.allclose(state["1.running_mean"], X.mean(0), rtol=1e-12)
    expected = sum(len(x) / 12 * x.var(0) for x, _ in parts)
    assert torch.allclose(state["1.running_var"], expected, rtol=1e-12)


def test_statistics_are_those_at_the_weights_given_not_at_the_models_own():
    model, (X, y) = network(), data()
    doubled = {n: 2 * p.detach() for n, p in model.named_parameters()}
    state = renewed(objective(model, nn.CrossEntropyLoss(), (X, y)), doubled)
    plain = renewed(objective(model, nn.CrossEntropyLoss(), (X, y)), {})
    # the first normalisation's scale and the next layer's weights both twice as large, its bias too
    assert torch.allclose(state["3.running_var"], 16 * plain["3.running_var"], rtol=1e-10)
    assert torch.equal(state["2.weight"], doubled["2.weight"])
    assert float(model[3].running_var.mean()) == pytest.approx(1)
