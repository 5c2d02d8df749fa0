"""Numbers at a place that is picked by the other seeds: were it picked by a seed's own, its noise alone would decide.

All take a table with a row a size, ascending, and a column a seed. A single seed has no others, and gives none.
"""

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def past_the_best(values: pd.DataFrame, *, highest: bool) -> tuple[pd.Series, pd.Series]:
    """For each seed its number at the largest size, and at the smaller size that is best in the mean of the others.

    Args:
        values: sizes by seeds; NaN (a diverged run) counts as the worst there is when the best is picked.
        highest: whether the best is the highest, or the lowest.

    Example:
        >>> errors = pd.DataFrame({"seed 0": [0.3, 0.1, 0.2], "seed 1": [0.3, 0.2, 0.1]})
        >>> largest, best = past_the_best(errors, highest=False)
        >>> largest.tolist(), best.tolist()
        ([0.2, 0.1], [0.1, 0.2])
    """
    sign = 1 if highest else -1
    smaller = (sign * values.iloc[:-1]).fillna(-np.inf)
    best = {seed: values[seed].iloc[int(others.argmax())] for seed, others in _others(smaller)}
    found = pd.Series(best, dtype="float64")
    return values.iloc[-1].reindex(found.index).astype("float64"), found


def hump(values: pd.DataFrame) -> pd.Series:
    """For each seed how high its numbers rise over size before they fall again.

    That is min(x_p - x_v, x_p - x_largest) for a valley v and a peak p, v < p < largest, which make it highest in the
    mean of the other seeds. Where numbers only fall, or only rise, it is negative.

    Args:
        values: three or more sizes by seeds, without NaN.

    Example:
        >>> hump(pd.DataFrame({"seed 0": [0.5, 0.1, 0.4, 0.2], "seed 1": [0.5, 0.2, 0.3, 0.1]})).round(3).tolist()
        [0.2, 0.1]
    """
    pairs = list(combinations(range(len(values) - 1), 2))
    found = {}
    for seed, others in _others(values):
        valley, peak = max(pairs, key=lambda pair: _height(others, *pair))
        found[seed] = _height(values[seed].to_numpy(dtype=np.float64), valley, peak)
    return pd.Series(found, dtype="float64")


def _height(x: NDArray[np.float64], valley: int, peak: int) -> float:
    return float(min(x[peak] - x[valley], x[peak] - x[-1]))


def _others(values: pd.DataFrame) -> list[tuple[Any, NDArray[np.float64]]]:
    """Each seed with the mean of all others, by size."""
    if len(values.columns) < 2:
        return []
    return [(seed, values.drop(columns=seed).mean(axis=1).to_numpy(dtype=np.float64)) for seed in values]
