"""From the rows of a seed to its one number: how one column goes with another. Any row without a number leaves none."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from theodolite.claims.evidence import Evidence

Numbers = NDArray[np.float64]


def rank_correlation(table: pd.DataFrame, x: str, y: str) -> Evidence:
    """Spearman's rank correlation of two columns over the rows of each seed.

    Infinite values take the highest rank. NaN in a seed's rows (a diverged run), or a column that never changes,
    leaves its number unknown, which a verdict takes at its worst.

    Example:
        >>> table = pd.DataFrame({"seed": [0, 0, 0, 1, 1], "x": [1, 2, 3, 1, 2], "y": [9.0, 4.0, 1.0, 2.0, np.nan]})
        >>> rank_correlation(table, "x", "y").low.tolist()
        [-1.0, nan]
    """
    return Evidence.exact(each_seed(table, x, y, spearman))


def factor_per_doubling(table: pd.DataFrame, x: str, y: str) -> Evidence:
    """By what ``y`` is multiplied where ``x`` doubles, for each seed: least squares on both logarithms.

    A number that is not positive and finite leaves the seed's factor unknown.

    Example:
        >>> table = pd.DataFrame({"seed": 0, "x": [32, 64, 256], "y": [8.0, 4.0, 1.0]})
        >>> factor_per_doubling(table, "x", "y").low.round(6).tolist()
        [0.5]
    """
    return Evidence.exact(each_seed(table, x, y, _factor))


def each_seed(table: pd.DataFrame, x: str, y: str, number: Callable[[Numbers, Numbers], float]) -> pd.Series:
    """A number of each seed's two columns, indexed by seed in the order in which they come."""
    codes, seeds = pd.factorize(table["seed"])
    columns = (table[name].to_numpy(dtype=np.float64) for name in (x, y))
    return pd.Series([number(*own) for own in split(codes, *columns)], index=seeds, dtype="float64")


def split(codes: NDArray[np.integer[Any]], *columns: NDArray[Any]) -> Iterator[tuple[NDArray[Any], ...]]:
    """Columns ``(n,)`` cut by code: for each of 0, 1, … what they hold there, in order; pandas takes ten times as long.

    >>> [part.tolist() for (part,) in split(np.array([1, 0, 1]), np.array([5.0, 6.0, 7.0]))]
    [[6.0], [5.0, 7.0]]
    """
    if not len(codes):
        return iter(())
    rows, cuts = np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1]
    return zip(*(np.split(column[rows], cuts) for column in columns), strict=True)


def spearman(x: Numbers, y: Numbers) -> float:
    """Spearman's rank correlation of two columns ``(n,)``; NaN where one holds NaN or never changes.

    (``scipy.stats.spearmanr`` takes a millisecond for it, which is seconds of a report.)

    >>> round(spearman(np.array([1.0, 2.0, 3.0]), np.array([5.0, 5.0, 9.0])), 4)
    0.866
    """
    ranks = [_ranks(column) for column in (x, y)]
    if any(np.isnan(column).any() for column in (x, y)) or any((rank == rank[0]).all() for rank in ranks):
        return np.nan
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def goodman_kruskal(x: Numbers, y: Numbers) -> float:
    """Goodman and Kruskal's γ of two columns ``(n,)``; NaN where one holds NaN or no two rows differ in both.

    Of the pairs of rows that differ in both, the share that go the same way less the share that go opposite ways.

    Where a column comes up against its end, as an accuracy of 1, ties keep Spearman's correlation below 1 however
    steadily it rose before. γ does not count them.

    Source: Goodman and Kruskal 1954, "Measures of association for cross classifications".

    >>> goodman_kruskal(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.5, 0.9, 1.0, 1.0]))
    1.0
    """
    first, second = (np.sign(np.subtract.outer(column, column)) for column in (x, y))
    pairs = float(np.abs(first * second).sum())
    return float((first * second).sum()) / pairs if pairs > 0 else np.nan


def _ranks(column: Numbers) -> Numbers:
    """Places from 1, equal numbers at the mean of theirs."""
    _, where, counts = np.unique(column, return_inverse=True, return_counts=True)
    places: Numbers = np.cumsum(counts) - (counts - 1) / 2
    return places[where]


def _factor(x: Numbers, y: Numbers) -> float:
    usable = bool(np.isfinite([x, y]).all()) and min(x.min(), y.min()) > 0 and len(np.unique(x)) > 1
    return float(2 ** np.polyfit(np.log2(x), np.log2(y), 1)[0]) if usable else np.nan
