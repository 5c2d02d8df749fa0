"""Contour lines of a grid of numbers, by marching squares with straight pieces."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
# Sides of a cell that a contour joins, by which corners lie above the level: bit 0 lower left, 1 lower right, 2 upper
# right, 3 upper left; sides 0 bottom, 1 right, 2 top, 3 left. The two saddles (5, 10) are decided by the cell's mean.
JOINS: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((3, 0),), 2: ((0, 1),), 3: ((3, 1),), 4: ((1, 2),), 6: ((0, 2),), 7: ((3, 2),),
    8: ((2, 3),), 9: ((2, 0),), 11: ((2, 1),), 12: ((1, 3),), 13: ((1, 0),), 14: ((0, 3),),
}  # fmt: skip
SADDLES = {
    (5, True): ((3, 2), (1, 0)), (5, False): ((3, 0), (1, 2)),
    (10, True): ((0, 3), (2, 1)), (10, False): ((0, 1), (2, 3)),
}  # fmt: skip
Place = tuple[int, int, int]  # an edge of the grid: 0 along x or 1 along y, row, column


def contour(x: Array, y: Array, z: Array, level: float) -> list[Array]:
    """The lines on which a surface has one height; between grid points it is taken as linear along the edges.

    Args:
        x: ``(X,)`` ascending.
        y: ``(Y,)`` ascending.
        z: ``(Y, X)``; cells with a corner that is not finite are left out.
        level: the height.

    Returns:
        Lines as ``(points, 2)`` of x and y; a closed one ends where it begins.

    Example:
        >>> x = y = np.array([0.0, 1.0, 2.0])
        >>> sorted(contour(x, y, np.add.outer(y, x), 0.5)[0].tolist())
        [[0.0, 0.5], [0.5, 0.0]]
    """
    return [np.array([_point(x, y, z, level, place) for place in line]) for line in _chains(_pieces(z, level))]


def _pieces(z: Array, level: float) -> Iterator[tuple[Place, Place]]:
    above = z > level
    code = above[:-1, :-1] + 2 * above[:-1, 1:] + 4 * above[1:, 1:] + 8 * above[1:, :-1]
    middle = (z[:-1, :-1] + z[:-1, 1:] + z[1:, 1:] + z[1:, :-1]) / 4
    for row, column in zip(*np.nonzero((code > 0) & (code < 15) & np.isfinite(middle)), strict=True):
        sides = ((0, row, column), (1, row, column + 1), (0, row + 1, column), (1, row, column))
        kind = int(code[row, column])
        for a, b in JOINS.get(kind) or SADDLES[kind, bool(middle[row, column] > level)]:
            yield sides[a], sides[b]


def _chains(pieces: Iterator[tuple[Place, Place]]) -> list[list[Place]]:
    """Pieces put together to lines, from their open ends first, then the closed ones."""
    beside: dict[Place, list[Place]] = {}
    for a, b in pieces:
        beside.setdefault(a, []).append(b)
        beside.setdefault(b, []).append(a)
    lines = []
    for start in sorted(beside, key=lambda place: len(beside[place])):
        line = [start]
        while beside[line[-1]]:
            following = beside[line[-1]].pop()
            beside[following].remove(line[-1])
            line.append(following)
        if len(line) > 1:
            lines.append(line)
    return lines


def _point(x: Array, y: Array, z: Array, level: float, place: Place) -> tuple[float, float]:
    upright, row, column = place
    ahead = (row + 1, column) if upright else (row, column + 1)
    low, high = z[row, column], z[ahead]
    share = (level - low) / (high - low)
    return float(x[column] + share * (x[ahead[1]] - x[column])), float(y[row] + share * (y[ahead[0]] - y[row]))
