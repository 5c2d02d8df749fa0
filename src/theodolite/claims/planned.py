"""Claims as a plan holds them before the first run, with a hash of the source that their evidence is taken by."""

import ast
import functools
import hashlib
import inspect
import re
import tokenize
import types
from collections.abc import Callable, Sequence
from typing import Any

from theodolite.claims.claim import Claim
from theodolite.store.schema import PlannedClaim

Function = ast.FunctionDef | ast.Lambda


def planned(claim: Claim) -> PlannedClaim:
    """All that decides the verdict of a claim."""
    return PlannedClaim(
        id=claim.id, sentence=claim.sentence, statistic=claim.statistic, kind=claim.kind, side=claim.side,
        threshold=claim.threshold, evidence=source_hash(claim.evidence),
    )  # fmt: skip


def changed(claim: Claim, plan: Sequence[PlannedClaim]) -> bool:
    """Whether a claim is another than was planned, or was not; False where the plan is too old to hold any."""
    return bool(plan) and planned(claim) not in plan


def source_hash(function: Callable[..., Any]) -> str:
    """Names what a function does by its source, and that of all functions and numbers beside it that it goes through.

    Comments, line breaks and docstrings do not enter. What is of other packages does not either: their versions are in
    each record.

    Returns:
        16 hexadecimal digits; empty where there is no source (a function typed in a console).
    """
    seen: dict[str, str] = {}
    try:
        _add(function, _package(function), seen)
    except (OSError, TypeError, SyntaxError):
        return ""
    said = "\n".join(f"{name} {text}" for name, text in sorted(seen.items()))
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _add(value: Any, package: str, seen: dict[str, str], name: str = "") -> None:
    """Add a function, and what it names, or the text of a value."""
    if isinstance(value, functools.partial):
        for number, part in enumerate((value.func, *value.args, *value.keywords.values())):
            _add(part, package, seen, f"{name}[{number}]")
    elif isinstance(value, types.FunctionType):
        place = f"{value.__module__.removeprefix(package)}.{value.__qualname__}"
        key = f"{place}:{'' if value.__name__ != '<lambda>' else name}"
        if key in seen or _package(value) != package:
            return
        source, names = _source(value)
        seen[key] = source
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        held = {inner: cell.cell_contents for inner, cell in cells}
        for inner in sorted(names):
            if inner in held or inner in value.__globals__:
                _add(held.get(inner, value.__globals__.get(inner)), package, seen, inner)
    elif isinstance(value, bool | int | float | str | bytes | tuple | frozenset | type(None)):
        seen[name] = repr(value)
    elif isinstance(value, type | types.ModuleType):
        seen[name] = value.__name__
    elif callable(value) and isinstance(called := type(value).__call__, types.FunctionType):  # an object of a class
        seen[name] = f"{type(value).__qualname__} {sorted(_fields(value).items())!r}"
        _add(called, package, seen, f"{name}()")


def _fields(value: Any) -> dict[str, str]:
    """The plain values that an object holds."""
    names = [*getattr(type(value), "__slots__", ()), *getattr(value, "__dict__", {})]
    held = {name: getattr(value, name, None) for name in names}
    plain = (bool, int, float, str, tuple, frozenset, dict, list, type(None))
    return {name: repr(part) for name, part in held.items() if isinstance(part, plain)}


def _package(function: Any) -> str:
    """Whose source counts: the room of a function's file, or the file itself where it lies in none."""
    module = getattr(function, "__module__", "") or ""
    return module.rpartition(".")[0] or module


def _source(function: types.FunctionType) -> tuple[str, set[str]]:
    """What the file defines at the function's first line, as text without space, comments and docstrings; its names.

    Text, because what Python makes of a syntax tree differs between its versions.
    """
    wanted = ast.Lambda if function.__name__ == "<lambda>" else ast.FunctionDef
    return _defined(tuple(inspect.findsource(function)[0]), function.__code__.co_firstlineno, wanted)


@functools.lru_cache(maxsize=512)  # a study's claims go through the same functions
def _defined(lines: tuple[str, ...], line: int, wanted: type[Function]) -> tuple[str, set[str]]:
    text_of, functions = _parsed(lines)
    found = [
        node
        for node in functions
        if isinstance(node, wanted)
        and line in (node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ())))
    ]
    if not found:
        raise OSError("no source at its line")
    text = "".join(_segment(text_of, node) for node in found)
    inner = [part for node in found for part in ast.walk(node)]
    for part in inner:
        if isinstance(part, ast.FunctionDef) and ast.get_docstring(part) is not None:
            text = text.replace(_segment(text_of, part.body[0]), "", 1)
    return re.sub(r"\s+", "", text), {part.id for part in inner if isinstance(part, ast.Name)}


@functools.lru_cache(maxsize=64)
def _parsed(lines: tuple[str, ...]) -> tuple[list[bytes], tuple[Function, ...]]:
    """The lines of a file without its comments, and its functions: read once, for a study's claims ask for many."""
    kept = [*lines]
    for token in tokenize.generate_tokens(iter(lines).__next__):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            kept[row - 1] = kept[row - 1][:column] + "\n"
    tree = ast.parse("".join(kept))
    functions = tuple(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.Lambda))
    return [line.encode() for line in kept], functions


def _segment(lines: Sequence[bytes], node: ast.stmt | ast.expr) -> str:
    """As :func:`ast.get_source_segment`, which goes through the whole file for each, letter by letter."""
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    cut = [*lines[first : last + 1]]
    cut[-1] = cut[-1][: node.end_col_offset]  # in bytes
    cut[0] = cut[0][node.col_offset :]
    return b"".join(cut).decode()
