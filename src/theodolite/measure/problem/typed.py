"""Whether a value is what an annotation says: arguments, options from a shell, files that anyone may have written."""

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np

WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}


def is_instance(value: Any, hint: Any) -> bool:
    """Whether the value is of the annotated type, through unions, literals, tuples, sequences and mappings.

    Example:
        >>> is_instance((1, 2.5), tuple[float, ...]), is_instance(True, int), is_instance("sam", Literal["sam"])
        (True, False, True)
    """
    hint = _unnamed(hint)
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(is_instance(value, part) for part in inner)
    if origin is Literal:
        return any(type(value) is type(known) and value == known for known in inner)
    if origin is tuple:
        parts = inner[:1] * len(value) if isinstance(value, tuple) and inner[1:] == (...,) else inner
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(is_instance, value, parts))
    if origin in (Sequence, list):
        return isinstance(value, list | tuple) and all(is_instance(entry, inner[0]) for entry in value)
    if origin in (Mapping, dict):
        pairs = value.items() if isinstance(value, Mapping) else [(None, None)]
        return all(is_instance(key, inner[0]) and is_instance(entry, inner[1]) for key, entry in pairs)
    if origin is np.ndarray:
        return isinstance(value, np.ndarray)
    if origin is Callable:
        return callable(value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return hint is Any or (isinstance(hint, type) and isinstance(value, hint)) or (hint is None and value is None)


def parts_of(hint: Any) -> tuple[Any, ...]:
    """What a union is made of; of anything else, itself."""
    hint = _unnamed(hint)
    return tuple(map(_unnamed, get_args(hint))) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _unnamed(hint: Any) -> Any:
    """What a name for a type stands for: ``type Row = list[int]`` gives one, NumPy 2.5 has one in ``NDArray``."""
    for alias in (hint, get_origin(hint)):
        if type(alias).__name__ == "TypeAliasType":  # typing's from Python 3.12 on, or typing_extensions'
            return _unnamed(alias.__value__ if alias is hint else alias.__value__[get_args(hint)])
    return hint


def is_plain(hint: Any) -> bool:
    """Whether :func:`fits` can tell of an annotation what there is to it: no mapping, no iterable, nothing of those."""
    return all(
        (isinstance(part, type) and get_origin(part) is None)
        or get_origin(part) in (Literal, np.ndarray, Callable)
        or (get_origin(part) is Sequence and is_plain(get_args(part)[0]))
        for part in parts_of(hint)
    )


def in_words(hint: Any, nothing: str = "None") -> str:
    """An annotation for people; ``nothing`` is what None is called where they are.

    Example:
        >>> in_words(int | None), in_words(Literal["keskar", "sam"]), in_words(Sequence[float])
        ('whole number or None', 'keskar or sam', '[number, …]')
    """
    words = []
    for part in parts_of(hint):
        if get_origin(part) is Literal:
            words += [str(name) for name in get_args(part)]
        elif get_origin(part) is Sequence:
            words.append(f"[{in_words(get_args(part)[0])}, …]")
        elif get_origin(part) in (np.ndarray, Callable):
            words.append("array" if get_origin(part) is np.ndarray else "function")
        else:
            words.append(nothing if part is types.NoneType else WORDS.get(part, part.__name__))
    return " or ".join(words)
