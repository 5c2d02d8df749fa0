"""Which instruments a recorder takes, and the forms in which a user names them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

from theodolite.errors import SettingError, UnknownName
from theodolite.measure import catalogue
from theodolite.record.identity import described
from theodolite.wording import shown

WEIGHTS = "weights"  # snapshots of the parameters, which have a schedule as instruments have

Instrument = Callable[..., Any]  # (model, loss, data) -> result, mapping, number or vector
Given = str | Instrument | tuple[str | Instrument, Mapping[str, Any]]
Instruments = str | Instrument | Iterable[Given] | Mapping[str, Given]


@dataclass(frozen=True, slots=True)
class Chosen:
    """One instrument with its options."""

    function: Instrument
    ours: bool  # one of this package, which leaves all as it was by itself
    words: str  # what it is, with its options: the same in every process


def resolve(given: Instruments, shared: Mapping[str, Any] | None = None) -> dict[str, Chosen]:
    """Instruments by the names under which they are recorded.

    Args:
        given: the name of an instrument, of this package or registered, or a function; several of them, each alone or
            in a pair with its options; or a mapping from names of the user's own to those.
        shared: options for every instrument of this package that has them and was given none of its own.

    Raises:
        UnknownName: there is no such instrument.
        SettingError: none is given, two have one name, or a function has none.

    >>> sorted(resolve({"top": ("hessian_eigenvalues", {"k": 3}), "slope": "gradient_norm"}))
    ['slope', 'top']
    >>> sorted(resolve(["gradient_norm", ("hessian_eigenvalues", {"k": 3})]))
    ['gradient_norm', 'hessian_eigenvalues']
    """
    if isinstance(given, str) or callable(given):
        given = [given]
    if not isinstance(given, Iterable):
        raise SettingError(
            f"expected instruments as names, functions or a mapping to them, got {type(given).__name__}. For example: "
            "['gradient_norm', 'sharpness']."
        )
    pairs = given.items() if isinstance(given, Mapping) else [(_name(one), one) for one in given]
    found: dict[str, Chosen] = {}
    for name, one in pairs:
        if name in found or name == WEIGHTS:
            raise SettingError(
                f"expected a name of its own for each instrument, got '{name}' twice or a name that is taken. Pass a "
                "mapping from names to instruments."
            )
        if not isinstance(name, str) or shown(name) != name:
            raise SettingError(f"expected a name of plain text for each instrument, got {name!a:.80}. Rename it.")
        found[name] = _chosen(one, shared or {})
    return found


def _chosen(given: Given, shared: Mapping[str, Any]) -> Chosen:
    function, options = _pair(given)
    if not isinstance(options, Mapping):
        raise SettingError(
            f"expected options of an instrument as a mapping, got {type(options).__name__}. For example: "
            "('hessian_eigenvalues', {'k': 3})."
        )
    if isinstance(function, str):
        known = catalogue.in_recorder()
        if function not in known:
            raise UnknownName("instrument that a recorder takes", function, known)
        name, function = function, catalogue.INSTRUMENTS[function].function
        known = [option for option in signature(function).parameters if option not in ("model", "loss", "data")]
        for option in options:
            if option not in known:
                raise UnknownName(f"option of {name}", str(option), known)
    if not callable(function):
        raise SettingError(
            f"expected an instrument as a name, a function (model, loss, data) or a pair of one and its options, got "
            f"{type(function).__name__}."
        )
    inner: Any = function
    while isinstance(inner, partial) and not inner.args:
        inner, options = inner.func, {**inner.keywords, **options}
    function = inner
    words = described(function) + (described(options) if options else "")
    ours = _is_ours(function)
    if ours:
        known = list(signature(function).parameters)
        quiet = {"progress": False}  # the training has a bar of its own, or none
        options = {name: value for name, value in {**quiet, **shared}.items() if name in known} | dict(options)
    return Chosen(partial(function, **options) if options else function, ours, words)


def _is_ours(function: Instrument) -> bool:
    known = catalogue.INSTRUMENTS.get(str(getattr(function, "__name__", "")))
    return known is not None and known.own is None and known.function is function


def _pair(given: Given) -> tuple[str | Instrument, Mapping[str, Any]]:
    return given if isinstance(given, tuple) and len(given) == 2 else (given, {})


def _name(given: Given) -> str:
    one, _ = _pair(given)
    if isinstance(one, str):
        return one
    inner = one.func if isinstance(one, partial) else one
    name = str(getattr(inner, "__name__", type(inner).__name__))
    if name == "<lambda>":
        raise SettingError("expected an instrument with a name, got a lambda. Pass a mapping: {'accuracy': lambda …}.")
    return name
