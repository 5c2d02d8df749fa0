"""From the numbers of each seed to a verdict: an interval, a threshold fixed beforehand, and Holm's correction.

How a claim is tested, and what of it was measured: docs/how-claims-are-tested.md. Imports no torch.
"""

from theodolite.claims import trends
from theodolite.claims.changes import Change, changes
from theodolite.claims.claim import Claim, Side, worded
from theodolite.claims.evidence import Evidence, epochs_to_convergence
from theodolite.claims.intervals import Interval, Statistic, interval
from theodolite.claims.judge import Judged, Looks, holm, judge
from theodolite.claims.monitor import Monitor
from theodolite.claims.picked import halves, hump, past_the_best, tested_seeds
from theodolite.claims.planned import changed, planned
from theodolite.claims.rows import Number, groups, row
from theodolite.claims.tested import Tested, compare, test
from theodolite.claims.trends import Numbers, each_seed, factor_per_doubling, goodman_kruskal, rank_correlation
from theodolite.claims.variance import crossed_components
from theodolite.claims.words import Words
from theodolite.errors import require

__all__ = [
    "Change",
    "Claim",
    "Evidence",
    "Interval",
    "Judged",
    "Looks",
    "Monitor",
    "Number",
    "Numbers",
    "Side",
    "Statistic",
    "Tested",
    "Words",
    "changed",
    "changes",
    "compare",
    "crossed_components",
    "each_seed",
    "epochs_to_convergence",
    "factor_per_doubling",
    "goodman_kruskal",
    "groups",
    "halves",
    "holm",
    "hump",
    "interval",
    "judge",
    "past_the_best",
    "planned",
    "rank_correlation",
    "row",
    "test",
    "tested_seeds",
    "trends",
    "worded",
]

require("A claim", "pandas")  # an old one imports as well, and gives columns of other types
