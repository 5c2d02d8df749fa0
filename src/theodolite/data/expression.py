"""A function of x from its text, by walking its syntax tree: nothing in it is ever executed."""

import ast
import math
import operator
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from theodolite.errors import ExpressionError

Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]

LONGEST = 400  # characters
DEEPEST = 40  # levels of the syntax tree
CONSTANTS = {"pi": math.pi, "e": math.e}
OPERATORS: dict[type[ast.AST], Callable[..., NDArray[np.float64]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: np.divide,
    ast.Mod: np.mod,
    ast.Pow: np.power,  # of floats: a tower of powers overflows to infinity, at no cost
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
FUNCTIONS: dict[str, np.ufunc] = {
    name: getattr(np, name)
    for name in (
        *("sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"),
        *("exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "cbrt"),
        *("abs", "sign", "floor", "ceil", "minimum", "maximum", "arctan2"),
    )
}


def parse(text: str) -> Function:
    """Make a function of an expression in ``x``.

    Args:
        text: numbers, ``x``, ``pi``, ``e``, ``+ - * / % **``, brackets, and calls of :data:`FUNCTIONS`.

    Returns:
        A function from float64 of any shape to float64 of the same shape; it may give NaN or infinity.

    Raises:
        ExpressionError: the text is anything else; the message says which part.

    Example:
        >>> parse("2*x**2 - 1")(np.array([0.0, 0.5, 1.0]))
        array([-1. , -0.5,  1. ])
    """
    if len(text) > LONGEST:
        raise ExpressionError(
            f"expected a function of at most {LONGEST} characters, got {len(text)}. Write it shorter."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of "1if x": refused below, whatever Python thinks of its style
            body = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        at = f" at character {error.offset}" if error.offset else ""
        raise ExpressionError(f"expected a function of x, got '{text}': {error.msg}{at}. {_ADVICE}") from None
    except (ValueError, MemoryError, RecursionError) as error:
        raise ExpressionError(
            f"expected a function of x, got {text!a}: {error or 'nested too deeply'}. {_ADVICE}"
        ) from None
    evaluate = _compile(body, text.strip(), 0)

    def function(x: NDArray[np.float64]) -> NDArray[np.float64]:
        x = np.asarray(x, dtype=np.float64)
        with np.errstate(all="ignore"):
            return np.array(np.broadcast_to(evaluate(x), x.shape), dtype=np.float64)

    return function


_ADVICE = "Write numbers, x, pi, e, + - * / % ** and functions such as sin(x): for example sin(3*x)/x."


def _compile(node: ast.expr, text: str, depth: int) -> Function:
    if depth > DEEPEST:
        raise ExpressionError(
            f"expected at most {DEEPEST} levels of brackets and operators in '{text}'. Write it flatter."
        )
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _constant(value, text)
        case ast.Name(id="x"):
            return lambda x: x
        case ast.Name(id=name) if name in CONSTANTS:
            return _constant(CONSTANTS[name], text)
        case ast.Name(id=name):
            raise _refusal(
                f"'{name}'", text, f"Names are x, {', '.join(CONSTANTS)} and the functions {', '.join(FUNCTIONS)}."
            )
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            return _apply(OPERATORS[type(op)], [_compile(operand, text, depth + 1)])
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return _apply(OPERATORS[type(op)], [_compile(side, text, depth + 1) for side in (left, right)])
        case ast.BinOp(op=ast.BitXor()):
            raise _refusal(f"'{_part(node, text)}'", text, "A power is written x**2.")
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            function = FUNCTIONS[name]
            if len(args) != function.nin:
                raise _refusal(f"{len(args)} values for {name}", text, f"{name} takes {function.nin}.")
            return _apply(function, [_compile(part, text, depth + 1) for part in args])
        case ast.Call(func=ast.Name(id=name)):
            raise _refusal(f"a call of '{name}'", text, f"Functions are {', '.join(FUNCTIONS)}.")
    raise _refusal(f"'{_part(node, text)}'", text, _ADVICE)


def _constant(value: float, text: str) -> Function:
    try:
        number = np.float64(value)
    except OverflowError:
        raise _refusal("a number beyond 1.8e308", text, "Write it smaller.") from None
    return lambda x: number  # type: ignore[return-value]  # broadcasts


def _apply(operation: Callable[..., NDArray[np.float64]], parts: list[Function]) -> Function:
    return lambda x: operation(*(part(x) for part in parts))


def _part(node: ast.expr, text: str) -> str:
    return ast.get_source_segment(text, node) or type(node).__name__


def _refusal(got: str, text: str, advice: str) -> ExpressionError:
    return ExpressionError(f"expected a function of x, got {got} in '{text}'. {advice}")
