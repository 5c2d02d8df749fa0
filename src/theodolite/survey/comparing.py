"""Two surveys side by side, from the records of both."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from theodolite import claims
from theodolite.claims import holm
from theodolite.claims.judge import usable
from theodolite.errors import StoreError
from theodolite.findings import Table
from theodolite.recordings import findings as recordings
from theodolite.recordings.comparing import compared
from theodolite.report import Comparison, Side
from theodolite.store.records import Records
from theodolite.store.remote.workspace import Copy
from theodolite.study import Study
from theodolite.survey.reading import judged, read


def compare(first: Path | Copy, second: Path | Copy) -> Comparison:
    """Two surveys side by side: the claims that both have, and whether their estimates differ by more than chance.

    Of recordings it is the series that both hold.

    Raises:
        StoreError: either is not a results folder with a finished run, or they have neither a claim nor a recorded
            series in common.
        RecordCorrupt: a file is not what was written; the message names it.
    """
    copies = [place if isinstance(place, Copy) else Copy(place) for place in (first, second)]
    sides = [list(read(copy.directory)) for copy in copies]
    verdicts = [
        {(v.study, v.id): v for v in holm([claim for study, record in found for claim in judged(study, record)])}
        for found in sides
    ]
    record_a, record_b = ({study.name: record for study, record in found} for found in sides)
    shared = [
        (study.name, claim) for study, _ in sides[0] for claim in study.claims if (study.name, claim.id) in verdicts[1]
    ]
    recorded = _recorded(record_a, record_b)
    if not shared and recorded is None:
        names = " and ".join(copy.place for copy in copies)
        raise StoreError(
            f"expected surveys with a study in common, or recordings of the same instruments with the same labels, but "
            f"{names} share none. Run the same study for both, or record the same."
        )
    changes = claims.changes(
        [
            (
                verdicts[0][name, claim.id],
                verdicts[1][name, claim.id],
                usable(claim, record_a[name]),
                usable(claim, record_b[name]),
                claim.kind,
            )
            for name, claim in shared
        ]
    )
    only = [
        sorted({study for study, _ in verdicts[side]} - {study for study, _ in verdicts[1 - side]}) for side in (0, 1)
    ]
    return Comparison(
        _side(copies[0], sides[0]),
        _side(copies[1], sides[1]),
        changes,
        only_a=tuple(only[0]),
        only_b=tuple(only[1]),
        recorded=recorded,
    )


def _recorded(a: Mapping[str, Records[Any]], b: Mapping[str, Records[Any]]) -> Table | None:
    name = recordings.STUDY.name
    found = compared(a[name], b[name]) if name in a and name in b else None
    return found if found is not None and len(found.frame) else None


def _side(copy: Copy, found: Sequence[tuple[Study[Any], Records[Any]]]) -> Side:
    facts = found[0][1].environment()
    return Side(
        copy.place,
        tuple(dict.fromkeys(record.plan.preset for _, record in found)),
        f"{facts['device']}, {facts['processor']}",
        facts["versions"],
    )
