"""Options of an instrument, typed in a shell: which there are, and whether a value is one. Read off its signature."""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

from theodolite.errors import CodeFailed, SettingError, UnknownName
from theodolite.measure.problem.typed import in_words, is_instance, parts_of

TYPABLE = (int, float, str, bool)


def options(function: Callable[..., Any]) -> dict[str, Any]:
    """The options that a shell can give, each with the part of its annotation that text can say.

    Raises:
        CodeFailed: an annotation names what is not there.

    Example:
        >>> def zoom(model, *, factor: float | None = None, method: Literal["a", "b"] = "a", seed: int = 0): ...
        >>> options(zoom)
        {'factor': float | None, 'method': typing.Literal['a', 'b'], 'seed': <class 'int'>}
    """
    try:
        hints = get_type_hints(function)
    except NameError as error:
        raise CodeFailed(
            f"expected annotations of {function.__name__} that can be read, but {error}. Import the name at the top of "
            "its file, not for type checkers alone."
        ) from error
    known = {}
    for name, parameter in inspect.signature(function).parameters.items():
        kept = [part for part in parts_of(hints.get(name)) if _typable(part)]
        if kept and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            hint = kept[0]
            for part in kept[1:]:
                hint = hint | part
            known[name] = hint | None if type(None) in parts_of(hints[name]) else hint
    return known


def read(function: Callable[..., Any], texts: Sequence[str]) -> dict[str, Any]:
    """Turn ``key=value`` texts into keyword arguments; values are JSON (5, 0.1, [0, 1], true, null), or text.

    Raises:
        UnknownName: there is no such option; the message gives the closest.
        SettingError: a text without ``=``, or a value of another kind than the option's.
    """
    known = options(function)
    chosen: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise SettingError(f"expected --set key=value, got '{text}'. For example: --set seed=1")
        if key not in known:
            raise UnknownName(f"option of {function.__name__}", key, known)
        chosen[key] = _value(key, value, known[key])
    return chosen


def described(function: Callable[..., Any]) -> list[Mapping[str, str]]:
    """A row for each option: its name, what it may be, its default."""
    own = inspect.signature(function).parameters
    return [
        {
            "option": name,
            "values": in_words(hint, "null"),
            "default": "" if own[name].default is own[name].empty else _default(own[name].default),
        }
        for name, hint in options(function).items()
    ]


def _value(key: str, text: str, hint: Any) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if is_instance(text, hint) and not is_instance(value, hint):
        value = text  # a name that reads like a number
    if not is_instance(value, hint):
        words = in_words(hint, "null")
        raise SettingError(f"expected {key} as {words}, got '{text}'. For example: --set {_example(key, hint)}")
    return value


def _typable(hint: Any) -> bool:
    listed = get_origin(hint) is Sequence and get_args(hint)[0] in TYPABLE
    return hint in TYPABLE or get_origin(hint) is Literal or listed


def _default(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 24 else f"{len(value)} values"


def _example(key: str, hint: Any) -> str:
    part = next(part for part in parts_of(hint) if part is not type(None))
    if get_origin(part) is Literal:
        return f"{key}={get_args(part)[0]}"
    if get_origin(part) is Sequence:
        return f"'{key}=[0, 1]'"
    return f"{key}={ {int: '5', float: '0.1', str: 'name', bool: 'true'}[part] }"
