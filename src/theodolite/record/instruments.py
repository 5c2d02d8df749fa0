"""Which instruments a recorder takes, and the forms in which a user names them."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from inspect import signature
from typing import Any

from theodolite.errors import SettingError, UnknownName
from theodolite.measure import catalogue

WEIGHTS = "weights"  # snapshots of the parameters, which have a schedule as instruments have

Instrument = Callable[..., Any]  # (model, loss, data) -> result, mapping, number or vector
Given = str | Instrument | tuple[str | Instrument, Mapping[str, Any]]
Instruments = str | Instrument | Iterable[str | Instrument] | Mapping[str, Given]


def resolve(given: Instruments) -> dict[str, Instrument]:
    """Instruments by the names under which they are recorded.

    Args:
        given: the name of an instrument, of this package or registered, or a function; several of them; or a mapping
            from names of the user's own to either, or to a pair of either and its options.

    Raises:
        UnknownName: there is no such instrument.
        SettingError: none is given, two have one name, or a function has none.

    >>> sorted(resolve({"top": ("hessian_eigenvalues", {"k": 3}), "slope": "gradient_norm"}))
    ['slope', 'top']
    """
    if isinstance(given, str) or callable(given):
        given = [given]
    if not isinstance(given, Iterable):
        raise SettingError(
            f"expected instruments as names, functions or a mapping to them, got {type(given).__name__}. For example: "
            "['gradient_norm', 'sharpness']."
        )
    pairs = given.items() if isinstance(given, Mapping) else [(_name(one), one) for one in given]
    found: dict[str, Instrument] = {}
    for name, one in pairs:
        if name in found or name == WEIGHTS:
            raise SettingError(
                f"expected a name of its own for each instrument, got '{name}' twice or a name that is taken. Pass a "
                "mapping from names to instruments."
            )
        found[name] = _function(one)
    return found


def _function(given: Given) -> Instrument:
    function, options = given if isinstance(given, tuple) and len(given) == 2 else (given, {})
    if not isinstance(options, Mapping):
        raise SettingError(
            f"expected options of an instrument as a mapping, got {type(options).__name__}. For example: "
            "('hessian_eigenvalues', {'k': 3})."
        )
    if isinstance(function, str):
        name = function
        known = catalogue.in_recorder()
        if name not in known:
            raise UnknownName("instrument that a recorder takes", name, known)
        function = catalogue.INSTRUMENTS[name].function
        known = [option for option in signature(function).parameters if option not in ("model", "loss", "data")]
        for option in options:
            if option not in known:
                raise UnknownName(f"option of {name}", str(option), known)
        if "progress" in known:
            options = {"progress": False, **options}  # the training has a bar of its own, or none
    if not callable(function):
        raise SettingError(
            f"expected an instrument as a name, a function (model, loss, data) or a pair of one and its options, got "
            f"{type(function).__name__}."
        )
    return partial(function, **options) if options else function


def _name(given: str | Instrument) -> str:
    if isinstance(given, str):
        return given
    inner = given.func if isinstance(given, partial) else given
    name = str(getattr(inner, "__name__", type(inner).__name__))
    if name == "<lambda>":
        raise SettingError("expected an instrument with a name, got a lambda. Pass a mapping: {'accuracy': lambda …}.")
    return name
