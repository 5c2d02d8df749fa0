"""Specifications written by hand: of recurrent networks, concatenated features, one's own classes; and wrong ones."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from networks import drawn, same, shuffled
from theodolite.errors import BadModel, CheckFailed, NotDeterministic, SettingError, UnknownName
from theodolite.measure.align import align
from theodolite.measure.units import Axis, made, read

X = torch.randn(9, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Recurrent(nn.Module):
    """Two LSTM layers, whose hidden units each have a row in four gates and read one another."""

    def __init__(self):
        super().__init__()
        self.lstm, self.out = nn.LSTM(5, 7, 2, batch_first=True), nn.Linear(7, 3)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])

    def units(self, gates=4):
        rows = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return {
            f"layer {i}": [
                *(Axis(f"lstm.{row}_l{i}", 0, outer=gates) for row in rows), Axis(f"lstm.weight_hh_l{i}", 1),
                Axis("out.weight" if i else "lstm.weight_ih_l1", 1),
            ]
            for i in range(2)
        }  # fmt: skip


class Dense(nn.Module):
    """As in DenseNet: the last layer reads what two others made, side by side."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(5, 6), nn.Linear(6, 4), nn.Linear(10, 2)

    def forward(self, x):
        first = torch.tanh(self.first(x))
        return self.last(torch.cat([first, torch.tanh(self.second(first))], -1))

    def units(self):
        return {
            "first": [*made(self, "first"), *read(self, "second"), Axis("last.weight", 1, stop=6)],
            "second": [*made(self, "second"), Axis("last.weight", 1, start=6)],
        }


class Masked(nn.Module):
    """Parameters without layers, and a mask as a buffer."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Parameter(torch.randn(5, 6)), nn.Parameter(torch.randn(6, 2))
        self.register_buffer("mask", torch.tensor([1.0, 0.5, 1.0, 0.0, 1.0, 0.25]))

    def forward(self, x):
        return torch.relu(x @ self.up) * self.mask @ self.down

    def units(self):
        return {"hidden": [Axis("up", -1), Axis("mask", 0), Axis("down", 0)]}


CLASSES = [Recurrent, Dense, Masked]


@pytest.mark.parametrize("kind", CLASSES)
def test_classes_of_ones_own_compute_the_same_function_and_are_found_again(kind):
    a, b = drawn(kind, 1), drawn(kind, 2)
    result = align(a, b, units=a.units(), data=(X, X))
    assert any(result.moved)
    assert torch.allclose(result.model(X), b(X), rtol=1e-11, atol=1e-12)
    other = shuffled(a, a.units())
    assert torch.allclose(other(X), a(X), rtol=1e-11, atol=1e-12)
    assert same(a, align(a, other, units=a.units(), data=(X, X)).model)


def test_a_part_of_an_axis_is_permuted_as_by_hand():
    a = drawn(Dense, 1)
    b, order = copy.deepcopy(a), torch.tensor([3, 1, 0, 2])
    with torch.no_grad():
        for tensor in (b.second.weight, b.second.bias, b.last.weight.T[6:]):
            tensor.copy_(tensor[order].clone())
    result = align(a, b, units=a.units(), data=(X, X))
    assert same(a, result.model)
    assert result.moved == (0.0, 0.75)
    assert torch.equal(order[result.permutations[1]], torch.arange(4))


def test_both_axes_of_one_matrix_move_together_and_the_overlap_never_falls():
    from itertools import permutations

    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.inward, self.loop = nn.Linear(5, 4), nn.Linear(4, 4)
            self.outward = nn.Linear(4, 2)

        def forward(self, x):
            hidden = torch.tanh(self.inward(x))
            return self.outward(torch.tanh(hidden + self.loop(hidden)))

    units = {"hidden": [Axis(f"{m}.{n}", 0) for m in ("inward", "loop") for n in ("weight", "bias")]}
    units["hidden"] += [Axis("loop.weight", 1), Axis("outward.weight", 1)]
    seen = 0
    for seed in range(10):
        a, b = drawn(Loop, seed), drawn(Loop, seed + 100)

        def distance(order, a=a, b=b):
            o = list(order)
            pairs = [(a.inward.weight, b.inward.weight[o]), (a.inward.bias, b.inward.bias[o])]
            pairs += [(a.loop.weight, b.loop.weight[o][:, o]), (a.loop.bias, b.loop.bias[o])]
            pairs += [(a.outward.weight, b.outward.weight[:, o]), (a.outward.bias, b.outward.bias)]
            return float(sum((p - q).detach().pow(2).sum() for p, q in pairs)) ** 0.5

        result = align(a, b, units=units)
        assert result.distance == pytest.approx(distance(result.permutations[0].tolist()), rel=1e-12)
        assert result.distance <= result.distance_before
        seen += result.distance < 1.001 * min(map(distance, permutations(range(4))))
    assert seen >= 5  # a local optimum, most often the best


GOOD = {"hidden": [Axis("up", 1), Axis("mask", 0), Axis("down", 0)]}
WRONG = {
    "a name": ({"hidden": [Axis("upp", 1)]}, UnknownName, "Did you mean 'up'"),
    "an axis": ({"hidden": [Axis("up", 2)]}, SettingError, r"'up', which has shape \(5, 6\), got 2 in 'hidden'"),
    "no whole units": ({"hidden": [Axis("up", 1, outer=4)]}, SettingError, "6 numbers along axis 1 of 'up'"),
    "nothing between": ({"hidden": [Axis("up", 1, start=6)]}, SettingError, "start and stop"),
    "beyond the end": ({"hidden": [Axis("up", 1, stop=7)]}, SettingError, "start and stop"),
    "no blocks": ({"hidden": [Axis("up", 1, blocks=0)]}, SettingError, "at least one block"),
    "two kinds": ({**GOOD, "more": [Axis("mask", 0)]}, SettingError, "'mask' is in 'hidden' and again in 'more'"),
    "a text": ({"hidden": ["up"]}, SettingError, "as a list of Axis, got str"),
    "no axis": ({"hidden": []}, SettingError, "got none"),
    "a list": ([Axis("up", 1)], SettingError, r"got list. Pass for example units=resnet\(model\)"),
    "a buffer left out": ({"hidden": [Axis("up", 1), Axis("down", 0)]}, CheckFailed, "every tensor that holds them"),
    "the inputs": ({"inputs": [Axis("up", 0)]}, CheckFailed, "another|units="),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_units_that_are_none_are_refused_and_the_models_stay(case):
    units, error, why = WRONG[case]
    a, b = drawn(Masked, 1), drawn(Masked, 2)
    before = copy.deepcopy(b)
    with pytest.raises(error, match=why):
        align(a, b, units=units, data=(X, X))
    assert same(before, b)


def test_gates_that_were_forgotten_are_seen_in_the_outputs():
    a, b = drawn(Recurrent, 1), drawn(Recurrent, 2)
    with pytest.raises(CheckFailed):
        align(a, b, units=a.units(gates=1))


class Noisy(Masked):
    def forward(self, x):
        return super().forward(x) + torch.randn(2).to(x)


class Empty(Masked):
    def forward(self, x):
        return {"loss": None}


class Infinite(Masked):
    def forward(self, x):
        return super().forward(x) / 0


class Sloppy(Masked):
    """Computes in single precision, whatever it is given."""

    def forward(self, x):
        return (torch.relu(x.float() @ self.up.float()) * self.mask.float() @ self.down.float()).to(x)


class Single(Masked):
    """Takes nothing but single precision."""

    def forward(self, x):
        return super().forward(x.float())


class Split(Masked):
    """A large output that no unit reaches beside a small one."""

    def forward(self, x):
        return torch.stack([super().forward(x).sum(-1) * 1e-6, torch.ones(x.shape[:-1]).to(x)])


def test_models_that_cannot_be_compared_are_refused_by_what_is_the_matter():
    for kind, error, why in (
        (Noisy, NotDeterministic, "two passes"),
        (Empty, BadModel, "outputs that hold tensors of numbers, got dict"),
        (Infinite, BadModel, "NaN or infinite"),
    ):
        with pytest.raises(error, match=why):
            align(drawn(kind, 1), drawn(kind, 2), units=GOOD, data=(X, X))


def test_single_precision_within_is_allowed_for_and_nowhere_else():
    a, b = drawn(Sloppy, 1), drawn(Sloppy, 2)
    assert 1e-10 < align(a, b, units=GOOD, data=(X, X)).check_error < 1e-5
    a, b = drawn(Single, 1).float(), drawn(Single, 2).float()
    assert align(a, b, units=GOOD, data=(X.float(), X)).check_error < 1e-5
    a, b = drawn(Split, 1), drawn(Split, 2)
    assert align(a, b, units=GOOD, data=(X, X)).check_error < 1e-12
    with pytest.raises(CheckFailed):  # by 1e-6 of the largest output
        align(a, b, units={"hidden": [Axis("up", 1), Axis("down", 0)]}, data=(X, X))


def test_a_class_of_ones_own_without_units_is_told_where_to_find_them():
    with pytest.raises(BadModel, match=r"units=resnet\(model\) or gpt\(model\) of theodolite.measure.units"):
        align(drawn(Dense, 1), drawn(Dense, 2))


def test_weights_tied_under_two_names_move_once():
    class Tied(Dense):
        def __init__(self):
            super().__init__()
            self.twin = nn.Linear(5, 6)
            self.twin.weight = self.first.weight

        def forward(self, x):
            return super().forward(x) + torch.tanh(self.twin(x)).sum(-1, keepdim=True)

    def units(model):
        return {"first": [*made(model, "first"), *made(model, "twin"), *model.units()["first"][2:]]}

    a = drawn(Tied, 1)
    b = shuffled(a, units(a))
    assert torch.allclose(a(X), b(X), rtol=1e-12)
    result = align(a, b, units=units(a), data=(X, X))
    assert same(a, result.model)
    assert result.model.twin.weight is result.model.first.weight
    assert np.isclose(result.distance, 0)


class Graph(nn.Module):
    """What a node gets from the others is given for the whole batch."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x, adjacency):
        return self.down(adjacency @ torch.tanh(self.up(adjacency @ x)))


def test_a_batch_of_more_than_a_thousand_samples_is_cut_where_that_is_possible():
    a, b = drawn(Graph, 1), drawn(Graph, 2)
    nodes, adjacency = torch.randn(1100, 4, dtype=torch.float64), torch.eye(1100, dtype=torch.float64).roll(1, 0)
    units = {"hidden": [*made(a, "up"), *read(a, "down")]}
    result = align(a, b, units=units, data=((nodes, adjacency), torch.zeros(1100)))
    assert torch.allclose(result.model(nodes, adjacency), b(nodes, adjacency))

    a, b = drawn(Dense, 1), drawn(Dense, 2)
    sizes = []
    b.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    align(a, b, units=a.units(), data=(torch.randn(4000, 5, dtype=torch.float64), torch.zeros(4000)))
    assert set(sizes) <= {16, 1000}  # 16 for the check of the loss
