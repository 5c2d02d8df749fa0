import pytest
import torch
from torch import nn

import cases
import oracles
from theodolite.errors import SettingError
from theodolite.measure import hessian_eigenvalues


def least_squares(*scales: float, outputs: int = 1):
    """L = mean over outputs of Σ s_i w_i² / n: eigenvalues known in closed form, each as often as there are outputs."""
    n = len(scales)
    model = nn.Linear(n, outputs, bias=False).double()
    return model, nn.MSELoss(), (torch.diag(torch.tensor(scales).double().sqrt()), torch.zeros(n, outputs).double())


@pytest.mark.parametrize("which", ["largest", "smallest", "both"])
@pytest.mark.parametrize("operator", ["hessian", "ggn"])
def test_ends_of_the_spectrum_are_those_of_the_dense_matrix(which, operator):
    case = cases.make("layer_norm", "cross_entropy")
    dense = oracles.hessian if operator == "hessian" else oracles.gauss_newton
    every = torch.linalg.eigvalsh(dense(case.model, case.loss, case.batches))
    found = hessian_eigenvalues(
        case.model, case.loss, case.batches, k=4, which=which, operator=operator, tolerance=1e-8
    )
    expected = {"largest": every[-4:], "smallest": every[:4], "both": torch.cat([every[:4], every[-4:]])}[which]
    assert found.converged.all()
    assert torch.allclose(found.eigenvalues, expected, atol=1e-8 * float(every.abs().max()))
    assert torch.allclose(found.eigenvectors.norm(dim=1), torch.ones(len(expected)).double())


def test_residuals_are_those_of_the_vectors_returned():
    case = cases.make("tanh", "mse")
    H = oracles.hessian(case.model, case.loss, case.batches)
    found = hessian_eigenvalues(case.model, case.loss, case.batches, k=3, tolerance=1e-3)
    miss = found.eigenvectors @ H - found.eigenvalues[:, None] * found.eigenvectors
    assert torch.allclose(found.residuals, miss.norm(dim=1), atol=1e-12)
    assert (found.residuals <= found.tolerance).all()


def test_every_copy_of_a_multiple_eigenvalue_is_found():
    """Where ARPACK and one Lanczos start see one of them: 6 outputs give each eigenvalue six times."""
    scales = [50.0 - i for i in range(50)]
    found = hessian_eigenvalues(*least_squares(*scales, outputs=6), k=10)
    expected = torch.tensor([49.0] * 4 + [50.0] * 6).double() * 2 / 300
    assert found.converged.all()
    assert torch.allclose(found.eigenvalues, expected, rtol=1e-6)


def test_what_has_not_converged_says_so():
    case = cases.make("conv_transpose2d", "cross_entropy")
    found = hessian_eigenvalues(case.model, case.loss, case.batches, k=5, max_products=12, tolerance=1e-10)
    assert not found.converged.all()
    assert (found.residuals[~found.converged] > found.tolerance).all()
    assert "False" in str(found)


def test_a_model_with_fewer_parameters_than_asked_gives_all():
    found = hessian_eigenvalues(*least_squares(1.0, 2.0, 3.0), k=10, which="both")
    assert torch.allclose(found.eigenvalues, torch.tensor([1.0, 2.0, 3.0]).double() * 2 / 3)
    one = hessian_eigenvalues(*least_squares(5.0), k=3)
    assert one.eigenvalues.tolist() == pytest.approx([10.0])


def test_no_curvature_at_all_is_an_answer():
    found = hessian_eigenvalues(nn.Linear(3, 1), lambda o, t: o.mean(), (torch.randn(4, 3), torch.zeros(4, 1)), k=2)
    assert found.eigenvalues.tolist() == [0.0, 0.0]


def test_the_same_seed_gives_the_same_numbers():
    case = cases.make("tanh", "cross_entropy")
    first, second = (hessian_eigenvalues(case.model, case.loss, case.batches, k=2, seed=4) for _ in range(2))
    assert torch.equal(first.eigenvalues, second.eigenvalues)


def test_results_print_and_become_tables():
    found = hessian_eigenvalues(*least_squares(1.0, 2.0, 3.0), k=2)
    assert "layer by layer" in str(found)
    assert "check_error" in str(found)
    frame = found.to_frame()
    assert len(frame) == 2
    assert {"eigenvalues", "residuals", "converged", "backend", "check_error"} <= set(frame)


def test_bad_settings_are_refused():
    for bad in ({"k": 0}, {"which": "middle"}, {"tolerance": 0.0}):
        with pytest.raises(SettingError, match="expected"):
            hessian_eigenvalues(*least_squares(1.0), **bad)
