import contextlib
import copy

import pytest
import torch
from torch import nn

from theodolite.errors import BadModel, SettingError
from theodolite.measure.align import align
from theodolite.measure.interpolate import interpolate
from theodolite.measure.units import each, made, read


def mlp():
    layers = nn.Linear(16, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 8), nn.PReLU(8), nn.Linear(8, 3)
    return nn.Sequential(nn.Flatten(), *layers, nn.LogSoftmax(1))


def cnn():
    first = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.PReLU(), nn.MaxPool2d(2)
    body = nn.Sequential(*first, nn.Conv2d(6, 5, 3, padding=1), nn.Tanh())
    return nn.Sequential(
        body, nn.Flatten(), nn.BatchNorm1d(20), nn.Dropout(), nn.Linear(20, 7), nn.GELU(), nn.Linear(7, 3)
    )


NETWORKS = {"MLP": mlp, "CNN": cnn}
DATA = torch.randn(64, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64), torch.arange(64) % 3
METHODS = {"weights": {}, "activations": {"method": "activations", "data": DATA}}


def network(name, seed):
    """With statistics and slopes that differ from unit to unit."""
    torch.manual_seed(seed)
    model = NETWORKS[name]().double()
    model(DATA[0])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_aligned_network_computes_the_same_function(name, method):
    a, b = network(name, 1), network(name, 2)
    result = align(a, b, **METHODS[method])
    assert any(result.moved)
    assert torch.allclose(result.model(DATA[0]), b(DATA[0]), rtol=1e-12, atol=1e-13)
    assert torch.equal(result.model(DATA[0]).argmax(1), b(DATA[0]).argmax(1))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_network_whose_units_were_shuffled_is_found_again_bit_by_bit(name, method):
    a = network(name, 1)
    shuffled = align(network(name, 3), a).model  # a permuted by the permutations that match it to another network
    assert not all(torch.equal(p, q) for p, q in zip(a.parameters(), shuffled.parameters(), strict=True))
    found = align(a, shuffled, **METHODS[method])
    assert found.distance == 0
    for (tensor, p), q in zip(a.state_dict().items(), found.model.state_dict().values(), strict=True):
        assert torch.equal(p, q), tensor


def test_alignment_by_weights_finds_the_best_of_all_permutations_of_one_hidden_layer():
    from itertools import permutations

    torch.manual_seed(0)
    a, b = (nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double() for _ in range(2))

    def distance(order):
        parts = (a[0].weight - b[0].weight[order], a[0].bias - b[0].bias[order], a[2].weight - b[2].weight[:, order])
        return float(sum(p.detach().pow(2).sum() for p in parts) + (a[2].bias - b[2].bias).detach().pow(2).sum()) ** 0.5

    best = min(permutations(range(5)), key=lambda order: distance(list(order)))
    result = align(a, b)
    assert result.permutations[0].tolist() == list(best)
    assert result.distance == pytest.approx(distance(list(best)), rel=1e-12)
    assert result.distance_before == pytest.approx(distance(list(range(5))), rel=1e-12)


def test_alignment_never_moves_a_network_away_and_lowers_a_barrier_of_permutation_to_nothing():
    a = network("MLP", 1)
    shuffled = align(network("MLP", 3), a).model
    loss = nn.NLLLoss()
    before = interpolate(a, shuffled, loss, DATA, [0.25, 0.5, 0.75])
    after = interpolate(a, align(a, shuffled).model, loss, DATA, [0.25, 0.5, 0.75])
    assert before.barrier > 1e-3
    assert abs(after.barrier) < 1e-12


def test_activations_are_matched_over_batches_as_over_the_whole():
    a, b = network("CNN", 1), network("CNN", 2)
    X, y = DATA
    whole = align(a, b, method="activations", data=DATA)
    parts = align(a, b, method="activations", data=[(X[:7], y[:7]), (X[7:8], y[7:8]), (X[8:], y[8:])])
    assert [p.tolist() for p in whole.permutations] == [p.tolist() for p in parts.permutations]


def test_dead_units_do_not_disturb_the_match_of_the_others():
    a = nn.Sequential(nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        a[0].weight[1].zero_()
        a[0].bias[1] = -1.0
    b = copy.deepcopy(a)
    with torch.no_grad():
        order = [2, 0, 3, 1]
        b[0].weight.copy_(a[0].weight[order])
        b[0].bias.copy_(a[0].bias[order])
        b[2].weight.copy_(a[2].weight[:, order])
    result = align(a, b, method="activations", data=(DATA[0].flatten(1), DATA[1]))
    assert result.permutations[0].tolist() == [1, 3, 0, 2]


REFUSED = {
    "LocalResponseNorm": nn.Sequential(nn.Conv2d(1, 4, 3), nn.LocalResponseNorm(2), nn.Conv2d(4, 2, 3)),
    "without groups": nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Conv2d(4, 2, 3)),
    "nn.Flatten": nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(4, 2)),
    "nn.Sequential": nn.Transformer(4, 2, 1, 1, 4, batch_first=True),
}


@pytest.mark.parametrize("why", REFUSED)
def test_layers_without_a_known_permutation_are_refused_by_name(why):
    with pytest.raises(BadModel, match=why):
        align(REFUSED[why], copy.deepcopy(REFUSED[why]))


def test_tied_weights_are_refused():
    first = nn.Linear(4, 4)
    second = nn.Linear(4, 4)
    second.weight = first.weight
    model = nn.Sequential(first, nn.ReLU(), second)
    with pytest.raises(BadModel, match="tied"):
        align(model, copy.deepcopy(model))


def test_bad_requests_are_named(linear):
    with pytest.raises(SettingError, match="activations"):
        align(network("MLP", 1), network("MLP", 2), method="activations")
    with pytest.raises(SettingError, match="'magic'"):
        align(network("MLP", 1), network("MLP", 2), method="magic")
    with pytest.raises(BadModel, match=r"0\.0\.weight"):
        align(network("CNN", 1), network("MLP", 2))


def test_network_without_hidden_layer_stays_as_it_is(linear):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    assert align(model, copy.deepcopy(model)).permutations == ()


class Loud(nn.Module):
    """Dropout, and batch statistics, whatever they are fed."""

    def __init__(self):
        super().__init__()
        self.up, self.norm, self.drop = nn.Linear(16, 6), nn.BatchNorm1d(6), nn.Dropout(0.5)
        self.down = nn.Linear(6, 3)

    def forward(self, x):
        return self.down(self.drop(torch.relu(self.norm(self.up(x.flatten(1))))))


AROUND = {
    "nothing": contextlib.nullcontext,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "another device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("around", AROUND)
def test_what_is_set_around_alignment_changes_nothing_and_stays(around, method):
    torch.manual_seed(3)
    a, b = Loud().double(), Loud().double()
    if method == "weights":
        a.train(), b.train()
    else:
        a.eval(), b.eval()
    b.down.weight.requires_grad_(False)
    units = {"hidden": [*made(a, "up"), *each(a, "norm"), *read(a, "down")]}
    plain = align(a, b, units=units, **METHODS[method])
    before = copy.deepcopy([m.state_dict() for m in (a, b)]), torch.get_rng_state()
    with AROUND[around]():
        found = align(a, b, units=units, **METHODS[method])
    assert [p.tolist() for p in found.permutations] == [p.tolist() for p in plain.permutations]
    assert found.check_error < 1e-12
    assert torch.equal(before[1], torch.get_rng_state())
    for model, state in zip((a, b), before[0], strict=True):
        assert all(torch.equal(t, state[n]) for n, t in model.state_dict().items())
    for model in (b, found.model):
        assert all(m.training == (method == "weights") for m in model.modules())
        assert [p.requires_grad for p in model.parameters()] == [True] * 4 + [False, True]
        assert all(p.grad is None for p in model.parameters())
    found.model(DATA[0]).sum().backward()  # it can be trained on


def test_frozen_networks_are_aligned_too():
    a, b = network("MLP", 1).requires_grad_(False), network("MLP", 2).requires_grad_(False)
    assert align(a, b).moved == align(network("MLP", 1), network("MLP", 2)).moved
    assert not any(p.requires_grad for p in align(a, b).model.parameters())
