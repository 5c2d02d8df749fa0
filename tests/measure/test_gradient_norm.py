import pytest
import torch
from torch import nn

from theodolite.errors import BadData, BadLoss, BadModel
from theodolite.measure.gradient_norm import gradient_norm, loss_and_gradient
from theodolite.measure.problem.join import objective


def test_gradient_norm_of_a_linear_model_is_its_closed_form_over_batches_of_unequal_sizes(linear):
    result = gradient_norm(linear.model, nn.MSELoss(), linear.batches)
    assert result.value == pytest.approx(float(linear.gradient(linear.weight).norm()), rel=1e-12)
    assert result.loss == pytest.approx(linear.loss(linear.weight), rel=1e-12)
    assert result.samples == 11


def test_norms_of_the_tensors_are_those_of_finite_differences():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    X, y = torch.randn(9, 3, dtype=torch.float64), torch.randint(2, (9,))
    loss, step = nn.CrossEntropyLoss(), 1e-6
    result = gradient_norm(model, loss, (X, y))
    for name, parameter in model.named_parameters():
        slopes = []
        for i in range(parameter.numel()):
            ends = []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter.view(-1)[i] += sign * step
                    ends.append(float(loss(model(X), y)))
                    parameter.view(-1)[i] -= sign * step
            slopes.append((ends[0] - ends[1]) / (2 * step))
        assert result.norms[name] == pytest.approx(float(torch.tensor(slopes, dtype=torch.float64).norm()), abs=1e-8)


def test_part_of_a_model_can_be_measured_alone(linear):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    whole = gradient_norm(model, nn.MSELoss(), linear.batches)
    part = gradient_norm(model, nn.MSELoss(), linear.batches, parameters="1.*")
    assert set(part.norms) == {"1.weight", "1.bias"}
    assert part.norms == {name: whole.norms[name] for name in part.norms}


def test_frozen_parameters_are_left_out(linear):
    model = nn.Linear(3, 2).double()
    model.bias.requires_grad_(False)
    assert set(gradient_norm(model, nn.MSELoss(), linear.batches).norms) == {"weight"}


def test_parameter_that_the_loss_does_not_reach_has_gradient_zero(linear):
    model = nn.ModuleDict({"used": linear.model, "unused": nn.Linear(2, 2).double()})
    model.forward = lambda x: model["used"](x)
    assert gradient_norm(model, nn.MSELoss(), linear.batches).norms["unused.weight"] == 0


def test_gradient_can_be_taken_at_another_point_than_the_models_own(linear):
    whole = objective(linear.model, nn.MSELoss(), linear.batches)
    value, gradient = loss_and_gradient(whole, {"weight": 2 * linear.weight})
    assert value == pytest.approx(linear.loss(2 * linear.weight), rel=1e-12)
    assert torch.allclose(gradient["weight"], linear.gradient(2 * linear.weight), rtol=1e-12)


def test_bad_input_is_named(linear):
    model, loss, X, Y = linear.model, nn.MSELoss(), linear.X, linear.Y
    with pytest.raises(BadData, match="at least one sample"):
        gradient_norm(model, loss, [])
    with pytest.raises(BadData, match="NaN"):
        gradient_norm(model, loss, (X * torch.nan, Y))
    with pytest.raises(BadData, match="as many targets as inputs"):
        gradient_norm(model, loss, (X, Y[:4]))
    with pytest.raises(BadData, match="more than once"):
        gradient_norm(model, loss, iter(linear.batches))
    with pytest.raises(BadLoss, match="scalar"):
        gradient_norm(model, nn.MSELoss(reduction="none"), (X, Y))
    with pytest.raises(BadLoss, match="no gradient"):
        gradient_norm(model, lambda o, t: (o.detach() - t).pow(2).mean(), (X, Y))
    with pytest.raises(BadModel, match="weight"):
        gradient_norm(linear.at(linear.weight * torch.nan), loss, (X, Y))
