"""Chains of layers: what align gives computes what the model did, called plainly; shuffled copies are found again."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import prune, remove_weight_norm
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm
from torch.nn.utils.parametrize import remove_parametrizations

from networks import drawn, same, shuffled
from theodolite.errors import BadModel, CheckFailed, SettingError
from theodolite.measure.align import align
from theodolite.measure.units import Axis, made, read
from theodolite.measure.units.networks import chained


def normal(*shape):
    return torch.randn(12, *shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def of_old(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return old_weight_norm(layer)


IMAGE, TOKENS, SIGNAL = normal(2, 4, 4), normal(3, 4), normal(2, 6)
CHAINS = {  # made of, inputs
    "tokens, flattened": (lambda: [nn.Linear(4, 5), nn.Tanh(), nn.Flatten(), nn.Linear(15, 2)], TOKENS),
    "tokens, normalised where flat": (
        lambda: [nn.Linear(4, 5), nn.Flatten(), nn.BatchNorm1d(15), nn.LayerNorm(15), nn.Linear(15, 2)], TOKENS,
    ),
    "tokens, normalised over time": (
        lambda: [nn.Linear(4, 5), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(5, 2), nn.Flatten()], TOKENS,
    ),
    "tokens, LayerNorm over both": (lambda: [nn.Linear(4, 5), nn.LayerNorm((3, 5)), nn.Linear(5, 2)], TOKENS),
    "embedding": (
        lambda: [nn.Embedding(7, 5), nn.LayerNorm(5), nn.Linear(5, 6), nn.GELU(), nn.Flatten(), nn.Linear(18, 2)],
        torch.arange(36).reshape(12, 3) % 7,
    ),
    "RMSNorm": (lambda: [nn.Linear(4, 6), nn.RMSNorm(6), nn.Linear(6, 2)], TOKENS),
    "LayerNorm over channels and pixels": (
        lambda: [nn.Conv2d(2, 5, 3), nn.LayerNorm((5, 2, 2)), nn.Conv2d(5, 3, 2), nn.Flatten()], IMAGE,
    ),
    "LayerNorm over pixels": (
        lambda: [nn.Conv2d(2, 5, 3), nn.LayerNorm((2, 2)), nn.ReLU(), nn.Flatten(), nn.Linear(20, 3)], IMAGE,
    ),
    "GroupNorm": (lambda: [nn.Conv2d(2, 6, 3), nn.GroupNorm(2, 6), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3)], IMAGE),
    "GroupNorm without weights": (
        lambda: [nn.Conv2d(2, 6, 3), nn.GroupNorm(3, 6, affine=False), nn.ReLU(), nn.Conv2d(6, 3, 2)], IMAGE,
    ),
    "GroupNorm of one group": (lambda: [nn.Conv1d(2, 6, 3), nn.GroupNorm(1, 6), nn.Conv1d(6, 3, 2)], SIGNAL),
    "GroupNorm where flat": (
        lambda: [nn.Conv2d(2, 6, 3), nn.Flatten(), nn.GroupNorm(2, 24), nn.Tanh(), nn.Linear(24, 3)], IMAGE,
    ),
    "two kinds of groups": (
        lambda: [
            nn.Conv2d(2, 12, 1), nn.GroupNorm(3, 12), nn.Conv2d(12, 6, 3, groups=6), nn.ReLU(), nn.Conv2d(6, 3, 2),
        ],
        IMAGE,
    ),
    "InstanceNorm": (
        lambda: [
            nn.Conv1d(2, 5, 3), nn.InstanceNorm1d(5, affine=True, track_running_stats=True), nn.ReLU(),
            nn.Conv1d(5, 2, 2),
        ],
        SIGNAL,
    ),
    "convolution by channel": (
        lambda: [nn.Conv2d(2, 5, 1), nn.ReLU(), nn.Conv2d(5, 5, 3, groups=5), nn.ReLU(), nn.Conv2d(5, 3, 1)], IMAGE,
    ),
    "convolution by channel, first": (
        lambda: [nn.Conv2d(2, 2, 3, groups=2), nn.Conv2d(2, 5, 1), nn.Tanh(), nn.Conv2d(5, 3, 1)], IMAGE,
    ),
    "two channels of each": (
        lambda: [nn.Conv2d(2, 4, 1), nn.Conv2d(4, 8, 3, groups=4), nn.PReLU(8), nn.Flatten(), nn.Linear(32, 3)], IMAGE,
    ),
    "groups": (
        lambda: [nn.Conv2d(2, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 12, 3, groups=4), nn.ReLU(), nn.Conv2d(12, 3, 1)],
        IMAGE,
    ),
    "transposed": (
        lambda: [nn.ConvTranspose2d(2, 5, 2, stride=2), nn.BatchNorm2d(5), nn.ReLU(), nn.ConvTranspose2d(5, 3, 3)],
        IMAGE,
    ),
    "transposed, groups": (
        lambda: [
            nn.Conv2d(2, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2, groups=4), nn.ReLU(),
            nn.ConvTranspose2d(4, 3, 2),
        ],
        IMAGE,
    ),
    "upsampled and flattened by half": (
        lambda: [nn.Conv2d(2, 5, 3), nn.Upsample(scale_factor=2), nn.Flatten(2), nn.Conv1d(5, 3, 3)], IMAGE,
    ),
    "weight_norm": (lambda: [weight_norm(nn.Linear(4, 6)), nn.Tanh(), weight_norm(nn.Linear(6, 2))], TOKENS),
    "weight_norm by columns": (
        lambda: [weight_norm(nn.Linear(4, 6), dim=1), nn.Tanh(), weight_norm(nn.Linear(6, 2), dim=1)], TOKENS,
    ),
    "weight_norm of all": (
        lambda: [weight_norm(nn.Conv1d(2, 6, 3), dim=None), nn.Tanh(), weight_norm(nn.Conv1d(6, 2, 3), dim=None)],
        SIGNAL,
    ),
    "weight_norm, transposed": (
        lambda: [weight_norm(nn.ConvTranspose1d(2, 6, 3)), nn.Tanh(), weight_norm(nn.ConvTranspose1d(6, 2, 3))], SIGNAL,
    ),
}  # fmt: skip


def chain(name, seed):
    layers, inputs = CHAINS[name]
    return drawn(lambda: nn.Sequential(*layers()), seed, inputs), inputs


@pytest.mark.parametrize("method", ["weights", "activations"])
@pytest.mark.parametrize("name", CHAINS)
def test_an_aligned_chain_computes_the_same_function(name, method):
    (a, inputs), (b, _) = chain(name, 1), chain(name, 2)
    result = align(a, b, method=method, data=(inputs, inputs))
    assert any(result.moved)
    assert torch.allclose(result.model(inputs), b(inputs), rtol=1e-11, atol=1e-12)
    assert result.check_error < 1e-12


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_whose_units_were_shuffled_is_found_again_bit_by_bit(name):
    a, inputs = chain(name, 1)
    b = shuffled(a, chained(a))
    assert not same(a, b)
    assert torch.allclose(a(inputs), b(inputs), rtol=1e-11, atol=1e-12)
    found = align(a, b, data=(inputs, inputs))
    assert found.distance == 0
    assert same(a, found.model)


@pytest.mark.parametrize("name", CHAINS)
def test_without_data_a_chain_is_checked_on_inputs_that_it_takes(name):
    (a, inputs), (b, _) = chain(name, 1), chain(name, 2)
    result = align(a, b)
    assert result.check_error < 1e-12
    assert torch.allclose(result.model(inputs), b(inputs), rtol=1e-11, atol=1e-12)


def test_time_steps_that_are_flattened_keep_their_order_and_units_change_theirs_within_each():
    a = drawn(lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Flatten(), nn.Linear(15, 2)), 1)
    b = copy.deepcopy(a)
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        b[0].weight.copy_(a[0].weight[order])
        b[0].bias.copy_(a[0].bias[order])
        for step in range(3):
            b[3].weight[:, 5 * step : 5 * step + 5] = a[3].weight[:, 5 * step + order]
    assert torch.allclose(a(TOKENS), b(TOKENS), rtol=1e-12)
    result = align(a, b)
    assert same(a, result.model)
    assert torch.equal(order[result.permutations[0]], torch.arange(5))


def test_units_of_groups_stay_together_and_the_best_order_of_all_such_is_found():
    from itertools import permutations

    torch.manual_seed(0)
    a, b = (nn.Sequential(nn.Conv1d(2, 6, 1), nn.GroupNorm(3, 6), nn.Conv1d(6, 1, 1)).double() for _ in range(2))

    def distance(order):
        order = list(order)
        pairs = [(a[0].weight, b[0].weight[order]), (a[0].bias, b[0].bias[order])]
        pairs.append((a[2].weight, b[2].weight[:, order]))
        return float(sum((p - q).detach().pow(2).sum() for p, q in pairs))

    together = [o for o in permutations(range(6)) if all(o[i] // 2 == o[i + 1] // 2 for i in (0, 2, 4))]
    assert len(together) == 48
    assert align(a, b).permutations[0].tolist() == list(min(together, key=distance))


def test_one_channel_in_three_dimensions_of_layout_is_refused_or_right_where_features_and_steps_are_as_many():
    a, b = (drawn(lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), s) for s in (1, 2))
    with torch.no_grad():
        for model in (a, b):
            model[1].running_mean.copy_(torch.arange(4))
    inputs = normal(4, 4)
    with pytest.raises(CheckFailed, match="units="):  # BatchNorm1d takes the time steps for channels
        align(a, b, data=(inputs, inputs))
    flat = normal(4)
    assert torch.allclose(align(a, b, data=(flat, flat)).model(flat), b(flat))


REFUSED = {
    "Softmax": lambda: [nn.Linear(4, 4), nn.Softmax(-1), nn.Linear(4, 2)],
    "MaxPool1d": lambda: [nn.Linear(4, 4), nn.MaxPool1d(2), nn.Linear(2, 2)],
    "Bilinear": lambda: [nn.Linear(4, 4), nn.Bilinear(4, 4, 4), nn.Linear(4, 2)],
    "MultiheadAttention": lambda: [nn.Linear(4, 4), nn.MultiheadAttention(4, 2), nn.Linear(4, 2)],
    "along another axis": lambda: [nn.Linear(4, 3), nn.Conv1d(3, 4, 1), nn.Linear(4, 2)],
    "groups of time steps": lambda: [nn.Linear(4, 6), nn.Flatten(), nn.GroupNorm(2, 18), nn.Linear(18, 2)],
    "is the output": lambda: [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2)],
    "_SpectralNorm": lambda: [spectral_norm(nn.Linear(4, 4)), nn.ReLU(), nn.Linear(4, 2)],
    "_Orthogonal": lambda: [nn.Linear(4, 4), nn.ReLU(), orthogonal(nn.Linear(4, 2))],
    "hooks": lambda: [old_spectral_norm(nn.Linear(4, 4)), nn.ReLU(), nn.Linear(4, 2)],
    "without hooks": lambda: [prune.random_unstructured(nn.Linear(4, 4), "weight", 0.5), nn.ReLU(), nn.Linear(4, 2)],
    "without hooks, got": lambda: [of_old(nn.Linear(4, 4)), nn.ReLU(), nn.Linear(4, 2)],
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_not_known_to_permute_is_refused_by_name(why):
    with pytest.raises(BadModel, match=why):
        align(nn.Sequential(*REFUSED[why]()), nn.Sequential(*REFUSED[why]()))


def test_weights_that_are_computed_are_taken_once_they_are_stored_as_the_error_says():
    a, b = (nn.Sequential(spectral_norm(nn.Linear(4, 6)), nn.ReLU(), nn.Linear(6, 2)).double().eval() for _ in "ab")
    with pytest.raises(BadModel, match="remove_parametrizations"):
        align(a, b)
    for model in (a, b):
        remove_parametrizations(model[0], "weight")
    inputs = normal(4)
    assert torch.allclose(align(a, b).model(inputs), b(inputs))


def test_weights_that_a_hook_computes_are_taken_once_it_is_removed_as_the_error_says():
    a, b = (nn.Sequential(of_old(nn.Linear(4, 6)), nn.ReLU(), nn.Linear(6, 2)).double() for _ in "ab")
    with pytest.raises(BadModel, match="remove_weight_norm"):
        align(a, b)
    with pytest.raises(BadModel, match="remove_weight_norm"):
        made(a, "0")
    rows = [Axis("0.weight_g", 0), Axis("0.weight_v", 0), Axis("0.bias", 0), *read(a, "2")]
    with pytest.raises(BadModel, match="that can be copied"):  # PyTorch copies no tensor that was computed
        align(a, b, units={"hidden": rows})
    for model in (a, b):
        remove_weight_norm(model[0])
    inputs = normal(4)
    assert torch.allclose(align(a, b).model(inputs), b(inputs))


def test_a_chain_for_which_no_inputs_are_found_asks_for_data_and_takes_it():
    def make():
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 3 * 5, 2))

    a, b = (drawn(make, seed) for seed in (1, 2))
    with pytest.raises(SettingError, match=r"Pass data=\(inputs, targets\)"):
        align(a, b)
    inputs = normal(1, 5, 7)
    assert torch.allclose(align(a, b, data=(inputs, torch.zeros(12))).model(inputs), b(inputs))
