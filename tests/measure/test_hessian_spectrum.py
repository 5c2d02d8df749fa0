import copy

import pytest
import torch
from torch import nn

import cases
import oracles
from theodolite.errors import TooLarge
from theodolite.measure import hessian_spectrum, minimal_ratio


@pytest.mark.parametrize("layer", ["tanh", "layer_norm", "attention", "conv2d", "tied_embedding", "scalar", "frozen"])
@pytest.mark.parametrize("operator", ["hessian", "ggn"])
def test_all_eigenvalues_are_those_of_the_dense_matrix(layer, operator):
    case = cases.make(layer, "cross_entropy")
    dense = oracles.hessian if operator == "hessian" else oracles.gauss_newton
    matrix = dense(case.model, case.loss, case.batches)
    expected = torch.linalg.eigvalsh((matrix + matrix.T) / 2)
    found = hessian_spectrum(case.model, case.loss, case.batches, operator=operator)
    assert (found.eigenvalues - expected).abs().max() <= found.tolerance
    assert found.residuals.max() <= found.tolerance
    assert found.tolerance < 1e-10 * expected.abs().max()


def test_float32_weights_are_measured_in_float64():
    case = cases.make("tanh", "cross_entropy")
    single = copy.deepcopy(case.model).float()
    batches = [(x.float(), y) for x, y in case.batches]
    expected = oracles.hessian(copy.deepcopy(single).double(), case.loss, [(x.double(), y) for x, y in batches])
    found = hessian_spectrum(single, case.loss, batches)
    assert (found.eigenvalues - torch.linalg.eigvalsh((expected + expected.T) / 2)).abs().max() <= found.tolerance


@pytest.mark.parametrize(("samples", "features", "outputs"), [(5, 12, 1), (5, 12, 3), (20, 12, 2), (3, 40, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_zeros_are_counted_exactly(samples, features, outputs, dtype):
    """Least squares with fewer samples than features: rank = samples × outputs, the rest is flat."""
    torch.manual_seed(samples)
    model = nn.Linear(features, outputs, bias=False).to(dtype)
    ratio = minimal_ratio(
        model, nn.MSELoss(), (torch.randn(samples, features).to(dtype), torch.randn(samples, outputs).to(dtype))
    )
    rank = min(samples, features) * outputs
    assert (ratio.positive, ratio.negative, ratio.zero) == (rank, 0, features * outputs - rank)
    assert ratio.value == rank / (features * outputs)


def test_a_saddle_of_known_index_is_counted():
    """w₂ w₁ x fitted to x: at the origin the Hessian is [[0, -2], [-2, 0]]."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    for p in model.parameters():
        nn.init.zeros_(p)
    one = torch.ones(1, 1).double()
    ratio = minimal_ratio(model, nn.MSELoss(), (one, one))
    assert (ratio.value, ratio.positive, ratio.negative, ratio.zero, ratio.gradient_norm) == (0.5, 1, 1, 0, 0.0)


def test_dead_relu_units_are_flat():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)).double()
    with torch.no_grad():
        model[0].bias[0] = -100.0
    ratio = minimal_ratio(model, nn.MSELoss(), (torch.randn(50, 3).double(), torch.randn(50, 1).double()))
    assert ratio.zero >= 5  # three weights, a bias and the weight that leaves the unit


def test_too_large_says_what_it_takes_and_what_to_use():
    model = nn.Linear(1000, 1000)
    with pytest.raises(TooLarge, match=r"1,001,000.*TB.*hessian_density"):
        hessian_spectrum(model, nn.MSELoss(), (torch.zeros(1, 1000), torch.zeros(1, 1000)))
    with pytest.raises(TooLarge):
        minimal_ratio(nn.Linear(9, 9), nn.MSELoss(), (torch.zeros(1, 9), torch.zeros(1, 9)), memory=1000)


def test_a_part_of_a_large_model_can_be_measured():
    model = nn.Sequential(nn.Linear(300, 300), nn.Tanh(), nn.Linear(300, 2))
    data = torch.randn(5, 300), torch.randn(5, 2)
    assert len(hessian_spectrum(model, nn.MSELoss(), data, parameters="2.*", memory=2**25).eigenvalues) == 602


def test_one_parameter_has_one_eigenvalue():
    model = nn.Linear(1, 1, bias=False).double()
    found = hessian_spectrum(model, nn.MSELoss(), (torch.tensor([[3.0]]).double(), torch.zeros(1, 1).double()))
    assert found.eigenvalues.tolist() == pytest.approx([18.0])
