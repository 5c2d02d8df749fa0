"""How many seeds the paths of a claim still take, if its numbers go on as they have begun."""

from collections.abc import Callable, Mapping

import numpy as np

from theodolite.claims import paths
from theodolite.claims.claim import Claim
from theodolite.claims.evidence import Evidence
from theodolite.claims.intervals import SCALES
from theodolite.claims.looks import Array
from theodolite.claims.needed import FEWEST, POWER

LONGEST = 2_000  # seeds: beyond it nothing is named
FUTURES = 200
SMALL = 40  # seeds up to which most is decided: looked at first, because long futures take long

Weights = Callable[[np.random.Generator, int], Array]


def seeds_to_decide(claim: Claim, evidence: Evidence, error: float, most: int = LONGEST) -> int | None:
    """Seeds in all by which the path decides in :data:`POWER` of its futures, estimate and spread staying as they are.

    Returns:
        None where it does not within ``most`` seeds, and where there are fewer than three numbers or no finite ones.
    """
    for length in dict.fromkeys(sorted({min(most, max(SMALL, len(evidence.low) * times)) for times in (2, 16, most)})):
        reached = _reached(claim, {"": evidence}, error, length, lambda generator, n: np.full(n, 1 / n))
        at = int(np.quantile(reached, POWER, method="higher")) if len(reached) else paths.NEVER
        if at <= length:
            return max(at, len(evidence.low) + 1)
    return None


def outlook(claim: Claim, parts: Mapping[str, Evidence], error: float, most: int) -> Array:
    """Seeds in all at which the claim is decided, in each of many futures that allow for what is not known yet.

    Each number weighs as the Bayesian bootstrap has it (Rubin 1981), so that an estimate of few seeds may turn.

    Returns:
        (futures,), :data:`paths.NEVER` where it is not decided within ``most`` seeds; empty where nothing can be said.
    """
    return _reached(claim, parts, error, most, lambda generator, n: generator.dirichlet(np.ones(n)))


def _reached(claim: Claim, parts: Mapping[str, Evidence], error: float, length: int, weights: Weights) -> Array:
    begun = [paths.numbers(part, claim.kind) for part in parts.values()]
    if any(len(low) < FEWEST or not np.isfinite([*low, *high]).all() for low, high in begun):
        return np.array([])
    generator = np.random.default_rng(0)  # the same records say the same
    found = []
    for _ in range(FUTURES):
        followed = [paths.path(*_future(low, high, length, claim, weights, generator), claim) for low, high in begun]
        found.append(min(paths.reached(claim.side, followed, error)))
    return np.array(found, dtype=np.float64)


def _future(
    low: Array, high: Array, length: int, claim: Claim, weights: Weights, generator: np.random.Generator
) -> tuple[Array, Array]:
    """The numbers that are there and more like them, as far apart as the sample says: drawn again they would be nearer.

    Noise does it, and in a bounded range, which noise would leave, a step away from their mean.

    Source: Silverman and Young 1987, "The bootstrap: to smooth or not to smooth?".
    """
    n, more = len(low), max(0, length - len(low))
    drawn = generator.choice(n, size=more, p=weights(generator, n))
    bounds = SCALES[claim.kind].range
    if not np.isfinite(bounds).all():
        noise = generator.normal(size=more) * low.std() / np.sqrt(n - 1)
        return np.r_[low, low[drawn] + noise], np.r_[high, high[drawn] + noise]
    apart = np.sqrt(n / (n - 1))
    low_more, high_more = (
        np.clip(values.mean() + apart * (values - values.mean()), *bounds)[drawn] for values in (low, high)
    )
    return np.r_[low, low_more], np.r_[high, high_more]
