"""Numbers at a place that one half of the seeds picks, of the other half: noise cannot pick what is then tested on it.

All take a table with a row a size, ascending, and a column a seed, named by its number. Odd seeds pick and even ones
are tested. Picked by all seeds but its own, numbers would share their pick: over 32 seeds the interval of such a mean
covered in 79 %.
"""

from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def past_the_best(values: pd.DataFrame, *, highest: bool) -> tuple[pd.Series, pd.Series]:
    """For each even seed its number at the largest size, and at the smaller size that is best for odd ones.

    Args:
        values: sizes by seeds; NaN (a diverged run) counts as the worst there is when the best is picked.
        highest: whether the best is the highest, or the lowest.

    Example:
        >>> errors = pd.DataFrame({0: [0.3, 0.1, 0.2], 1: [0.3, 0.2, 0.1]})
        >>> largest, best = past_the_best(errors, highest=False)
        >>> largest.to_dict(), best.to_dict()
        ({0: 0.2}, {0: 0.1})
    """
    picking, tested = halves(values)
    if picking.empty:
        return tested.iloc[-1], tested.iloc[-1]
    sign = 1 if highest else -1
    smaller = (sign * picking.iloc[:-1]).fillna(-np.inf).mean(axis=1)
    best = tested.iloc[int(smaller.to_numpy().argmax())]
    return tested.iloc[-1].astype("float64"), best.astype("float64")


def hump(values: pd.DataFrame) -> pd.Series:
    """For each even seed how high its numbers rise over size before they fall again.

    That is min(x_p - x_v, x_p - x_largest) for a valley v and a peak p, v < p < largest, which make it highest in the
    mean of the odd seeds. Where numbers only fall, or only rise, it is negative.

    Args:
        values: three or more sizes by seeds, without NaN.

    Example:
        >>> hump(pd.DataFrame({0: [0.5, 0.1, 0.4, 0.2], 1: [0.5, 0.2, 0.3, 0.1]})).round(3).to_dict()
        {0: 0.2}
    """
    picking, tested = halves(values)
    if picking.empty:
        return pd.Series(dtype="float64")
    mean = picking.mean(axis=1).to_numpy(dtype=np.float64)
    pairs = combinations(range(len(values) - 1), 2)
    valley, peak = max(pairs, key=lambda pair: _height(mean, *pair))
    found = {seed: _height(tested[seed].to_numpy(dtype=np.float64), valley, peak) for seed in tested}
    return pd.Series(found, dtype="float64")


def halves(values: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The columns of odd seeds, which pick, and those of even ones, which are tested; neither without the other.

    So a seed that is added, or missing, leaves all others in their half.
    """
    odd = values.columns.to_numpy(dtype=np.int64) % 2 == 1
    if odd.all() or not odd.any():
        return values.iloc[:, :0], values.iloc[:, :0]
    return values.loc[:, odd], values.loc[:, ~odd]


def tested_seeds(seeds: int) -> int:
    """How many of so many seeds, numbered from 0, are tested."""
    return (seeds + 1) // 2 if seeds > 1 else 0


def _height(x: NDArray[np.float64], valley: int, peak: int) -> float:
    return float(min(x[peak] - x[valley], x[peak] - x[-1]))
