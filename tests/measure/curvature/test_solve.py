"""What one solves with a matrix of a model: the influence of a sample, the evidence of a Laplace approximation."""

import pytest
import torch
from torch import nn

import cases
import oracles
from theodolite.errors import SettingError
from theodolite.measure import HessianOperator, TangentKernel


def ridge():
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 4, generator=draw).double(), torch.randn(20, 1, generator=draw).double()
    return nn.Linear(4, 1, bias=False).double(), x, y


def fitted(x, y, decay):
    """Where the mean squared error with decay |w|² / 2 is least."""
    return torch.linalg.solve(2 * x.mT @ x / len(x) + decay * torch.eye(x.shape[1]), 2 * x.mT @ y / len(x)).mT


def test_the_influence_of_a_sample_is_what_training_without_it_changes():
    """At a minimum, weighing sample n by ε more moves the weights by -ε/N (H + λ)⁻¹ g_n: the derivative of a fit."""
    model, x, y = ridge()
    decay, step, n = 0.3, 1e-5, 7
    model.weight.data = fitted(x, y, decay)
    H = HessianOperator(model, nn.MSELoss(), (x, y))
    (g,) = oracles.own_gradients(model, nn.MSELoss(), [(x[n : n + 1], y[n : n + 1])])
    found = H.solve(g, damping=decay, tolerance=1e-10)
    assert found.converged
    weights = torch.ones(20, 1).double()
    moved = []
    for sign in (1, -1):
        weights[n] = 1 + sign * step
        left = 2 * x.mT @ (weights * x) / 20 + decay * torch.eye(4)
        moved.append(torch.linalg.solve(left, 2 * x.mT @ (weights * y) / 20).mT)
    expected = (moved[0] - moved[1])[0] / (2 * step)
    assert torch.allclose(-found.solution / 20, expected, rtol=1e-6)


def test_a_saddle_is_solved_with_damping_alone():
    case = cases.make("tanh", "cross_entropy")
    H = HessianOperator(case.model, case.loss, case.batches)
    dense = oracles.of_case("tanh", "cross_entropy")
    v = torch.ones(H.size, dtype=torch.float64)
    with pytest.raises(SettingError, match="operator='ggn'"):
        H.solve(v)
    damping = 1 - float(torch.linalg.eigvalsh(dense)[0])
    found = H.solve(v, damping=damping)
    expected = torch.linalg.solve(dense + damping * torch.eye(H.size), v)
    assert torch.allclose(found.solution, expected, rtol=1e-4, atol=1e-6)


def test_log_determinants_and_pairs_are_those_of_dense_matrices():
    case = cases.make("tanh", "cross_entropy")
    dense = oracles.of_case("tanh", "cross_entropy", "ggn")
    G = HessianOperator(case.model, case.loss, case.batches, operator="ggn")
    eye = torch.eye(G.size).double()
    assert G.log_determinant(damping=0.1).value == pytest.approx(float(torch.logdet(dense + 0.1 * eye)))
    C = HessianOperator(case.model, case.loss, case.batches, operator="gradient_covariance")
    found = C.generalized_eigenvalues(G, 2, damping=0.1)
    expected = torch.linalg.eigvals(torch.linalg.solve(dense + 0.1 * eye, C.to_dense())).real.sort().values[-2:]
    assert torch.allclose(found.eigenvalues, expected, rtol=1e-4)
    kernel = TangentKernel(case.model, case.batches)
    y = torch.ones(kernel.size).double()
    assert torch.allclose(
        kernel.solve(y, damping=1.0, tolerance=1e-9).solution,
        torch.linalg.solve(kernel.to_dense() + torch.eye(kernel.size), y), rtol=1e-5, atol=1e-7,
    )  # fmt: skip
