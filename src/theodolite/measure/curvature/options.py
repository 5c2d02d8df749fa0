"""Options that all instruments of curvature share: passed, described and given their defaults in one place."""

from typing import Annotated

from theodolite.measure.curvature.autograd import Curvature
from theodolite.measure.problem.memory import Memory
from theodolite.measure.problem.options import Option, ShardOptions


class CurvatureOptions(ShardOptions, total=False):
    """Which matrix is measured, and what may be used for it."""

    operator: Annotated[Curvature, Option("hessian", '``"hessian"`` or ``"ggn"``.')]
    memory: Annotated[
        Memory,
        Option(
            None,
            'what may be taken, as ``"2GB"`` or a number of bytes; None: half of what is free. Half goes to graphs, '
            "which are made anew for each product if they do not fit, with the same numbers.",
        ),
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
