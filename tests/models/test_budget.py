"""Budgets against brute force and the report's own counts."""

import time
from itertools import product

import pytest

from theodolite.errors import BudgetError, SettingError
from theodolite.models.budget import architectures, parse_image
from theodolite.models.description import CNN, MLP

REPORT = [  # count, layers, the rest, and hidden widths or channels and widths that have it
    (671, 4, {}, MLP(inputs=1, hidden=(15, 19, 16), outputs=1)),
    (675, 6, {}, MLP(inputs=1, hidden=(13, 12, 12, 12, 12), outputs=1)),
    (740, 4, {}, MLP(inputs=1, hidden=(19, 17, 19), outputs=1)),
    (640_815, 4, {"inputs": 3072}, MLP(inputs=3072, hidden=(200, 100, 55), outputs=10)),
    (2_932_360, 5, {"inputs": 3072}, MLP(inputs=3072, hidden=(850, 310, 170, 20), outputs=10)),
    (626_085, 5, {"inputs": 3072}, MLP(inputs=3072, hidden=(190, 170, 55, 5), outputs=10)),
    (134_249, 5, {"kind": "cnn"}, CNN(image=(3, 32, 32), channels=(30, 12, 15), hidden=(512,), outputs=10)),
    (225_738, 6, {"kind": "cnn"}, CNN(image=(3, 32, 32), channels=(12, 64, 96), hidden=(100, 84), outputs=10)),
    (259_234, 6, {"kind": "cnn"}, CNN(image=(3, 32, 32), channels=(16, 96, 128), hidden=(64, 40), outputs=10)),
]


@pytest.mark.parametrize(("count", "layers", "rest", "known"), REPORT)
def test_every_count_of_the_report_is_hit_within_two_seconds(count, layers, rest, known):
    started = time.process_time()
    found = architectures(count, layers, outputs=known.outputs, **rest)
    assert time.process_time() - started < 2
    assert found
    assert {(a.parameters, a.layers, a.outputs) for a in (*found, known)} == {(count, layers, known.outputs)}


@pytest.mark.parametrize(("count", "layers", "rest", "known"), REPORT[:3])
def test_the_most_balanced_shapes_of_the_small_networks_come_first(count, layers, rest, known):
    assert architectures(count, layers)[0] == known


def brute_force(count: int, layers: int, inputs: int, outputs: int) -> set[tuple[int, ...]]:
    shapes = product(range(1, count + 1), repeat=layers - 1)
    return {h for h in shapes if MLP(inputs=inputs, hidden=h, outputs=outputs).parameters == count}


@pytest.mark.parametrize(("layers", "inputs", "outputs"), [(1, 2, 3), (2, 1, 1), (3, 1, 1), (3, 2, 3), (4, 1, 2)])
def test_small_budgets_give_what_brute_force_gives(layers, inputs, outputs):
    hits = 0
    for count in range(1, 32):
        expected = brute_force(count, layers, inputs, outputs)
        if not expected:
            with pytest.raises(BudgetError):
                architectures(count, layers, inputs=inputs, outputs=outputs)
            continue
        found = architectures(count, layers, inputs=inputs, outputs=outputs, limit=10_000)
        assert {a.hidden for a in found} == expected
        hits += len(expected)
    assert hits


def test_the_nearest_counts_are_named_where_none_is_exact():
    message = (
        "no multilayer perceptron with 4 layers from 1 input to 1 output has exactly 12 parameters; "
        "the closest have 11 and 14. Pass tolerance=1, or another number of layers."
    )
    with pytest.raises(BudgetError) as caught:
        architectures(12, 4)
    assert str(caught.value) == message
    assert brute_force(11, 4, 1, 1)
    assert brute_force(14, 4, 1, 1)
    assert not brute_force(13, 4, 1, 1)


def test_a_count_below_the_smallest_names_the_smallest():
    with pytest.raises(BudgetError, match=r"the closest has 8\. Pass tolerance=5,"):
        architectures(3, 4)  # hidden (1, 1, 1): 2 + 2 + 2 + 2


def test_one_layer_has_one_count():
    assert architectures(30, 1, inputs=9, outputs=3)[0].hidden == ()
    with pytest.raises(BudgetError, match="the closest has 30"):
        architectures(31, 1, inputs=9, outputs=3)


def test_a_tolerance_takes_nearer_counts_first():
    counts = [a.parameters for a in architectures(12, 4, tolerance=2, limit=100)]
    assert set(counts) == {11, 14}
    assert counts == sorted(counts, key=lambda count: abs(count - 12))


def test_fewer_than_the_limit_are_never_more():
    assert [len(architectures(671, 4, limit=limit)) for limit in (1, 2, 7)] == [1, 2, 7]


def test_channels_double_and_hidden_layers_follow_where_the_count_allows():
    ideal = CNN(image=(1, 28, 28), channels=(8, 16), hidden=(16,), outputs=10)
    assert architectures(ideal.parameters, 4, kind="cnn", image=(1, 28, 28), outputs=10)[0] == ideal


@pytest.mark.parametrize("text", ["3x32", "3x32x0", "axbxc", ""])
def test_an_image_that_is_none_is_refused(text):
    with pytest.raises(SettingError, match="channels x height x width"):
        parse_image(text)


@pytest.mark.parametrize("wrong", [{"parameters": 0}, {"layers": 0}, {"tolerance": -1}, {"kind": "rnn"}])
def test_arguments_out_of_range_are_refused(wrong):
    with pytest.raises(SettingError, match="expected"):
        architectures(**{"parameters": 10, "layers": 2, **wrong})


def test_a_convolutional_network_of_one_layer_is_refused():
    with pytest.raises(SettingError, match="at least 2 layers"):
        architectures(1000, 1, kind="cnn")
