"""Seeds until the claims are decided: first where a claim is nearest to its decision for the time it takes."""

import math
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from theodolite.claims import Claim, Evidence, effects, going_on, ways
from theodolite.claims.judge import LEVEL
from theodolite.claims.needed import FEWEST
from theodolite.errors import SettingError
from theodolite.findings import Verdict
from theodolite.store import records
from theodolite.store.records import Records
from theodolite.store.remote.workspace import Copy
from theodolite.survey import reading
from theodolite.survey.prepared import Prepared, as_planned, with_seeds
from theodolite.survey.progress import Progress
from theodolite.survey.running import conclude, run
from theodolite.wording import counted

MOST = 100  # seeds of a study, unless more are asked for: half a standard deviation is found in four fifths
HOPELESS = 0.05  # chance of a decision within the most seeds, below which none are added for a claim


@dataclass(frozen=True)
class Open:
    """A claim that is not decided yet."""

    claim: Claim
    verdict: Verdict
    seeds: float  # planned, at which half of its futures have decided it; infinite: hopeless within the most


@dataclass(frozen=True)
class Standing:
    """Where a study is: its claims, and what one more of its seeds costs."""

    item: Prepared
    record: Records[Any] | None
    verdicts: Sequence[Verdict]
    open: Sequence[Open]
    seconds: float  # of one worker, a seed

    @property
    def nearest(self) -> float:
        """Seconds to the decision that is the nearest; infinite where all are decided or hopeless."""
        return min((one.seeds - self.item.settings.seeds for one in self.open), default=math.inf) * self.seconds

    def more(self, most: int) -> Prepared:
        """With the next seeds: an eighth more, or half of the way to the nearest decision."""
        now = self.item.settings.seeds
        way = min(one.seeds for one in self.open) - now
        return with_seeds(self.item, min(most, now + max(1, math.ceil(now / 8), math.ceil(way / 2))))


def until_decided(
    prepared: Sequence[Prepared],
    copy: Copy,
    *,
    budget: float | None = None,
    most: int = MOST,
    say: Callable[[str], None] = lambda text: None,
    clock: Callable[[], float] = time.monotonic,
    **options: Any,
) -> Generator[list[Progress]]:
    """Run the studies, and add seeds to each until all its claims are decided or hopeless; say which.

    Every look is tested so that looking costs nothing (docs/decisions/0047-looks.md). What is finished is kept
    whenever it ends; the same call goes on with the seeds that the folder has planned by then.

    Args:
        prepared: the studies, with the seeds that each begins with.
        copy: the results folder, held.
        budget: seconds after which nothing is begun and what is under way is stopped; None: no limit.
        most: seeds of a study.
        say: gets a line a study at the end, and those of :func:`run`.
        clock: seconds.
        options: of :func:`run`.

    Raises:
        SettingError: a budget that is not above zero, or fewer than three seeds.
    """
    check(budget, most)
    started, directory = clock(), copy.directory

    def within(items: Sequence[Prepared]) -> Generator[list[Progress]]:
        with closing(run(items, copy, until_decided=True, say=say, **options)) as updates:
            for update in updates:
                yield update
                if budget is not None and clock() - started >= budget:
                    break  # closed, its workers stop; what is finished is kept
            else:
                return
        conclude(items, directory, say)

    items = [_begun(item, directory, most) for item in as_planned(prepared, directory)]
    yield from within(items)
    standings = [standing(item, directory, most) for item in items]
    while budget is None or clock() - started < budget:
        first = min(standings, key=lambda one: one.nearest)
        if math.isinf(first.nearest):
            break
        item = first.more(most)
        yield from within([item])
        now = standing(item, directory, most)
        over = budget is not None and clock() - started >= budget
        if _numbers(now) == _numbers(first) and not over:  # its runs fail, or its claims do not ask for seeds
            now = replace(now, open=[replace(one, seeds=math.inf) for one in now.open])
        standings[standings.index(first)] = now
    for one in standings:
        say(told(one, most))


def check(budget: float | None, most: int) -> None:
    """Refuse what decides nothing."""
    if budget is not None and not 0 < budget < math.inf:
        raise SettingError(f"expected a budget above zero, got {budget:g} seconds. For example: --budget 30min")
    if most < FEWEST:
        raise SettingError(f"expected --max-seeds of {FEWEST} or more, got {most}: fewer seeds decide nothing.")


def _begun(item: Prepared, directory: Path, most: int) -> Prepared:
    """With the seeds of the folder's plan, where this study was begun there before."""
    plan = item.planned_in(directory, "")
    known = records.read_plan(directory, item.study.name) if plan.looks else None
    seeds = item.settings.seeds if known is None else max(item.settings.seeds, known.settings["seeds"])
    return with_seeds(item, seeds if known is not None else min(seeds, most))


def standing(item: Prepared, directory: Path, most: int) -> Standing:
    """Where a study of a folder is."""
    record = item.study.read(directory)
    if record is None or not record.started:
        return Standing(item, record, [], [], math.inf)
    verdicts = [one.verdict for one in reading.judged(item.study, record)]
    spent = float(record.runs["wall_seconds"].sum() + record.analyses["wall_seconds"].sum())
    undecided = [
        Open(claim, verdict, _outlook(claim, verdict, record, item.settings.seeds, most))
        for claim, verdict in zip(item.study.claims, verdicts, strict=True)
        if verdict.verdict == "undecided"
    ]
    return Standing(item, record, verdicts, undecided, max(spent, 1e-3) / item.settings.seeds)


def _outlook(claim: Claim, verdict: Verdict, record: Records[Any], planned: int, most: int) -> float:
    """Seeds planned at which half of the claim's futures have decided it; infinite where hardly any ever do."""
    try:
        parts = _parts(claim, record)
    except Exception:  # its note says so; more seeds do not mend it
        return math.inf
    if planned >= most:
        return math.inf
    if verdict.seeds < FEWEST:
        return planned + 1.0
    share = verdict.seeds / planned  # a claim may have a number of every second seed alone
    futures = going_on.outlook(claim, parts, _error(record), math.floor(most * share))
    within = futures[futures <= most * share]
    if not len(futures) or len(within) < HOPELESS * len(futures):
        return math.inf
    return max(planned + 1.0, float(np.median(within)) / share)


def _parts(claim: Claim, record: Records[Any]) -> dict[str, Evidence]:
    found = claim.evidence(record)
    return {"": found} if isinstance(found, Evidence) else dict(found)


def _error(record: Records[Any]) -> float:
    """What is left for the looks to come."""
    return (1 - LEVEL) * (1.0 if record.plan.until_decided else ways.LATER)


def _numbers(one: Standing) -> list[int]:
    return [verdict.seeds for verdict in one.verdicts]


def told(one: Standing, most: int) -> str:
    """What became of a study's claims, in a line; of those undecided, the smallest effect that could have been seen."""
    name, seeds = one.item.study.name, counted(one.item.settings.seeds, "seed")
    decided = len(one.verdicts) - len(one.open)
    if not one.verdicts:
        return f"{name}: no run is finished."
    if not one.open:
        return f"{name}: all {len(one.verdicts)} claims are decided, after {seeds}."
    left = "; ".join(f"{entry.claim.id} ({_left(entry, one, most)})" for entry in one.open)
    return f"{name}: {decided} of {counted(len(one.verdicts), 'claim')} decided after {seeds}. Undecided: {left}."


def _left(entry: Open, one: Standing, most: int) -> str:
    """Why a claim was left, and what could have been seen of it."""
    why = f"not within {most} seeds" if math.isinf(entry.seeds) else "no time left"
    if one.record is None or not entry.verdict.seeds:
        return why
    try:
        part = min(_parts(entry.claim, one.record).values(), key=lambda part: len(part.low))
    except Exception:  # its note says so on the page
        return "its evidence cannot be used"
    effect = effects.smallest_effect(entry.claim, len(part.low), _error(one.record), every_look=True)
    if effect is None:
        return f"{why}; {counted(len(part.low), 'seed')} could not have shown any effect"
    return f"{why}; {effects.in_its_unit(entry.claim, effect, part)} from the threshold would have been seen in 80 %"
