from fractions import Fraction

import mpmath
import pytest
import torch
from torch import nn

from theodolite.measure import find_critical_points
from theodolite.measure.critical.certify import _inertia


class Function(nn.Module):
    def __init__(self, n, function):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(n, dtype=torch.float64))
        self.function = function

    def forward(self, inputs):
        return self.function(self.theta)


def judge(function, *at):
    model, data = Function(len(at), function), (torch.zeros(1, 1), torch.zeros(1, 1))
    starts = torch.tensor([at], dtype=torch.float64)
    return find_critical_points(model, lambda o, t: o.sum(), data, starts, steps=0, force=True)[0]


def test_point_whose_gradient_lies_in_the_kernel_of_the_hessian_is_not_certified():
    point = judge(lambda x: x[0] ** 2 + 1e-6 * x[1] + (x[1] * x[0]) ** 2, 0.0, 0.0)
    assert (point.certified, point.reason) == (False, "gradient-flat")


def test_small_gradient_of_a_far_steeper_or_a_flatter_place_is_not_enough():
    assert judge(lambda x: (x**2).sum(), 1e-8, 1e-8).reason == "not converged"
    assert judge(lambda x: 1e-4 * (x**2).sum(), 1e-6, 1e-6).reason == "not converged"  # gradient 3e-10, but λ is 2e-4


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[0] ** 2 + x[1] ** 4,
        lambda x: x[0] ** 2 + x[1] ** 6,
        lambda x: x[0] ** 2 + x[1] ** 3,
        lambda x: x[0] ** 3 - 3 * x[0] * x[1] ** 2,  # a monkey saddle: the Hessian is zero
        lambda x: x[0] ** 2 * x[1] ** 2 + (x[0] + x[1]) ** 2,
    ],
)
def test_degenerate_points_are_not_certified(function):
    point = judge(function, 0.0, 0.0)
    assert (point.certified, point.reason) == (False, "degenerate")


@pytest.mark.parametrize(
    ("function", "at", "index", "flat"),
    [
        (lambda x: (x[0] ** 2 + x[1] ** 2 - 1) ** 2, (0.6, 0.8), 0, 1),  # a circle of minima
        (lambda x: (x[0] ** 2 + x[1] ** 2 + x[2] ** 2 - 1) ** 2, (0.0, 0.6, 0.8), 0, 2),  # a sphere of them
        (lambda x: -((x[0] ** 2 + x[1] ** 2 - 1) ** 2) + x[2] ** 2, (0.6, 0.8, 0.0), 1, 1),  # a circle of saddles
        (lambda x: (x[0] - x[1] ** 2) ** 2, (1.0, 1.0), 0, 1),  # a parabola
    ],
)
def test_manifolds_of_critical_points_are_certified_with_their_dimension(function, at, index, flat):
    point = judge(function, *at)
    assert (point.certified, point.index, point.flat) == (True, index, flat)
    assert point.inertia == (index, flat, len(at) - index - flat)


def test_point_where_two_lines_of_critical_points_cross_is_not_certified():
    assert judge(lambda x: (x[0] * x[1]) ** 2 + x[2] ** 2, 0.0, 0.0, 0.0).reason == "degenerate"


def test_valley_that_only_looks_like_a_manifold_is_not_certified():
    slope = judge(lambda x: x[0] ** 2 + 1e-10 * x[1], 0.0, 0.0)
    assert (slope.certified, slope.reason) == (False, "degenerate")


@pytest.mark.parametrize("at", [0.0, 0.2, -0.3])
@pytest.mark.parametrize("width", [1e-5, 1e-6, 1e-7])
def test_bend_narrower_than_the_way_on_which_the_hessian_s_change_was_measured_is_no_critical_point(width, at):
    """½y² + cx + λδ² log cosh(x/δ) with λδ < c: its slope along x is c - λδ at least, so nothing is critical."""
    steep = 7e-4 * 1e-6 / width  # so that λδ is 7e-10 and c, the slope to be taken for rounding, is 8e-10

    def function(x):
        bend = torch.nn.functional.softplus(2 * x[0] / width) - x[0] / width  # log cosh + log 2
        return x[1] ** 2 / 2 + 8e-10 * x[0] + steep * width**2 * bend

    point = judge(function, at * width, 0.0)
    assert point.gradient_norm < 1e-9
    assert not point.certified


def test_index_of_entries_that_are_cancelling_sums_is_right_or_left_open_within_the_tolerance():
    """The mean of a x² + y² over samples whose a are of 1e6 and cancel to about -1e-9; the truth by fractions."""
    for seed in range(20):
        draw = torch.Generator().manual_seed(seed)
        half = 1e6 * torch.randn(32, generator=draw, dtype=torch.float64)
        a = torch.cat([half, -half * (1 + 1e-15 * torch.rand(32, generator=draw, dtype=torch.float64))])
        a = a[torch.randperm(64, generator=draw)]
        truth = 2 * sum(map(Fraction, a.tolist()), Fraction(0)) / 64  # the eigenvalue along x

        class Sum(Function):
            def forward(self, inputs):
                return inputs[:, 0] * self.theta[0] ** 2 + self.theta[1] ** 2

        starts = torch.zeros(1, 2, dtype=torch.float64)
        data = a[:, None], torch.zeros(64, 1)
        point = find_critical_points(Sum(2, None), lambda o, t: o.mean(), data, starts, steps=0)[0]
        assert not point.certified or point.index == (truth < 0) or (point.flat and abs(truth) <= point.tolerance)


def test_eigenvalue_beyond_the_rounding_of_cancelling_sums_is_certified_with_its_sign():
    a = torch.tensor([1e6, -1e6 - 1e-3, 2e6, -2e6], dtype=torch.float64)

    class Sum(Function):
        def forward(self, inputs):
            return inputs[:, 0] * self.theta[0] ** 2 + self.theta[1] ** 2

    starts = torch.zeros(1, 2, dtype=torch.float64)
    point = find_critical_points(Sum(2, None), lambda o, t: o.mean(), (a[:, None], torch.zeros(4, 1)), starts, steps=0)[
        0
    ]
    assert (point.certified, point.index, point.flat) == (True, 1, 0)
    assert point.tolerance > 1e-10  # that of a total of 2 alone would be 1e-14


def test_point_that_a_walk_left_short_of_rounding_is_certified_for_it_lies_near_a_true_one():
    point = judge(lambda x: (x**2).sum() + x[0] ** 3, 3e-10, 0.0)
    assert point.certified
    assert 3e-10 <= point.radius < 1e-8


def test_inertia_is_that_of_matrices_built_with_it_also_where_pivots_come_in_pairs():
    generator = torch.Generator().manual_seed(0)
    eigenvalues = torch.randint(-2, 3, (40, 9), generator=generator).double()
    Q, _ = torch.linalg.qr(torch.randn(40, 9, 9, generator=generator, dtype=torch.float64))
    built = Q @ eigenvalues.diag_embed() @ Q.mT
    truth = torch.stack([(eigenvalues < 0).sum(1), (eigenvalues == 0).sum(1), (eigenvalues > 0).sum(1)], 1)
    assert torch.equal(_inertia((built + built.mT) / 2, torch.full((40,), 1e-9).double()), truth)
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double()  # no pivot on the diagonal
    paired = torch.block_diag(swap, torch.tensor([[3.0]]).double(), 2 * swap, swap)[None]
    assert _inertia(paired, torch.zeros(1).double()).tolist() == [[3, 0, 4]]


def test_walk_that_goes_on_for_ever_ran_away():
    data = torch.zeros(1, 1), torch.zeros(1, 1)
    model = Function(2, lambda x: torch.nn.functional.softplus(-x).sum())  # falls for ever, as on separable data
    found = find_critical_points(model, lambda o, t: o.sum(), data, torch.ones(1, 2, dtype=torch.float64))
    assert [(p.certified, p.reason) for p in found] == [(False, "ran away")]


def test_not_finite_is_said():
    def pole(x):
        return (1 / (x - 1) + x).sum()

    assert judge(pole, 1.0).reason == "not finite"
    data, starts = (torch.zeros(1, 1), torch.zeros(1, 1)), torch.tensor([[1.0], [0.1]], dtype=torch.float64)
    found = find_critical_points(Function(1, pole), lambda o, t: o.sum(), data, starts)
    assert [(p.certified, p.reason) for p in found] == [(False, "not finite"), (True, "")]
    assert found[1].parameters.item() == pytest.approx(0, abs=1e-12)


def gradient(theta, X, Y, hidden, decay):
    """Of the mean of (v · tanh(w x + b) + c - y)² + ½ decay ‖θ‖², by hand, in the precision of its arguments."""
    W, b = [theta[2 * i : 2 * i + 2] for i in range(hidden)], theta[2 * hidden : 3 * hidden]
    v, c = theta[3 * hidden : 4 * hidden], theta[4 * hidden]
    result = [decay * t for t in theta]
    for x, y in zip(X, Y, strict=True):
        a = [mpmath.tanh(W[i][0] * x[0] + W[i][1] * x[1] + b[i]) for i in range(hidden)]
        r = 2 * (sum(v[i] * a[i] for i in range(hidden)) + c - y) / len(X)
        for i in range(hidden):
            s = r * v[i] * (1 - a[i] ** 2)
            result[2 * i] += s * x[0]
            result[2 * i + 1] += s * x[1]
            result[2 * hidden + i] += s
            result[3 * hidden + i] += r * a[i]
        result[4 * hidden] += r
    return result


def test_fifty_digits_find_the_true_point_within_the_radius():
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(8, 2, generator=generator, dtype=torch.float64)
    Y = torch.randn(8, 1, generator=generator, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    found = find_critical_points(model, nn.MSELoss(), (X, Y), 30, weight_decay=1e-2).distinct()
    assert len({p.index for p in found}) >= 3
    with mpmath.workdps(50):
        decay = mpmath.mpf(0.01)
        for point in found[::4]:
            torch.nn.utils.vector_to_parameters(point.parameters, model.parameters())
            start = [mpmath.mpf(t) for t in point.parameters.tolist()]
            inverse = mpmath.matrix(torch.linalg.inv(hessian_of(model, X, Y)).tolist())
            theta = mpmath.matrix(start)
            for _ in range(12):  # chord iterations: each adds some ten digits
                g = gradient(list(theta), X.tolist(), Y[:, 0].tolist(), 3, decay)
                theta -= inverse * mpmath.matrix(g)
            assert mpmath.norm(mpmath.matrix(gradient(list(theta), X.tolist(), Y[:, 0].tolist(), 3, decay))) < 1e-45
            assert mpmath.norm(theta - mpmath.matrix(start)) <= point.radius
            assert point.radius < 1e-8


def hessian_of(model, X, Y):
    parameters = list(model.parameters())
    value = (model(X) - Y).pow(2).mean() + 0.005 * sum(p.square().sum() for p in parameters)
    g = torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters, create_graph=True)])
    rows = [torch.autograd.grad(entry, parameters, retain_graph=True) for entry in g]
    return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
