"""Options that all instruments of curvature share: passed, described and given their defaults in one place."""

from typing import Annotated, TypedDict

from torch import Tensor

from theodolite.measure.curvature.frame import Preconditioner
from theodolite.measure.curvature.kinds import Curvature
from theodolite.measure.problem.memory import Memory
from theodolite.measure.problem.options import Option, ShardOptions


class MatrixOptions(ShardOptions, total=False):
    """Which matrix is measured, and what may be used for it."""

    operator: Annotated[
        Curvature,
        Option(
            "hessian",
            '``"hessian"``, ``"ggn"``, ``"fisher"``, ``"empirical_fisher"`` or ``"gradient_covariance"``: see '
            ":class:`~theodolite.measure.curvature.operator.HessianOperator`.",
        ),
    ]
    memory: Annotated[
        Memory,
        Option(
            None,
            'what may be taken, as ``"2GB"`` or a number of bytes; None: half of what is free. Half goes to graphs, '
            "which are made anew for each product if they do not fit, with the same numbers.",
        ),
    ]


class CurvatureOptions(MatrixOptions, total=False):
    """The same, in the coordinates that are asked for."""

    preconditioner: Annotated[
        Preconditioner | None,
        Option(
            None,
            "a positive diagonal ``(P,)``, or an optimizer that has one (Adam, RMSprop): measures "
            ":math:`P^{-1/2} H P^{-1/2}`.",
        ),
    ]
    basis: Annotated[
        Tensor | None,
        Option(None, "directions ``(r, P)``, a row each: measures the matrix restricted to the subspace they span."),
    ]


class Watched(TypedDict, total=False):
    """What takes one product after the other can be watched and ended."""

    progress: Annotated[
        bool | None,
        Option(
            None,
            "show a bar; None: on a terminal, after a second. Ctrl-C hands back what there is by then.",
        ),
    ]


class ProductOptions(CurvatureOptions, Watched, total=False):
    """A matrix in any coordinates, by products."""


class StepOptions(MatrixOptions, Watched, total=False):
    """The same in those of an optimizer."""
