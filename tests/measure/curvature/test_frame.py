"""Preconditioned and restricted matrices, against dense ones that are scaled and cut by hand."""

import pytest
import torch
from torch import nn

import cases
import oracles
from theodolite import measure
from theodolite.errors import SettingError
from theodolite.measure import HessianOperator


@pytest.fixture(scope="module")
def problem():
    case = cases.make("tanh", "cross_entropy")
    H = oracles.of_case("tanh", "cross_entropy")
    draw = torch.Generator().manual_seed(4)
    P = torch.rand(len(H), generator=draw, dtype=torch.float64) + 0.1
    rows = torch.randn(5, len(H), generator=draw, dtype=torch.float64)
    return (case.model, case.loss, case.batches), H, P, rows


def expected(H, P=None, rows=None):
    scale = 1 if P is None else P.rsqrt()
    scaled = H if P is None else scale[:, None] * H * scale
    if rows is None:
        return scaled
    Q = torch.linalg.svd(rows, full_matrices=False).Vh
    return Q @ scaled @ Q.mT


@pytest.mark.parametrize("asked", [("preconditioner",), ("basis",), ("preconditioner", "basis")])
@pytest.mark.parametrize("operator", ["hessian", "empirical_fisher"])
def test_every_instrument_measures_the_matrix_in_its_coordinates(problem, operator, asked):
    given, H, P, rows = problem
    if operator != "hessian":
        own = oracles.own_gradients(*given)
        H = own.mT @ own / len(own)
    options = {name: {"preconditioner": P, "basis": rows}[name] for name in asked} | {"operator": operator}
    dense = expected(H, options.get("preconditioner"), options.get("basis"))
    values = torch.linalg.eigvalsh(dense)

    A = HessianOperator(*given, **options)
    found = A.to_dense()
    assert A.shape == tuple(dense.shape)
    assert torch.allclose(torch.linalg.eigvalsh(found), values, atol=1e-12)
    if "basis" not in asked:
        assert torch.allclose(found, dense, atol=1e-12)

    top = measure.hessian_eigenvalues(*given, k=2, tolerance=1e-10, **options)
    assert torch.allclose(top.eigenvalues, values[-2:])
    assert top.eigenvectors.shape == (2, len(H))
    scale = P.rsqrt() if "preconditioner" in asked else torch.ones_like(P)
    rayleigh = torch.einsum("ki,ij,kj->k", top.eigenvectors * scale, H, top.eigenvectors * scale)
    assert torch.allclose(rayleigh, values[-2:])

    every = measure.hessian_spectrum(*given, **options)
    assert torch.allclose(every.eigenvalues, values, atol=1e-12)
    assert every.gradient_norm == pytest.approx(float(oracles.gradient(*given).norm()))
    assert every.loss == pytest.approx(float(oracles.total_loss(*given).detach()))
    ratio = measure.minimal_ratio(*given, **options)
    assert ratio.positive + ratio.negative + ratio.zero == len(values)
    assert measure.hessian_trace(*given, products=300, **options).value == pytest.approx(float(values.sum()))
    density = measure.hessian_density(*given, probes=60, steps=len(values), **options)
    assert abs(density.mean - float(values.mean())) <= 4 * density.mean_standard_error + 1e-12


def test_a_basis_of_eigenvectors_holds_their_eigenvalues(problem):
    given, H, _, _ = problem
    values, vectors = torch.linalg.eigh(H)
    found = HessianOperator(*given, basis=vectors[:, 3:6].mT @ torch.diag(values.new_full((len(H),), 2.0)))
    assert torch.allclose(torch.linalg.eigvalsh(found.to_dense()), values[3:6], atol=1e-12)


def stepped(kind, model, loss, batches, steps=5, **settings):
    optimizer = kind(model.parameters(), **settings)
    for _ in range(steps):
        optimizer.zero_grad()
        oracles.total_loss(model, loss, batches).backward()
        before = [p.detach().clone() for p in model.parameters()]
        optimizer.step()
    moved = torch.cat([(p.detach() - b).flatten() for p, b in zip(model.parameters(), before, strict=True)])
    return optimizer, moved


def momentum(optimizer, name):
    return torch.cat([optimizer.state[p][name].flatten() for p in optimizer.param_groups[0]["params"]])


@pytest.mark.parametrize("settings", [{}, {"amsgrad": True}, {"betas": (0.5, 0.9), "eps": 1e-2}])
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_adams_diagonal_is_what_divides_its_momentum(kind, settings):
    """The last step was -η m / P."""
    case = cases.make("tanh", "cross_entropy")
    more = {"weight_decay": 0.0} if kind is torch.optim.AdamW else {}
    optimizer, moved = stepped(kind, case.model, case.loss, case.batches, lr=1e-3, **settings, **more)
    P = -1e-3 * momentum(optimizer, "exp_avg") / moved
    H = oracles.hessian(case.model, case.loss, case.batches)
    A = HessianOperator(case.model, case.loss, case.batches, preconditioner=optimizer)
    assert torch.allclose(A.to_dense(), expected(H, P), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("centered", [False, True])
def test_rmsprops_diagonal_is_what_divides_its_gradient(centered):
    """The last step was -η g / P, with the gradient before it."""
    case = cases.make("tanh", "cross_entropy")
    optimizer, _ = stepped(
        torch.optim.RMSprop, case.model, case.loss, case.batches, lr=1e-3, centered=centered, steps=4
    )
    g = oracles.gradient(case.model, case.loss, case.batches)
    before = torch.cat([p.detach().flatten() for p in case.model.parameters()])
    optimizer.zero_grad()
    oracles.total_loss(case.model, case.loss, case.batches).backward()
    optimizer.step()
    P = -1e-3 * g / (torch.cat([p.detach().flatten() for p in case.model.parameters()]) - before)
    H = oracles.hessian(case.model, case.loss, case.batches)
    A = HessianOperator(case.model, case.loss, case.batches, preconditioner=optimizer)
    assert torch.allclose(A.to_dense(), expected(H, P), rtol=1e-6, atol=1e-8)


def test_an_optimizer_without_a_state_or_of_another_kind_is_refused(problem):
    (model, *rest), _, _, _ = problem
    with pytest.raises(SettingError, match=r"taken a step, but Adam has no state for '0\.weight'"):
        HessianOperator(model, *rest, preconditioner=torch.optim.Adam(model.parameters()))
    with pytest.raises(SettingError, match="expected SGD, Adam, AdamW or RMSprop, got Rprop"):
        HessianOperator(model, *rest, preconditioner=torch.optim.Rprop(model.parameters()))
    with pytest.raises(SettingError, match="that minimises"):
        measure.edge_of_stability(model, *rest, torch.optim.SGD(model.parameters(), lr=0.1, maximize=True))
    two = [{"params": model[0].parameters(), "momentum": 0.5}, {"params": model[2].parameters()}]
    with pytest.raises(SettingError, match="one momentum for all"):
        measure.edge_of_stability(model, *rest, torch.optim.SGD(two, lr=0.1))
    with pytest.raises(SettingError, match="a learning rate above 0"):
        measure.edge_of_stability(model, *rest, torch.optim.SGD(model.parameters(), lr=0.0))
    assert isinstance(model, nn.Module)
