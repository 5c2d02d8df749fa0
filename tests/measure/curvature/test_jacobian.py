"""The derivative of outputs, and the tangent kernel, against derivatives taken entry by entry."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import cases
import oracles
from theodolite.errors import BadData, CheckFailed, NotDifferentiable, SettingError, TooLarge
from theodolite.measure import Jacobian, TangentKernel


@pytest.mark.sampled(3)
@pytest.mark.parametrize("memory", [None, 100])
@pytest.mark.parametrize("layer", [*cases.LAYERS, *cases.ONE_BATCH])
def test_products_with_every_layer_are_those_of_the_dense_matrix(layer, memory):
    case = cases.make(layer, "cross_entropy")
    expected = oracles.jacobian(case.model, case.batches)
    J = Jacobian(case.model, case.batches, memory=memory)
    assert J.shape == expected.shape
    assert J.backend == ("kept graph" if memory is None else "graph anew")
    assert torch.allclose(J @ torch.eye(J.shape[1]).double(), expected, rtol=1e-9, atol=1e-11)
    assert torch.allclose(J.T @ torch.eye(J.shape[0]).double(), expected.mT, rtol=1e-9, atol=1e-11)
    assert J.check_error < 1e-5


def test_it_is_a_scipy_operator_with_its_transpose():
    case = cases.make("tanh", "mse")
    expected = oracles.jacobian(case.model, case.batches).numpy()
    A = Jacobian(case.model, case.batches).to_scipy()
    draw = np.random.default_rng(0)
    v, w = draw.normal(size=(A.shape[1], 2)), draw.normal(size=A.shape[0])
    assert np.allclose(A @ v, expected @ v)
    assert np.allclose(A @ v[:, 0], expected @ v[:, 0])
    assert np.allclose(A.T @ w, expected.T @ w)


def test_outputs_of_several_tensors_are_rows_too():
    torch.manual_seed(0)
    model = cases.Lambda(
        lambda x, a, b: {"a": a(x), "kept": torch.arange(3), "b": b(x)}, a=nn.Linear(8, 2), b=nn.Linear(8, 1)
    )
    x = torch.randn(4, 8)
    J = Jacobian(model, (x, torch.zeros(4)), parameters="*.weight")
    found = (J @ torch.eye(J.shape[1])).view(12, 24)
    assert torch.allclose(found[8:, 16:], x)
    assert torch.allclose(found[:8:2, :8], x)
    assert not found[:8, 16:].any()


def test_the_kernel_is_that_of_gradients():
    case = cases.make("attention", "cross_entropy")
    J = oracles.jacobian(case.model, case.batches)
    expected = J @ J.mT
    kernel = TangentKernel(case.model, case.batches)
    assert torch.allclose(kernel.to_dense(), expected)
    values = torch.linalg.eigvalsh(expected)
    top = kernel.eigenvalues(3, tolerance=1e-9)
    assert torch.allclose(top.eigenvalues, values[-3:])
    assert kernel.trace(products=90).value == pytest.approx(float(values.sum()))
    density = kernel.density(probes=40, steps=30)
    assert abs(density.mean - float(values.mean())) < 4 * density.mean_standard_error
    assert np.allclose(kernel.to_scipy() @ np.ones(30), expected.numpy() @ np.ones(30))


def test_the_kernel_of_a_linear_model_has_its_closed_form():
    x = torch.randn(7, 4).double()
    kernel = TangentKernel(nn.Linear(4, 2).double(), (x, torch.zeros(7)))
    assert torch.allclose(kernel.to_dense(), torch.kron(x @ x.mT + 1, torch.eye(2).double()))


def test_what_autograd_holds_constant_has_no_derivative():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(4, 3, padding_idx=0), nn.Flatten(), nn.Linear(6, 2)).double()
    nn.init.normal_(model[0].weight)
    data = torch.tensor([[0, 1], [2, 0], [3, 3]]), torch.zeros(3)
    J = Jacobian(model, data)
    assert torch.allclose(J @ torch.eye(J.shape[1]).double(), oracles.jacobian(model, [data]))
    assert not (J @ torch.eye(J.shape[1]).double())[:, :3].any()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # curvlinops' own dependency calls it
def test_curvlinops_agrees():
    from curvlinops import JacobianLinearOperator, TransposedJacobianLinearOperator

    case = cases.make("tanh", "cross_entropy")
    J = Jacobian(case.model, case.batches)
    given = case.model, list(case.model.parameters()), case.batches
    v, w = (torch.randn(n, dtype=torch.float64) for n in J.shape[::-1])
    assert torch.allclose(J @ v, JacobianLinearOperator(*given) @ v)
    assert torch.allclose(J.T @ w, TransposedJacobianLinearOperator(*given) @ w)


def test_it_stays_that_of_the_weights_it_was_made_with_and_changes_nothing():
    case = cases.make("tanh", "cross_entropy")
    state = copy.deepcopy(case.model.state_dict())
    for memory in (None, 100):
        J = Jacobian(case.model, case.batches, memory=memory)
        assert all(torch.equal(t, state[name]) for name, t in case.model.state_dict().items())
        v = torch.ones(J.shape[1], dtype=torch.float64)
        before = J @ v
        with torch.no_grad():
            case.model[0].weight.add_(1.0)
        assert torch.equal(J @ v, before)
        case.model.load_state_dict(state)


class Wrong(torch.autograd.Function):
    """A sine whose derivative is off by a tenth."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx, g):
        return 1.1 * g * torch.cos(ctx.saved_tensors[0])


def test_what_is_wrong_or_does_not_fit_is_refused():
    x, y = torch.randn(6, 8), torch.zeros(6)
    wrong = cases.around(cases.Lambda(Wrong.apply))
    with pytest.raises(CheckFailed, match="some layer's derivative is wrong"):
        Jacobian(wrong, (x, y))
    with pytest.raises(NotDifferentiable, match="differentiate twice"):
        Jacobian(cases.around(cases.Lambda(lambda z: torch.cdist(z, torch.ones(8, 8)))), (x, y))
    with pytest.raises(BadData, match="real numbers"):
        Jacobian(cases.Lambda(lambda x, a: a(x).argmax(1), a=nn.Linear(8, 3)), (x, y))
    kernel = TangentKernel(nn.Linear(8, 3), (x, y))
    with pytest.raises(TooLarge, match="18 rows"):
        kernel.to_dense(memory="1kB")
    with pytest.raises(SettingError, match=r"\(18,\)"):
        kernel @ torch.ones(4)
