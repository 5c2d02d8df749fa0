"""Blocks and diagonals, against those of the dense matrix."""

from itertools import pairwise

import pytest
import torch

import cases
import oracles
from theodolite.measure import HessianOperator, hessian_blocks, hessian_diagonal


def dense_blocks(model, H):
    ends = torch.tensor([0, *(p.numel() for p in oracles.trainable(model))]).cumsum(0).tolist()
    return [H[a:b, a:b] for a, b in pairwise(ends)]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("operator", ["hessian", "ggn"])
@pytest.mark.parametrize("layer", ["tanh", "attention", "frozen", "tied_embedding"])
def test_each_tensor_s_block_is_that_of_the_dense_matrix(layer, operator):
    case = cases.make(layer, "cross_entropy")
    H = oracles.of_case(layer, "cross_entropy", operator)
    found = hessian_blocks(
        case.model, case.loss, case.batches, blocks="tensor", k=2, probes=8, steps=50, operator=operator
    )
    expected = dense_blocks(case.model, H)
    assert list(found.sizes.values()) == [len(block) for block in expected]
    for number, block in enumerate(expected):
        values = torch.linalg.eigvalsh(block)
        scale = float(values.abs().max())
        assert torch.allclose(found.eigenvalues[number], values[-2:], atol=1e-3 * scale)
        assert float(found.smallest[number]) == pytest.approx(float(values[0]), abs=1e-3 * scale)
        error = float(found.trace_standard_errors[number])
        assert abs(float(found.traces[number] - values.sum())) <= 4 * error + 1e-9 * scale
        assert float(torch.trapezoid(found.density[number], found.grid[number])) == pytest.approx(1, abs=1e-2)


def test_layers_and_patterns_group_tensors():
    case = cases.make("tanh", "cross_entropy")
    H = oracles.of_case("tanh", "cross_entropy")
    size = sum(p.numel() for p in case.model[0].parameters())
    values = [torch.linalg.eigvalsh(block)[-1] for block in (H[:size, :size], H[size:, size:])]
    for blocks, names in (("layer", ["0", "2"]), (["0.*", "2.*"], ["0.*", "2.*"])):
        found = hessian_blocks(case.model, case.loss, case.batches, blocks=blocks)
        assert list(found.sizes) == names
        assert torch.allclose(found.eigenvalues[:, 0], torch.stack(values), rtol=1e-3)


def test_a_block_with_fewer_eigenvalues_than_asked_for_has_nan_in_their_place():
    case = cases.make("scalar", "cross_entropy")
    found = hessian_blocks(case.model, case.loss, case.batches, blocks="tensor", k=3)
    assert found.eigenvalues[0].isnan().tolist() == [True, True, False]
    expected = oracles.of_case("scalar", "cross_entropy")[0, 0]
    assert float(found.eigenvalues[0, 2]) == pytest.approx(float(expected))


@pytest.mark.parametrize("operator", ["hessian", "fisher"])
def test_the_diagonal_is_that_of_the_dense_matrix(operator):
    case = cases.make("tanh", "cross_entropy")
    H = oracles.of_case("tanh", "cross_entropy", "hessian" if operator == "hessian" else "ggn")
    exact = hessian_diagonal(case.model, case.loss, case.batches, products=len(H), operator=operator)
    assert exact.method == "exact"
    assert torch.allclose(exact.diagonal, H.diagonal(), atol=1e-12)
    found = hessian_diagonal(case.model, case.loss, case.batches, products=60, operator=operator)
    assert found.method == "xdiag"
    assert found.products == 60
    off = (found.diagonal - H.diagonal()).square().mean().sqrt()
    assert float(off) <= 3 * float(found.standard_error.square().mean().sqrt()) + 1e-10
    A = HessianOperator(case.model, case.loss, case.batches, operator=operator)
    assert torch.allclose(A.diagonal(products=len(H)).diagonal, H.diagonal(), atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # curvlinops' own dependency calls it
def test_curvlinops_agrees_on_the_diagonal_and_the_trace():
    from curvlinops import GGNLinearOperator, xdiag, xtrace

    case = cases.make("tanh", "cross_entropy")
    theirs = GGNLinearOperator(case.model, case.loss, list(case.model.parameters()), case.batches)
    ours = HessianOperator(case.model, case.loss, case.batches, operator="ggn")
    exact = oracles.of_case("tanh", "cross_entropy", "ggn")
    assert torch.allclose(ours.diagonal(60).diagonal, exact.diagonal(), atol=1e-8)  # its rank is at most 20
    assert torch.allclose(xdiag(theirs, 60).double(), exact.diagonal(), atol=1e-4)
    assert ours.trace(60).value == pytest.approx(float(exact.trace()))
    assert float(xtrace(theirs, 60)) == pytest.approx(float(exact.trace()), rel=1e-4)
