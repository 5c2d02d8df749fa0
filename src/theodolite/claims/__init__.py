"""From the numbers of each seed to a verdict: an interval, a threshold fixed beforehand, and Holm's correction.

How a claim is tested: docs/decisions/0010-intervals.md, with the coverage that was measured. Imports no torch.
"""

from theodolite.claims.compare import Change, compare
from theodolite.claims.evidence import Evidence, epochs_to_convergence
from theodolite.claims.intervals import Interval, Statistic, interval
from theodolite.claims.judge import Claim, Judged, Side, holm, judge
from theodolite.claims.rows import row
from theodolite.claims.trends import factor_per_doubling, rank_correlation

__all__ = [
    "Change",
    "Claim",
    "Evidence",
    "Interval",
    "Judged",
    "Side",
    "Statistic",
    "compare",
    "epochs_to_convergence",
    "factor_per_doubling",
    "holm",
    "interval",
    "judge",
    "rank_correlation",
    "row",
]
