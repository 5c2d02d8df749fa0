"""What a survey can find, before it runs: the smallest effect that the seeds of each claim would decide."""

from pathlib import Path
from typing import Any

from theodolite.claims import Claim, Evidence, effects
from theodolite.claims.judge import LEVEL
from theodolite.errors import TheodoliteError
from theodolite.store import records
from theodolite.store.records import Records
from theodolite.study import Settings
from theodolite.survey.prepared import Prepared


def smallest_effects(item: Prepared, directory: Path) -> list[dict[str, Any]]:
    """A row a claim: how far its statistic must lie from the threshold to be decided with a chance of 80 %.

    Args:
        item: a study with its settings.
        directory: a results folder, whose numbers say how far seeds lie apart, and how many of those planned give a
            number; where it holds nothing of the study, effects are in standard deviations alone and all of them do.
    """
    record = _record(item, directory)
    rows = []
    for claim in item.study.claims:
        part = None if record is None else _shortest(claim, record)
        seeds = _planned(claim, item.settings)
        if record is not None and part is not None:
            seeds = round(seeds * len(part.low) / max(1, _planned(claim, record.settings)))
        effect = effects.smallest_effect(claim, seeds, 1 - LEVEL)
        found = effects.in_its_unit(claim, effect, part)
        rows.append(
            {"study": item.study.name, "claim": claim.id, "claimed": claim.claimed, "seeds": seeds, "finds": found}
        )
    return rows


def _planned(claim: Claim, settings: Settings) -> int:
    return settings.seeds if claim.seeds is None else claim.seeds(settings)


def _record(item: Prepared, directory: Path) -> Records[Any] | None:
    if not (directory / records.MARK).exists():
        return None
    try:
        found = item.study.read(directory)
    except TheodoliteError:  # what is wrong there is said when it is read for its own sake
        return None
    return found if found is not None and found.started else None


def _shortest(claim: Claim, record: Records[Any]) -> Evidence | None:
    """Of the task with the fewest seeds; None where the records give none."""
    try:
        found = claim.evidence(record)
        parts = [found] if isinstance(found, Evidence) else list(found.values())
        return min(parts, key=lambda part: len(part.low))
    except Exception:  # as above
        return None
