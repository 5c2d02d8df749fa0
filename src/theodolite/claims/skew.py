"""What skewed numbers do to Student's t: on the side on which they err it must reach farther.

Of numbers with a long tail to the right, few samples have seen its end: their mean is too low and their spread too
small at once, so that t says "below" too often. A sample shows on which side its tail is, if not all of it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import nctdtr, ndtri

Array = NDArray[np.float64]

WEIGHT = 2.0  # of the sample's skewness: that of ten exponential or lognormal numbers is half of theirs at most
HALVES = ndtri((np.arange(4) + 4.5) / 8)  # four equally likely values of a normal number that is above 0


def skewness(values: Array) -> float:
    """Third central moment over the 3/2-th power of the second; 0 where there are fewer than three numbers.

    >>> skewness(np.array([1.0, 1.0, 1.0, 5.0])).__round__(4)
    1.1547
    """
    away = values - values.mean()
    away = away / (np.abs(away).max() or 1.0)  # no square leaves the range of floats
    spread = float(np.mean(away**2))
    return float(np.mean(away**3)) / spread**1.5 if len(values) > 2 and spread > 0 else 0.0


def so_far(values: Array) -> tuple[Array, Array]:
    """Variance (over n) and :func:`skewness` of the first 1, 2, … numbers; those of later ones change nothing."""
    n, away = np.arange(1, len(values) + 1), values - values[:1]
    first, second, third = (np.cumsum(away**k) / n for k in (1, 2, 3))
    variance = second - first**2
    moment = third - 3 * first * second + 2 * first**3
    seen = (variance > 0) & (n > 2)
    return variance, np.divide(moment, np.where(seen, variance, 1.0) ** 1.5, out=np.zeros(len(values)), where=seen)


def reach(t: Any, n: Any, against: Any) -> Any:
    r"""How far t of n numbers must reach where that of normal numbers reaches t.

    .. math:: t + w\,\gamma\,\frac{1 + 2 t^2}{6 \sqrt n}

    Args:
        t: above 0.
        n: numbers.
        against: γ, their skewness towards the side on which the threshold lies; 0 where it is to the other, which is
            never held in favour of a decision.

    Source: Johnson 1978, "Modified t tests and confidence intervals for asymmetrical populations", and w.
    """
    return t + WEIGHT * against * (1 + 2 * t**2) / (6 * np.sqrt(n))


def undone(reached: Array, n: Array, against: Array) -> Array:
    """The t of normal numbers that says as much: the inverse of :func:`reach`, 0 where there is none."""
    bend = WEIGHT * against / (6 * np.sqrt(n))
    beyond = np.maximum(reached - bend, 0.0)
    return np.asarray(2 * beyond / (1 + np.sqrt(1 + 8 * bend * beyond)))


def power(effect: float, n: Any, critical: Callable[[Any], Any]) -> Any:
    """How often t of n normal numbers reaches its critical value, at an effect in standard deviations.

    Skewness and t of normal numbers are independent (Basu 1955), so that it is the mean over the former.

    Args:
        effect: of the mean.
        n: numbers.
        critical: value of t, by the skewness against it.
    """
    spread = np.sqrt(6 * (n - 2) / ((n + 1) * (n + 3)))  # of the skewness of normal numbers
    even, *skewed = (nctdtr(n - 1, effect * np.sqrt(n), critical(z * spread)) for z in (0.0, *HALVES))
    return 1 - (np.nan_to_num(even) + np.mean(np.nan_to_num(skewed), axis=0)) / 2  # NaN: a chance next to zero
