import pytest
import torch
from torch import nn

from theodolite.errors import BadModel, SettingError
from theodolite.measure.connect import connect
from theodolite.measure.interpolate import interpolate


def ends():
    """Two points of a ring of minima: the straight line between them crosses a hill."""
    models = [nn.Linear(2, 1, bias=False, dtype=torch.float64) for _ in range(2)]
    with torch.no_grad():
        for model, weight in zip(models, ([1.0, 0.0], [-0.6, 0.8]), strict=True):
            model.weight.copy_(torch.tensor([weight]))
    return models


RING = torch.eye(2, dtype=torch.float64), torch.zeros(2, 1, dtype=torch.float64)


def ring_loss(outputs, targets):
    return (outputs.pow(2).sum() - 1) ** 2  # outputs over the unit vectors are the weights


def test_curve_goes_round_the_hill_that_the_line_crosses():
    curve = connect(*ends(), ring_loss, RING, epochs=300)
    assert curve.line_highest == pytest.approx(0.64, abs=1e-3)  # the middle lies at length² 0.2
    assert curve.highest < 0.05
    assert sum(curve.history[-50:]) < 0.1 * sum(curve.history[:50])


def test_curve_is_the_bezier_curve_of_its_control_point():
    a, b = ends()
    curve = connect(a, b, ring_loss, RING, epochs=20, points=7)
    for t, value in zip(curve.t, curve.loss, strict=True):
        W = (1 - t) ** 2 * a.weight + 2 * t * (1 - t) * curve.control["weight"] + t**2 * b.weight
        assert float(value) == pytest.approx(float((W.pow(2).sum() - 1).detach() ** 2), abs=1e-12)


def test_untrained_curve_is_the_line():
    curve = connect(*ends(), ring_loss, RING, epochs=0)
    assert torch.allclose(curve.loss, curve.line_loss, atol=1e-12)


def test_line_beside_the_curve_is_that_of_interpolate(two_cnns):
    a, b, data = two_cnns
    curve = connect(a, b, nn.CrossEntropyLoss(), data, epochs=1, points=5, update_bn=data)
    line = interpolate(a, b, nn.CrossEntropyLoss(), data, curve.t, update_bn=data)
    assert torch.allclose(curve.line_loss, line.loss, rtol=1e-12)
    assert torch.equal(curve.line_accuracy, line.accuracy)


def test_ends_of_the_curve_are_the_models(two_cnns):
    a, b, (X, y) = two_cnns
    curve = connect(a, b, nn.CrossEntropyLoss(), (X, y), epochs=3, points=3)
    for model, at in ((a, 0), (b, -1)):
        assert float(curve.loss[at]) == pytest.approx(
            float(nn.functional.cross_entropy(model(X), y).detach()), rel=1e-12
        )


def test_same_seed_gives_the_same_curve_again_also_from_a_shuffled_loader():
    loader = torch.utils.data.DataLoader(list(zip(*RING, strict=True)), batch_size=1, shuffle=True)
    loss = nn.MSELoss()
    first, second, other = (connect(*ends(), loss, loader, epochs=3, seed=seed).control["weight"] for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_frozen_parameters_stay_on_the_line():
    a, b = ([nn.Linear(2, 1), nn.Linear(1, 1)] for _ in range(2))
    models = [nn.Sequential(*parts).double() for parts in (a, b)]
    for model in models:
        model[1].requires_grad_(False)
    curve = connect(*models, nn.MSELoss(), RING, epochs=5)
    middle = (models[0][1].weight + models[1][1].weight) / 2
    assert torch.equal(curve.control["1.weight"], middle)
    assert not torch.equal(curve.control["0.weight"], ((models[0][0].weight + models[1][0].weight) / 2).detach())


def test_bad_requests_are_named():
    a, b = ends()
    with pytest.raises(SettingError, match="learning_rate"):
        connect(a, b, ring_loss, RING, learning_rate=0)
    with pytest.raises(BadModel, match="'bias'"):
        connect(a, nn.Linear(2, 1), ring_loss, RING)
