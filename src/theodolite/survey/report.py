"""The report of a results folder: study by study, and where it is large each study in a process of its own."""

import os
from pathlib import Path

from theodolite import report, survey
from theodolite.errors import StoreError, TheodoliteError
from theodolite.execute.local import Local
from theodolite.report import StudyFindings
from theodolite.store import records
from theodolite.survey import Found

LARGE = 1500  # records: below, starting processes costs more than it saves


def build(
    directory: Path, *, out: Path | None = None, figure_width: float | None = None, processes: int | None = None
) -> tuple[Path, list[StudyFindings]]:
    """Read all records of a results folder and write its report.

    Args:
        directory: the results folder.
        out: the folder to write into; None: the results folder.
        figure_width: see :func:`theodolite.report.build`.
        processes: at a time; None: one a processor, or only this one where the folder is small.

    Returns:
        The path of the page, and what is on it: the same, byte for byte, however many processes made it.

    Raises:
        StoreError: not a results folder, or one that holds no finished run; or ``out`` is another results folder,
            or holds a page of that name that is not ours.
        RecordCorrupt: a file is not what was written; the message names it.
    """
    records.check_folder(directory)
    out = directory if out is None else _other(out, directory)
    sizes = {study.name: _records(directory, study.name) for study in survey.readable(directory)}
    planned = sorted((name for name, size in sizes.items() if size), key=lambda name: -sizes[name])
    if processes is None:
        processes = (os.cpu_count() or 1) if sum(sizes.values()) >= LARGE else 1
    if min(processes, len(planned)) < 2:
        findings = survey.findings(directory)
        return report.build(out, findings, figure_width=figure_width), findings
    jobs = [(directory, out, name, figure_width) for name in planned]  # the largest first
    made: dict[str, Found | TheodoliteError | None] = {}
    for event in Local(processes, preload=(__name__,)).run(one, jobs):
        if event.kind == "done":
            made[planned[event.job]] = event.value
    found = []
    for name in filter(planned.__contains__, sizes):
        # Where its process died, in this one.
        result = made[name] if name in made else one((directory, out, name, figure_width))
        if isinstance(result, TheodoliteError):
            raise result
        if result is not None:
            found.append(result)
    if not found:
        survey.findings(directory)  # says what is missing
    findings = survey.together(found)
    return report.finish(out, findings), findings


def one(job: tuple[Path, Path, str, float | None], _: object = None) -> Found | TheodoliteError | None:
    """Read one study and write its tables and figures; gives what the page needs of it, or why it cannot be read."""
    directory, out, name, figure_width = job
    study = next(study for study in survey.readable(directory) if study.name == name)
    try:
        found = survey.found(directory, study)
        return found and (found[0], report.draw(out, found[1], figure_width=figure_width))
    except TheodoliteError as error:
        return error


def _other(out: Path, directory: Path) -> Path:
    """Refuse a folder that has results of its own, or a stranger's report: it would be gone."""
    if out.resolve() == directory.resolve():
        return out
    if (out / records.MARK).exists():
        raise StoreError(
            f"expected --out as a folder without results, but {out} holds some, whose report would be replaced. "
            "Choose another folder."
        )
    report.check_free(out, "report")
    return out


def _records(directory: Path, study: str) -> int:
    plan = records.read_plan(directory, study)
    return len(plan.runs) + len(plan.analyses) if plan else 0
