"""What the command line shows: tables, verdicts, and progress as live bars or, away from a terminal, as plain lines."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from theodolite import wording

if TYPE_CHECKING:
    from theodolite import survey
    from theodolite.claims import Change
    from theodolite.findings import Table as Findings
    from theodolite.findings import Verdict


class Plain(Console):
    """Shows text as it is, whoever wrote it: no markup, no names of smileys, nothing that a terminal would obey."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """All that is shown passes here."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(wording.shown(segment.text), segment.style)


out = Plain()
err = Plain(stderr=True)

MARKS = {"holds": ("✔ holds", "green"), "fails": ("✘ fails", "red"), "undecided": ("? undecided", "yellow")}
_CHANCE = {"more than chance": ("yes", "bold"), "within chance": ("no", ""), "cannot say": ("cannot say", "dim")}
_PROBES = {
    "right": ("✔", "green"), "wrong": ("✘", "bold red"), "crashes": ("crashes", "bold red"),
    "raises": ("raises", "yellow"),
}  # fmt: skip
PLAIN_SECONDS = 5.0  # between two lines of progress away from a terminal


def show(view: RenderableType) -> None:
    """Print to the terminal."""
    out.print(view)


def say(text: str) -> None:
    """A line for the person at the terminal, beside whatever a program reads from standard output."""
    err.print(text, highlight=False, soft_wrap=True)


def tell(text: str) -> None:
    """A line of the answer itself."""
    out.print(text, highlight=False, soft_wrap=True)


def complain(error: Exception) -> None:
    """An error in one paragraph."""
    err.print(
        Text.assemble((f"{type(error).__name__}: ", "bold red"), wording.without_passwords(str(error))), soft_wrap=True
    )


def table(title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Table:
    """Rows of a list as a table; numbers to the right."""
    view = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        numbers = any(type(row[column]) in (int, float) for row in rows)
        view.add_column(column, justify="right" if numbers else "left", overflow="fold", no_wrap=number == 0)
    for row in rows:
        view.add_row(*(Text(_text(row[column])) for column in columns))
    return view


def given(table: "Findings") -> Table:
    """A table of findings, rounded as on the page."""
    from theodolite.report import text

    view = Table(title=table.title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for name, flush in zip(text.header(table), text.numeric(table), strict=True):
        view.add_column(name, justify="right" if flush else "left", overflow="fold")
    for row in text.cells(table):
        view.add_row(*map(Text, row))
    return view


def studies(facts: Sequence[Mapping[str, Any]]) -> Table:
    """The index of studies: what each shows, and the time it takes at each preset."""
    view = _grid("Studies: what each shows, and the time it takes on two cores", ["study", "shows"])
    for preset in ("smoke", "quick", "full"):
        view.add_column(preset, justify="right", no_wrap=True)
    for study in facts:
        seconds = study["seconds"]
        times = (
            wording.taken(seconds[preset], estimated=preset == "full", about="~ ") if preset in seconds else "–"
            for preset in ("smoke", "quick", "full")
        )
        view.add_row(study["study"], Text(study["title"]).append(f" ({study['report']})", "dim"), *times)
    return view


def effects(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The smallest effect that the seeds of each claim would decide, study by study."""
    view = _grid("Smallest effects that would be decided in 80 % (sd: standard deviations of the seeds)", ["claim"])
    view.add_column("claimed")
    view.add_column("seeds", justify="right")
    view.add_column("finds")
    columns = ("claim", "claimed", "seeds", "finds")
    return _by_study(view, [(row["study"], [str(row[column]) for column in columns]) for row in rows])


def statuses(directory: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """How far each study in a folder is: runs and analyses together."""
    view = _grid(f"Runs and analyses in {directory}", ["study", "preset"])
    for column in ("done", "diverged", "running", "failed", "left"):
        view.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        done = f"{row['done']} of {row['runs'] + row['analyses']}"
        rest = (str(row[column]) for column in ("diverged", "running", "failed", "left"))
        view.add_row(row["study"], row["preset"], done, *rest)
    return view


def _grid(title: str, columns: Sequence[str]) -> Table:
    """A table whose first column is never cut, narrow enough for 80 columns."""
    view = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, show_edge=False, padding=0)
    for number, column in enumerate(columns):
        view.add_column(column, no_wrap=number == 0)
    return view


def ways(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Which ways to curvature are right on which layers, and the one that is taken."""
    import torch

    view = Table(
        title=f"Hessian products on PyTorch {torch.__version__}, against finite differences",
        caption="✔ right   ✘ wrong by so much, without a word   theodolite: the way it takes",
        title_justify="left", caption_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False,
        padding=0,
    )  # fmt: skip
    columns = ["layer", *rows[0]["outcomes"]]
    for column in columns:
        view.add_column(column, no_wrap=True)
    for row in rows:
        cells = [Text(*_PROBES[row["outcomes"][column]]).append(_beside(row, column)) for column in columns[1:]]
        view.add_row(row["layer"], *cells)
    return view


def _beside(row: Mapping[str, Any], column: str) -> str:
    """How far wrong a way is, and how ours went where it is right."""
    if row["outcomes"][column] == "wrong":
        return f" {row['errors'][column]:.0%}"
    short = {"operation by operation": "operations"}.get(row["path"], row["path"])
    return f" {short}" if column == "theodolite" and row["outcomes"][column] == "right" else ""


def verdicts(found: Sequence["Verdict"]) -> Table:
    """The verdicts of a survey, study by study, and how many of each; Holm's correction where it changes one."""
    from theodolite.report import overview

    view = _grid("Verdicts", ["claim"])
    view.caption, view.caption_justify = Text(overview.tally(found)), "left"
    for column in ("verdict", "estimate [95 %]", "claimed", "seeds"):
        view.add_column(column, no_wrap=column != "claimed", justify="right" if column == "seeds" else "left")
    return _by_study(view, [(verdict.study, _verdict(verdict)) for verdict in found])


def changes(found: Sequence["Change"]) -> Table:
    """Two surveys claim by claim; a verdict that changed and a difference beyond chance stand out."""
    view = Table(
        title="A and B: ✔ holds, ✘ fails, ? undecided",
        title_justify="left",
        header_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in ("claim", "A", "B", "change [95 %]", "beyond chance"):
        view.add_column(column, overflow="fold", no_wrap=column in ("claim", "A", "B"))
    return _by_study(view, [(change.a.study, _change(change)) for change in found])


def _by_study(view: Table, rows: Sequence[tuple[str, Sequence[Text | str]]]) -> Table:
    """Add rows below the name of their study."""
    for study in dict.fromkeys(name for name, _ in rows):
        view.add_section()
        view.add_row(Text(study, "bold"))
        for name, cells in rows:
            if name == study:
                view.add_row(*cells)
    return view


def _change(change: "Change") -> tuple[Text | str, ...]:
    from theodolite.report import text

    marks = [Text(MARKS[side.verdict][0][0], MARKS[side.verdict][1]) for side in (change.a, change.b)]
    differ, style = _CHANCE[change.chance]
    differ += " (not with Holm)" if change.chance != change.chance_holm else ""
    return change.a.id, *marks, text.change(change), Text(differ, style)


def _verdict(verdict: "Verdict") -> tuple[Text | str, ...]:
    from theodolite.report import text

    mark, colour = MARKS[verdict.verdict]
    for remark in ("rough", "changed"):
        mark += f"\n({remark})" if getattr(verdict, remark) else ""
    if verdict.verdict_holm != verdict.verdict:
        mark += f"\n(Holm: {MARKS[verdict.verdict_holm][0][0]})"
    numbers = text.estimate(verdict).replace(" ", "\n", 1), text.claimed(verdict)
    return verdict.id, Text(mark, colour), *numbers, str(verdict.seeds)


def failures(study: str, errors: Mapping[str, str]) -> None:
    """Say which runs failed, and why; runs with the same reason together."""
    by_reason: dict[str, list[str]] = {}
    for fingerprint, reason in errors.items():
        by_reason.setdefault(reason, []).append(fingerprint)
    for reason, names in by_reason.items():
        err.print(f"{study}: {len(names)} failed ({', '.join(names[:4])}{', …' if len(names) > 4 else ''}): {reason}")


def ended(study: str, ended_by: Mapping[str, str]) -> None:
    """Say which recorded trainings an error ended, though their recordings are done."""
    for fingerprint, error in ended_by.items():
        err.print(f"{study}: the training of {fingerprint} was ended by {error}.")


def watch(updates: Iterator[list["survey.Progress"]]) -> dict[str, dict[str, str]]:
    """Show a survey while it runs.

    Returns:
        The failed runs of each study that has any, with the reason.
    """
    return _watch_live(updates) if out.is_terminal else _watch_plain(updates)


@contextmanager
def transfer() -> Iterator[Callable[[int, int | None, str], None]]:
    """A bar for each transfer; gives the function that data sets report to: (bytes done, bytes in all, what)."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=out, disable=not out.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def report(done: int, total: int | None, what: str) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
                if not out.is_terminal:
                    out.print(what)
            bars.update(tasks[what], completed=done, total=total)

        yield report


def _watch_live(updates: Iterable[list["survey.Progress"]]) -> dict[str, dict[str, str]]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[counts]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    last: list[survey.Progress] = []
    started = time.monotonic()
    with Progress(*columns, console=out) as bars:
        tasks: dict[str, Any] = {}
        for last in updates:
            for part in last:
                if part.study not in tasks:
                    tasks[part.study] = bars.add_task(part.study, total=1.0, counts="", rate="")
                bars.update(tasks[part.study], completed=part.share, counts=_counts(part), rate=_rate(part, started))
    return {part.study: dict(part.failed) for part in last if part.failed}


def _watch_plain(updates: Iterable[list["survey.Progress"]]) -> dict[str, dict[str, str]]:
    last: list[survey.Progress] = []
    said: dict[str, str] = {}
    started = spoke = time.monotonic()
    for last in updates:
        if time.monotonic() - spoke >= PLAIN_SECONDS:
            spoke = time.monotonic()
            _say(last, started, said)
    _say(last, started, said)
    return {part.study: dict(part.failed) for part in last if part.failed}


def _say(parts: Sequence["survey.Progress"], started: float, said: dict[str, str]) -> None:
    for part in parts:
        elapsed = time.monotonic() - started
        left = f", {elapsed * (1 - part.share) / part.share:.0f} s left" if 0 < part.share < 1 else ""
        line = f"{part.study}: {part.share:.0%}, {_counts(part)}"
        if said.get(part.study) != line:
            said[part.study] = line
            out.print(f"{line}, {_rate(part, started)}{left}", highlight=False, soft_wrap=True)


def _counts(part: "survey.Progress") -> str:
    left = part.total - part.done - len(part.failed)
    diverged = f" ({part.diverged} diverged)" if part.diverged else ""
    return f"{part.done} done{diverged}, {len(part.failed)} failed, {left} left"


def _rate(part: "survey.Progress", started: float) -> str:
    rate = part.samples / max(time.monotonic() - started, 1e-9)
    return f"{rate / 1e6:.3g} M samples/s" if rate >= 1e6 else f"{rate / 1e3:.3g} k samples/s"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
