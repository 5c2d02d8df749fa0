"""The verdict on a claim, and Holm's correction over all claims of a survey."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from theodolite.claims import means
from theodolite.claims.claim import Claim, by_task, decide, p_value, smallest_p
from theodolite.claims.evidence import Evidence
from theodolite.claims.intervals import MEDIANS, Interval, Statistic, interval
from theodolite.claims.needed import FEWEST, needed_seeds
from theodolite.findings import Decision, Part, Verdict
from theodolite.wording import counted

if TYPE_CHECKING:
    from theodolite.store.records import Records

LEVEL = 0.95
SEEDS_OF_A_MEDIAN = 6  # from which its interval assumes nothing
NOTHING = Evidence.exact(pd.Series(dtype="float64"))


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict before Holm's correction, and the p-value that the correction needs."""

    verdict: Verdict
    p_value: float  # 1 - the highest level at which the interval decides the claim; 1 where none does
    says: Mapping[Decision, str] = field(default_factory=dict)  # by what the correction leaves of the verdict


def judge(claim: Claim, records: "Records[Any]", *, study: str, preset: str) -> Judged:
    """Test one claim on the records of its study.

    Returns:
        The verdict at 95 %, its ``verdict_holm`` still ``undecided``: :func:`holm` completes it.
    """
    measured = records.runs if len(records.runs) else records.analyses  # a study may have no runs
    started = bool((measured["status"] == "done").any())
    return verdict(claim, claim.evidence(records) if started else NOTHING, study=study, preset=preset)


def verdict(
    claim: Claim, evidence: Evidence | Mapping[str, Evidence], *, study: str, preset: str, level: float = LEVEL
) -> Judged:
    """Test one claim on its evidence; what :func:`judge` does once it has that."""
    parts = by_task(evidence)
    seeds = min(len(part.low) for part in parts.values())
    decision = decide(claim, parts, level)
    shown, found = _decisive(claim, parts, decision, level)
    rough = decision != "undecided" and (
        decide(claim, parts, level, means.SKEWED) != decision or (claim.kind in MEDIANS and seeds < SEEDS_OF_A_MEDIAN)
    )
    p = p_value(claim, parts)
    return Judged(
        Verdict(
            study=study,
            id=claim.id,
            sentence=claim.sentence,
            title=claim.title,
            source=claim.source,
            statistic=claim.statistic,
            kind=claim.kind,
            claimed=claim.claimed,
            estimate=_finite(found[shown].estimate),
            interval=(_finite(found[shown].low), _finite(found[shown].high)),
            level=level,
            threshold=claim.threshold,
            seeds=seeds,
            verdict=decision,
            verdict_holm="undecided",
            needed_seeds=_needed(claim, parts, found, level) if decision == "undecided" else None,
            preset=preset,
            note=_note(parts, shown, claim.kind, rough=rough),
            caveat=parts[shown].note,
            p_value=p,
            rough=rough,
            parts=tuple(_part(name, claim, parts[name], found[name]) for name in parts) if len(parts) > 1 else (),
        ),
        p,
        claim.says.filled(found[shown], claim.threshold, seeds),
    )


def _decisive(
    claim: Claim, parts: Mapping[str, Evidence], decision: Decision, level: float
) -> tuple[str, dict[str, Interval]]:
    """The task that the verdict hangs on, and the intervals of all.

    That is the one that fails most clearly, or else the one that is farthest from holding.
    """
    found = {name: interval(part, claim.kind, level) for name, part in parts.items()}
    if len(parts) == 1:
        return next(iter(parts)), found
    wanted = "fails" if decision == "fails" else "holds"

    def p(name: str) -> float:
        return smallest_p(lambda p: decide(claim, {name: parts[name]}, 1 - p) == wanted)

    return (min if decision == "fails" else max)(parts, key=p), found


def _part(name: str, claim: Claim, evidence: Evidence, found: Interval) -> Part:
    seeds = len(evidence.low)
    decision = claim.decide(found) if seeds >= FEWEST else "undecided"
    ends = (_finite(found.low), _finite(found.high))
    return Part(name=name, estimate=_finite(found.estimate), interval=ends, seeds=seeds, verdict=decision)


def _needed(claim: Claim, parts: Mapping[str, Evidence], found: Mapping[str, Interval], level: float) -> int | None:
    """Seeds for the whole claim: as many as its slowest task takes, or as the first takes to fail."""
    most: list[int | None] = []
    against: list[int] = []
    for name, part in parts.items():
        estimate = found[name].estimate
        needed = needed_seeds(part, claim.kind, found[name], claim.threshold, level)
        if needed is not None and claim.decide(Interval(estimate, estimate, estimate)) == "fails":
            against.append(needed)
        elif claim.decide(found[name]) != "holds":
            most.append(needed)
    known = [needed for needed in most if needed is not None]
    return min(against) if against else max(known) if known and len(known) == len(most) else None


def holm(judged: Sequence[Judged]) -> list[Verdict]:
    """Complete the verdicts with Holm's correction over all claims given, which are those of a survey.

    From the smallest p-value on, the i-th of m (from 0) stays decided while p · (m - i) < 1 - level; the first that
    does not, and all after it, are ``undecided`` in ``verdict_holm``.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    kept = survivors([entry.p_value for entry in judged])
    return [_corrected(entry, entry.verdict.verdict if i in kept else "undecided") for i, entry in enumerate(judged)]


def _corrected(entry: Judged, decision: Decision) -> Verdict:
    update = {"verdict_holm": decision, "finding": entry.says.get(decision, "")}
    return entry.verdict.model_copy(update=update)


def survivors(p_values: Sequence[float]) -> set[int]:
    """Which of several tests reject at 1 - :data:`LEVEL` all together, by Holm's correction."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    kept = 0
    while kept < len(order) and p_values[order[kept]] * (len(order) - kept) < 1 - LEVEL:
        kept += 1
    return set(order[:kept])


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _note(parts: Mapping[str, Evidence], shown: str, kind: Statistic, *, rough: bool) -> str:
    evidence = parts[shown]
    n = len(evidence.low)
    unknown = int(evidence.low.isna().sum())
    bounded = int((evidence.low < evidence.high).sum())
    said = [evidence.note]
    if len(parts) > 1:
        said.append(f"The decisive one of {len(parts)}: {shown}.")
    if not n:
        said.append("No seed has finished yet.")
    elif n < FEWEST:
        said.append(f"Fewer than {FEWEST} seeds decide nothing.")
    if bounded:
        said.append(
            f"{bounded} of {counted(n, 'seed')} known only within bounds (a run did not get there within its epochs)."
        )
    if unknown:
        why = "a run diverged, or there was nothing to take it from"
        said.append(f"{unknown} of {counted(n, 'seed')} gave no number ({why}); taken at their worst.")
    if n > 1 and kind != "share" and unknown + bounded == 0 and evidence.low.nunique() == 1:
        said.append("All seeds gave the same number, which does not say how far another may lie.")
    if rough:
        why = "lie in two groups" if kind in MEDIANS else "were as skewed as a lognormal distribution"
        said.append(f"Rough: it would not stand if the numbers {why}.")
    return " ".join(filter(None, said))
