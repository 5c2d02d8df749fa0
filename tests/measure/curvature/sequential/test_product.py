"""Products layer by layer, against the dense Hessian by rows of a kept graph and against whole Jacobians."""

import signal

import pytest
import torch
from torch import nn

import oracles
from theodolite.errors import BadData, SettingError
from theodolite.measure import HessianOperator, hessian_trace
from theodolite.measure.curvature import layer_trace
from theodolite.measure.curvature.sequential.product import chained
from theodolite.measure.problem.join import objective


def moved(model):
    """Running statistics that are not the defaults, in evaluation mode."""
    model = model.double()
    for _ in range(3):
        model(2 + torch.randn(10, 2, 6, 6, dtype=torch.float64))
    return model.eval()


CHAINS = {
    "tanh": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(72, 4), nn.Tanh(), nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3)
    ),
    "no_bias": lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, 4, bias=False), nn.Sigmoid(), nn.Linear(4, 3)),
    "perceptron": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(72, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 5, bias=False), nn.Identity(), nn.GELU(),
        nn.Linear(5, 3),
    ).eval(),
    "convolution": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=(1, 2), dilation=(1, 2)), nn.Softplus(), nn.Conv2d(3, 2, 2), nn.Flatten(),
        nn.Linear(8, 3),
    ),
    "pool": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.Tanh(), nn.MaxPool2d(3, 1, 1), nn.Conv2d(3, 2, 3), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(2, 3),
    ),
    "average": lambda: nn.Sequential(
        nn.AvgPool2d(2), nn.Conv2d(2, 4, 2), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ),
    "batch_norm": lambda: moved(nn.Sequential(
        nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, affine=False), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Dropout2d(), nn.Flatten(), nn.Linear(12, 4), nn.BatchNorm1d(4), nn.ELU(), nn.Dropout(), nn.Linear(4, 3),
    )),
    "signal": lambda: nn.Sequential(
        nn.Flatten(2), nn.Conv1d(2, 3, 5, padding=1), nn.Mish(), nn.MaxPool1d(4), nn.Sequential(nn.Flatten()),
        nn.Linear(24, 3),
    ),
}  # fmt: skip


def problem(name):
    torch.manual_seed(0)
    model = CHAINS[name]().double()
    data = [(torch.randn(n, 2, 6, 6, dtype=torch.float64), torch.randint(0, 3, (n,))) for n in (5, 1, 4)]
    return model, nn.CrossEntropyLoss(), data


@pytest.mark.parametrize("name", list(CHAINS))
@pytest.mark.parametrize("operator", ["hessian", "ggn"])
def test_chains_agree_with_the_dense_matrix_one_by_one_and_in_blocks(name, operator):
    model, loss, data = problem(name)
    dense = oracles.hessian if operator == "hessian" else oracles.gauss_newton
    expected = dense(model, loss, data)
    H = HessianOperator(model, loss, data, operator=operator)
    assert H.path == "layer by layer"
    block = H @ torch.eye(len(expected), dtype=torch.float64)
    assert torch.allclose(block, expected, rtol=1e-9, atol=1e-13)
    v = torch.randn(len(expected), dtype=torch.float64)
    assert torch.allclose(H @ v, expected @ v, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("pattern", ["0.*", "*.bias", "7.weight", "8.*"])
def test_a_part_of_a_chain_has_its_block_of_the_matrix(pattern):
    model, loss, data = problem("batch_norm")
    whole = oracles.hessian(model, loss, data)
    H = HessianOperator(model, loss, data, parameters=pattern)
    names = [n for n, p in model.named_parameters() for _ in range(p.numel())]
    kept = [i for i, n in enumerate(names) if n in H.objective.names]
    assert H.path == "layer by layer"
    assert torch.allclose(H @ torch.eye(len(kept)).double(), whole[kept][:, kept], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("pattern", ["1.*", "1.bias", "4.*", "*.weight", "7.bias"])
@pytest.mark.parametrize("operator", ["hessian", "ggn"])
def test_one_direction_through_a_part_of_a_perceptron_has_its_block(pattern, operator):
    model, loss, data = problem("perceptron")
    dense = oracles.hessian if operator == "hessian" else oracles.gauss_newton
    whole = dense(model, loss, data)
    H = HessianOperator(model, loss, data, operator=operator, parameters=pattern)
    names = [n for n, p in model.named_parameters() for _ in range(p.numel())]
    kept = [i for i, n in enumerate(names) if n in H.objective.names]
    assert H.path == "layer by layer"
    v = torch.randn(len(kept), dtype=torch.float64)
    assert torch.allclose(H @ v, whole[kept][:, kept] @ v, rtol=1e-9, atol=1e-12)


def test_any_loss_will_do():
    model, _, data = problem("tanh")

    def root(outputs, targets):
        return (outputs.softmax(-1)[torch.arange(len(targets)), targets] + 0.1).log().mean().exp().sqrt()

    expected = oracles.hessian(model, root, data)
    H = HessianOperator(model, root, data)
    assert H.path == "layer by layer"
    assert torch.allclose(H @ torch.eye(len(expected)).double(), expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4)),  # statistics of the batch
        nn.Sequential(nn.Linear(8, 4), nn.LayerNorm(4)),
        nn.Sequential(nn.Unflatten(1, (4, 2)), nn.Conv1d(4, 4, 1, groups=2)),
        nn.Sequential(nn.Unflatten(1, (4, 2)), nn.Conv1d(4, 4, 1, padding="same")),
        nn.Sequential(*[nn.Linear(8, 8)] * 2),
    ],
)
def test_what_has_no_passes_here_takes_the_graph(model):
    whole = objective(model, lambda o, t: o.pow(2).mean(), (torch.randn(6, 8), torch.zeros(6)))
    assert chained(whole) is None


class Doubled(nn.Linear):
    """A layer that is not what its base class does."""

    def forward(self, x):
        return 2 * super().forward(x) ** 2


def test_a_layer_that_only_looks_known_goes_operation_by_operation():
    model = nn.Sequential(Doubled(8, 3)).double()
    data = torch.randn(6, 8).double(), torch.zeros(6, 3).double()
    H = HessianOperator(model, nn.MSELoss(), data)
    expected = oracles.hessian(model, nn.MSELoss(), [data])
    assert H.path == "operation by operation"
    assert torch.allclose(H @ torch.eye(27).double(), expected, rtol=1e-9)


def test_a_layer_with_another_forward_is_noticed_by_its_product():
    model = nn.Sequential(nn.Linear(8, 3), nn.Tanh()).double()
    model[0].forward = lambda x: nn.functional.linear(x, model[0].weight, model[0].bias) ** 2
    data = torch.randn(6, 8).double(), torch.zeros(6, 3).double()
    H = HessianOperator(model, nn.MSELoss(), data)
    assert H.path == "operation by operation"
    assert torch.allclose(H @ torch.eye(27).double(), oracles.hessian(model, nn.MSELoss(), [data]), rtol=1e-9)


def test_inputs_that_were_written_to_are_noticed():
    model, loss, data = problem("tanh")
    H = HessianOperator(model, loss, data)
    data[0][0].mul_(2)
    with pytest.raises(BadData, match="written"):
        _ = H @ torch.ones(H.shape[0])


@pytest.mark.parametrize("name", list(CHAINS))
@pytest.mark.parametrize("operator", ["hessian", "ggn"])
def test_the_trace_layer_by_layer_is_exact_with_as_many_draws_as_directions(name, operator):
    model, loss, data = problem(name)
    dense = oracles.hessian if operator == "hessian" else oracles.gauss_newton
    expected = float(dense(model, loss, data).trace())
    found = hessian_trace(model, loss, data, operator=operator, products=400)
    assert (found.method, found.products, found.standard_error) == ("layer by layer", 0, 0)
    assert found.value == pytest.approx(expected, rel=1e-10)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["convolution", "batch_norm", "signal"])
@pytest.mark.parametrize("operator", ["hessian", "ggn"])
def test_with_fewer_draws_it_is_within_its_error(name, operator):
    model, loss, data = problem(name)
    dense = oracles.hessian if operator == "hessian" else oracles.gauss_newton
    expected = float(dense(model, loss, data).trace())
    found = [
        hessian_trace(model, loss, data, method="layer by layer", operator=operator, products=6, seed=seed)
        for seed in range(30)
    ]
    scores = torch.tensor([(each.value - expected) / each.standard_error for each in found])
    assert (scores.abs() < 3).sum() >= 26  # Student's t with 5 degrees of freedom: 97 % of them
    assert abs(float(torch.tensor([each.value for each in found]).mean()) - expected) < 4 / 30**0.5 * max(
        each.standard_error for each in found
    )


def test_the_trace_of_a_part_is_that_part_of_the_diagonal():
    model, loss, data = problem("batch_norm")
    diagonal = oracles.hessian(model, loss, data).diagonal()
    at = 0
    for name, parameter in model.named_parameters():
        part = float(diagonal[at : (at := at + parameter.numel())].sum())
        found = hessian_trace(model, loss, data, parameters=name, products=400)
        assert found.value == pytest.approx(part, rel=1e-9, abs=1e-13)


def test_samples_that_meet_in_the_loss_leave_the_trace_to_products():
    model, _, data = problem("tanh")

    def together(outputs, _):
        return outputs.square().mean() + outputs.mean() ** 2

    expected = float(oracles.hessian(model, together, data[:1]).trace())
    found = hessian_trace(model, together, data[:1], products=1200)
    assert found.method == "hutch++"
    assert found.value == pytest.approx(expected, rel=1e-10)
    with pytest.raises(SettingError, match="plain chain"):
        hessian_trace(model, together, data[:1], method="layer by layer")


def test_an_interrupted_trace_comes_back_from_the_draws_done(monkeypatch):
    model, loss, data = problem("convolution")
    expected = float(oracles.hessian(model, loss, data).trace())
    calls = []
    original = layer_trace._sampled

    def pressed(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return original(*arguments)

    monkeypatch.setattr(layer_trace, "_sampled", pressed)
    monkeypatch.setattr(HessianOperator, "together", 4)
    found = hessian_trace(model, loss, data, products=20)
    assert found.interrupted
    assert len(calls) == 6  # two convolutions of three batches: one group of draws, and it is whole
    assert abs(found.value - expected) < 5 * found.standard_error
