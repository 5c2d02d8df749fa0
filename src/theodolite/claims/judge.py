"""The verdict on a claim, and Holm's correction over all claims of a survey."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from theodolite.claims.claim import Claim, by_task, smallest_p
from theodolite.claims.evidence import Evidence
from theodolite.claims.intervals import Interval
from theodolite.claims.means import CORRECTED
from theodolite.claims.notes import note
from theodolite.claims.ways import EveryLook, Once, Way
from theodolite.errors import TheodoliteError
from theodolite.findings import Decision, Part, Verdict
from theodolite.wording import counted

if TYPE_CHECKING:
    from theodolite.store.records import Records

LEVEL = 0.95
NOTHING = Evidence.exact(pd.Series(dtype="float64"))


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict before Holm's correction, and the p-value that the correction needs."""

    verdict: Verdict
    p_value: float  # for the correction: the verdict's own, with room for more skew, of which tails have the most
    says: Mapping[Decision, str] = field(default_factory=dict)  # by what the correction leaves of the verdict


@dataclass(frozen=True, slots=True)
class Looks:
    """How the seeds of a study came, where they are more, or fewer, than were planned first."""

    first: "Records[Any] | None"  # the seeds planned first, where all are there; None: they have no look of their own
    until_decided: bool = False  # planned so from the start
    seeds: tuple[int, ...] = ()  # planned at each look


def judge(
    claim: Claim, records: "Records[Any]", *, study: str, preset: str, looks: Looks | None = None, changed: bool = False
) -> Judged:
    """Test one claim on the records of its study.

    Args:
        claim: what is claimed.
        records: of its study.
        study: its name.
        preset: and size.
        looks: None: this is the first look, at the number of seeds that was fixed beforehand.
        changed: it is not what was planned before the first run.

    Returns:
        The verdict at 95 %, its ``verdict_holm`` still ``undecided``: :func:`holm` completes it. Evidence that cannot
        be used leaves it undecided, and the note says why.
    """
    seen: dict[str, Any] = {"study": study, "preset": preset, "changed": changed}
    try:
        parts = _evidence(claim, records)
        if looks is None:
            return _verdict(Once(claim, parts), **seen)
        first = {} if looks.first is None else _evidence(claim, looks.first)
        same = first.keys() == parts.keys()
        ordered = {name: _by_seed(part) for name, part in parts.items()}
        way = EveryLook(claim, ordered, first if same else {}, looks.until_decided)
        return _verdict(way, looks=looks.seeds, **seen)
    except TheodoliteError:
        raise
    except Exception as error:  # the code of a study, maybe a user's own: its other claims are told
        nothing = _verdict(Once(claim, {"": NOTHING}), **seen)
        why = f"{type(error).__name__}: {error}".partition("\n")[0]
        note = f"Its evidence cannot be used ({why}). Mend it, then run `theodolite report`: no run is lost."
        return Judged(nothing.verdict.model_copy(update={"note": note}), 1.0)


def usable(claim: Claim, records: "Records[Any]") -> Mapping[str, Evidence]:
    """What the records say; nothing where that cannot be used, of which the note of the claim's verdict tells."""
    try:
        return _evidence(claim, records)
    except TheodoliteError:
        raise
    except Exception:
        return {"": NOTHING}


def _evidence(claim: Claim, records: "Records[Any]") -> Mapping[str, Evidence]:
    """What the records say, once a run is done, and checked: one number a seed."""
    measured = records.runs if len(records.runs) else records.analyses  # a study may have no runs
    if not (measured["status"] == "done").any():
        return {"": NOTHING}
    found = claim.evidence(records)
    if not isinstance(found, Evidence | Mapping) or not all(isinstance(p, Evidence) for p in by_task(found).values()):
        raise TypeError(f"expected Evidence, or a dict of it by task, got {type(found).__name__}")
    parts = by_task(found)
    for part in parts.values():
        if len(part.low) > (seeds := measured["seed"].nunique()):
            raise ValueError(f"expected one number a seed, got {len(part.low)} of {counted(seeds, 'seed')}")
    return parts


def _by_seed(evidence: Evidence) -> Evidence:
    """In the order in which the seeds came."""
    return Evidence(evidence.low.sort_index(), evidence.high.sort_index(), evidence.note)


def verdict(
    claim: Claim, evidence: Evidence | Mapping[str, Evidence], *, study: str, preset: str, level: float = LEVEL
) -> Judged:
    """Test one claim on its evidence, at one look; what :func:`judge` does once it has that."""
    return _verdict(Once(claim, by_task(evidence)), study=study, preset=preset, level=level)


def _verdict(
    way: Way, *, study: str, preset: str, level: float = LEVEL, looks: tuple[int, ...] = (), changed: bool = False
) -> Judged:
    claim, parts, error = way.claim, way.parts, 1 - level
    decision, rough = way.decide(error), way.rough(error)
    found = {name: way.interval(name, error) for name in parts}
    shown = _decisive(way, decision)
    return Judged(
        Verdict(
            study=study,
            id=claim.id,
            sentence=claim.sentence,
            title=claim.words.title,
            figures=claim.words.figures,
            source=claim.source,
            statistic=claim.words.said(claim.statistic),
            kind=claim.kind,
            claimed=claim.claimed,
            estimate=_finite(found[shown].estimate),
            interval=(_finite(found[shown].low), _finite(found[shown].high)),
            level=level,
            threshold=claim.threshold,
            seeds=min(len(part.low) for part in parts.values()),
            verdict=decision,
            verdict_holm="undecided",
            needed_seeds=_needed(way, found, error) if decision == "undecided" else None,
            preset=preset,
            note=claim.words.said(note(way, shown, looks, rough=rough)),
            caveat=parts[shown].note,
            p_value=smallest_p(lambda p: way.decide(p) != "undecided"),
            rough=rough,
            looks=max(1, len(looks)),
            changed=changed,
            parts=tuple(_part(way, name, found[name], error) for name in parts) if len(parts) > 1 else (),
        ),
        smallest_p(lambda p: way.decide(p, CORRECTED) != "undecided"),
        claim.words.filled(found[shown], claim.threshold, min(len(part.low) for part in parts.values())),
    )


def _decisive(way: Way, decision: Decision) -> str:
    """The task that the verdict hangs on: the one that fails most clearly, or else is farthest from holding."""
    if len(way.parts) == 1:
        return next(iter(way.parts))
    wanted = "fails" if decision == "fails" else "holds"

    def p(name: str) -> float:
        return smallest_p(lambda p: way.only(name).decide(p) == wanted)

    return (min if decision == "fails" else max)(way.parts, key=p)


def _part(way: Way, name: str, found: Interval, error: float) -> Part:
    ends = (_finite(found.low), _finite(found.high))
    decision = way.only(name).decide(error)
    seeds = len(way.parts[name].low)
    return Part(name=name, estimate=_finite(found.estimate), interval=ends, seeds=seeds, verdict=decision)


def _needed(way: Way, found: Mapping[str, Interval], error: float) -> int | None:
    """Seeds for the whole claim: as many as its slowest task takes, or as the first takes to fail."""
    most: list[int | None] = []
    against: list[int] = []
    for name in way.parts:
        estimate, decision = found[name].estimate, way.only(name).decide(error)
        needed = None if decision == "holds" else way.needed(name, error)
        if needed is not None and way.claim.decide(Interval(estimate, estimate, estimate)) == "fails":
            against.append(needed)
        elif decision != "holds":
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
    return [_corrected(entry, i in kept, len(judged)) for i, entry in enumerate(judged)]


def _corrected(entry: Judged, kept: bool, claims: int) -> Verdict:
    alone = entry.verdict.verdict
    finding = entry.says.get(alone, "")
    if finding and not kept and alone != "undecided":
        finding = f"{finding} Alone that would decide it; among {claims} claims it does not."
    return entry.verdict.model_copy(update={"verdict_holm": alone if kept else "undecided", "finding": finding})


def survivors(p_values: Sequence[float]) -> set[int]:
    """Which of several tests reject at 1 - :data:`LEVEL` all together, by Holm's correction."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    kept = 0
    while kept < len(order) and p_values[order[kept]] * (len(order) - kept) < 1 - LEVEL:
        kept += 1
    return set(order[:kept])


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
