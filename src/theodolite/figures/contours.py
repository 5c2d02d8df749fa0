"""Contour lines of a grid of numbers and the bands between them, by marching squares with straight pieces."""

from collections.abc import Iterator, Sequence

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
        Lines as ``(points, 2)`` of x and y, what is higher on their right; a closed one ends where it begins.

    Example:
        >>> x = y = np.array([0.0, 1.0, 2.0])
        >>> sorted(contour(x, y, np.add.outer(y, x), 0.5)[0].tolist())
        [[0.0, 0.5], [0.5, 0.0]]
    """
    return [np.array([_point(x, y, z, level, place) for place in line]) for line in _chains(_pieces(z, level))]


def bands(x: Array, y: Array, z: Array, levels: Sequence[float]) -> list[tuple[int, Array]]:
    """Outlines to paint one over the other, each with the number of its band: 0 below the first level.

    Contours do not cross, so the one that encloses more is painted first; the sides of the grid close those that leave
    it. What lies inside of an outline is higher than its level where it runs clockwise, and lower where it is a hole.

    Args:
        x: ``(X,)`` ascending.
        y: ``(Y,)`` ascending.
        z: ``(Y, X)``, finite.
        levels: ascending.

    Example:
        >>> x = np.array([0.0, 1.0])
        >>> [(band, line.shape) for band, line in bands(x, x, np.array([[0.0, 0.0], [2.0, 2.0]]), [1.0])]
        [(0, (5, 2)), (1, (5, 2))]
    """
    corners = np.array([(x[i], y[k]) for i, k in ((0, 0), (0, -1), (-1, -1), (-1, 0), (0, 0))])
    beyond = min(float(z.min()), *levels) - 1 if len(levels) else 0.0
    around, wide, tall = np.pad(z, 1, constant_values=beyond), np.pad(x, 1, mode="edge"), np.pad(y, 1, mode="edge")
    lines = ((band, line) for band, level in enumerate(levels, start=1) for line in contour(wide, tall, around, level))
    found = [(0, corners), *((band if _area(line) < 0 else band - 1, _distinct(line)) for band, line in lines)]
    whole = _area(corners) or 1.0  # several levels may enclose all of it, each within the one before
    return sorted(found, key=lambda outline: -round(abs(_area(outline[1]) / whole), 9))


def thinned(line: Array, tolerance: float) -> Array:
    """A line with fewer points, none of those left out farther from it than a tolerance (Douglas and Peucker 1973).

    >>> thinned(np.array([[0.0, 0.0], [1.0, 0.01], [2.0, 0.0], [2.0, 2.0]]), 0.1).tolist()
    [[0.0, 0.0], [2.0, 0.0], [2.0, 2.0]]
    """
    kept, open_ = {0, len(line) - 1}, [(0, len(line) - 1)]
    while open_:
        first, last = open_.pop()
        way, from_first = line[last] - line[first], line[first + 1 : last] - line[first]
        long = float(np.hypot(*way))
        away = np.abs(way[0] * from_first[:, 1] - way[1] * from_first[:, 0]) / long if long else np.hypot(*from_first.T)
        if len(away) and away.max() > tolerance:
            farthest = first + 1 + int(away.argmax())
            kept.add(farthest)
            open_ += [(first, farthest), (farthest, last)]
    fewer: Array = line[sorted(kept)]
    return fewer


def _area(line: Array) -> float:
    """What a closed line encloses, negative where it runs clockwise."""
    x, y = line.T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def _distinct(line: Array) -> Array:
    """Without points that come twice in a row, as along the sides of the grid."""
    distinct: Array = line[np.append(True, (np.diff(line, axis=0) != 0).any(axis=1))]
    return distinct


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
    """Pieces put together to lines, from their open ends first, then the closed ones.

    All pieces have what is higher on one side, so that at each edge of the grid one ends and the next begins.
    """
    after = dict(pieces)
    inside = set(after.values())
    lines = []
    for start in sorted(after, key=inside.__contains__):
        line = [start]
        while line[-1] in after:
            line.append(after.pop(line[-1]))
        if len(line) > 1:
            lines.append(line)
    return lines


def _point(x: Array, y: Array, z: Array, level: float, place: Place) -> tuple[float, float]:
    upright, row, column = place
    ahead = (row + 1, column) if upright else (row, column + 1)
    low, high = z[row, column], z[ahead]
    share = (level - low) / (high - low)
    return float(x[column] + share * (x[ahead[1]] - x[column])), float(y[row] + share * (y[ahead[0]] - y[row]))
