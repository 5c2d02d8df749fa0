"""Evidence: one number a seed, known exactly or only between two bounds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd


@dataclass(frozen=True, slots=True)
class Evidence:
    """One number per seed (or pair of seeds), each somewhere in ``[low, high]``.

    The bounds are equal where the number is known. A run that did not converge within N epochs has ``low = N``
    and ``high = inf``; a seed whose number is NaN in both (its run diverged) could have been anything, and stays.
    """

    low: pd.Series  # (n,) float64, indexed by seed
    high: pd.Series  # (n,) float64, the same index
    note: str = ""  # whatever the reader of the verdict must know

    def __post_init__(self) -> None:
        if not self.low.index.equals(self.high.index) or self.low.index.has_duplicates:
            raise ValueError("expected one lower and one upper bound for each seed, got other or repeated seeds.")
        if (self.low.to_numpy() > self.high.to_numpy()).any():  # by pandas, a third of what an interval takes
            raise ValueError("expected low <= high for every seed. Give the bounds the other way round.")

    @classmethod
    def exact(cls, values: pd.Series, note: str = "") -> Self:
        """Numbers that are known, indexed by seed; NaN where a run gave none.

        >>> Evidence.exact(pd.Series([0.5, 0.7], index=[0, 1])).low.tolist()
        [0.5, 0.7]
        """
        if np.iscomplexobj(values):
            raise ValueError("expected real numbers, got complex ones. Take their real part or their length.")
        values = values.astype("float64")
        return cls(values, values, note)

    def __truediv__(self, other: "Evidence | float") -> "Evidence":
        """Seed by seed; both must be positive. Seeds that only one side has are left out.

        >>> a = Evidence(pd.Series([100.0, 300.0]), pd.Series([100.0, np.inf]))
        >>> b = Evidence.exact(pd.Series([200.0, 200.0]))
        >>> (a / b).low.tolist(), (a / b).high.tolist()
        ([0.5, 1.5], [0.5, inf])
        """
        return self._with(other, lambda low, high: low / high)

    def __sub__(self, other: "Evidence | float") -> "Evidence":
        """Seed by seed. Seeds that only one side has are left out.

        >>> a, b = Evidence.exact(pd.Series([3.0])), Evidence(pd.Series([1.0]), pd.Series([np.inf]))
        >>> (a - b).low.tolist(), (a - b).high.tolist()
        ([-inf], [2.0])
        """
        return self._with(other, lambda low, high: low - high)

    def _with(self, other: "Evidence | float", combine: Callable[[pd.Series, pd.Series], pd.Series]) -> "Evidence":
        """``combine(a, b)`` grows with a and falls with b, so the bounds come from opposite ends."""
        if not isinstance(other, Evidence):
            constant = pd.Series(float(other), index=self.low.index)
            return Evidence(combine(self.low, constant), combine(self.high, constant), self.note)
        seeds = self.low.index.intersection(other.low.index)
        a, b = (Evidence(e.low.loc[seeds], e.high.loc[seeds]) for e in (self, other))
        low, high = combine(a.low, b.high), combine(a.high, b.low)
        unknown = (a.low.isna() | b.low.isna()).to_numpy()
        note = " ".join(filter(None, dict.fromkeys((self.note, other.note))))
        # inf - inf and inf / inf leave the bound on that side open, which is NaN to pandas and infinity here.
        low = low.fillna(-np.inf).mask(unknown)
        return Evidence(low, high.fillna(np.inf).mask(unknown), note)


def epochs_to_convergence(runs: pd.DataFrame) -> Evidence:
    """Epochs to convergence of each seed, from rows of ``Records.runs`` with one row a seed.

    A run that did not converge, diverged ones included, needs more than its ``epochs``: how many more, nobody knows.

    >>> runs = pd.DataFrame({"seed": [0, 1], "converged_epoch": [120, None], "epochs": [500, 500]})
    >>> e = epochs_to_convergence(runs)
    >>> e.low.tolist(), e.high.tolist()
    ([120.0, 500.0], [120.0, inf])
    """
    rows = runs.set_index("seed")
    converged = rows["converged_epoch"].astype("float64")
    return Evidence(converged.fillna(rows["epochs"].astype("float64")), converged.fillna(np.inf))
