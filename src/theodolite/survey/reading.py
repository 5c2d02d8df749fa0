"""From records to findings: what a results folder says of every study in it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from theodolite import machine, studies
from theodolite.claims import Judged, Looks, changed, holm, judge
from theodolite.errors import StoreError
from theodolite.figures.composed import unchecked
from theodolite.findings import Verdict
from theodolite.own import reading as own
from theodolite.recordings import findings as recordings
from theodolite.report import RunsSummary, StudyFindings
from theodolite.store import lock, records
from theodolite.store.records import Records
from theodolite.study import Study

Found = tuple[list[Judged], StudyFindings]  # of one study by itself


def readable(directory: Path) -> list[Study[Any]]:
    """All that a results folder may hold: the studies, those of one's own, and recordings, which are no study's.

    Raises:
        RecordCorrupt: a study of one's own is not described as it was written.
    """
    return [*studies.INDEX.values(), *own.in_folder(directory), recordings.STUDY]


def findings(directory: Path) -> list[StudyFindings]:
    """Tables, figures and verdicts of every study in a results folder, from its records alone.

    Raises:
        StoreError: not a results folder, or one that holds no finished run.
        RecordCorrupt: a file is not what was written; the message names it.
    """
    # The tables of one study at a time are held.
    return together([(judged(study, record), _findings(study, record)) for study, record in read(directory)])


def found(directory: Path, study: Study[Any]) -> Found | None:
    """What one study found by itself, its claims not yet corrected; None where nothing of it is finished."""
    record = study.read(directory)
    if record is None or not record.environment():
        return None
    return judged(study, record), _findings(study, record)


def together(found: Sequence[Found]) -> list[StudyFindings]:
    """What all studies of a survey found, their claims corrected by Holm's method over all of them."""
    verdicts = holm([claim for judged, _ in found for claim in judged])
    return [replace(study, verdicts=[v for v in verdicts if v.study == study.name]) for _, study in found]


def verdicts(directory: Path) -> list[Verdict]:
    """What became of every claim in a results folder, from its records alone; raises as :func:`findings` does."""
    return holm([claim for study, record in read(directory) for claim in judged(study, record)])


def status(directory: Path) -> list[dict[str, Any]]:
    """For each study planned in a folder: preset, runs and analyses done, diverged, running, failed, left, and why."""
    records.check_folder(directory)
    held = lock.is_held(directory)
    found = ((study, study.read(directory)) for study in readable(directory))
    return [_status(study, record, held=held) for study, record in found if record is not None]


def _status(study: Study[Any], record: Records[Any], *, held: bool) -> dict[str, Any]:
    table = pd.concat([record.runs, record.analyses])
    count = table["status"].value_counts().to_dict()
    done, failed = count.get("done", 0), count.get("failed", 0)
    surveyed = count.get("running", 0) if held else 0  # else they were interrupted
    running = record.recording() if study.name == recordings.STUDY.name else surveyed
    errors = table[table["status"] == "failed"]
    return {
        "study": study.name,
        "preset": record.plan.preset,
        "runs": len(record.runs),
        "analyses": len(record.analyses),
        "done": done,
        "diverged": int(record.runs["diverged_epoch"].notna().sum()),
        "running": running,
        "failed": failed,
        "left": len(table) - done - failed - running,
        "errors": dict(zip(errors["fingerprint"], errors["error"], strict=True)),
        "ended_by": _ended_by(record),
    }


def _ended_by(record: Records[Any]) -> dict[str, str]:
    """The error that ended a recorded training, where one did: its recording is done, the training is not."""
    rows = record.runs
    if "ended_by" not in rows:
        return {}
    ended = rows[rows["ended_by"].fillna("") != ""]
    return dict(zip(ended["fingerprint"], ended["ended_by"], strict=True))


def read(directory: Path) -> Iterator[tuple[Study[Any], Records[Any]]]:
    """Every study of which something is finished, with its records; raises as :func:`findings` does."""
    records.check_folder(directory)
    empty = True
    for study in readable(directory):
        record = study.read(directory)
        if record is not None and record.environment():  # something of it is finished
            empty = False
            yield study, record
    if empty:
        raise StoreError(
            f"expected finished runs, but {directory} holds none. Run a survey or study into it first; where all runs "
            "failed, mend what they say and give the same command again."
        )


@machine.one_thread()
def judged(study: Study[Any], record: Records[Any]) -> list[Judged]:
    """Each claim by itself; Holm's correction is over all claims of the survey, and comes last."""
    plan = record.plan
    first = None if plan.until_decided else record.first()
    looks = None if first is record else Looks(first, plan.until_decided, plan.looks)
    return [
        judge(claim, record, study=study.name, preset=plan.preset, looks=looks, changed=changed(claim, plan.claims))
        for claim in study.claims
    ]


@machine.one_thread()
def _findings(study: Study[Any], record: Records[Any]) -> StudyFindings:
    """All but the verdicts, which wait for those of the other studies."""
    done, kind = record.done, "runs" if len(record.runs) else "analyses"
    counted = record.runs if len(record.runs) else record.analyses
    failed = counted[counted["status"] == "failed"]
    facts = record.environment()
    ended = done["converged_epoch"].notna() | done["diverged_epoch"].notna()
    summary = RunsSummary(
        done=int((counted["status"] == "done").sum()),
        failed=len(failed),
        diverged=int(done["diverged_epoch"].notna().sum()),
        censored=int((done["convergence"].notna() & ~ended).sum()),
        unfinished=int(counted["status"].isin(["missing", "running"]).sum()),
        seeds=pd.concat([done["seed"], record.analyses["seed"]]).nunique()
        if len(record.analyses)
        else done["seed"].nunique(),
        wall_seconds=float(done["wall_seconds"].sum() + record.analyses["wall_seconds"].sum()),
        device=f"{facts['device']}, {facts['processor']}",
        versions=facts["versions"],
        errors=tuple(failed["error"].unique()),
        kind=kind,
        ended_by=tuple(_ended_by(record).values()),
    )
    with unchecked():
        figures = study.figures(record)
    return StudyFindings(
        name=study.name,
        title=study.title,
        question=study.question,
        source=study.source,
        preset=record.plan.preset,
        settings=record.plan.settings,
        tables=study.tables(record),
        figures=figures,
        verdicts=(),
        runs=summary,
        not_shown=study.not_shown,
        command=record.plan.command,
        texts=study.texts,
    )
