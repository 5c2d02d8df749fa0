"""Whatever the caller has set around a measurement, the number is that of the model, and the setting stays."""

from contextlib import suppress

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from states import STATES, WRAPPED
from theodolite import measure


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.LayerNorm(5), nn.Linear(5, 3))


def data():
    torch.manual_seed(7)
    x, y = torch.randn(30, 4), torch.randint(0, 3, (30,))
    return [(x[:20], y[:20]), (x[20:], y[20:])]


DATA, OTHER, THIRD, ONES = data(), network(1), network(2), torch.ones(53)
OUTPUTS = torch.ones(90)
SMOOTH = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3))
INSTRUMENTS = {
    "gradient_norm": lambda m: measure.gradient_norm(m, cross_entropy, DATA).value,
    "sensitivity": lambda m: measure.sensitivity(m, cross_entropy, DATA).per_sample,
    "sharpness": lambda m: measure.sharpness(m, cross_entropy, DATA, starts=2, iterations=2).value,
    "sam": lambda m: measure.sharpness(m, cross_entropy, DATA, method="sam").value,
    "eigenvalues": lambda m: measure.hessian_eigenvalues(m, cross_entropy, DATA, k=2).eigenvalues,
    "trace": lambda m: measure.hessian_trace(m, cross_entropy, DATA).value,
    "density": lambda m: measure.hessian_density(m, cross_entropy, DATA, probes=2, steps=10).density,
    "spectrum": lambda m: measure.hessian_spectrum(m, cross_entropy, DATA).eigenvalues,
    "minimal_ratio": lambda m: measure.minimal_ratio(m, cross_entropy, DATA).value,
    "interpolate": lambda m: measure.interpolate(m, OTHER, cross_entropy, DATA, [0.0, 0.5, 1.5]).loss,
    "surface": lambda m: measure.surface(m, cross_entropy, DATA, x=[-1.0, 0.0, 1.0], y=[0.0, 0.5]).loss,
    "connect": lambda m: measure.connect(m, OTHER, cross_entropy, DATA, epochs=2, points=5).loss,
    "trajectory": lambda m: measure.trajectory([n.state_dict() for n in (m, OTHER, THIRD)]).distance_from_start,
    "critical": lambda m: [
        p.loss for p in measure.find_critical_points(SMOOTH, cross_entropy, DATA, 3, steps=5, weight_decay=0.01)
    ],
    "product": lambda m: measure.HessianOperator(m, cross_entropy, DATA) @ ONES,
    "jacobian": lambda m: measure.Jacobian(m, DATA) @ ONES,
    "its transpose": lambda m: measure.Jacobian(m, DATA).T @ OUTPUTS,
    "tangent_kernel": lambda m: measure.TangentKernel(m, DATA) @ OUTPUTS,
    "diagonal": lambda m: measure.hessian_diagonal(m, cross_entropy, DATA, products=9).diagonal,
    "blocks": lambda m: measure.hessian_blocks(m, cross_entropy, DATA, k=1, probes=2, steps=5).eigenvalues,
    "noise": lambda m: measure.gradient_noise_scale(m, cross_entropy, DATA).value,
    "edge": lambda m: measure.edge_of_stability(m, cross_entropy, DATA, sgd(m)).value,
    "align": lambda m: measure.align(m, OTHER, method="activations", data=DATA).distance,
}


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def expected(name):
    return torch.as_tensor(INSTRUMENTS[name](network()), device="cpu")


@pytest.mark.sampled(4)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", INSTRUMENTS)
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_the_number_is_that_without_the_callers_state(name, state):
    model, truth = network(), expected(name)
    with STATES[state]():
        found = INSTRUMENTS[name](model)
    found = torch.as_tensor(found, device="cpu").to(truth)
    assert torch.allclose(found, truth, rtol=1e-5, atol=1e-6 * float(truth.abs().max()))


@pytest.mark.sampled(4)
@pytest.mark.parametrize("wrapper", WRAPPED)
@pytest.mark.parametrize("name", sorted(set(INSTRUMENTS) - {"trajectory", "critical"}))
def test_the_number_is_that_of_the_module_within(name, wrapper):
    model = network()
    found = INSTRUMENTS[name](WRAPPED[wrapper](model))
    assert torch.allclose(torch.as_tensor(found), expected(name), rtol=1e-6, atol=1e-9)


def test_a_graph_of_the_users_is_still_good_after_a_measurement():
    model = network()
    x, y = DATA[0]
    loss = cross_entropy(model(x), y)
    for name in ("gradient_norm", "eigenvalues", "sharpness", "surface", "interpolate"):
        INSTRUMENTS[name](model)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_weights_are_put_back_when_a_measurement_is_interrupted():
    model = network()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    calls = 0

    def loss(outputs, targets):
        nonlocal calls
        calls += 1
        if calls == stop:
            raise KeyboardInterrupt
        return cross_entropy(outputs, targets)

    for stop in range(1, 25):
        calls = 0
        with suppress(KeyboardInterrupt):
            measure.hessian_eigenvalues(model, loss, DATA, k=1)
        assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items()), stop
        assert all(isinstance(p, nn.Parameter) for p in model._modules["0"]._parameters.values())
