import itertools
import math

import pytest
import torch
from torch import nn

from theodolite.errors import BadData, BadLoss, BadModel, NotDeterministic, NotDifferentiable, SettingError, TooLarge
from theodolite.measure import find_critical_points
from theodolite.measure.critical.landscape import landscape
from theodolite.measure.critical.newton import PLAIN, walk
from theodolite.measure.critical.starts import joined, random_starts, symmetric_starts
from theodolite.measure.problem.join import objective

NOTHING = torch.zeros(1, 1), torch.zeros(1, 1)


def total(outputs, targets):
    return outputs.sum()


class Function(nn.Module):
    """A function of n numbers as a model, to be passed with the loss ``total``."""

    def __init__(self, n, function):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(n, dtype=torch.float64))
        self.function = function

    def forward(self, inputs):
        return self.function(self.theta)


# The derivative of each well is (x - p)(x - q)(x - r): minima at p and r, a maximum at q, no two depths equal.
WELLS = torch.tensor([[-1.0, 0.2, 1.1], [-0.9, -0.1, 1.3], [-1.2, 0.3, 0.8]], dtype=torch.float64)


def wells(x):
    p, q, r = WELLS.T
    return (x**4 / 4 - (p + q + r) * x**3 / 3 + (p * q + p * r + q * r) * x**2 / 2 - p * q * r * x).sum()


def test_every_critical_point_of_a_sum_of_double_wells_is_found_with_its_loss_and_index():
    found = find_critical_points(Function(3, wells), total, NOTHING, 200).distinct()
    truth = []
    for choice in itertools.product(range(3), repeat=3):
        x = WELLS[torch.arange(3), list(choice)]
        truth.append((float(wells(x)), choice.count(1), x))
    truth.sort(key=lambda t: t[0])
    assert len(found) == 27
    for point, (loss, index, x) in zip(found, truth, strict=True):
        assert point.loss == pytest.approx(loss, abs=1e-13)
        assert (point.index, point.flat) == (index, 0)
        assert float((point.parameters - x).norm()) <= point.radius


def test_index_asked_for_is_the_index_reached():
    for index in range(4):
        found = find_critical_points(Function(3, wells), total, NOTHING, 12, index=index, steps=60).certified()
        assert len(found) >= 8
        assert {p.index for p in found} == {index}


def test_copies_by_sign_are_one_point():
    found = find_critical_points(Function(2, lambda x: ((x**2 - 1) ** 2).sum()), total, NOTHING, 60)
    assert len({tuple(p.parameters.round(decimals=6).tolist()) for p in found.certified()}) == 9
    assert [(p.index, round(p.loss, 9)) for p in found.distinct()] == [(0, 0), (1, 1), (2, 2)]


def test_linear_autoencoder_has_only_the_losses_of_variances_left_out():
    """Baldi and Hornik 1989: at a critical point the network projects onto some of the principal components."""
    generator = torch.Generator().manual_seed(0)
    X, _ = torch.linalg.qr(torch.randn(20, 4, generator=generator, dtype=torch.float64))
    variances = torch.tensor([2.0, 1.0, 0.6, 0.3], dtype=torch.float64)
    X = X * (20 * variances).sqrt()
    model = nn.Sequential(nn.Linear(4, 2, bias=False), nn.Linear(2, 4, bias=False)).double()
    found = find_critical_points(model, lambda o, t: (o - t).pow(2).sum(1).mean(), (X, X), 60).certified()
    sums = {}
    for kept in itertools.chain.from_iterable(itertools.combinations(range(4), n) for n in range(3)):
        sums[kept] = float(variances.sum() - variances[list(kept)].sum())
    reached = set()
    for point in found:
        error, kept = min((abs(point.loss - loss), kept) for kept, loss in sums.items())
        assert error < 1e-12
        reached.add(kept)
        # GL(2) acts on the hidden units: all of its 4 dimensions where the rank is 2, none at zero.
        assert point.flat == {0: 0, 1: 3, 2: 4}[len(kept)]
        assert (point.index == 0) == (kept == (0, 1))  # no other minimum
    assert len(reached) >= 8


def random_targets(seed=0, hidden=4):
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    X = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    Y = torch.randn(20, 1, generator=generator, dtype=torch.float64)
    return nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 1)).double(), nn.MSELoss(), (X, Y)


def test_index_and_gradient_are_those_of_an_independent_computation():
    model, loss, (X, Y) = random_targets()
    found = find_critical_points(model, loss, (X, Y), 40, weight_decay=1e-2).distinct()
    assert len(found) >= 8
    assert len({p.index for p in found}) >= 4
    for point in found[:8]:
        torch.nn.utils.vector_to_parameters(point.parameters, model.parameters())
        parameters = list(model.parameters())
        value = loss(model(X), Y) + 0.005 * sum(p.square().sum() for p in parameters)
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters, create_graph=True)])
        rows = [
            torch.cat([r.flatten() for r in torch.autograd.grad(g, parameters, retain_graph=True)]) for g in gradient
        ]
        eigenvalues = torch.linalg.eigvalsh(torch.stack(rows))
        assert gradient.detach().norm().item() < 1e-9
        assert point.loss == pytest.approx(value.item(), rel=1e-12)
        assert point.index == int((eigenvalues < -point.tolerance).sum()) == point.inertia[0]
        assert point.inertia == (point.index, 0, len(eigenvalues) - point.index)
        assert torch.allclose(point.eigenvalues, eigenvalues, atol=1e-12)
        assert point.minimal_ratio == pytest.approx(1 - point.index / len(eigenvalues))


def test_snapshots_of_training_lead_to_certified_points_and_are_labelled():
    model, loss, (X, Y) = random_targets()
    optimizer, snapshots = torch.optim.Adam(model.parameters(), 0.05), []
    for _ in range(60):
        optimizer.zero_grad()
        loss(model(X), Y).backward()
        optimizer.step()
        snapshots.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
    found = find_critical_points(model, loss, (X, Y), snapshots[::6], weight_decay=1e-2)
    assert {p.start for p in found} == {"snapshot"}
    assert len(found) == 10
    assert len(found.certified()) >= 5
    path = torch.stack([torch.cat([t.flatten() for t in s.values()]) for s in snapshots[::6]])
    again = find_critical_points(model, loss, (X, Y), path[None], weight_decay=1e-2)
    assert [p.loss for p in again] == [p.loss for p in found]


def test_walks_that_go_together_end_where_each_ends_alone_after_its_own_number_of_steps():
    model, loss, data = random_targets(hidden=3)
    surface = landscape(objective(model, loss, data), 1e-2)
    generator = torch.Generator().manual_seed(4)
    loose = random_starts(surface.objective, 5, generator)
    every = joined([loose, symmetric_starts(surface.objective, surface.net, 4, generator)])
    index, steps = torch.tensor([PLAIN, 0, 1, 2, 3, 0, 1, 0, 1]), torch.tensor([6, 9, 0, 4, 12, 12, 3, 8, 10])
    together = walk(surface, every.vectors, index, steps, inside=every.inside)
    on_its_way = ~together.arrived
    assert on_its_way.sum() >= 6
    assert torch.equal(together.steps[on_its_way], steps[on_its_way])
    for i in range(9):
        one = every.part(slice(i, i + 1))
        inside = one.inside if i >= 5 else None
        alone = walk(surface, one.vectors, index[i : i + 1], steps[i : i + 1], inside=inside)
        assert together.steps[i] == alone.steps[0]
        assert torch.allclose(together.vectors[i], alone.vectors[0], rtol=0, atol=1e-9)
        if i >= 5:  # which stays in its subspace
            projection = every.inside.subspaces[i - 5]
            assert torch.allclose(projection @ alone.vectors[0], alone.vectors[0], rtol=0, atol=1e-12)


def test_same_seed_gives_the_same_points_and_leaves_model_and_random_state_alone():
    model, loss, data = random_targets(hidden=2)
    before = [p.clone() for p in model.parameters()], torch.get_rng_state()
    one, two = (find_critical_points(model, loss, data, 8, weight_decay=1e-2, seed=3) for _ in range(2))
    assert all(torch.equal(a.parameters, b.parameters) for a, b in zip(one, two, strict=True))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before[0], strict=True))
    assert torch.equal(torch.get_rng_state(), before[1])
    assert all(p.grad is None for p in model.parameters())


def test_general_way_finds_the_same_points_as_the_closed_form():
    class Wrapped(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner[2](torch.tanh(self.inner[0](x)))

    model, loss, data = random_targets(hidden=2)
    settings = {"starts": 6, "weight_decay": 1e-2, "steps": 40}
    one, two = (
        find_critical_points(model, loss, data, **settings),
        find_critical_points(Wrapped(model), loss, data, **settings),
    )
    assert (one.path, two.path) == ("closed form", "layerwise")
    assert [p.certified for p in one] == [p.certified for p in two]
    assert sum(p.certified for p in one) >= 2
    for a, b in zip(one.certified(), two.certified(), strict=True):
        assert a.loss == pytest.approx(b.loss, abs=1e-12)


def test_points_print_as_a_short_table_and_become_a_frame():
    found = find_critical_points(*random_targets(hidden=2), 10, weight_decay=1e-2)
    assert "certified" in repr(found)
    assert len(repr(found).splitlines()) < 12
    frame = found.to_frame()
    assert frame["certified"].sum() == len(found.certified())
    assert frame["index"].tolist() == [p.index for p in found]


def test_bad_input_is_named():
    model, loss, data = random_targets(hidden=2)
    size = sum(p.numel() for p in model.parameters())
    with pytest.raises(SettingError, match="at least one start"):
        find_critical_points(model, loss, data, 0)
    with pytest.raises(SettingError, match="at least one start"):
        find_critical_points(model, loss, data, [])
    with pytest.raises(SettingError, match="index from 0"):
        find_critical_points(model, loss, data, 3, index=[1, 2])
    with pytest.raises(SettingError, match="weight_decay"):
        find_critical_points(model, loss, data, 3, weight_decay=-1.0)
    with pytest.raises(BadModel, match=f"shape \\(S, {size}\\)"):
        find_critical_points(model, loss, data, torch.zeros(2, 5))
    with pytest.raises(BadModel, match="finite starts"):
        find_critical_points(model, loss, data, torch.full((2, size), torch.nan))
    with pytest.raises(BadData, match="NaN"):
        find_critical_points(model, loss, (data[0] * torch.nan, data[1]), 3)
    with pytest.raises(TooLarge, match=r"at most 2000 parameters.*got 3000.*GiB.*hessian_eigenvalues"):
        find_critical_points(nn.Linear(2, 1000), loss, (torch.zeros(3, 2), torch.zeros(3, 1000)), 3)
    with pytest.raises(NotDifferentiable, match="Relu"):
        find_critical_points(
            nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)), loss, (torch.ones(3, 2), torch.ones(3, 1)), 3
        )
    with pytest.raises(NotDifferentiable, match="Huber"):
        find_critical_points(model, nn.HuberLoss(), data, 3)
    with pytest.raises(BadLoss, match="constant"):
        find_critical_points(model, lambda o, t: 0 * o.sum(), data, 3)
    with pytest.raises(BadLoss, match="constant"):  # weight decay alone has one critical point, which is no finding
        find_critical_points(model, lambda o, t: 0 * o.sum(), data, 3, weight_decay=1e-2)
    with pytest.raises(SettingError, match="at least one start"):
        find_critical_points(model, loss, data, -1)
    with pytest.raises(NotDeterministic):
        find_critical_points(nn.Sequential(nn.Linear(2, 4), nn.Dropout(), nn.Linear(4, 1)).double(), loss, data, 3)


def test_kinks_can_be_walked_over_if_forced():
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(12, 2, generator=generator).double(), torch.randn(12, 1, generator=generator).double()
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    found = find_critical_points(model, nn.MSELoss(), data, 8, weight_decay=1e-2, force=True, steps=40)
    assert len(found) == 8


def test_one_parameter_is_enough():
    found = find_critical_points(Function(1, lambda x: torch.cos(x).sum()), total, NOTHING, 6, steps=40)
    assert {round(abs(p.loss), 12) for p in found.certified()} == {1.0}
    assert all(abs(math.sin(p.parameters.item())) < 1e-9 for p in found.certified())
