"""Factors and their levels: what a run is told, and the label it has in records and claims. Imports no torch."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from theodolite.errors import SettingError, UnknownName
from theodolite.specs import OWN_COLUMNS

Label = str | int | float


def label(value: Any) -> Label:
    """What a level is called in records: numbers and text as they are, a function or class by its name.

    >>> label(0.1), label(None), label((32, 32)), label(np.int64(3)), label(dict)
    (0.1, 'None', '(32, 32)', 3, 'dict')
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingError(f"expected levels that are finite, got {value}. Leave it out.")
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, tuple | list):
        return f"({', '.join(str(label(part)) for part in value)})"
    name = str(getattr(value, "__name__", ""))
    if callable(value) and name.isidentifier():
        return name
    raise SettingError(
        f"expected levels that are numbers, text, tuples of them, or functions and classes with a name, got "
        f"{type(value).__name__}: it has no name that is the same in another process. Pass text, and make it in the "
        "function."
    )


def shown(level: Label) -> str:
    """A label as figures and messages print it.

    >>> shown(0.01), shown(32), shown("adam")
    ('0.01', '32', 'adam')
    """
    return f"{level:.6g}" if isinstance(level, float) else str(level)


def levels(factors: Mapping[str, Any]) -> dict[str, dict[Label, Any]]:
    """For each factor its levels by label, checked.

    Raises:
        SettingError: a factor without levels or with a name that is taken, or levels that print alike.
    """
    return {name: _levels(name, values) for name, values in factors.items()}


def chosen(name: str, wanted: Any, known: Mapping[Label, Any]) -> tuple[Label, ...]:
    """Labels of the levels that are asked for in place of those in the file: one, or a list.

    >>> chosen("epochs", [2, 4], {10: 10}), chosen("act", "tanh", {"relu": "relu"})
    ((2, 4), ('tanh',))

    Raises:
        SettingError: the file has levels that text cannot name (a function, a tuple), and this is none of them.
    """
    asked = _levels(name, [wanted] if isinstance(wanted, str | int | float | None) else wanted)
    plain = all(level is value for level, value in known.items())
    for level in asked:
        if level not in known and not plain:
            raise SettingError(
                f"expected levels of '{name}' that its file has, {', '.join(map(shown, known))}, got {shown(level)}."
            )
    return tuple(asked)


def _levels(name: str, values: Any) -> dict[Label, Any]:
    if name in OWN_COLUMNS:
        raise SettingError(f"expected a factor of another name than the columns of records, got '{name}'. Rename it.")
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable) or not (values := list(values)):
        raise SettingError(
            f"expected a list of levels for the factor '{name}', got {values!r:.60}. Write [{values!r:.40}]."
        )
    found = {label(value): value for value in values}
    for one, other in itertools.combinations(map(label, values), 2):
        if shown(one) == shown(other):
            raise SettingError(
                f"expected levels of '{name}' that can be told apart, got {one!r} and {other!r}, which both print as "
                f"{shown(one)}. Round them, or leave one out."
            )
    return found


def cells(factors: Mapping[str, Sequence[Label]]) -> Iterator[dict[str, Label]]:
    """All combinations of levels, in the order in which they are written.

    >>> list(cells({"decay": [0, 1], "width": [8]}))
    [{'decay': 0, 'width': 8}, {'decay': 1, 'width': 8}]
    """
    for cell in itertools.product(*factors.values()):
        yield dict(zip(factors, cell, strict=True))


def together(cells: Iterable[Mapping[str, Label]]) -> dict[str, tuple[Label, ...]]:
    """Of each factor the levels that combinations have, in their order.

    >>> together([{"decay": 0.1}, {"decay": 0.2}, {"decay": 0.1}])
    {'decay': (0.1, 0.2)}
    """
    found: dict[str, dict[Label, None]] = {}
    for cell in cells:
        for name, level in cell.items():
            found.setdefault(name, {})[level] = None
    return {name: tuple(known) for name, known in found.items()}


def named(cell: Mapping[str, Any]) -> str:
    """A combination of levels in words.

    >>> named({"decay": 0.01, "width": 8})
    'decay 0.01, width 8'
    """
    return ", ".join(f"{name} {shown(level)}" for name, level in cell.items())


def found(name: str, level: Any, factors: Mapping[str, Iterable[Label]]) -> Label:
    """The label of a level that a claim names.

    Raises:
        UnknownName: there is no such factor, or it has no such level; the closest is named.
    """
    if name not in factors:
        raise UnknownName("factor", name, factors)
    wanted = label(level)
    known = list(factors[name])
    if wanted not in known:
        raise UnknownName(f"level of {name}", shown(wanted), [shown(one) for one in known])
    return known[known.index(wanted)]
