import pytest
import torch
from torch import nn

from theodolite.errors import BadModel
from theodolite.measure import find_critical_points
from theodolite.measure.critical.mlp_hessian import perceptron
from theodolite.measure.critical.structure import structures
from theodolite.measure.critical.symmetry import symmetric_subspaces
from theodolite.measure.problem.join import objective

HIDDEN = 4


def problem(activation=nn.Tanh):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    Y = torch.randn(20, 1, generator=generator, dtype=torch.float64)
    return nn.Sequential(nn.Linear(2, HIDDEN), activation(), nn.Linear(HIDDEN, 1)).double(), nn.MSELoss(), (X, Y)


def slope(model, loss, data, vector, decay=0.0):
    vector = vector.clone().requires_grad_()
    whole = objective(model, loss, data)
    value = whole.batch_loss(whole.unflatten(vector), data) + 0.5 * decay * vector.square().sum()
    return torch.autograd.grad(value, vector)[0]


@pytest.mark.parametrize("activation", [nn.Tanh, nn.Sigmoid, nn.GELU])
def test_gradients_never_leave_a_symmetric_subspace(activation):
    model, loss, data = problem(activation)
    generator = torch.Generator().manual_seed(1)
    for projection in symmetric_subspaces(perceptron(objective(model, loss, data)), 20, generator):
        assert torch.allclose(projection @ projection, projection)
        assert torch.equal(projection, projection.T)
        assert torch.linalg.matrix_rank(projection) < len(projection)
        inside = projection @ torch.randn(len(projection), generator=generator, dtype=torch.float64)
        gradient = slope(model, loss, data, inside)
        assert float((projection @ gradient - gradient).norm()) < 1e-14


def test_symmetric_starts_end_at_critical_points_of_the_full_network_with_their_structure():
    model, loss, data = problem()
    found = find_critical_points(model, loss, data, 0, symmetric=30, weight_decay=1e-2).certified()
    assert len(found) >= 15
    for point in found:
        assert point.start == "symmetric"
        assert float(slope(model, loss, data, point.parameters, 1e-2).norm()) < 1e-9
        assert not point.structure.free
        assert point.structure.live[0] < HIDDEN
    assert len({p.index for p in found}) >= 3


def test_structure_counts_what_was_built():
    model, loss, data = problem()
    net = perceptron(objective(model, loss, data))
    with torch.no_grad():
        W, b, v, _ = model.parameters()
        W[1], b[1] = -W[0], -b[0]  # tied up to sign, with outgoing weights of their own
        v[0, 2] = 0  # dead: not read
    built = structures(net, torch.nn.utils.parameters_to_vector(model.parameters()).detach()[None])[0]
    assert (built.live, built.dead, built.tied, built.free) == ((2,), (1,), ((2,),), False)
    nothing = structures(net, torch.zeros(17, dtype=torch.float64)[None])[0]
    assert (nothing.live, nothing.dead, nothing.free) == ((0,), (4,), False)
    torch.manual_seed(3)
    free = structures(net, torch.randn(17, dtype=torch.float64)[None])[0]
    assert (free.live, free.dead, free.tied, free.free) == ((4,), (0,), ((),), True)


def test_copies_by_permutation_and_sign_are_one_point():
    model, loss, data = problem()
    point = find_critical_points(model, loss, data, 20, weight_decay=1e-2).distinct()[0]
    W, b, v, c = (p.clone() for p in objective(model, loss, data).unflatten(point.parameters).values())
    generator = torch.Generator().manual_seed(2)
    copies = []
    for _ in range(6):
        order = torch.randperm(HIDDEN, generator=generator)
        sign = torch.randint(2, (HIDDEN,), generator=generator) * 2.0 - 1
        parts = (W[order] * sign[:, None], b[order] * sign, v[:, order] * sign, c)
        copies.append(torch.cat([part.flatten() for part in parts]))
    found = find_critical_points(model, loss, data, torch.stack(copies), weight_decay=1e-2, steps=0)
    assert len(found.certified()) == 6
    assert len(found.distinct()) == 1


def test_symmetric_starts_need_a_perceptron():
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 1)).double()
    with pytest.raises(BadModel, match="symmetric=0"):
        find_critical_points(model, *problem()[1:], 2, symmetric=2)
