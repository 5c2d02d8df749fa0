"""Where variance comes from: a crossed design of two sources of chance, one result a cell."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Components:
    """Unbiased estimates of three variances, in the squared unit of the result; each may come out below zero."""

    rows: float  # of what the rows stand for, the same in every column
    columns: float  # of what the columns stand for, the same in every row
    rest: float  # of how the two act together, and of all else

    @property
    def total(self) -> float:
        """Variance of one result."""
        return self.rows + self.columns + self.rest


def crossed_components(results: Array) -> Components:
    r"""Split the variance of a crossed design with random rows and columns and one result a cell.

    With a rows, b columns and the mean squares of the two-way analysis of variance,

    .. math:: \sigma^2_{rest} = MS_{rest}, \quad \sigma^2_{rows} = (MS_{rows} - MS_{rest}) / b, \quad
        \sigma^2_{columns} = (MS_{columns} - MS_{rest}) / a

    Args:
        results: ``(a, b)``, at least two of each.

    Raises:
        ValueError: fewer than two rows or columns.

    Source: Searle, Casella and McCulloch 1992, "Variance Components", chapter 4.

    Example:
        >>> found = crossed_components(np.array([[1.0, 1.0], [3.0, 3.0]]))  # rows decide everything
        >>> found.rows, found.columns, found.rest
        (2.0, 0.0, 0.0)
    """
    a, b = results.shape
    if min(a, b) < 2:
        raise ValueError(f"expected at least two rows and two columns, got {a} and {b}. Cross more of each.")
    row = results.mean(1, keepdims=True) - results.mean()
    column = results.mean(0, keepdims=True) - results.mean()
    left = results - results.mean() - row - column
    rest = float((left**2).sum() / ((a - 1) * (b - 1)))
    return Components(
        rows=float((row**2).sum() / (a - 1)) - rest / b,
        columns=float((column**2).sum() / (b - 1)) - rest / a,
        rest=rest,
    )
