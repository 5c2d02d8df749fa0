"""A claim, its verdict, and Holm's correction over all claims of a survey."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # what scipy.stats.t.ppf calls

from theodolite.claims.evidence import Evidence
from theodolite.claims.intervals import MEDIANS, SCALES, Interval, Statistic, interval, shares
from theodolite.errors import SettingError
from theodolite.findings import Decision, Verdict
from theodolite.wording import counted, signed

if TYPE_CHECKING:
    from theodolite.store.records import Records

Side = Literal["above", "below", "within"]

LEVEL = 0.95
FEWEST = 3  # seeds below which nothing is decided
HOPELESS = 10_000  # more seeds than this are not worth naming
SMALLEST_P = 1e-12  # below it, rounding decides


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence of the report with all that decides its verdict, fixed before any run.

    ``kind`` names the statistic over seeds and with it the interval (:func:`~theodolite.claims.interval`): ``mean``;
    ``ratio`` (geometric mean of positive numbers); ``correlation`` (mean, on the arcsine scale, of numbers in
    [-1, 1]); ``share`` (of seeds, from zeros and ones); ``median`` and ``median_ratio``, which cope with runs that
    did not converge.
    """

    id: str
    sentence: str  # the report's words, or ours where the study goes beyond it
    source: str  # "report, Figure 1 right", or "beyond"
    statistic: str  # in words, with its unit
    kind: Statistic
    side: Side  # where the claim says that the statistic lies; "within": between the two thresholds
    threshold: float | tuple[float, float]  # a pair for "within": the margin
    evidence: Callable[["Records[Any]"], Evidence]

    def __post_init__(self) -> None:
        for name, known in (("side", get_args(Side)), ("kind", get_args(Statistic))):
            if getattr(self, name) not in known:
                raise SettingError(
                    f"expected the {name} of claim '{self.id}' as one of {', '.join(known)}, got "
                    f"{getattr(self, name)!r:.60}. Write one of them."
                )
        if isinstance(self.threshold, tuple) != (self.side == "within"):
            raise ValueError(f"expected two thresholds for 'within' and one otherwise in claim '{self.id}'.")

    @property
    def claimed(self) -> str:
        """Side and threshold in words: ``below 0.5``, ``between 0.8 and 1.25``."""
        if isinstance(self.threshold, tuple):
            low, high = (signed(f"{end:g}") for end in self.threshold)
            return f"between {low} and {high}"
        return f"{self.side} {signed(f'{self.threshold:g}')}"

    def decide(self, found: Interval) -> Decision:
        """``holds`` where the interval lies wholly on the claimed side, ``fails`` where wholly on the other.

        An end that touches the threshold decides nothing.
        """
        if isinstance(self.threshold, tuple):
            least, most = self.threshold
            inside, outside = least < found.low and found.high < most, found.high < least or most < found.low
        else:
            above, below = found.low > self.threshold, found.high < self.threshold
            inside, outside = (above, below) if self.side == "above" else (below, above)
        return "holds" if inside else "fails" if outside else "undecided"


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict before Holm's correction, and the p-value that the correction needs."""

    verdict: Verdict
    p_value: float  # 1 - the highest level at which the interval decides the claim; 1 where none does


def judge(claim: Claim, records: "Records[Any]", *, study: str, preset: str) -> Judged:
    """Test one claim on the records of its study.

    Returns:
        The verdict at 95 %, its ``verdict_holm`` still ``undecided``: :func:`holm` completes it.
    """
    nothing = pd.Series(dtype="float64")
    measured = records.runs if len(records.runs) else records.analyses  # a study may have no runs
    started = bool((measured["status"] == "done").any())
    evidence = claim.evidence(records) if started else Evidence(nothing, nothing)
    found = interval(evidence, claim.kind, LEVEL)
    seeds = len(evidence.low)
    decision = claim.decide(found) if seeds >= FEWEST else "undecided"
    verdict = Verdict(
        study=study,
        id=claim.id,
        sentence=claim.sentence,
        source=claim.source,
        statistic=claim.statistic,
        claimed=claim.claimed,
        estimate=_finite(found.estimate),
        interval=(_finite(found.low), _finite(found.high)),
        level=LEVEL,
        threshold=claim.threshold,
        seeds=seeds,
        verdict=decision,
        verdict_holm="undecided",
        needed_seeds=needed_seeds(claim, found, seeds) if decision == "undecided" else None,
        preset=preset,
        note=_note(evidence, claim.kind),
    )
    return Judged(verdict, p_value(claim, evidence))


def p_value(claim: Claim, evidence: Evidence) -> float:
    """The smallest 1 - level at which the interval decides the claim, by bisection on its logarithm.

    So it agrees with the interval by construction, whatever the kind: it is below 0.05 just where the 95 % interval
    decides. For a threshold it is the two-sided p-value of the test that the interval inverts; for a margin, the
    larger of the two.
    """
    if len(evidence.low) < FEWEST:
        return 1.0

    def decided(p: float) -> bool:
        return claim.decide(interval(evidence, claim.kind, 1 - p)) != "undecided"

    return smallest_p(decided)


def smallest_p(decided: Callable[[float], bool]) -> float:
    """The smallest p at which ``decided(p)`` is true, by bisection on its logarithm; 1 where it never is.

    Args:
        decided: true from some p on.
    """
    if decided(SMALLEST_P):
        return SMALLEST_P
    if not decided(1 - SMALLEST_P):
        return 1.0
    low, high = math.log(SMALLEST_P), 0.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if decided(min(math.exp(middle), 1 - SMALLEST_P)) else (middle, high)
    return math.exp(high)


def needed_seeds(claim: Claim, found: Interval, seeds: int) -> int | None:
    r"""Seeds that would decide an undecided claim, if the estimate and the spread stay as they are.

    On the scale of the kind, with distance d from the estimate to the nearest threshold and half width w of the
    interval on that side: the smallest m with :math:`t_{m-1} / \sqrt m \le (d / w)\, t_{n-1} / \sqrt n`, t the 97.5 %
    point of Student's distribution. For a share: the smallest m at which the same share decides.

    Returns:
        None where nothing can be said: no estimate, an end unbounded, the estimate on the threshold, or above 10,000.
    """
    if not seeds or math.isnan(found.estimate):
        return None
    counts = np.arange(FEWEST, HOPELESS + 1)
    if claim.kind == "share":
        successes = np.rint(found.estimate * counts)
        pairs = zip(*shares(successes, counts, LEVEL), strict=True)
        decides = np.array([claim.decide(Interval(found.estimate, a, b)) != "undecided" for a, b in pairs])
    else:
        if seeds < 2:
            return None
        forward = SCALES[claim.kind].forward
        estimate = forward(found.estimate)
        threshold = min(np.atleast_1d(forward(np.array(claim.threshold))), key=lambda end: abs(end - estimate))
        half = abs(forward(found.high if threshold > estimate else found.low) - estimate)
        if not np.isfinite(half) or threshold == estimate:
            return None
        point = (1 + LEVEL) / 2
        width = stdtrit(counts - 1, point) / np.sqrt(counts)
        decides = width * half < abs(threshold - estimate) * stdtrit(seeds - 1, point) / math.sqrt(seeds)
    enough = counts[decides & (counts > seeds if seeds >= FEWEST else True)]
    return int(enough[0]) if len(enough) else None


def holm(judged: Sequence[Judged]) -> list[Verdict]:
    """Complete the verdicts with Holm's correction over all claims given, which are those of a survey.

    From the smallest p-value on, the i-th of m (from 0) stays decided while p · (m - i) < 1 - level; the first that
    does not, and all after it, are ``undecided`` in ``verdict_holm``.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    kept = survivors([entry.p_value for entry in judged])
    return [
        entry.verdict.model_copy(update={"verdict_holm": entry.verdict.verdict if i in kept else "undecided"})
        for i, entry in enumerate(judged)
    ]


def survivors(p_values: Sequence[float]) -> set[int]:
    """Which of several tests reject at 1 - :data:`LEVEL` all together, by Holm's correction."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    kept = 0
    while kept < len(order) and p_values[order[kept]] * (len(order) - kept) < 1 - LEVEL:
        kept += 1
    return set(order[:kept])


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _note(evidence: Evidence, kind: Statistic) -> str:
    n = len(evidence.low)
    unknown = int(evidence.low.isna().sum())
    bounded = int((evidence.low < evidence.high).sum())
    parts = [evidence.note]
    if not n:
        parts.append("No seed has finished yet.")
    elif n < FEWEST:
        parts.append(f"Fewer than {FEWEST} seeds decide nothing.")
    if bounded:
        parts.append(
            f"{bounded} of {counted(n, 'seed')} known only within bounds (a run did not get there within its epochs)."
        )
    if unknown:
        why = "a run diverged, or there was nothing to take it from"
        parts.append(f"{unknown} of {counted(n, 'seed')} gave no number ({why}); taken at their worst.")
    if n and kind not in MEDIANS and kind != "share" and unknown + bounded == 0 and evidence.low.nunique() == 1:
        parts.append("All seeds gave the same number: interval from order statistics.")
    return " ".join(filter(None, parts))
