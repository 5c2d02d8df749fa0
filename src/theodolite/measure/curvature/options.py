"""Options that all instruments of curvature share: passed, described and given their defaults in one place."""

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NamedTuple, TypedDict, TypeVar, cast, get_type_hints

from torch import nn

from theodolite.measure.curvature.autograd import Curvature
from theodolite.measure.curvature.operator import HessianOperator
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.memory import Memory, halves
from theodolite.measure.problem.objective import Loss

F = TypeVar("F", bound=Callable[..., Any])


class Option(NamedTuple):
    """An option that an instrument shares with others."""

    default: Any
    description: str


class CurvatureOptions(TypedDict, total=False):
    """Which matrix is measured, and what may be used for it."""

    operator: Annotated[Curvature, Option("hessian", '``"hessian"`` or ``"ggn"``.')]
    parameters: Annotated[
        str | None, Option(None, 'a pattern such as ``"0.*"`` that restricts the matrix to a part of the model.')
    ]
    memory: Annotated[
        Memory,
        Option(
            None,
            'what may be taken, as ``"2GB"`` or a number of bytes; None: half of what is free. Half goes to graphs, '
            "which are made anew for each product if they do not fit, with the same numbers.",
        ),
    ]
    engine: Annotated[
        str,
        Option(
            "local",
            '``"local"``; or ``"ray"``: products are summed over shards of the data on a Ray cluster, with the same '
            "numbers to rounding. 2 P numbers a product are sent to and from each shard.",
        ),
    ]
    workers: Annotated[
        int | None, Option(None, "shards; None: one a processor of the cluster (one a GPU on ``cuda``).")
    ]
    address: Annotated[
        str | None,
        Option(None, "of a running Ray cluster; None: the one that this program is on, or one of this machine."),
    ]


class ProductOptions(CurvatureOptions, total=False):
    """The same for what takes one product after the other, and can be watched and ended."""

    progress: Annotated[
        bool | None,
        Option(
            None,
            "show a bar; None: on a terminal, after a second. Ctrl-C hands back what there is by then.",
        ),
    ]


def with_options(options: type) -> Callable[[F], F]:
    """Give a function with ``**options: Unpack[...]`` the options' names, types, defaults and descriptions.

    Its signature, annotations and docstring are then as if each had been written out.
    """
    shared = {name: hint.__metadata__[0] for name, hint in get_type_hints(options, include_extras=True).items()}
    types = get_type_hints(options)
    lines = [
        textwrap.fill(f"{name}: {option.description}", 110, initial_indent="    ", subsequent_indent="        ")
        for name, option in shared.items()
    ]

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
        arguments, raises, rest = inspect.cleandoc(function.__doc__ or "").partition("\n\nRaises:")
        function.__doc__ = "\n".join([arguments, *lines]) + raises + rest
        return function

    return spell_out


@contextmanager
def operator_and_room(
    model: nn.Module, loss: Loss, data: Data, options: ProductOptions, *, seed: int
) -> Iterator[tuple[HessianOperator, float]]:
    """The operator, with half of the memory for its graphs, and the other half, in bytes, for vectors."""
    half = halves(options.get("memory"), model)
    own = {name: value for name, value in options.items() if name in CurvatureOptions.__annotations__}
    with HessianOperator(
        model, loss, data, **cast(CurvatureOptions, own | {"memory": int(half)}), seed=seed
    ) as operator:
        yield operator, half
