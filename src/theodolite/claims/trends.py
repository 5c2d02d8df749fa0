"""From the rows of a seed to its one number: how one column goes with another. Any row without a number leaves none."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import scipy  # which loads scipy.stats, most of a second, when it is first asked for
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
    return _each_seed(table, x, y, _spearman)


def factor_per_doubling(table: pd.DataFrame, x: str, y: str) -> Evidence:
    """By what ``y`` is multiplied where ``x`` doubles, for each seed: least squares on both logarithms.

    A number that is not positive and finite leaves the seed's factor unknown.

    Example:
        >>> table = pd.DataFrame({"seed": 0, "x": [32, 64, 256], "y": [8.0, 4.0, 1.0]})
        >>> factor_per_doubling(table, "x", "y").low.round(6).tolist()
        [0.5]
    """
    return _each_seed(table, x, y, _factor)


def _each_seed(table: pd.DataFrame, x: str, y: str, number: Callable[[Numbers, Numbers], float]) -> Evidence:
    found: dict[Any, float] = {}
    for seed, rows in table.groupby("seed", sort=False):
        columns = (rows[name].to_numpy(dtype=np.float64) for name in (x, y))
        found[seed] = number(*columns)
    return Evidence.exact(pd.Series(found, dtype="float64"))


def _spearman(x: Numbers, y: Numbers) -> float:
    if np.isnan([x, y]).any() or min(len(np.unique(x)), len(np.unique(y))) < 2:
        return np.nan
    return float(scipy.stats.spearmanr(x, y).statistic)


def _factor(x: Numbers, y: Numbers) -> float:
    usable = bool(np.isfinite([x, y]).all()) and min(x.min(), y.min()) > 0 and len(np.unique(x)) > 1
    return float(2 ** np.polyfit(np.log2(x), np.log2(y), 1)[0]) if usable else np.nan
