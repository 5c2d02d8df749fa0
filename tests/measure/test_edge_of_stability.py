"""The edge of stability against optimizers of PyTorch's that are run on either side of it."""

import math

import pytest
import torch
from torch import nn

import cases
import oracles
from theodolite.measure import edge_of_stability

CURVATURES = torch.tensor([0.3, 1.0]).double()  # of a parabola in two weights
LOSS = nn.MSELoss()
WIDE = 1e4  # an ε beside which second moments are nothing: P is held still

OPTIMIZERS = {
    "gradient descent": (torch.optim.SGD, {}),
    "heavy ball": (torch.optim.SGD, {"momentum": 0.9}),
    "heavy ball, damped": (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
    "Nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "weight decay": (torch.optim.SGD, {"momentum": 0.5, "weight_decay": 0.3}),
    "RMSprop": (torch.optim.RMSprop, {"eps": WIDE}),
    "RMSprop with momentum": (torch.optim.RMSprop, {"eps": WIDE, "momentum": 0.8}),
    "Adam": (torch.optim.Adam, {"eps": WIDE}),
    "Adam, little momentum": (torch.optim.Adam, {"eps": WIDE, "betas": (0.3, 0.99)}),
    "Adam with weight decay": (torch.optim.Adam, {"eps": WIDE, "weight_decay": 0.2}),
    "AdamW": (torch.optim.AdamW, {"eps": WIDE, "weight_decay": 3e-7}),
}


def parabola():
    """L = Σ h w² / 2."""
    model = nn.Linear(2, 1, bias=False).double()
    return model, (torch.diag(CURVATURES.sqrt()), torch.zeros(2, 1).double())


def run(model, data, optimizer, steps, far=math.inf):
    """The largest weight on the way, and the largest at the end, which comes early where one is far out."""
    weights = [0.0]
    while len(weights) <= steps and weights[-1] <= far:
        optimizer.zero_grad()
        LOSS(model(data[0]), data[1]).backward()
        optimizer.step()
        weights.append(max(float(p.detach().abs().max()) for p in model.parameters()))
    return max(weights), weights[-1]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_shrinks_below_the_edge_and_grows_above_it(name):
    kind, settings = OPTIMIZERS[name]
    model, data = parabola()

    def made(rate):
        nn.init.zeros_(model.weight)
        optimizer = kind(model.parameters(), lr=rate, **settings)
        run(model, data, optimizer, 150)  # past the bias correction
        nn.init.constant_(model.weight, 1e-9)
        return optimizer

    rate = 1e-3 * settings.get("eps", 1.0)
    for share, side in ((0.97, "stable"), (1.03, "unstable")):
        for _ in range(6):  # the edge depends on the rate where weights decay by themselves
            found = edge_of_stability(model, LOSS, data, made(rate))
            rate *= share / found.value
            if abs(found.value - share) < 1e-6:
                break
        optimizer = made(rate)
        found = edge_of_stability(model, LOSS, data, optimizer)
        assert found.side == side
        assert found.value == pytest.approx(share, rel=2e-3)
        peak, after = run(model, data, optimizer, 1200, far=30e-9)  # beyond, second moments are no longer nothing
        assert (peak > 30e-9) == (side == "unstable")
        assert side == "unstable" or after < 1e-9


def test_rates_of_groups_and_weight_decay_are_in_the_matrix():
    case = cases.make("tanh", "cross_entropy")
    model = case.model
    groups = [
        {"params": model[0].parameters(), "lr": 0.3, "weight_decay": 0.0},
        {"params": model[2].parameters(), "lr": 0.1, "weight_decay": 0.05},
    ]
    size = sum(p.numel() for p in model[0].parameters())
    H = oracles.of_case("tanh", "cross_entropy")
    rate = torch.full((len(H),), 0.1, dtype=torch.float64)
    rate[:size] = 0.3
    decay = torch.where(rate == 0.1, 0.05, 0.0)
    dense = rate.sqrt()[:, None] * (H + decay.diag()) * rate.sqrt()
    found = edge_of_stability(model, case.loss, case.batches, torch.optim.SGD(groups), tolerance=1e-10)
    assert found.eigenvalue == pytest.approx(float(torch.linalg.eigvalsh(dense)[-1]))
    assert found.value == pytest.approx(found.eigenvalue / 2)
    assert found.sharpness == pytest.approx(found.eigenvalue / 0.3)
    assert found.converged


def test_an_edge_within_the_residual_is_undecided():
    case = cases.make("tanh", "cross_entropy")
    top = float(torch.linalg.eigvalsh(oracles.of_case("tanh", "cross_entropy"))[-1])
    optimizer = torch.optim.SGD(case.model.parameters(), lr=2 / top)
    found = edge_of_stability(case.model, case.loss, case.batches, optimizer, tolerance=0.1)
    assert found.residual > 0
    assert found.side == "undecided"


def test_full_batch_training_comes_to_the_edge_and_stays_there():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1)).double()
    x = torch.randn(30, 4).double()
    data = x, torch.sin(3 * x[:, :1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    values = []
    for _ in range(6):
        values.append(edge_of_stability(model, LOSS, data, optimizer).value)
        run(model, data, optimizer, 500)
    assert values[0] < 0.6
    assert all(0.9 < value < 1.1 for value in values[-2:]), values
