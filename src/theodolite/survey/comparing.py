"""Two surveys side by side, from the records of both."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from theodolite import claims
from theodolite.claims import holm
from theodolite.errors import StoreError
from theodolite.recordings import findings as recordings
from theodolite.report import Comparison, Side
from theodolite.store.records import Records
from theodolite.store.remote.workspace import Copy
from theodolite.study import Study
from theodolite.survey.reading import judged, read


def compare(first: Path | Copy, second: Path | Copy) -> Comparison:
    """Two surveys side by side: the claims that both have, and whether their estimates differ by more than chance.

    Raises:
        StoreError: either is not a results folder with a finished run, or they have no claim in common.
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
    if not shared:
        names = " and ".join(copy.place for copy in copies)
        if any(study.name == recordings.STUDY.name for found in sides for study, _ in found):
            raise StoreError(
                f"expected surveys with claims in common, but of the recordings in {names} nothing is claimed. Record "
                "the trainings into one folder, with labels={...} that tell them apart: its report compares them."
            )
        raise StoreError(
            f"expected surveys with a study in common, but {names} share none. Run the same study for both."
        )
    changes = claims.changes(
        [
            (
                verdicts[0][name, claim.id],
                verdicts[1][name, claim.id],
                claim.evidence(record_a[name]),
                claim.evidence(record_b[name]),
                claim.kind,
            )
            for name, claim in shared
        ]
    )
    only = [
        sorted({study for study, _ in verdicts[side]} - {study for study, _ in verdicts[1 - side]}) for side in (0, 1)
    ]
    return Comparison(
        _side(copies[0], sides[0]), _side(copies[1], sides[1]), changes, only_a=tuple(only[0]), only_b=tuple(only[1])
    )


def _side(copy: Copy, found: Sequence[tuple[Study[Any], Records[Any]]]) -> Side:
    facts = found[0][1].environment()
    return Side(
        copy.place,
        tuple(dict.fromkeys(record.plan.preset for _, record in found)),
        f"{facts['device']}, {facts['processor']}",
        facts["versions"],
    )
