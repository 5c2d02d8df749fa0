"""Findings to files: the page, its Markdown twin, tables, figures and claims, each written whole."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from theodolite.errors import StoreError
from theodolite.figures import render, theme
from theodolite.report import markdown, page, picture, text
from theodolite.report.findings import StudyFindings
from theodolite.store import files

DRAWERS = 2  # figures at a time: pictures and PDFs are made without Python's lock


def build(directory: Path, findings: Sequence[StudyFindings], *, figure_width: float | None = None) -> Path:
    """Write the report of a survey into its results folder.

    Args:
        directory: the results folder; gets ``report.html``, ``report.md``, ``summary.png`` and ``.svg``, and for each
            study ``tables/*.csv``, ``tables/*.md``, ``figures/*.png``, ``.svg``, ``.pdf`` and ``claims.json``.
        findings: of each study, in the order of the page.
        figure_width: of the figures as files, in pixels of which an inch has 96; None: as on the page.

    Returns:
        The path of the page. The same findings give the same bytes in every file.
    """
    return finish(directory, [draw(directory, study, figure_width=figure_width) for study in findings])


OURS = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'"""  # how every page of ours begins


def check_free(out: Path, name: str) -> None:
    """Refuse a folder in which a page of this name, or its Markdown twin, is somebody else's.

    Raises:
        StoreError: it is; the message names the file.
    """
    html, twin = out / f"{name}.html", out / f"{name}.md"
    ours = False
    if html.is_file():  # no pipe, which would keep us waiting
        with html.open("rb") as file:
            ours = file.read(len(OURS)) == OURS
    there = [path for path in (html, twin) if path.exists() or path.is_symlink()]
    if there and not ours:
        raise StoreError(
            f"expected --out as a folder without a {name} of another kind, but {there[0]} is there and is none of "
            "ours. Choose another folder, or move it away."
        )


def draw(directory: Path, study: StudyFindings, *, figure_width: float | None = None) -> StudyFindings:
    """Write the tables and figures of one study; gives its findings with charts as plain data, as they were drawn."""
    folder = directory / study.name
    for table in study.tables:
        files.write(folder / "tables" / f"{table.name}.csv", text.csv(table))
        files.write(folder / "tables" / f"{table.name}.md", markdown.table(table).encode())
    figures = [replace(figure, chart=theme.plain(figure.chart)) for figure in study.figures]
    with ThreadPoolExecutor(DRAWERS) as drawers:
        drawn = [drawers.submit(render.save, figure, folder / "figures", width=figure_width) for figure in figures]
        for one in drawn:
            one.result()
    return replace(study, figures=figures)


def finish(directory: Path, findings: Sequence[StudyFindings]) -> Path:
    """Write what needs all studies, once each is drawn: the claims, with their correction, the page and its twin."""
    for study in findings:
        files.write(directory / study.name / "claims.json", _claims(study))
    files.write(directory / "report.md", page.twin(findings).encode())
    if any(study.verdicts for study in findings):
        files.write(directory / "summary.svg", picture.svg(page.title(findings), findings).encode())
        files.write(directory / "summary.png", picture.png(page.title(findings), findings))
    path = directory / "report.html"
    files.write(path, page.html(findings).encode())
    return path


def _claims(study: StudyFindings) -> bytes:
    claims = [verdict.model_dump(mode="json") for verdict in study.verdicts]
    return json.dumps(claims, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
