"""What a user gives: one number a seed, a threshold, a statistic, a level; each is checked."""

import math
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import pandas as pd

from theodolite.claims.claim import Claim
from theodolite.claims.evidence import Evidence
from theodolite.claims.intervals import SCALES, Statistic
from theodolite.errors import SettingError, UnknownName


def claim(
    statistic: str, above: float | None, below: float | None, within: tuple[float, float] | None, level: float
) -> Claim:
    """The claim that exactly one of the three thresholds makes.

    Raises:
        UnknownName: no such statistic.
        SettingError: none or several thresholds, one that is no finite number, or a level that is no share.
    """
    if statistic not in get_args(Statistic):
        raise UnknownName("statistic", str(statistic), get_args(Statistic))
    given = {side: at for side, at in (("above", above), ("below", below), ("within", within)) if at is not None}
    if len(given) != 1:
        told = " and ".join(given) or "none"
        raise SettingError(f"expected one of above=, below= and within=, got {told}. Say what is claimed.")
    ((side, at),) = given.items()
    try:
        limits = [float(limit) for limit in np.atleast_1d(np.asarray(at, dtype=np.float64))]
    except (TypeError, ValueError):
        limits = []
    wanted = 2 if side == "within" else 1
    if len(limits) != wanted or not all(map(math.isfinite, limits)) or sorted(set(limits)) != limits:
        form = "two finite numbers, the lower first" if wanted == 2 else "one finite number"
        raise SettingError(f"expected {side}= as {form}, got {at!r}.")
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0.5 <= level < 1:
        raise SettingError(f"expected a level from 0.5 to below 1, as 0.95, got {level!r}.")
    threshold = (limits[0], limits[1]) if wanted == 2 else limits[0]
    return Claim("", "", "", statistic, statistic, side, threshold, lambda records: Evidence.exact(pd.Series()))  # type: ignore[arg-type]


def numbers(values: Any, statistic: Statistic) -> Evidence:
    """One number a seed: of a sequence, an array, a Series indexed by seed, a dict, or evidence as it is.

    NaN stands for a seed that gave no number: it stays, and counts at its worst.

    Raises:
        SettingError: no numbers, more than one a seed, infinite ones, or outside the range of the statistic.
    """
    if isinstance(values, Evidence):
        return _in_range(values, statistic)
    if isinstance(values, str | bytes) or not (isinstance(values, Mapping) or hasattr(values, "__len__")):
        raise SettingError(f"expected one number a seed, got {type(values).__name__}. Pass a sequence or a dict.")
    if not isinstance(values, Mapping | pd.Series) and np.ndim(values) != 1:
        raise SettingError(f"expected one number a seed, got {np.ndim(values)} dimensions. Reduce each seed to one.")
    series = values if isinstance(values, pd.Series) else pd.Series(values)
    if series.index.has_duplicates:
        again = series.index[series.index.duplicated()][0]
        raise SettingError(f"expected each seed once, got {again} again. Reduce each seed to one number.")
    if any(isinstance(value, str) for value in series):
        raise SettingError("expected numbers, got text. Convert it first.")
    try:
        series = series.astype("float64")
    except (TypeError, ValueError) as wrong:
        raise SettingError(f"expected one number a seed: {wrong}.") from None
    if np.isinf(series.to_numpy()).any():
        raise SettingError(
            "expected finite numbers, got an infinite one. What is known only to lie beyond a bound is "
            "th.claims.Evidence(low, high)."
        )
    return _in_range(Evidence.exact(series), statistic)


def _in_range(evidence: Evidence, statistic: Statistic) -> Evidence:
    least, most = SCALES[statistic].range
    low, high = evidence.low.min(), evidence.high.max()
    zero = statistic in ("ratio", "median_ratio") and (evidence.high <= 0).any()
    ones = statistic == "share" and not evidence.low.dropna().isin((0, 1)).all()
    if low < least or high > most or zero or ones:
        allowed = {"ratio": "above 0", "median_ratio": "above 0", "share": "that are 0 or 1"}.get(
            statistic, f"from {least:g} to {most:g}"
        )
        raise SettingError(f"expected numbers {allowed} for a {statistic}, got {low:g} to {high:g}. Use another one.")
    return evidence
