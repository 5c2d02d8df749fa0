"""Intervals over seeds, by kind of statistic; each measured to cover the truth (docs/decisions/0010-intervals.md)."""

from dataclasses import dataclass
from typing import Literal

from theodolite.claims.evidence import Evidence

Kind = Literal["mean", "ratio", "correlation", "share", "median", "median_ratio"]


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the statistic lies. Ends are infinite where nothing bounds them, the estimate NaN where there is none."""

    estimate: float
    low: float
    high: float


def interval(evidence: Evidence, kind: Kind, level: float = 0.95) -> Interval:
    """Estimate of a statistic over seeds and its interval, in the statistic's own unit."""
    raise NotImplementedError
