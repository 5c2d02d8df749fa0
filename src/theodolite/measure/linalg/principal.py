"""Principal components of points, from the points themselves or from their inner products. Imports no torch.

Each axis points where its largest entry (of inner products: the coordinate that lies farthest) is positive, so that the
same points always give the same picture.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def components(points: Array, number: int) -> tuple[Array, Array]:
    """Axes ``(number, P)`` of points ``(N, P)`` in descending order, and the share of the variance along each."""
    from scipy import linalg  # a quarter of a second, which other uses of these files need not wait for

    _, values, axes = linalg.svd(points - points.mean(0), full_matrices=False)
    axes = axes[:number]
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])
    variances = values**2
    return axes * signs[:, None], variances[:number] / variances.sum()


def of_inner_products(products: Array, number: int) -> tuple[Array, Array]:
    """Coordinates ``(N, number)`` of points along their components, and the sum of the squares of each column."""
    from scipy import linalg

    means = products.mean(0)
    centred = products - means - means[:, None] + products.mean()
    last = len(products) - 1
    squares, vectors = linalg.eigh(centred, subset_by_index=(last + 1 - number, last))
    squares, vectors = squares[::-1].clip(min=0), vectors[:, ::-1]  # rounding leaves less than nothing of a line
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(number)])
    return vectors * signs * np.sqrt(squares), squares
