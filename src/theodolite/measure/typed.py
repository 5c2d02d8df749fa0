"""Whether a value is what an annotation says: for files that anyone may have written, and options from a shell."""

import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np


def fits(value: Any, hint: Any) -> bool:
    """Whether the value is of the annotated type, through unions, literals, tuples, sequences and mappings.

    Example:
        >>> fits((1, 2.5), tuple[float, ...]), fits(True, int), fits("sam", Literal["keskar", "sam"])
        (True, False, True)
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, part) for part in inner)
    if origin is Literal:
        return any(type(value) is type(known) and value == known for known in inner)
    if origin is tuple:
        parts = inner[:1] * len(value) if isinstance(value, tuple) and inner[1:] == (...,) else inner
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(fits, value, parts))
    if origin is Sequence:
        return isinstance(value, list | tuple) and all(fits(entry, inner[0]) for entry in value)
    if origin is Mapping:
        pairs = value.items() if isinstance(value, Mapping) else [(None, None)]
        return all(fits(key, inner[0]) and fits(entry, inner[1]) for key, entry in pairs)
    if origin is np.ndarray:
        return isinstance(value, np.ndarray)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return hint is Any or (isinstance(hint, type) and isinstance(value, hint)) or (hint is None and value is None)
