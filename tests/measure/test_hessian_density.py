import pytest
import torch
from torch import nn

import cases
import oracles
from theodolite.errors import SettingError
from theodolite.measure import hessian_density, hessian_trace
from theodolite.streams import named_seed


def gaussians(eigenvalues, grid, width):
    bumps = torch.exp(-0.5 * ((grid[:, None] - eigenvalues) / width) ** 2) / (width * (2 * torch.pi) ** 0.5)
    return bumps.mean(1)


class Quadratic(nn.Module):
    """Its own weights as outputs."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size).double())

    def forward(self, x):
        return self.weight + 0 * x.sum()


def test_the_density_is_that_of_the_dense_spectrum_within_its_error():
    case = cases.make("layer_norm", "cross_entropy")
    H = oracles.hessian(case.model, case.loss, case.batches)
    found = hessian_density(case.model, case.loss, case.batches, probes=60, steps=len(H))
    expected = gaussians(torch.linalg.eigvalsh((H + H.T) / 2), found.grid, found.width)
    inside = (found.density - expected).abs() <= 4 * found.standard_error + 1e-6 * expected.max()
    assert inside.double().mean() > 0.99
    assert (found.standard_error > 0).any()


def test_it_integrates_to_one_and_its_mean_is_the_trace():
    case = cases.make("conv2d", "cross_entropy")
    H = oracles.hessian(case.model, case.loss, case.batches)
    found = hessian_density(case.model, case.loss, case.batches, probes=20)
    assert float(torch.trapezoid(found.density, found.grid)) == pytest.approx(1, abs=1e-4)
    assert abs(found.mean - float(H.trace()) / len(H)) < 4 * found.mean_standard_error
    assert torch.allclose(found.weights.sum(1), torch.ones(20).double())


def test_moments_of_each_probe_are_exact():
    """Σ ω θ^p = vᵀ H^p v / vᵀv for p < 2 m: three steps know the first five."""
    case = cases.make("tanh", "mse")
    H = oracles.hessian(case.model, case.loss, case.batches)
    found = hessian_density(case.model, case.loss, case.batches, probes=2, steps=3, seed=7)
    random = torch.Generator().manual_seed(named_seed(7, "directions"))
    v = torch.stack([torch.randn(len(H), generator=random, dtype=torch.float64) for _ in range(2)])
    v /= v.norm(dim=1, keepdim=True)
    power = v
    for p in range(1, 6):
        power = power @ H
        moments = (found.weights * found.nodes.nan_to_num() ** p).sum(1)
        assert torch.allclose(moments, (v * power).sum(1), rtol=1e-9)


def test_a_matrix_of_few_eigenvalues_ends_its_probes_early():
    model = nn.Linear(4, 1, bias=False).double()
    scale = torch.diag(torch.tensor([1.0, 1.0, 2.0, 2.0]).double())
    found = hessian_density(model, nn.MSELoss(), (scale, torch.zeros(4, 1).double()), probes=3)
    known = found.nodes[~found.nodes.isnan()].unique()
    assert all(min(abs(node - 0.5), abs(node - 2.0)) < 1e-9 for node in known.tolist())


@pytest.mark.parametrize("method", ["hutch++", "hutchinson"])
@pytest.mark.parametrize("operator", ["hessian", "ggn"])
def test_the_trace_is_the_dense_one_within_its_error(method, operator):
    case = cases.make("conv_transpose2d", "cross_entropy")
    dense = oracles.hessian if operator == "hessian" else oracles.gauss_newton
    expected = float(dense(case.model, case.loss, case.batches).trace())
    found = [
        hessian_trace(case.model, case.loss, case.batches, method=method, operator=operator, seed=seed, products=24)
        for seed in range(10)
    ]
    scores = [(each.value - expected) / each.standard_error for each in found]
    assert sum(abs(score) < 3 for score in scores) >= 8
    assert found[0].products == 24


def test_hutch_plus_plus_is_exact_where_it_spans_everything():
    case = cases.make("linear", "cross_entropy")
    expected = float(oracles.hessian(case.model, case.loss, case.batches).trace())
    found = hessian_trace(case.model, case.loss, case.batches, products=90)
    assert found.value == pytest.approx(expected, rel=1e-12)
    assert found.standard_error == 0


def test_hutch_plus_plus_is_surer_than_hutchinson_at_equal_cost():
    case = cases.make("tanh", "cross_entropy")
    sure, plain = (
        hessian_trace(case.model, case.loss, case.batches, method=method, products=60).standard_error
        for method in ("hutch++", "hutchinson")
    )
    assert sure < plain


def test_the_surer_way_to_a_trace_is_taken():
    """Few large eigenvalues are for XTrace; where all are alike a basis of twenty holds nothing of them."""
    torch.manual_seed(0)
    model, size = Quadratic(400), 400
    for eigenvalues, method in (
        (torch.cat([torch.full((10,), 100.0), torch.full((size - 10,), 0.1)]), "xtrace"),
        (torch.linspace(0.5, 1.5, size), "hutchinson"),
    ):
        Q = torch.linalg.qr(torch.randn(size, size).double()).Q
        H = Q * eigenvalues.double() @ Q.mT
        data = torch.zeros(1, 1).double(), torch.zeros(1).double()
        problem = model, lambda w, _, H=H: (w @ H @ w) / 2, data
        found = hessian_trace(*problem, products=60)
        other = hessian_trace(*problem, products=60, method="hutchinson" if method == "xtrace" else "xtrace")
        assert (found.method, found.products) == (method, 60)
        assert found.standard_error < other.standard_error
        assert abs(found.value - float(eigenvalues.sum())) < 4 * found.standard_error


def test_bad_settings_are_refused():
    problem = nn.Linear(2, 1), nn.MSELoss(), (torch.randn(3, 2), torch.randn(3, 1))
    with pytest.raises(SettingError):
        hessian_density(*problem, probes=1)
    with pytest.raises(SettingError):
        hessian_trace(*problem, method="guess")
