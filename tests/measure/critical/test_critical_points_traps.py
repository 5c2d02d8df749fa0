"""The traps that published solutions of this exercise fell into, each caused, and what the instruments do instead."""

import copy

import pytest
import torch
from torch import nn

from theodolite.measure import find_critical_points, gradient_norm, hessian_spectrum, minimal_ratio


def problem():
    generator = torch.Generator().manual_seed(0)
    X, Y = (torch.randn(24, n, generator=generator, dtype=torch.float64) for n in (2, 1))
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double(), nn.MSELoss(), (X, Y)


def exact(model, loss, data):
    """Gradient and Hessian by two plain backward passes."""
    parameters = list(model.parameters())
    g = torch.autograd.grad(loss(model(data[0]), data[1]), parameters, create_graph=True)
    g = torch.cat([part.flatten() for part in g])
    rows = [torch.cat([p.flatten() for p in torch.autograd.grad(e, parameters, retain_graph=True)]) for e in g]
    return g.detach(), torch.stack(rows)


@pytest.fixture(scope="module")
def saddle():
    """A network at a certified saddle of index 2 or more."""
    model, loss, data = problem()
    found = find_critical_points(model, loss, data, 24, weight_decay=1e-2, steps=100).distinct()
    point = next(p for p in found if p.index >= 2)
    torch.nn.utils.vector_to_parameters(point.parameters.clone(), model.parameters())

    def decayed(outputs, targets):
        weights = torch.nn.utils.parameters_to_vector(model.parameters())
        return loss(outputs, targets) + 0.5 * 1e-2 * weights.square().sum()

    return model, decayed, data, point


def test_gradient_read_after_the_backward_pass_of_its_norm_is_that_of_the_hessian_times_it():
    model, loss, data = problem()
    g, H = exact(model, loss, data)
    gradient = torch.autograd.grad(loss(model(data[0]), data[1]), list(model.parameters()), create_graph=True)
    (0.5 * sum(part.square().sum() for part in gradient)).backward()
    read = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert torch.allclose(read, H @ g)
    assert float(read.norm()) != pytest.approx(float(g.norm()), rel=0.1)
    model.zero_grad()
    assert gradient_norm(model, loss, data).value == pytest.approx(float(g.norm()))


def test_eigenvalues_of_each_layer_alone_are_not_those_of_the_whole():
    model, loss, data = problem()
    _, H = exact(model, loss, data)
    sizes = [sum(p.numel() for p in model[i].parameters()) for i in (0, 2)]
    blocks = torch.block_diag(H[: sizes[0], : sizes[0]], H[sizes[0] :, sizes[0] :])
    wrong, right = torch.linalg.eigvalsh(blocks), torch.linalg.eigvalsh(H)
    assert int((wrong < 0).sum()) != int((right < 0).sum())
    assert torch.allclose(hessian_spectrum(model, loss, data).eigenvalues, right, atol=1e-13)
    part = hessian_spectrum(model, loss, data, parameters="0.*")  # only where it is asked for by name
    assert torch.allclose(part.eigenvalues, torch.linalg.eigvalsh(H[: sizes[0], : sizes[0]]), atol=1e-13)


def share_that_rises(model, loss, data, radius, directions=400):
    """What a script calls the minimal ratio: the share of random steps of one length after which the loss is higher."""
    generator, here = torch.Generator().manual_seed(1), copy.deepcopy(model)
    origin = torch.nn.utils.parameters_to_vector(here.parameters()).detach()
    before, higher = float(loss(here(data[0]), data[1]).detach()), 0
    for _ in range(directions):
        way = torch.randn(len(origin), generator=generator, dtype=torch.float64)
        torch.nn.utils.vector_to_parameters(origin + radius * way / way.norm(), here.parameters())
        higher += float(loss(here(data[0]), data[1]).detach()) > before
    return higher / directions


def test_random_steps_too_small_rise_half_of_the_time_and_too_large_ones_are_not_local(saddle):
    model, loss, data = problem()
    assert float(exact(model, loss, data)[0].norm()) > 0.1
    for scale in (1.0, -1.0):  # the curvature turned round, the slope too: still one half
        assert share_that_rises(model, lambda o, t, s=scale: s * loss(o, t), data, 1e-6) == pytest.approx(0.5, abs=0.1)
    _, _, data, point = saddle
    plain = nn.MSELoss()
    assert share_that_rises(saddle[0], plain, data, 30.0) > 0.95  # at a saddle, whatever its index
    assert point.minimal_ratio < 0.9


def test_hessian_of_the_last_mini_batch_has_other_signs_than_that_of_the_loss_over_all_data(saddle):
    model, loss, (X, Y), point = saddle
    batches = [(X[i : i + 4], Y[i : i + 4]) for i in range(0, 24, 4)]

    def decayed(outputs, targets):  # a mean over batches of the same size, decay included
        return loss(outputs, targets)

    g, _ = exact(model, decayed, (X, Y))
    assert float(g.norm()) < 1e-9
    last_g, last_H = exact(model, decayed, batches[-1])
    assert float(last_g.norm()) > 1e-3  # critical for all data, and not for these four samples
    assert int((torch.linalg.eigvalsh(last_H) < 0).sum()) != point.index


def test_a_routine_for_general_matrices_in_float32_gives_zero_eigenvalues_signs_at_random():
    """Three classes: adding a constant to all outputs changes nothing, so as many eigenvalues as a unit has weights
    are zero."""
    generator = torch.Generator().manual_seed(0)
    X, Y = torch.randn(30, 3, generator=generator, dtype=torch.float64), torch.arange(30) % 3
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    zeros = 5 + 1  # a weight from each hidden unit, and the bias
    found = minimal_ratio(model, nn.CrossEntropyLoss(), (X, Y))
    assert found.zero == zeros
    _, H = exact(model, nn.CrossEntropyLoss(), (X, Y))
    careless = torch.linalg.eigvals(H.float())
    near = careless[careless.abs() < 1e-5 * careless.abs().max()]
    assert len(near) >= zeros
    assert 0 < int((near.real > 0).sum()) < len(near)  # some counted as positive, some not
    assert int((careless.real > 0).sum()) > found.positive


def test_points_whose_gradient_never_got_small_are_kept_with_the_reason_and_not_counted():
    model, loss, data = problem()
    found = find_critical_points(model, loss, data, 12, weight_decay=1e-2, steps=3)
    assert len(found) == 12
    assert {p.reason for p in found if p.gradient_norm >= 1e-9} == {"not converged"}
    assert len(found.certified()) == sum(p.gradient_norm < 1e-9 for p in found) < 12
