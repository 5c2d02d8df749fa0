"""Stored surveys: what the pages of the studies say was found comes from here, never from a hand.

    python docs/_build/surveys.py RESULTS_FOLDER NAME

keeps of a finished survey what the pages show, as ``docs/surveys/NAME/``: ``survey.json`` (how it was made), and for
each study ``claims.json``, its tables as Markdown and its first figure, with what the report says of it; and the
picture of all verdicts. Studies that are stored there and not in the folder stay as they are, and Holm's correction
is over all.
"""

import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from theodolite import studies
from theodolite.claims import Judged, holm
from theodolite.findings import Verdict
from theodolite.report import page, text
from theodolite.report import picture as draw
from theodolite.store import record
from theodolite.survey import reading

KEPT = Path(__file__).parents[1] / "surveys"
FIGURE_BYTES = 200_000  # of a figure that is kept


def keep(directory: Path, name: str, into: Path = KEPT) -> None:
    """Copy claims, tables, a figure a study and how it was made out of a results folder."""
    made: dict[str, Any] = {}
    here = sorted(path.parent for path in directory.glob("*/claims.json"))
    stored = {path.parent.name: _read(path) for path in sorted((into / name).glob("*/claims.json"))}
    alone = stored.keys() <= {study.name for study in here}
    verdicts = {study.name: _read(study / "claims.json") for study in here} if alone else _over_all(directory, stored)
    for study in here:
        there = into / name / study.name
        shutil.rmtree(there, ignore_errors=True)
        (there / "tables").mkdir(parents=True)
        _write(there / "claims.json", [one.model_dump(mode="json") for one in verdicts[study.name]])
        for table in sorted(study.glob("tables/*.md")):
            shutil.copyfile(table, there / "tables" / table.name)
        for figure in _first_figure(study):
            shutil.copyfile(figure, there / "figure.svg")
            _write(there / "figure.json", _said(directory, study.name, figure.stem))
        made[study.name] = _how_made(study)
    if alone:
        shutil.copyfile(directory / "summary.svg", into / name / "summary.svg")
    else:
        (into / name / "summary.svg").write_text(_summary(stored | verdicts), encoding="utf-8")
    how = into / name / "survey.json"
    before = json.loads(how.read_text()) if how.exists() else {}
    _write(how, dict(sorted((before | made).items())))


def _over_all(directory: Path, stored: Mapping[str, list[Verdict]]) -> dict[str, list[Verdict]]:
    """A folder's verdicts by study, with Holm's correction over those of the other studies stored, too.

    The correction rejects one claim after the other, so what survived it goes first (its p-value stands as 0) and goes
    on to survive; what did not is taken not to (as 1), though with ever so many new survivors it might.

    Raises:
        ValueError: it would not go on to survive, since there are more claims now, or fewer that survive.
    """
    claims = [claim for study, record in reading.read(directory) for claim in reading.judged(study, record)]
    here = {claim.verdict.study for claim in claims}
    others = [one for study, verdicts in stored.items() if study not in here for one in verdicts]
    verdicts = holm([*claims, *(Judged(one, float(one.verdict_holm == "undecided")) for one in others)])[: len(claims)]
    replaced = [one for study in here for one in stored.get(study, ())]
    lost = _survivors(replaced) - _survivors(verdicts)
    if lost or len(replaced) < len(verdicts):
        raise ValueError(
            f"expected {len(replaced)} claims in place of those stored, and what survives Holm's correction to survive "
            f"again; got {len(verdicts)}, lost: {sorted(lost)}. Store all studies at once."
        )
    return {study: [one for one in verdicts if one.study == study] for study in sorted(here)}


def _survivors(verdicts: Sequence[Verdict]) -> set[str]:
    return {one.id for one in verdicts if one.verdict_holm != "undecided"}


def _summary(verdicts: Mapping[str, list[Verdict]]) -> str:
    """The picture of all verdicts, of studies whose records are not all here."""
    rows = [
        SimpleNamespace(title=study.title, verdicts=verdicts[name])
        for name, study in studies.INDEX.items()
        if name in verdicts
    ]
    return draw.svg(page.title(rows), rows)


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _first_figure(study: Path) -> list[Path]:
    figures = sorted(study.glob("figures/*.svg"), key=lambda path: (not path.name.startswith("figure"), path.name))
    return [path for path in figures if path.stat().st_size <= FIGURE_BYTES][:1]


def _said(directory: Path, study: str, figure: str) -> dict[str, str]:
    """What the report says of a figure: in place of it for who cannot see it, and below it."""
    shown = rf"^!\[(.*)\]\({re.escape(study)}/figures/{re.escape(figure)}\.png\)\n\n(.*)$"
    found = re.search(shown, (directory / "report.md").read_text(encoding="utf-8"), re.MULTILINE)
    return {"alt": found[1], "caption": found[2]} if found else {"alt": "", "caption": ""}


def _how_made(study: Path) -> dict[str, Any]:
    """Preset, seeds, runs, and the versions, processors and commits of its records."""
    plan = json.loads((study / "plan.json").read_text())
    found: dict[str, Counter[str]] = {"processor": Counter(), "git_commit": Counter(), "torch": Counter()}
    runs = 0
    for folder in sorted([*study.glob("runs/*"), *study.glob("analyses/*")]):
        status = record.read_status(folder)
        if status is None or status.state != "done":
            continue
        environment = json.loads((folder / "spec.json").read_text())
        runs += 1
        for key, values in found.items():
            value = environment.get(key) or environment.get("versions", {}).get(key)
            if value:
                values[str(value)] += 1
    return {
        "preset": plan["preset"],
        "settings": plan["settings"],
        "runs": runs,
        **{key: sorted(values) for key, values in found.items()},
    }


def _read(claims: Path) -> list[Verdict]:
    return [Verdict.model_validate(one) for one in json.loads(claims.read_text())]


def stored(study: str, folder: Path = KEPT) -> dict[str, list[Verdict]]:
    """The verdicts of a study in each stored survey that has it, by the survey's name."""
    return {path.parents[1].name: _read(path) for path in sorted(folder.glob(f"*/{study}/claims.json"))}


def found(study: str, folder: Path = KEPT) -> str:
    """What each stored survey found in a study: its verdicts and tables, and how it was made."""
    parts = []
    for name, verdicts in stored(study, folder).items():
        ran = json.loads((folder / name / "survey.json").read_text())
        made = ran[study]
        claims = sum(len(stored(each, folder)[name]) for each in ran)
        over = f"The last column corrects over the {claims} claims of the {_studies(sorted(ran))} that ran."
        how = f"{_made_in_words(made, verdicts)} {over}"
        parts.append(f"### Preset `{made['preset']}`\n\n{how}\n\n{_verdict_table(verdicts)}")
        tables = [
            f"**{table.stem}**\n\n{table.read_text().strip()}"
            for table in sorted((folder / name / study / "tables").glob("*.md"))
        ]
        if tables:
            content = "\n\n".join(tables)
            parts.append(f"<details markdown><summary>Its tables</summary>\n\n{content}\n\n</details>")
    return "\n\n".join(parts) or "No survey of this study as it is now is stored yet."


def _studies(names: list[str]) -> str:
    return f"{len(names)} studies" if len(names) > 4 else f"{len(names)} studies ({', '.join(names)})"


def picture(study: str, folder: Path = KEPT) -> str:
    """The first figure of a study out of a stored survey, with its caption."""
    for name in stored(study, folder):
        there = folder / name / study
        if (there / "figure.svg").exists():
            said = json.loads((there / "figure.json").read_text(encoding="utf-8"))
            return (
                f"![{said['alt']}]({_link(folder)}/{name}/{study}/figure.svg)\n\n*{said['caption']}* Preset `{name}`."
            )
    return ""


def _link(folder: Path) -> str:
    return Path(os.path.relpath(folder, KEPT.parent / "studies")).as_posix()


def _made_in_words(made: dict[str, Any], verdicts: list[Verdict]) -> str:
    seeds = max((one.seeds for one in verdicts), default=0)
    parts = [f"{made['runs']} runs, {seeds} seeds"]
    parts += [", ".join(made["processor"])] if made["processor"] else []
    parts += [f"PyTorch {', '.join(made['torch'])}"] if made["torch"] else []
    parts += [f"commit {', '.join(commit[:7] for commit in made['git_commit'])}"] if made["git_commit"] else []
    return "; ".join(parts) + "."


def _verdict_table(verdicts: list[Verdict]) -> str:
    rows = [
        f"| `{one.id}` | {one.sentence} | {one.claimed} | {text.estimate(one)} | {one.verdict}"
        f"{' (rough)' if one.rough else ''} | {one.verdict_holm} |"
        for one in verdicts
    ]
    head = "| claim | sentence | claimed | estimate, 95 % interval | verdict | with Holm |\n" + "| --- " * 6 + "|\n"
    return head + "\n".join(rows)


def estimate(argument: str, folder: Path = KEPT) -> str:
    """``SURVEY/STUDY/CLAIM``: its estimate with its interval, to stand in a sentence."""
    name, study, claim = argument.split("/")
    for verdict in stored(study, folder).get(name, ()):
        if verdict.id == claim:
            return re.sub(r"([\[\]])", r"\\\1", text.estimate(verdict))
    raise KeyError(f"expected a claim of the stored survey '{name}', got '{study}/{claim}'")


def cell(argument: str, folder: Path = KEPT) -> str:
    """``SURVEY/STUDY/TABLE | ROW | COLUMN``: a number of a stored table; of a row with two names, ``FIRST + SECOND``.

    A table of one row needs no name of it.
    """
    place, row, column = (part.strip() for part in argument.split("|"))
    survey, study, table = place.split("/")
    lines = (folder / survey / study / "tables" / f"{table}.md").read_text().strip().splitlines()
    head, _, *rows = ([entry.strip() for entry in line.strip("|").split(" | ")] for line in lines)
    names = row.split(" + ") if row else []
    found = [entries for entries in rows if entries[: len(names)] == names]
    if column not in head or len(found) != 1:
        raise KeyError(f"expected one row '{row}' and a column '{column}' of the stored table '{place}'")
    return found[0][head.index(column)]


if __name__ == "__main__":
    keep(Path(sys.argv[1]), sys.argv[2])
