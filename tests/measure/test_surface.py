import copy

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from theodolite.errors import BadModel, SettingError
from theodolite.measure.planes import path_plane, random_plane, three_point_plane
from theodolite.measure.surface import surface


def test_surface_of_a_linear_model_is_the_closed_form_a_row_for_each_y(linear):
    u, v = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x, y = [-1.0, 0.0, 0.5, 2.0], [-0.3, 0.0, 0.7]
    result = surface(linear.model, nn.MSELoss(), linear.batches, torch.stack([u, v]).flatten(1), x=x, y=y)
    expected = [[linear.loss(linear.weight + a * u + b * v) for a in x] for b in y]
    assert torch.allclose(result.loss, torch.tensor(expected, dtype=torch.float64), rtol=1e-12)
    assert result.accuracy.isnan().all()
    frame = result.to_frame()
    row = frame[(frame.x == 2.0) & (frame.y == -0.3)]
    assert row.loss.item() == pytest.approx(expected[0][3], rel=1e-12)


@pytest.mark.parametrize("kind", ["chain", "convolutions", "one loss after the other", "not a chain"])
def test_every_point_is_the_model_with_those_weights_loaded(two_cnns, kind):
    model, _, (X, y) = two_cnns
    loss = nn.CrossEntropyLoss()
    if kind == "chain":
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 7), nn.ReLU(inplace=True), nn.Linear(7, 3)).double()
    if kind == "one loss after the other":

        def loss(outputs, targets):
            value = nn.functional.cross_entropy(outputs, targets)
            return value * (1 if value.item() > 0 else -1)  # no batched form exists

    measured = Wrapped(model) if kind == "not a chain" else model
    result = surface(measured, loss, [(X[:5], y[:5]), (X[5:], y[5:])], x=[-1, 0, 1], y=[-0.5, 0, 2], seed=4)
    plane = random_plane(measured, seed=4)
    for i, b in enumerate(result.y):
        for j, a in enumerate(result.x):
            probe = copy.deepcopy(measured)
            with torch.no_grad():
                for name, parameter in probe.named_parameters():
                    parameter += a * plane.directions[0][name] + b * plane.directions[1][name]
                outputs = probe(X)
                assert float(result.loss[i, j]) == pytest.approx(
                    float(nn.functional.cross_entropy(outputs, y)), rel=1e-10
                )
                assert float(result.accuracy[i, j]) == pytest.approx(float((outputs.argmax(1) == y).double().mean()))


class Wrapped(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x) * 1.0


def test_default_grid_is_51_by_51_from_minus_one_to_one_and_a_seed_gives_the_same_surface_again(linear):
    first, second = (surface(linear.model, nn.MSELoss(), linear.batches, seed=3) for _ in range(2))
    other = surface(linear.model, nn.MSELoss(), linear.batches, seed=4)
    assert first.loss.shape == (51, 51)
    assert (first.x[0], first.x[-1], first.y[0], first.y[-1]) == (-1, 1, -1, 1)
    assert torch.equal(first.loss, second.loss)
    assert not torch.equal(first.loss, other.loss)
    assert float(first.loss[25, 25]) == pytest.approx(linear.loss(linear.weight), rel=1e-12)


def filters(name, module, tensor):
    """The filters of a weight as a list of vectors, straight from what the layer computes."""
    if isinstance(module, nn.ConvTranspose2d):
        per_group = module.out_channels // module.groups
        inputs = module.in_channels // module.groups
        return [
            tensor[g * inputs : (g + 1) * inputs, o].flatten() for g in range(module.groups) for o in range(per_group)
        ]
    return [row.flatten() for row in tensor]


def test_random_directions_have_the_norm_of_every_filter_and_leave_biases_and_normalisation_alone():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 6, 2, groups=2), nn.Flatten(), nn.Linear(24, 3)
    )
    plane = random_plane(model)
    for direction in plane.directions:
        for name, parameter in model.named_parameters():
            module = model[int(name[0])]
            if parameter.ndim < 2:
                assert not direction[name].any()
                continue
            pairs = zip(filters(name, module, direction[name]), filters(name, module, parameter), strict=True)
            for d, w in pairs:
                assert float(d.norm()) == pytest.approx(float(w.detach().norm()), rel=1e-5)


def test_random_directions_of_a_model_without_matrices_are_refused():
    with pytest.raises(BadModel, match="fewer than two dimensions"):
        random_plane(nn.BatchNorm1d(3))


def test_plane_through_three_models_holds_them_with_orthonormal_axes(linear):
    generator = torch.Generator().manual_seed(2)
    weights = [linear.weight, *torch.randn(2, 2, 3, generator=generator, dtype=torch.float64)]
    plane = three_point_plane(*(linear.at(W) for W in weights))
    axes = torch.stack([d["weight"].flatten() for d in plane.directions])
    assert torch.allclose(axes @ axes.T, torch.eye(2).double(), atol=1e-12)
    for W, at in zip(weights, plane.coordinates, strict=True):
        assert torch.allclose(plane.origin["weight"] + (at @ axes).view(2, 3), W, atol=1e-12)
    assert torch.allclose(plane.distances, torch.zeros(3).double(), atol=1e-12)
    (x0, x1), (y0, y1) = plane.extent
    assert all(x0 < a < x1 and y0 < b < y1 for a, b in plane.coordinates.tolist())
    result = surface(linear.model, nn.MSELoss(), linear.batches, plane, x=[0], y=[0])
    expected = [linear.loss(W) for W in weights]
    assert result.points_loss.tolist() == pytest.approx(expected, rel=1e-10)
    assert result.points_plane_loss.tolist() == pytest.approx(expected, rel=1e-10)


def test_three_models_on_a_line_span_no_plane(linear):
    with pytest.raises(BadModel, match="one line"):
        three_point_plane(*(linear.at(k * linear.weight) for k in (1, 2, 3)))


def path_of(linear, steps=7):
    generator = torch.Generator().manual_seed(3)
    return linear.weight + torch.randn(steps, 2, 3, generator=generator, dtype=torch.float64).cumsum(0)


def test_plane_of_a_path_is_its_principal_components_through_its_end(linear):
    path = path_of(linear)
    plane = path_plane(linear.model, [{"weight": W} for W in path])
    fit = PCA(2).fit(path.flatten(1).numpy())
    axes = torch.stack([d["weight"].flatten() for d in plane.directions])
    assert np.allclose(np.abs(axes.numpy() @ fit.components_.T), np.eye(2), atol=1e-10)
    assert plane.explained_variance == pytest.approx(tuple(fit.explained_variance_ratio_))
    assert torch.equal(plane.origin["weight"], path[-1])


def test_checkpoints_come_with_their_distance_from_the_plane_and_both_losses(linear):
    path = path_of(linear)
    plane = path_plane(linear.model, [{"weight": W} for W in path])
    result = surface(linear.model, nn.MSELoss(), linear.batches, plane, x=[0], y=[0])
    axes = torch.stack([d["weight"].flatten() for d in plane.directions])
    for number, W in enumerate(path):
        offset = (W - path[-1]).flatten()
        foot = path[-1] + (result.points[number] @ axes).view(2, 3)
        assert float((foot - W).flatten() @ axes[0]) == pytest.approx(0, abs=1e-10)
        assert float(result.points_distance[number]) == pytest.approx(float((foot - W).norm()), abs=1e-10)
        assert float(result.points_loss[number]) == pytest.approx(linear.loss(W), rel=1e-10)
        assert float(result.points_plane_loss[number]) == pytest.approx(linear.loss(foot), rel=1e-10)
        assert offset.norm() >= result.points_distance[number]
    assert result.points_distance.max() > 0.1


def test_true_loss_of_a_checkpoint_takes_its_own_batch_norm_statistics(two_cnns):
    a, b, (X, y) = two_cnns
    states = [copy.deepcopy(m.state_dict()) for m in (a, b, a)]
    for number, parameter in enumerate(states[2].values()):
        if parameter.is_floating_point():
            parameter += 0.01 * (1 + number)
    result = surface(a, nn.CrossEntropyLoss(), (X, y), path_plane(a, states), x=[0], y=[0])
    for value, state in zip(result.points_loss, states, strict=True):
        probe = two_cnns.fresh().eval()
        probe.load_state_dict(state)
        assert float(value) == pytest.approx(float(nn.functional.cross_entropy(probe(X), y).detach()), rel=1e-10)


def test_bad_input_is_named(linear):
    loss, data = nn.MSELoss(), linear.batches
    with pytest.raises(BadModel, match=r"\(2, 6\)"):
        surface(linear.model, loss, data, torch.zeros(2, 5))
    with pytest.raises(SettingError, match="expected x"):
        surface(linear.model, loss, data, x=[])
    with pytest.raises(BadModel, match="'weight' of checkpoint 2 has shape"):
        path_plane(linear.model, [{"weight": linear.weight}, {"weight": linear.weight.T}])
    with pytest.raises(BadModel, match="'weight' is missing in checkpoint 1"):
        path_plane(linear.model, [{}])
    with pytest.raises(BadModel, match="three checkpoints"):
        path_plane(linear.model, [{"weight": linear.weight}] * 2)
    with pytest.raises(BadModel, match="on a line"):
        path_plane(linear.model, [{"weight": linear.weight * k} for k in range(4)])
    with pytest.raises(BadModel, match="got none"):
        path_plane(linear.model, [])
