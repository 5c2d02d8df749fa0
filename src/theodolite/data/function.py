"""Functions of one variable: training points evenly spaced in a domain, test points outside it."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from theodolite.data.arrays import Arrays
from theodolite.data.expression import CONSTANTS, FUNCTIONS, parse
from theodolite.data.spec import FUNCTION, DataSpec
from theodolite.errors import ExpressionError, SettingError

POINTS = 512  # in the domain, and as many outside, where a spec does not say


def _square_wave(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """sgn(sin(5πx)), exactly 0 where 5x is whole: the sine of a rounded multiple of π would have either sign there."""
    turns = 5 * x
    return np.where(turns == np.floor(turns), 0.0, np.where(np.floor(turns) % 2 == 0, 1.0, -1.0))


NAMED: dict[str, tuple[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]]] = {
    "cos": ("cos(x)", np.cos),
    "exp": ("exp(x)", np.exp),
    "sinc": ("sin(5πx)/(5πx), 1 at x = 0", lambda x: np.sinc(5 * x)),
    "sign": ("sgn(sin(5πx))", _square_wave),
}


def function_arrays(spec: DataSpec) -> Arrays:
    """Points and values of the function a spec names.

    Training points: ``spec.train`` (512), evenly spaced over ``spec.domain``, both ends included. Test points:
    ``spec.test`` (512), half of them on each side, evenly spaced over half a width of the domain, whose own ends are
    left out. Targets are the true values. All arrays are float64 ``(N, 1)``, ascending.

    Raises:
        ExpressionError: not a function of x, or NaN or infinite at one of the points.
        SettingError: the domain is empty or not finite, or random labels are asked for.

    Example:
        >>> function_arrays(DataSpec(source="function:x**2", train=3, test=4)).test_inputs.ravel()
        array([-2. , -1.5,  1.5,  2. ])
    """
    low, high = spec.domain
    if not (np.isfinite([low, high]).all() and low < high):
        raise SettingError(
            f"expected a domain (low, high) with low < high, got ({low}, {high}). Pass for example (-1, 1)."
        )
    if spec.random_labels:
        raise SettingError(
            f"expected classes for random labels, but '{spec.source}' has numbers as targets. Set random_labels=0."
        )
    text = spec.source.removeprefix(FUNCTION).strip()
    function = _function(text)
    inside = np.linspace(low, high, spec.train or POINTS)
    outside = _outside(low, high, spec.test or POINTS)
    return Arrays(
        inside[:, None],
        _values(function, inside, text, "in the domain")[:, None],
        outside[:, None],
        _values(function, outside, text, "outside the domain, where it is tested")[:, None],
        classes=None,
        peak=None,
    )


def evaluate(source: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values of a function source, such as ``function:cos``, at points of one's own ``(N,)``.

    Raises:
        ExpressionError: not a function of x, or NaN or infinite at one of the points.

    Example:
        >>> evaluate("function:x**2", np.array([1.0, 3.0]))
        array([1., 9.])
    """
    text = source.removeprefix(FUNCTION).strip()
    return _values(_function(text), x, text, "among the points asked for")


def _function(text: str) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    return NAMED[text][1] if text in NAMED else _parse(text)


def _outside(low: float, high: float, points: int) -> NDArray[np.float64]:
    half = (high - low) / 2
    left = np.linspace(low - half, low, points // 2, endpoint=False)
    right = np.linspace(high + half, high, points - points // 2, endpoint=False)[::-1]
    return np.concatenate([left, right])


def _values(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]], x: NDArray[np.float64], text: str, where: str
) -> NDArray[np.float64]:
    with np.errstate(all="ignore"):
        values = np.asarray(function(x), dtype=np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        raise ExpressionError(
            f"expected finite values, but '{text}' is {values[bad][0]} at x = {x[bad][0]:.6g}, {where}. "
            "Choose another domain, or another number of points."
        )
    return values


def _parse(text: str) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    if text.isidentifier() and text not in CONSTANTS and text != "x":
        _unknown(text)
    return parse(text)


def _unknown(text: str) -> NoReturn:
    close = get_close_matches(text, NAMED, n=1, cutoff=0.5)
    hint = f" Did you mean 'function:{close[0]}'?" if close else ""
    hint = f" Did you mean 'function:{text}(x)'?" if text in FUNCTIONS else hint
    raise ExpressionError(f"expected {', '.join(NAMED)} or an expression such as sin(3*x)/x, got '{text}'.{hint}")
