"""Options that instruments share: passed, described and given their defaults in one place."""

import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple, TypedDict, TypeVar, cast, get_type_hints

from theodolite.measure.problem.reduction import Reduction, Samples

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class Option(NamedTuple):
    """An option that an instrument shares with others."""

    default: Any
    description: str


class ProblemOptions(TypedDict, total=False):
    """What the loss over several batches is."""

    samples: Annotated[
        Samples | None,
        Option(
            None,
            "for how many samples a batch counts, a function of it; None: the first dimension of its first input.",
        ),
    ]
    reduction: Annotated[
        Reduction | None,
        Option(
            None,
            'what the loss is over a batch, ``"mean"`` or ``"sum"``; None: what a loss of PyTorch says of itself, else '
            "a mean.",
        ),
    ]


class PartOptions(ProblemOptions, total=False):
    """Which part of a model is measured."""

    parameters: Annotated[
        str | None, Option(None, 'a pattern such as ``"0.*"`` that restricts the measurement to a part of the model.')
    ]


class ShardOptions(PartOptions, total=False):
    """The same, and where it is measured."""

    engine: Annotated[
        str,
        Option(
            "local",
            '``"local"``; or ``"ray"``: gradients and products are summed over shards of the data on a Ray cluster, '
            "with the same numbers to rounding. 2 P numbers a product are sent to and from each shard.",
        ),
    ]
    workers: Annotated[
        int | None, Option(None, "shards; None: one a processor of the cluster (one a GPU on ``cuda``).")
    ]
    address: Annotated[
        str | None,
        Option(None, "of a running Ray cluster; None: the one that this program is on, or one of this machine."),
    ]


def select_options(given: Mapping[str, Any], options: type[T]) -> T:
    """Those of ``given`` that ``options`` has."""
    return cast(T, {name: value for name, value in given.items() if name in options.__annotations__})


def with_options(options: type) -> Callable[[F], F]:
    """Give a function with ``**options: Unpack[...]`` the options' names, types, defaults and descriptions.

    Its signature, annotations and docstring are then as if each had been written out.
    """
    shared, types = _shared(options), get_type_hints(options)

    def spell_out(function: F) -> F:
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        more = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=types[name])
            for name, option in shared.items()
        ]
        annotations = {name: hint for name, hint in function.__annotations__.items() if name != "options"}
        function.__annotations__ = types | annotations
        function.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
        return describe_options(options)(function) if function.__doc__ else function

    return spell_out


def describe_options(options: type) -> Callable[[F], F]:
    """Add the options' descriptions to the arguments in the docstring of a function, or of a class that takes them."""
    lines = [
        textwrap.fill(f"{name}: {option.description}", 110, initial_indent="    ", subsequent_indent="        ")
        for name, option in _shared(options).items()
    ]

    def describe(subject: F) -> F:
        arguments, raises, rest = inspect.cleandoc(subject.__doc__ or "").partition("\n\nRaises:")
        subject.__doc__ = "\n".join([arguments, *lines]) + raises + rest
        return subject

    return describe


def _shared(options: type) -> dict[str, Option]:
    return {name: hint.__metadata__[0] for name, hint in get_type_hints(options, include_extras=True).items()}
