"""A claim, its verdict, and Holm's correction over all claims of a survey."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from theodolite.claims.evidence import Evidence
from theodolite.claims.intervals import Kind
from theodolite.findings import Verdict

if TYPE_CHECKING:
    from theodolite.store.records import Records

Side = Literal["above", "below", "within"]


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence of the report with all that decides its verdict, fixed before any run.

    ``kind`` names the statistic over seeds and with it the interval (``intervals.interval``): ``mean``; ``ratio``
    (geometric mean of positive numbers); ``correlation`` (mean of numbers in [-1, 1]); ``share`` (of seeds, from
    zeros and ones); ``median`` and ``median_ratio``, which cope with runs that did not converge.
    """

    id: str
    sentence: str  # the report's words, or ours where the study goes beyond it
    source: str  # "report, Figure 1 right", or "beyond"
    statistic: str  # in words, with its unit
    kind: Kind
    side: Side  # where the claim says that the statistic lies; "within": between the two thresholds
    threshold: float | tuple[float, float]  # a pair for "within": the margin
    evidence: Callable[["Records"], Evidence]


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict before Holm's correction, and the p-value that the correction needs."""

    verdict: Verdict
    p_value: float  # 1 - the highest level at which the interval decides the claim; 1 where none does


def judge(claim: Claim, records: "Records", *, study: str, preset: str) -> Judged:
    """Test one claim on the records of its study."""
    raise NotImplementedError


def holm(judged: Sequence[Judged]) -> list[Verdict]:
    """Complete the verdicts with Holm's correction over all claims given, which are those of a survey."""
    raise NotImplementedError
