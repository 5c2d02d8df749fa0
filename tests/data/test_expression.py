import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theodolite.data.expression import CONSTANTS, FUNCTIONS, parse
from theodolite.errors import ExpressionError

ORACLE = {"x": 0.7, "pi": math.pi, "e": math.e, "minimum": min, "maximum": max, "abs": abs, "floor": math.floor}
ORACLE |= {"sin": math.sin, "cos": math.cos, "tanh": math.tanh}

leaves = st.sampled_from(["x", "pi", "e"]) | st.floats(0.125, 8).map(repr) | st.integers(0, 9).map(str)
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(inner, st.integers(0, 3)).map(lambda t: f"({t[0]})**{t[1]}"),
        st.tuples(st.sampled_from(["sin", "cos", "tanh", "abs", "-", "floor"]), inner).map(lambda t: f"{t[0]}({t[1]})"),
        st.tuples(st.sampled_from(["minimum", "maximum"]), inner, inner).map(lambda t: f"{t[0]}({t[1]}, {t[2]})"),
    ),
    max_leaves=8,
)


@given(expressions)
def test_a_written_function_is_the_one_that_python_computes(text):
    if len(text) > 400:
        return
    try:
        expected = float(eval(text, {"__builtins__": {}}, ORACLE))  # noqa: S307 - made in this file
    except OverflowError:
        return
    assert parse(text)(np.array([0.7]))[0] == pytest.approx(expected, rel=1e-9, abs=1e-9)


words = st.sampled_from([*"x().:[]'9, =j\0\n", "**", "__", "import", "os", "lambda", "sin", "eval"])


@given(st.text(max_size=60) | st.lists(words, max_size=25).map("".join))
def test_any_text_is_a_function_or_an_expression_error(text):
    try:
        function = parse(text)
    except ExpressionError:
        return
    x = np.linspace(-1, 1, 5)
    assert function(x).shape == x.shape
    assert function(x).dtype == np.float64


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "x.__class__",
        "(lambda: 1)()",
        "[y for y in (1, 2)]",
        "x if x else 1",
        "open('/etc/passwd')",
        "sin",
        "sin(x, x)",
        "sin(x=1)",
        "maximum(x)",
        "maximum(*x)",
        "f'{x}'",
        "'x'",
        "True",
        "1j",
        "x < 1",
        "x and 1",
        "x[0]",
        "(y := x)",
        "x @ x",
        "x // 2",
        "~x",
        "x = 1",
        "",
        "\0",
        "\ud800",
        "9" * 390,
        "(" * 200 + "x" + ")" * 200,
        "-" * 300 + "x",
        "x" + "+x" * 190,
        "x" * 401,
    ],
)
def test_what_is_no_function_of_x_is_refused(text):
    with pytest.raises(ExpressionError, match="expected"):
        parse(text)


def test_a_tower_of_powers_costs_nothing_and_is_infinite():
    assert parse("9**9**9**9**9")(np.zeros(1))[0] == np.inf


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sin(y)", r"'y' in 'sin\(y\)'"),
        ("x^2", r"A power is written x\*\*2"),
        ("sine(x)", "a call of 'sine'"),
        ("sin(3*x", "was never closed"),
        ("arctan2(x)", "arctan2 takes 2"),
    ],
)
def test_the_message_names_the_part_and_what_to_do(text, words):
    with pytest.raises(ExpressionError, match=words):
        parse(text)


def test_constants_fill_the_shape_of_x():
    assert parse("3")(np.zeros((4, 2))).tolist() == [[3.0, 3.0]] * 4


def test_every_function_that_is_offered_works():
    for name, function in FUNCTIONS.items():
        got = parse(f"{name}({', '.join(['x'] * function.nin)})")(np.array([0.5]))
        assert np.isfinite(got).all(), name
    assert not set(FUNCTIONS) & set(CONSTANTS)
