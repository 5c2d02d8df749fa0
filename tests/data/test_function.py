import math

import numpy as np
import pytest

from theodolite.data import DataSpec, load
from theodolite.errors import ExpressionError, SettingError


def test_training_points_fill_the_domain_evenly_and_test_points_lie_half_a_width_outside():
    data = load(DataSpec(source="function:exp", train=11, test=6, domain=(0.0, 2.0)))
    assert data.train_inputs.shape == (11, 1)
    assert np.allclose(data.train_inputs.ravel(), np.arange(11) * 0.2)
    assert np.allclose(data.test_inputs.ravel(), [-1, -2 / 3, -1 / 3, 2 + 1 / 3, 2 + 2 / 3, 3])
    for inputs, targets in ((data.train_inputs, data.train_targets), (data.test_inputs, data.test_targets)):
        assert inputs.dtype == targets.dtype == np.float64
        assert np.allclose(targets.ravel(), [math.exp(x) for x in inputs.ravel()])


@pytest.mark.parametrize("test", [1, 2, 7, 512])
def test_no_test_point_lies_in_the_domain(test):
    data = load(DataSpec(source="function:cos", test=test, domain=(-3.0, 1.0)))
    outside = data.test_inputs.ravel()
    assert len(outside) == test
    assert ((outside < -3) | (outside > 1)).all()
    assert (np.abs(outside + 1) <= 4).all()
    assert (np.diff(outside) > 0).all()


def test_512_points_inside_and_outside_unless_the_spec_says_otherwise():
    data = load(DataSpec(source="function:cos"))
    assert (len(data.train_inputs), len(data.test_inputs)) == (512, 512)
    assert (data.classes, data.offset, data.factor) == (None, None, None)
    assert data.inputs_as("float32").dtype == np.float32


def test_sinc_has_its_limit_at_zero():
    data = load(DataSpec(source="function:sinc", train=201))
    for x, y in zip(data.train_inputs.ravel(), data.train_targets.ravel(), strict=True):
        expected = 1.0 if x == 0 else math.sin(5 * math.pi * x) / (5 * math.pi * x)
        assert y == pytest.approx(expected, abs=1e-12)


def test_sign_is_that_of_the_sine():
    data = load(DataSpec(source="function:sign", train=500))
    for x, y in zip(data.train_inputs.ravel(), data.train_targets.ravel(), strict=True):
        sine = math.sin(5 * math.pi * x)
        assert y == math.copysign(1, sine) or abs(sine) < 1e-9


def test_sign_is_zero_where_the_sine_is_though_its_floating_point_value_is_not():
    data = load(DataSpec(source="function:sign", train=5, domain=(-2.0, 2.0)))
    assert math.sin(5 * math.pi * 2.0) != 0
    assert data.train_targets.ravel().tolist() == [0.0] * 5


def test_an_expression_has_the_values_it_says():
    data = load(DataSpec(source="function: sin(3*x)/x"))
    for x, y in zip(data.test_inputs.ravel(), data.test_targets.ravel(), strict=True):
        assert y == pytest.approx(math.sin(3 * x) / x)


@pytest.mark.parametrize(
    ("source", "settings", "words"),
    [
        ("function:1/x", {"train": 3}, "is inf at x = 0, in the domain"),
        ("function:log(x)", {"domain": (0.5, 1.5)}, "outside the domain"),
        ("function:cosine", {}, "Did you mean 'function:cos'"),
        ("function:tanh", {}, r"Did you mean 'function:tanh\(x\)'"),
        ("function:", {}, "expected a function of x"),
    ],
)
def test_a_function_without_a_value_everywhere_is_an_expression_error(source, settings, words):
    with pytest.raises(ExpressionError, match=words):
        load(DataSpec(source=source, **settings))


@pytest.mark.parametrize("domain", [(1.0, 1.0), (2.0, 1.0), (0.0, math.inf), (math.nan, 1.0)])
def test_an_empty_domain_is_refused(domain):
    with pytest.raises(SettingError, match="low < high"):
        load(DataSpec(source="function:cos", domain=domain))


def test_a_function_has_no_labels_to_draw():
    with pytest.raises(SettingError, match="random_labels=0"):
        load(DataSpec(source="function:cos", random_labels=0.5))
