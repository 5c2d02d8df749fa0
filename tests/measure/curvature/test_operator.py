import copy
import random
from functools import cache

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator
from torch import nn
from torch.nn.attention import SDPBackend
from torch.nn.attention import sdpa_kernel as backend

import cases
import oracles
from theodolite.errors import BadLoss, BadModel, MeasurementError, NotDeterministic, SettingError
from theodolite.measure import HessianOperator
from theodolite.measure.curvature.dense import dense_hessians

TIGHT = "8.7kB"  # enough for the check, less than four vectors and the graphs of a case take together


@cache
def built(layer, loss):
    """A case and its operator, once for all tests that only multiply."""
    case = cases.make(layer, loss)
    return case, HessianOperator(case.model, case.loss, case.batches)


def truth(layer, loss, case):
    """The dense Hessian; where the kept graph itself is wrong upstream, by central differences."""
    if layer == "weight_norm":
        size = sum(p.numel() for p in oracles.trainable(case.model))
        columns = torch.eye(size, dtype=torch.float64)
        return torch.stack([oracles.differences(case.model, case.loss, case.batches, e, 1e-5) for e in columns]), 1e-7
    return oracles.of_case(layer, loss), 1e-8


def relative(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("layer", "loss"), cases.CASES)
def test_every_layer_and_loss_agrees_with_the_dense_hessian(layer, loss):
    case, H = built(layer, loss)
    expected, bound = truth(layer, loss, case)
    assert relative(H @ torch.eye(len(expected)).double(), expected) < bound
    assert relative(dense_hessians(H.objective, H.objective.vector[None]).hessian[0], expected) < bound
    assert H.check < 1e-5


@pytest.mark.parametrize(("layer", "loss"), cases.EACH)
def test_every_layer_and_loss_agrees_with_finite_differences(layer, loss):
    case, H = built(layer, loss)
    v = torch.randn(H.shape[0], dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    expected = oracles.differences(case.model, case.loss, case.batches, v)
    assert float((H @ v - expected).norm() / expected.norm()) < 1e-6


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("layer", "loss"), [c for c in cases.EACH if c[0] != "weight_norm"])
def test_gauss_newton_agrees_with_whole_jacobians(layer, loss):
    """J is the layer's alone and B the loss's alone: no pairs of them."""
    case = cases.make(layer, loss)
    expected = oracles.of_case(layer, loss, "ggn")
    G = HessianOperator(case.model, case.loss, case.batches, operator="ggn")
    assert relative(G @ torch.eye(len(expected)).double(), expected) < 1e-8


def test_weights_in_bfloat16_are_taken_as_exact_numbers():
    case = cases.make("tanh", "cross_entropy")
    rounded = copy.deepcopy(case.model).bfloat16()
    model = copy.deepcopy(rounded).double()
    batches = [(x.bfloat16(), y) for x, y in case.batches]
    expected = oracles.hessian(model, case.loss, [(x.double(), y) for x, y in batches])
    H = HessianOperator(rounded, case.loss, batches)
    assert H.dtype == torch.float32
    assert relative((H @ torch.eye(len(expected))).double(), expected) < 1e-5
    assert next(rounded.parameters()).dtype == torch.bfloat16


@pytest.mark.parametrize("operator", ["hessian", "ggn"])
def test_graphs_made_anew_give_the_same_numbers(operator):
    case = cases.make("layer_norm", "mse")
    kept = HessianOperator(case.model, case.loss, case.batches, operator=operator)
    anew = HessianOperator(case.model, case.loss, case.batches, operator=operator, memory=TIGHT)
    assert (kept.path, anew.path) == ("operation by operation", "operation by operation, anew")
    V = torch.randn(kept.shape[0], 3, dtype=torch.float64)
    assert torch.allclose(kept @ V, anew @ V, rtol=1e-12, atol=1e-14)


def test_a_block_is_its_vectors_one_by_one():
    case = cases.make("attention", "cross_entropy")
    H = HessianOperator(case.model, case.loss, case.batches)
    V = torch.randn(H.shape[0], 5, dtype=torch.float64)
    assert torch.allclose(H @ V, torch.stack([H @ v for v in V.mT], 1), rtol=1e-12, atol=1e-14)


def test_it_is_a_scipy_operator_and_multiplies_arrays():
    case = cases.make("tanh", "cross_entropy")
    H = HessianOperator(case.model, case.loss, case.batches)
    expected = oracles.hessian(case.model, case.loss, case.batches).numpy()
    A = H.to_scipy()
    assert isinstance(A, LinearOperator)
    v = np.random.default_rng(0).normal(size=(H.shape[0], 2))
    assert np.allclose(A @ v, expected @ v)
    assert np.allclose(A @ v[:, 0], expected @ v[:, 0])
    assert np.allclose(H @ v, expected @ v)


def test_a_pattern_restricts_the_matrix_to_its_block():
    case = cases.make("tanh", "cross_entropy")
    whole = oracles.hessian(case.model, case.loss, case.batches)
    size = case.model[0].weight.numel() + case.model[0].bias.numel()
    H = HessianOperator(case.model, case.loss, case.batches, parameters="0.*")
    assert torch.allclose(H @ torch.eye(size).double(), whole[:size, :size], rtol=1e-10, atol=1e-14)


def test_the_matrix_stays_that_of_the_weights_it_was_made_with():
    case = cases.make("tanh", "cross_entropy")
    for memory in (None, TIGHT):
        H = HessianOperator(case.model, case.loss, case.batches, memory=memory)
        v = torch.ones(H.shape[0], dtype=torch.float64)
        before = H @ v
        with torch.no_grad():
            case.model[0].weight.add_(1.0)
        assert torch.equal(H @ v, before)


@pytest.mark.parametrize("memory", [None, "17kB"])  # a batch that cannot be cut takes 12.6, four vectors 3.7
def test_nothing_of_the_users_is_changed(memory):
    case = cases.make("batch_norm_train", "cross_entropy")
    attention = cases.make("attention", "cross_entropy")
    torch.manual_seed(5)
    case.model[0].weight.grad = torch.ones_like(case.model[0].weight)
    state = copy.deepcopy(case.model.state_dict())
    with backend([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
        settings = _settings()
        numbers = torch.get_rng_state(), random.getstate()
        for each in (case, attention):
            H = HessianOperator(each.model, each.loss, each.batches, memory=memory)
            _ = H @ torch.ones(H.shape[0], dtype=torch.float64)
        assert _settings() == settings
    assert torch.equal(torch.get_rng_state(), numbers[0])
    assert random.getstate() == numbers[1]
    assert all(torch.equal(t, state[name]) for name, t in case.model.state_dict().items())
    assert torch.equal(case.model[0].weight.grad, torch.ones_like(case.model[0].weight))
    assert case.model.training
    assert not case.model._forward_hooks
    assert not case.model[0]._forward_hooks


def _settings():
    b = torch.backends.cuda
    return (
        b.flash_sdp_enabled(), b.mem_efficient_sdp_enabled(), b.math_sdp_enabled(), torch.is_autocast_enabled("cpu"),
        torch.are_deterministic_algorithms_enabled(), torch.is_grad_enabled(), torch.get_default_dtype(),
    )  # fmt: skip


def test_it_works_inside_autocast_and_no_grad():
    case = cases.make("tanh", "cross_entropy")
    model = case.model.float()
    batches = [(x.float(), y) for x, y in case.batches]
    v = torch.ones(sum(p.numel() for p in model.parameters()))
    for memory in (None, TIGHT):
        expected = HessianOperator(model, case.loss, batches, memory=memory) @ v
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(HessianOperator(model, case.loss, batches, memory=memory) @ v, expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # curvlinops' own dependency calls it
def test_curvlinops_and_eigenthings_agree_on_plain_layers():
    from curvlinops import GGNLinearOperator
    from curvlinops import HessianLinearOperator as Curvlinops
    from hessian_eigenthings import HessianOperator as Eigenthings
    from hessian_eigenthings import supervised_loss

    for layer in ("tanh", "batch_norm_eval", "conv2d"):
        case = cases.make(layer, "cross_entropy")
        parameters = list(case.model.parameters())
        H = HessianOperator(case.model, case.loss, case.batches)
        G = HessianOperator(case.model, case.loss, case.batches, operator="ggn")
        v = torch.randn(H.shape[0], dtype=torch.float64)
        for ours, theirs in ((H, Curvlinops), (G, GGNLinearOperator)):
            other = theirs(case.model, case.loss, parameters, case.batches) @ v
            assert torch.allclose(ours @ v, other, rtol=1e-8, atol=1e-12)
        x, y = (torch.cat(parts) for parts in zip(*case.batches, strict=True))
        other = Eigenthings(case.model, [(x, y)], supervised_loss(case.loss)).matvec(v)
        assert torch.allclose(H @ v, other, rtol=1e-8, atol=1e-12)


def test_bad_input_is_said_plainly():
    x, y = torch.randn(4, 3), torch.randn(4, 1)
    model = nn.Linear(3, 1)
    with pytest.raises(SettingError, match="hessian"):
        HessianOperator(model, nn.MSELoss(), (x, y), operator="kfac")
    H = HessianOperator(model, nn.MSELoss(), (x, y))
    with pytest.raises(SettingError, match=r"\(4,\)"):
        _ = H @ torch.ones(3)
    with pytest.raises(NotDeterministic):
        HessianOperator(nn.Sequential(nn.Dropout(0.5), model), nn.MSELoss(), (x, y))
    with pytest.raises(BadLoss, match="depends"):
        HessianOperator(model, lambda o, t: (t**2).mean(), (x, y))
    with torch.no_grad():
        model.weight[0, 0] = torch.nan
    with pytest.raises(BadModel, match="NaN"):
        HessianOperator(model, nn.MSELoss(), (x, y))
    with pytest.raises(MeasurementError):
        HessianOperator(nn.ReLU(), nn.MSELoss(), (y, y))


def test_a_linear_loss_has_no_curvature():
    x, y = torch.randn(4, 3), torch.zeros(4, 1)
    for operator in ("hessian", "ggn"):
        H = HessianOperator(nn.Linear(3, 1), lambda o, t: (o - t).mean(), (x, y), operator=operator)
        assert torch.equal(H @ torch.ones(4, 2), torch.zeros(4, 2))


def test_one_parameter_is_a_matrix_too():
    model = nn.Linear(1, 1, bias=False).double()
    H = HessianOperator(model, nn.MSELoss(), (torch.tensor([[3.0]]).double(), torch.zeros(1, 1).double()))
    assert float(H @ torch.ones(1, dtype=torch.float64)) == pytest.approx(18.0)


def test_a_module_that_occurs_twice_is_left_as_it_was():
    """torch.func.functional_call by itself leaves its own tensors in such a module."""
    shared = nn.Linear(3, 3).double()
    model = nn.Sequential(shared, nn.Tanh(), shared)
    weight, before = shared.weight, shared.weight.detach().clone()
    data = torch.randn(6, 3).double(), torch.randn(6, 3).double()
    H = HessianOperator(model, nn.MSELoss(), data)
    assert shared.weight is weight
    assert torch.equal(weight, before)
    expected = oracles.hessian(model, nn.MSELoss(), [data])
    assert relative(H @ torch.eye(12).double(), expected) < 1e-8
