"""The smallest effect that so many seeds find with a chance of 80 %, before any of them has run."""

import math
from typing import Any

import numpy as np
from scipy.special import bdtr, bdtri, bdtrik, nctdtrinc, ndtri

from theodolite.claims import looks, means, medians, skew
from theodolite.claims.claim import Claim
from theodolite.claims.evidence import Evidence
from theodolite.claims.intervals import MEDIANS, SCALES
from theodolite.claims.needed import FEWEST, POWER
from theodolite.claims.paths import numbers
from theodolite.wording import signed

FARTHEST = 1e3  # standard deviations


def smallest_effect(claim: Claim, seeds: int, error: float, *, every_look: bool = False) -> float | None:
    """How far from its threshold the truth must lie: in standard deviations of the seeds, of a share as it is.

    Numbers count as normal on the scale of their kind. A decision on either side counts.

    Args:
        claim: what is claimed; of several tasks, each must lie so far.
        seeds: numbers.
        error: chance of a false decision.
        every_look: tested by its path, after all seeds, and not once.

    Returns:
        None where no effect is found with so few seeds, however large.
    """
    if seeds < FEWEST:
        return None
    if claim.kind == "share":
        return _share(claim, seeds, error, every_look=every_look)
    if claim.kind in MEDIANS:
        return _median(seeds, error, every_look=every_look)
    if claim.kind == "correlation" and not every_look:
        return _bounded(seeds, error)
    return _mean(seeds, error, every_look=every_look)


def _mean(seeds: int, error: float, *, every_look: bool) -> float | None:
    from scipy.optimize import brentq  # a third of a second to import, for whoever asks for effects

    def critical(against: float) -> float:
        if every_look:
            return float(skew.reach(looks.mean_quantile(seeds, error), seeds, against))
        return float(means.critical(seeds, 1 - error, against))

    if not math.isfinite(critical(0.0)):
        return None
    most = nctdtrinc(seeds - 1, 1 - POWER, critical(2.0)) / math.sqrt(seeds)
    if not math.isfinite(most):
        return None
    return float(brentq(lambda effect: skew.power(effect, seeds, critical) - POWER, 0.0, most))


def _bounded(seeds: int, error: float) -> float | None:
    found = nctdtrinc(seeds - 1, 1 - POWER, means.quantile(seeds, 1 - error, means.LOGARITHMS)) / math.sqrt(seeds)
    return float(found) if math.isfinite(found) else None


def _median(seeds: int, error: float, *, every_look: bool) -> float | None:
    """By how many numbers may lie on the other side; between two counts as the order statistics are interpolated.

    Where even none there is too many for these seeds, by the interval that reaches beyond the outermost.
    """
    from scipy.optimize import brentq

    if not every_look and 0.5**seeds >= error / 2:
        return float(brentq(lambda effect: medians.power_beyond(effect, seeds, 1 - error) - POWER, 0.0, FARTHEST))
    share = 0.0
    if every_look:
        wrong = looks.median_rank(seeds, error) - 1
    else:
        wrong = math.floor(bdtrik(error / 2, seeds, 0.5))
        here, there = bdtr([wrong, wrong + 1], seeds, 0.5)
        share = (error / 2 - here) / (there - here)
    if wrong < 0:
        return None

    def missing(beyond: float) -> float:
        few, more = bdtr([wrong, wrong + 1], seeds, 1 - beyond)
        return float((1 - share) * few + share * more) - POWER

    return float(ndtri(brentq(missing, 0.5, 1.0)))


def _share(claim: Claim, seeds: int, error: float, *, every_look: bool) -> float | None:
    """Of the nearest share on either side of a threshold."""
    found = []
    for limit in np.atleast_1d(claim.threshold):
        for above in (True, False):
            at = float(limit if above else 1 - limit)
            most = _most(at, seeds, error, every_look=every_look)
            if most < seeds:
                found.append(float(bdtri(most, seeds, 1 - POWER)) - at)
    return min(found, default=None)


def _most(limit: float, seeds: int, error: float, *, every_look: bool) -> int:
    """The most ones that do not yet say that the share lies above the limit."""
    if not every_look:
        return math.ceil(bdtrik(1 - error / 2, seeds, limit)) if 0 < limit < 1 else seeds
    bound = -math.log(error / 2)
    ones = [np.r_[np.ones(k), np.zeros(seeds - k)] for k in range(seeds + 1)]
    return next((k - 1 for k, x in enumerate(ones) if looks.ranged(x, limit, above=True)[-1] >= bound), seeds)


def in_its_unit(claim: Claim, effect: float | None, evidence: Evidence | None) -> str:
    """An effect in words: in standard deviations, and in the claim's own unit where numbers are there to tell.

    Example:
        >>> import pandas as pd
        >>> made = Claim("a", "", "", "", "mean", "above", 0.0, lambda records: records)
        >>> in_its_unit(made, 0.5, Evidence.exact(pd.Series([1.0, 2.0, 3.0])))
        '0.50 sd = 0.5'
    """
    if effect is None:
        return "none"
    if claim.kind == "share":
        return f"{effect:.2f} of the share"
    said = f"{effect:.2f} sd"
    spread = math.nan if evidence is None else _spread(claim, evidence)
    if not math.isfinite(spread) or spread == 0:
        return said
    if SCALES[claim.kind].back(0.0) == 1.0:  # a ratio
        return f"{said} = a factor of {signed(f'{SCALES[claim.kind].back(effect * spread):.3g}')}"
    return f"{said} = {signed(f'{effect * spread:.3g}')}"


def _spread(claim: Claim, evidence: Evidence) -> float:
    low: Any = numbers(evidence, claim.kind)[0]
    return float(low.std(ddof=1)) if len(low) > 1 and np.isfinite(low).all() else math.nan
