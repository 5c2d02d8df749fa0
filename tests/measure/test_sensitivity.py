import pytest
import torch
from torch import nn

from theodolite.errors import BadData, BadLoss
from theodolite.measure.sensitivity import sensitivity


def test_sensitivity_of_a_linear_model_is_its_closed_form(linear):
    G = 2 / linear.Y.numel() * (linear.X @ linear.weight.T - linear.Y) @ linear.weight  # dL/dX, (11, 3)
    own = 11 * G.norm(dim=1)
    result = sensitivity(linear.model, nn.MSELoss(), linear.batches)
    assert result.value == pytest.approx(float(G.norm()), rel=1e-12)
    assert torch.allclose(result.per_sample, own, rtol=1e-12)
    assert result.mean == pytest.approx(float(own.mean()), rel=1e-12)
    assert result.standard_error == pytest.approx(float(own.std() / 11**0.5), rel=1e-12)


def test_norms_of_the_samples_are_those_of_each_sample_measured_alone(two_cnns):
    model, _, (X, y) = two_cnns
    result = sensitivity(model, nn.CrossEntropyLoss(), [(X[:7], y[:7]), (X[7:], y[7:])])
    for sample, norm in enumerate(result.per_sample):
        x = X[sample : sample + 1].clone().requires_grad_()
        (slope,) = torch.autograd.grad(nn.functional.cross_entropy(model(x), y[sample : sample + 1]), x)
        assert float(norm) == pytest.approx(float(slope.norm()), rel=1e-12)


def test_floating_point_inputs_count_together_and_indices_do_not():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(3.0, dtype=torch.float64))

        def forward(self, a, b, index):
            return self.scale * (a + 2 * b) + index

    inputs = {"a": torch.ones(4, 1).double(), "b": torch.ones(4, 1).double(), "index": torch.arange(4)[:, None]}
    result = sensitivity(Model(), nn.L1Loss(), (inputs, torch.zeros(4, 1).double()))
    assert result.per_sample.tolist() == pytest.approx([3 * 5**0.5] * 4)


def test_samples_mixed_by_batch_statistics_are_refused_and_the_whole_norm_is_that_of_autograd(two_cnns):
    model, _, (X, y) = two_cnns
    for layer in model.modules():
        layer.train(isinstance(layer, nn.BatchNorm2d))
    with pytest.raises(BadLoss, match="in training mode"):
        sensitivity(model, nn.CrossEntropyLoss(), (X, y))
    x = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), x)
    result = sensitivity(model, nn.CrossEntropyLoss(), (X, y), per_sample=False)
    assert result.value == pytest.approx(float(slope.norm()), rel=1e-12)
    assert result.per_sample is None


def test_batch_norm_that_refuses_a_batch_of_one_is_mixing_too():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    with pytest.raises(BadLoss, match="in training mode"):
        sensitivity(model, nn.MSELoss(), (torch.randn(2, 3), torch.randn(2, 3)))


def test_loss_with_class_weights_is_no_plain_mean_and_is_refused(two_cnns):
    model, _, (X, y) = two_cnns
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 20.0], dtype=torch.float64))
    with pytest.raises(BadLoss, match="class weights"):
        sensitivity(model, weighted, (X, y))


def test_tokens_without_a_derivative_are_refused():
    model = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 2))
    data = torch.randint(5, (4, 2)), torch.randint(2, (4,))
    with pytest.raises(BadData, match="floating-point"):
        sensitivity(model, nn.CrossEntropyLoss(), data)


def test_loss_that_ignores_its_input_has_sensitivity_zero(linear):
    bias = nn.Linear(3, 2).double()
    with torch.no_grad():
        bias.weight.zero_()
    assert sensitivity(bias, nn.MSELoss(), linear.batches).value == 0
