"""Solves, log-determinants and generalised eigenvalues against dense linear algebra."""

import pytest
import scipy.linalg
import torch

from operators import Dense
from theodolite.errors import SettingError
from theodolite.measure.linalg.generalized import generalized_eigenvalues
from theodolite.measure.linalg.log_determinant import log_determinant
from theodolite.measure.linalg.solver import solve

SIZE = 150


POSITIVE = torch.linspace(0.1, 20, SIZE).double()
BOTH = torch.linspace(-2, 20, SIZE).double()
V = torch.randn(SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("values", "damping", "method"),
    [(POSITIVE, 0.0, "cg"), (POSITIVE, 0.5, "cg"), (BOTH, 3.0, "cg"), (BOTH, 0.31, "minres")],
)
def test_a_solution_is_that_of_the_dense_matrix(values, damping, method):
    A = Dense(values)
    found = solve(A, V, damping=damping, tolerance=1e-9)
    assert found.method == method
    assert found.converged
    expected = torch.linalg.solve(A.matrix + damping * torch.eye(SIZE), V)
    assert float((found.solution - expected).norm() / expected.norm()) < 1e-6
    residual = (V - A.matrix @ found.solution - damping * found.solution).norm()
    assert found.residual == pytest.approx(float(residual), rel=1e-3, abs=1e-12)


def test_what_has_not_converged_says_so_and_float32_goes_as_far_as_it_can():
    assert not solve(Dense(POSITIVE), V, max_products=3).converged
    found = solve(Dense(POSITIVE, torch.float32), V, tolerance=1e-12)
    assert found.residual < 1e-4 * float(V.norm())


def test_an_indefinite_matrix_is_not_solved_without_damping():
    with pytest.raises(SettingError, match=r"positive definite matrix to solve with no damping.*Pass damping above"):
        solve(Dense(BOTH), V)
    with pytest.raises(SettingError, match="damping ≥ 0"):
        solve(Dense(POSITIVE), V, damping=-1.0)
    with pytest.raises(SettingError, match=r"finite vector \(150,\), got \(3,\)"):
        solve(Dense(POSITIVE), torch.ones(3))
    with pytest.raises(SettingError, match="finite vector"):
        solve(Dense(POSITIVE), torch.full((SIZE,), torch.nan))


def test_a_log_determinant_lies_within_its_error():
    off = []
    for seed in range(20):
        found = log_determinant(Dense(POSITIVE), damping=0.5, probes=5, steps=25, random=seeded(seed))
        off.append((found.value - float((POSITIVE + 0.5).log().sum())) / found.standard_error)
    scores = torch.tensor(off)
    assert abs(float(scores.mean())) < 1.5
    assert 0.5 < float(scores.square().mean().sqrt()) < 2.2


def test_a_small_log_determinant_is_exact():
    found = log_determinant(Dense(POSITIVE), random=seeded())
    assert found.standard_error == 0
    assert found.value == pytest.approx(float(POSITIVE.log().sum()))


@pytest.mark.parametrize("settings", [{}, {"probes": 2, "steps": 40}])
@pytest.mark.parametrize("values", [BOTH, torch.cat([torch.zeros(100), torch.ones(50)]).double()])
def test_what_is_not_positive_definite_has_no_log_determinant(values, settings):
    with pytest.raises(SettingError, match="Pass damping above"):
        log_determinant(Dense(values), random=seeded(), **settings)


@pytest.mark.parametrize("damping", [0.0, 2.0])
def test_generalised_eigenvalues_are_those_of_the_dense_pair(damping):
    A, B = Dense(BOTH), Dense(POSITIVE + 1, seed=6)
    found = generalized_eigenvalues(A, B, k=3, damping=damping, random=seeded())
    right = B.matrix + damping * torch.eye(SIZE)
    expected = scipy.linalg.eigh(A.matrix.numpy(), right.numpy(), eigvals_only=True)[-3:]
    assert found.converged.all()
    assert torch.allclose(found.eigenvalues, torch.from_numpy(expected), rtol=1e-5)
    forms = torch.einsum("ki,ij,kj->k", found.eigenvectors, right, found.eigenvectors)
    assert torch.allclose(forms, torch.ones(3).double())


def test_a_pair_that_is_none_is_refused():
    A = Dense(POSITIVE)
    with pytest.raises(SettingError, match="one size, got 150 and 9"):
        generalized_eigenvalues(A, Dense(POSITIVE[:9]), random=seeded())
    with pytest.raises(SettingError, match="k from 1 to 30"):
        generalized_eigenvalues(A, A, k=31, random=seeded())
    with pytest.raises(SettingError, match="positive definite with its damping"):
        generalized_eigenvalues(A, Dense(BOTH, seed=6), k=3, random=seeded())
