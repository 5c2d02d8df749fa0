import itertools

import pytest
import torch
from torch import nn

from theodolite.errors import BadLoss, BadModel, SettingError
from theodolite.measure.sharpness import sharpness


def test_sam_step_on_a_linear_model_is_its_closed_form(linear):
    rho, W, G = 0.3, linear.weight, linear.gradient(linear.weight)
    result = sharpness(linear.model, nn.MSELoss(), linear.batches, method="sam", radius=rho)
    assert result.value == pytest.approx(linear.loss(W + rho * G / G.norm()) - linear.loss(W), rel=1e-12)
    assert (result.method, result.radius) == ("sam", rho)


@pytest.mark.parametrize("epsilon", [1e-3, 0.1])
def test_keskars_maximum_is_the_highest_of_all_corners_of_the_box(linear, epsilon):
    W = linear.weight
    side = epsilon * (W.abs() + 1)  # a convex loss is highest at one of the 2⁶ corners
    corners = (torch.tensor(signs).view(2, 3) for signs in itertools.product((-1.0, 1.0), repeat=6))
    highest = max(linear.loss(W + signs * side) for signs in corners)
    result = sharpness(linear.model, nn.MSELoss(), linear.batches, method="keskar", radius=epsilon)
    assert result.value == pytest.approx(100 * (highest - linear.loss(W)) / (1 + linear.loss(W)), rel=1e-9)
    assert result.converged


def test_keskars_maximum_is_found_from_a_minimum_where_the_centre_has_no_slope(linear):
    W = torch.linalg.lstsq(linear.X, linear.Y).solution.T
    side = 0.01 * (W.abs() + 1)
    corners = (torch.tensor(signs).view(2, 3) for signs in itertools.product((-1.0, 1.0), repeat=6))
    highest = max(linear.loss(W + signs * side) for signs in corners)
    result = sharpness(linear.at(W), nn.MSELoss(), linear.batches, radius=0.01, starts=30)
    assert result.highest_loss == pytest.approx(highest, rel=1e-9)


def test_sharpness_of_a_flat_direction_is_zero(linear):
    flat = sharpness(linear.model, lambda o, t: (o * 0).sum() + 1.0, linear.batches)
    assert flat.value == 0
    with pytest.raises(BadModel, match="exactly zero"):
        sharpness(linear.model, lambda o, t: (o * 0).sum() + 1.0, linear.batches, method="sam")


def test_same_seed_gives_the_same_sharpness_again(two_cnns):
    a, _, data = two_cnns
    first, second = (sharpness(a, nn.CrossEntropyLoss(), data, seed=5) for _ in range(2))
    assert first.value == second.value


def test_frozen_parameters_do_not_move(linear):
    model = nn.Linear(3, 2).double()
    with torch.no_grad():
        model.weight.copy_(linear.weight)
        model.bias.zero_()
    model.bias.requires_grad_(False)
    frozen = sharpness(model, nn.MSELoss(), linear.batches, method="sam")
    assert frozen.value == pytest.approx(sharpness(linear.model, nn.MSELoss(), linear.batches, method="sam").value)


@pytest.mark.parametrize("settings", [{"method": "hessian"}, {"radius": 0}, {"radius": float("nan")}, {"starts": 0}])
def test_settings_out_of_range_are_refused(linear, settings):
    with pytest.raises(SettingError, match="expected"):
        sharpness(linear.model, nn.MSELoss(), linear.batches, **settings)


def test_loss_that_keskars_measure_cannot_divide_by_is_refused(linear):
    with pytest.raises(BadLoss, match="above -1"):
        sharpness(linear.model, lambda o, t: o.mean() - 100, linear.batches)
