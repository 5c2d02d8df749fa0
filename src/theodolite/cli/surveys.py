"""Commands that run studies, and show what is in a results folder."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from theodolite import console, execute, wording
from theodolite.cli.options import Json, Keep, Names, Options, Place, Redo, seconds, show, with_options
from theodolite.errors import SettingError, UnknownName, UsageError

if TYPE_CHECKING:
    from theodolite.store.remote.workspace import Copy
    from theodolite.survey import Prepared
    from theodolite.train.resume import Every

FAILED = 1  # exit code where some runs did


@with_options
def run(studies: Names, options: Options, keep: Keep = False, redo: Redo = False) -> None:
    """Run studies, and build their tables, figures, claims and page.

    `FILE.py` runs that file, with all it does, and the study of your own in it (`FILE.py:NAME` where it holds several).
    """
    if keep and redo:
        raise UsageError("expected --keep or --redo, got both. Runs of earlier code are kept, or done anew.")
    _survey(studies, options, "keep" if keep else "redo" if redo else None)


@with_options
def survey(options: Options) -> None:
    """Run all studies, then build the report."""
    _survey([], options)


def report(
    place: Annotated[
        str | None,
        typer.Argument(metavar="DIR|ADDRESS", help="A results folder, or s3://BUCKET/FOLDER.", show_default=False),
    ] = None,
    figure_width: Annotated[
        str | None, typer.Option(help="Figures as files at this width, for a paper: 85mm, 17cm, 3.3in, 640px.")
    ] = None,
    compare: Annotated[
        tuple[str, str] | None, typer.Option(help="Two results folders, side by side.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write into; by default the one given, or the second.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Rebuild tables, figures, claims and page from the records; or compare two surveys, or recordings."""
    if compare is not None and compare[1].startswith("--"):
        raise SettingError(
            f"expected two results folders after --compare, got {compare[0]} and then the option {compare[1]}. "
            "For example: theodolite report --compare results/smoke results/quick --out comparison"
        )
    if (place is None) == (compare is None) or (compare is not None and figure_width is not None):
        raise SettingError(
            "expected a results folder, or --compare with two of them and no --figure-width. "
            "For example: theodolite report --compare results/smoke results/quick"
        )
    if compare is not None:
        _compare(*compare, out, as_json=as_json)
    elif place is not None:
        from theodolite.store.remote import workspace as remote

        with remote.reading(place, remote.tables) as copy:
            _report(copy, figure_width, out, as_json=as_json)


def claims(place: Place, as_json: Json = False) -> None:
    """The verdicts."""
    from theodolite import survey
    from theodolite.store.remote import workspace as remote

    with remote.reading(place, remote.tables) as copy:
        verdicts = survey.verdicts(copy.directory)
    show([v.model_dump(mode="json") for v in verdicts], as_json, lambda: console.verdicts(verdicts))


def status(place: Place, as_json: Json = False) -> None:
    """Runs done, running, failed and left."""
    from theodolite import survey
    from theodolite.store.remote import workspace as remote

    with remote.reading(place, remote.states) as copy:
        rows = survey.status(copy.directory)
    show(rows, as_json, lambda: console.statuses(place, rows))
    if not as_json:
        for row in rows:
            console.failures(row["study"], row["errors"])
            console.ended(row["study"], row["ended_by"])


def serve(
    place: Place,
    port: Annotated[int, typer.Option(min=0, max=65535, help="To listen on; 0 takes any free one.")] = 8765,
    host: Annotated[str, typer.Option(help="Address to listen on; any but this machine's own needs --expose.")] = (
        "127.0.0.1"
    ),
    expose: Annotated[bool, typer.Option("--expose", help="Let other machines read the page.")] = False,
) -> None:
    """The report, live while a survey runs, for a browser on this machine."""
    from theodolite import serve as live
    from theodolite.store.remote import workspace as remote

    if not live.is_local(host):
        if not expose:
            raise UsageError(
                f"expected an address of this machine alone, got '{host}': whoever reaches it could read the page. "
                "Add --expose if that is meant, or leave --host out and use an SSH tunnel."
            )
        console.say(f"Warning: whoever reaches {host} can read this page; nothing asks for a password.")

    with remote.refreshing(place) as copy:
        live.serve(copy.directory, host=host, port=port, said=console.tell)
    console.say("Stopped.")


def _survey(names: Sequence[str], options: Options, changed: Literal["keep", "redo"] | None = None) -> None:
    from theodolite import survey
    from theodolite.jobs import check_device
    from theodolite.store.remote import workspace as remote
    from theodolite.survey.running import check_resumable

    resume_every = None if options.resume_every is None else _every(options.resume_every)
    if options.engine not in execute.ENGINES:
        raise UnknownName("engine", options.engine, execute.ENGINES)
    if options.data_dir is not None:
        os.environ["THEODOLITE_DATA"] = str(options.data_dir)
    prepared = survey.prepare(names, options.preset, seeds=options.seeds, overrides=options.set_ or (), changed=changed)
    place = options.out or str(Path("results") / options.preset)
    until = _until(options)
    if resume_every is not None:
        check_resumable(prepared)
    if options.dry_run:
        workers = options.jobs or os.cpu_count() or 1
        with remote.reading(place, remote.everything) as copy:
            rows = survey.estimate(prepared, copy.directory, workers=workers)
            found = [row for item in prepared for row in survey.smallest_effects(item, copy.directory)]
        title = f"To be done in {place}, by {workers} workers; seconds as measured elsewhere"
        console.show(console.table(title, rows, ["study", "runs", "analyses", "left", "seconds", "MB"]))
        console.show(console.effects(found))
        return
    command = wording.command(["theodolite", *sys.argv[1:]])
    if options.address is None:  # wrong use leaves no folder behind
        check_device(options.device)
    execute.check(options.jobs, options.address)
    _fetch(prepared)
    with remote.working(place, console.say) as copy:
        how: dict[str, Any] = {
            "workers": options.jobs, "device": options.device, "engine": options.engine, "address": options.address,
            "command": command, "resume_every": resume_every, "say": console.say,
        }  # fmt: skip
        updates = survey.until_decided(prepared, copy, **how, **until) if until else survey.run(prepared, copy, **how)
        try:
            failed = console.watch(updates)
        except KeyboardInterrupt:
            updates.close()
            console.say(f"Interrupted. Finished runs are kept in {place}. To go on: {command}")
            raise
        for study, errors in failed.items():
            console.failures(study, errors)
        _report(copy)
    if failed:
        raise typer.Exit(FAILED)


def _every(text: str) -> "Every":
    from theodolite.train.resume import Every

    return Every.parsed(text)


def _until(options: Options) -> dict[str, Any]:
    """What bounds a survey that adds seeds until its claims are decided; empty where it does not."""
    from theodolite.survey import deciding

    if not options.until_decided:
        if options.budget is not None or options.max_seeds is not None:
            raise SettingError("expected --until-decided with --budget and --max-seeds, got one of them alone.")
        return {}
    most = deciding.MOST if options.max_seeds is None else options.max_seeds
    budget = None if options.budget is None else seconds(options.budget)
    deciding.check(budget, most)
    return {"budget": budget, "most": most}


def _fetch(prepared: Sequence["Prepared"]) -> None:
    """Bring the data sets that the studies need, with a bar, before any worker asks for them."""
    from theodolite import data as sets
    from theodolite import survey

    with console.transfer() as progress:
        sets.fetch([name for name in survey.sources(prepared) if not name.startswith("function:")], progress=progress)


def _report(copy: "Copy", figure_width: str | None = None, out: Path | None = None, *, as_json: bool = False) -> None:
    from theodolite.figures import paper
    from theodolite.survey import report as reporting

    width = None if figure_width is None else paper.pixels(figure_width)
    page, found = reporting.build(copy.directory, out=out, figure_width=width)
    if out is None:
        copy.send_pages()
    verdicts = [verdict for part in found for verdict in part.verdicts]
    if verdicts or as_json:  # a folder of recordings alone has none
        show([v.model_dump(mode="json") for v in verdicts], as_json, lambda: console.verdicts(verdicts))
    say = console.say if as_json else console.tell
    say(f"Report: {copy.place if out is None else out}/{page.name}")


def _compare(first: str, second: str, out: Path | None, *, as_json: bool) -> None:
    from theodolite import report, survey
    from theodolite.report import compare
    from theodolite.store.remote import workspace as remote

    with remote.reading(first, remote.tables) as one, remote.reading(second, remote.tables) as other:
        found = survey.compare(one, other)
        if out is None and other.address is not None:
            raise SettingError(f"expected --out with a folder for the comparison with {second}, got none.")
    page = report.build_comparison(found, out or Path(second))
    if found.changes or as_json:
        show(compare.facts(found), as_json, lambda: console.changes(found.changes))
    if found.recorded is not None and not as_json:
        console.show(console.given(found.recorded))
    say = console.say if as_json else console.tell
    say(compare.summary(found))
    say(f"Comparison: {page}")
