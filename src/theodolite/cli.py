"""The command line: parses, calls the library, prints; nothing else."""

import inspect
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType

from theodolite import console
from theodolite.errors import SettingError, TheodoliteError, UnknownName, UsageError
from theodolite.execute import ENGINES

if TYPE_CHECKING:
    from theodolite.data import Fetched
    from theodolite.store.remote import Copy
    from theodolite.survey import Prepared

app = typer.Typer(
    name="theodolite",
    help="Survey how neural networks learn: classic experiments over many seeds, with their claims tested.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
FAILED, WRONG_USE = 1, 2


def _complete_study(incomplete: str) -> list[str]:
    from theodolite import studies

    return [name for name in studies.INDEX if name.startswith(incomplete)]


def _complete_data(incomplete: str) -> list[str]:
    from theodolite import data

    return [entry.name for entry in data.known() if entry.name.startswith(incomplete)]


def _complete_instrument(incomplete: str) -> list[str]:
    from theodolite.measure.facts import INSTRUMENTS

    return [name for name in INSTRUMENTS if name.startswith(incomplete)]


Preset = Annotated[
    str, typer.Option(help="Size of the survey: smoke (seconds), quick, or full (the report's own sizes).")
]
Seeds = Annotated[int | None, typer.Option(min=1, help="Seeds in place of the preset's number.")]
Jobs = Annotated[int | None, typer.Option(min=1, help="Worker processes; one a processor by default.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]
Engine = Annotated[str, typer.Option(help="Who carries the jobs: local (worker processes) or ray (a cluster).")]
Address = Annotated[
    str | None, typer.Option(help="Of a running Ray cluster: auto, or HOST:PORT. Without it, one of this machine.")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of a study; may be given often.")
]
Out = Annotated[
    str | None,
    typer.Option(metavar="DIR|ADDRESS", help="Results folder, or s3://BUCKET/FOLDER; results/<preset> by default."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be run and what it takes; run nothing.")]
DataDir = Annotated[Path | None, typer.Option(help="A folder that holds the data sets; THEODOLITE_DATA by default.")]
Json = Annotated[bool, typer.Option("--json", help="For a program to read.")]
Place = Annotated[str, typer.Argument(metavar="DIR|ADDRESS", help="A results folder, or s3://BUCKET/FOLDER.")]
Names = Annotated[
    list[str], typer.Argument(help="Studies, as `theodolite list` shows them.", autocompletion=_complete_study)
]


@dataclass(frozen=True, slots=True)
class Options:
    """What `run` and `survey` can be told."""

    preset: Preset = "quick"
    seeds: Seeds = None
    engine: Engine = "local"
    address: Address = None
    jobs: Jobs = None
    device: Device = "cpu"
    set_: Set = None
    out: Out = None
    data_dir: DataDir = None
    dry_run: DryRun = False


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with each field of :class:`Options` as an option of its own, in place of ``options``."""
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "options"]
    fields = inspect.signature(Options).parameters

    def flat(**given: Any) -> None:
        options = Options(**{name: given.pop(name) for name in fields})
        command(**given, options=options)

    flat.__name__, flat.__doc__ = command.__name__, command.__doc__
    flat.__annotations__ = {p.name: p.annotation for p in (*own, *fields.values())}
    flat.__signature__ = inspect.Signature([*own, *fields.values()])  # type: ignore[attr-defined]
    return flat


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"theodolite {version('theodolite')}")
        raise typer.Exit


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    if debug:
        os.environ["THEODOLITE_DEBUG"] = "1"


@app.command(name="list")
def list_(
    study: Annotated[
        str | None, typer.Argument(help="One study, with its settings.", autocompletion=_complete_study)
    ] = None,
    as_json: Json = False,
) -> None:
    """The studies: what each shows, and what it costs; or one study with its settings and claims."""
    from theodolite import studies

    if study is None:
        facts = [studies.facts(s) for s in studies.INDEX.values()]
        _show(facts, as_json, lambda: console.studies(facts))
        return
    chosen = studies.get(study)
    details = studies.details(chosen)
    if as_json:
        typer.echo(json.dumps(details))
        return
    console.show(f"[bold]{chosen.title}[/bold] ({chosen.source})\n{chosen.question}\n")
    console.show(console.table("Settings", details["settings"], ["setting", "smoke", "quick", "full"]))
    console.show(console.table("Claims", details["claims"], ["claim", "statistic", "side", "threshold"]))


@app.command()
def data(
    names: Annotated[
        list[str] | None, typer.Argument(help="Data sets; none lists them.", autocompletion=_complete_data)
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Fetch and verify data sets, once; without names, list them."""
    from theodolite import data as sets

    if not names:
        facts = [asdict(entry) for entry in sets.known()]
        _show(
            facts,
            as_json,
            lambda: console.table("Data sets", facts, ["name", "title", "train", "test", "inputs", "present"]),
        )
        return
    with console.transfer() as progress:
        fetched = sets.fetch(names, data_dir=data_dir, progress=progress)
    facts = [_fetched(entry) for entry in fetched]
    columns = ["name", "origin", "fresh", "train", "test", "inputs", "classes", "MB"]
    _show(facts, as_json, lambda: console.table("Verified", facts, columns))


@app.command()
@_with_options
def run(studies: Names, options: Options) -> None:
    """Run studies, and build their tables, figures, claims and page."""
    _survey(studies, options)


@app.command()
@_with_options
def survey(options: Options) -> None:
    """Run all studies, then build the report."""
    _survey([], options)


@app.command()
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
    out: Annotated[Path | None, typer.Option(help="Folder of the comparison; the second by default.")] = None,
    as_json: Json = False,
) -> None:
    """Rebuild tables, figures, claims and page from the records; or compare two surveys."""
    if (place is None) == (compare is None) or (compare is not None and figure_width is not None):
        raise SettingError(
            "expected a results folder, or --compare with two of them and no --figure-width. "
            "For example: theodolite report --compare results/smoke results/quick"
        )
    if compare is not None:
        _compare(*compare, out, as_json=as_json)
    elif place is not None:
        from theodolite.store import remote

        with remote.reading(place, remote.tables) as copy:
            _report(copy, figure_width, as_json=as_json)


@app.command()
def claims(place: Place, as_json: Json = False) -> None:
    """The verdicts."""
    from theodolite import survey
    from theodolite.store import remote

    with remote.reading(place, remote.tables) as copy:
        verdicts = survey.verdicts(copy.directory)
    _show([v.model_dump(mode="json") for v in verdicts], as_json, lambda: console.verdicts(verdicts))


@app.command()
def status(place: Place, as_json: Json = False) -> None:
    """Runs done, running, failed and left."""
    from theodolite import survey
    from theodolite.store import remote

    with remote.reading(place, remote.states) as copy:
        rows = survey.status(copy.directory)
    _show(rows, as_json, lambda: console.statuses(place, rows))
    if not as_json:
        for row in rows:
            console.failures(row["study"], row["errors"])


@app.command()
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
    from theodolite.store import remote

    if not live.is_local(host):
        if not expose:
            raise UsageError(
                f"expected an address of this machine alone, got '{host}': whoever reaches it could read the page. "
                "Add --expose if that is meant, or leave --host out and use an SSH tunnel."
            )
        console.say(f"Warning: whoever reaches {host} can read this page; nothing asks for a password.")

    def said(address: str) -> None:
        typer.echo(f"Live at {address}  (Ctrl-C ends it)")
        sys.stdout.flush()

    with remote.following(place) as copy:
        live.serve(copy.directory, host=host, port=port, said=said)
    console.say("Stopped.")


@app.command()
def doctor(
    curvature: Annotated[
        bool, typer.Option("--curvature", help="Which ways to a Hessian are right on the PyTorch installed here.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Where results would go; its disk is asked for room.")] = Path("results"),
    as_json: Json = False,
) -> None:
    """What this machine has, and what each preset takes here (ten seconds); or which ways to curvature are right."""
    if curvature:
        from theodolite.doctor.curvature import curvature as probe

        rows = probe()
        _show(rows, as_json, lambda: console.ways(rows))
        return
    from theodolite.doctor.checkup import checkup

    found = checkup(out)
    if as_json:
        typer.echo(json.dumps(found))
        return
    facts = [{"what": name, "here": words} for name, words in found["machine"].items()]
    console.show(console.table("This machine", facts, ["what", "here"]))
    columns = ["preset", "studies", "here", "from", "MB"]
    console.show(console.table("What each preset takes here", found["presets"], columns))


@app.command()
def budget(
    parameters: Annotated[int, typer.Option(min=1, help="Trainable numbers, biases counted.")],
    layers: Annotated[int, typer.Option(min=1, help="Layers that hold weights, the output layer included.")],
    inputs: Annotated[int, typer.Option(min=1, help="Inputs (mlp).")] = 1,
    outputs: Annotated[int, typer.Option(min=1, help="Outputs.")] = 1,
    kind: Annotated[str, typer.Option(help="mlp or cnn.")] = "mlp",
    image: Annotated[str, typer.Option(help="channels x height x width (cnn).")] = "3x32x32",
    tolerance: Annotated[int, typer.Option(min=0, help="How far from the count is near enough.")] = 0,
    limit: Annotated[int, typer.Option(min=1, help="Architectures to list.")] = 10,
    as_json: Json = False,
) -> None:
    """Architectures that hit a parameter count exactly, the most balanced first."""
    from theodolite.models.budget import architectures, parse_image

    found = architectures(
        parameters,
        layers,
        inputs=inputs,
        outputs=outputs,
        kind=kind,
        image=parse_image(image),
        tolerance=tolerance,
        limit=limit,
    )
    facts = [
        {"parameters": a.parameters, "layers": a.layers, "shape": a.shape, **a.model_dump(mode="json")} for a in found
    ]
    _show(
        facts,
        as_json,
        lambda: console.table("Architectures, the most balanced first", facts, ["parameters", "layers", "shape"]),
    )


@app.command()
def measure(
    instrument: Annotated[
        str | None, typer.Argument(help="One of `theodolite measure --list`.", autocompletion=_complete_instrument)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="FILE.py:NAME", help="A function that gives the model, or the model. The file is run."),
    ] = None,
    weights: Annotated[
        list[Path] | None,
        typer.Option(help="safetensors or PyTorch's weights-only files; again for a second model or a path; a folder."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.py:NAME",
            help="A data set of `theodolite data`, or a function that gives (inputs, targets) or batches.",
        ),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.py:NAME",
            help="A loss, or a function of (outputs, targets); cross_entropy for classes, mse for numbers by default.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of the instrument; may be given often."),
    ] = None,
    part: Annotated[str, typer.Option(help="Of a named data set: train or test.")] = "train",
    samples: Annotated[int | None, typer.Option(min=1, help="Samples to use; all by default.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Samples at once; it changes no number.")] = None,
    device: Device = "cpu",
    dtype: Annotated[
        str | None, typer.Option(help="float64, float32, bfloat16 or float16; the model's own by default.")
    ] = None,
    mode: Annotated[str, typer.Option(help="eval or train, which BatchNorm and Dropout follow.")] = "eval",
    figure: Annotated[
        Path | None, typer.Option(help="Draw the result here: .png, .svg, .pdf or .html, which works offline.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Save the result here; theodolite.measure.load reads it.")] = None,
    data_dir: DataDir = None,
    list_: Annotated[
        bool, typer.Option("--list", help="The instruments and what each costs; of one, its options.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure a model of your own: its checkpoint, your data, one instrument.

    `--model FILE.py:NAME` runs that file, with all it does; so do `--data` and `--loss` with a file. Weights are only
    read: what could run code is refused.
    """
    if list_ or instrument is None:
        _instruments(instrument, as_json, asked=list_)
        return
    from theodolite import checkpoint
    from theodolite.figures import render

    if figure is not None:
        render.check(figure)
    if data_dir is not None:
        os.environ["THEODOLITE_DATA"] = str(data_dir)
    found = checkpoint.measure(
        instrument, model=model, checkpoints=weights or [], data=data, loss=loss, options=set_ or [], part=part,
        samples=samples, batch_size=batch_size, device=device, dtype=dtype, mode=mode,
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(checkpoint.plain(found)))
    else:
        console.show(console.table(found.instrument, checkpoint.rows(found), ["measured", "value"]))
    if figure is not None:
        render.write(found.result.plot(), figure)
        console.say(f"Figure: {figure}")
    if out is not None:
        found.result.save(out)
        console.say(f"Saved: {out}")


def main() -> None:
    """Entry point. Exit codes: 0 done; 1 some runs failed; 2 wrong use; 130 interrupted."""
    try:
        app()
    except TheodoliteError as error:
        if "THEODOLITE_DEBUG" in os.environ:
            raise
        console.complain(error)
        raise SystemExit(WRONG_USE) from None


def _instruments(name: str | None, as_json: bool, *, asked: bool) -> None:
    """The instruments with their costs, or the options of one."""
    from theodolite.measure.facts import COSTS, INSTRUMENTS

    if not asked:
        raise UsageError(f"expected an instrument, got none. Name one of: {', '.join(INSTRUMENTS)}.")
    if name is not None:
        from theodolite import checkpoint

        options = checkpoint.options(name)
        _show(options, as_json, lambda: console.table(f"--set for {name}", options, ["option", "values", "default"]))
        return
    facts = [{"instrument": n, **asdict(one)} for n, one in INSTRUMENTS.items()]
    _show(facts, as_json, lambda: console.table("Instruments", facts, ["instrument", "cost", "asks"]))
    if not as_json:
        console.show("\n".join(f"{cost}: {means}" for cost, means in COSTS.items()))


def _survey(names: Sequence[str], options: Options) -> None:
    from theodolite import survey
    from theodolite.store import remote

    if options.engine not in ENGINES:
        raise UnknownName("engine", options.engine, ENGINES)
    if options.data_dir is not None:
        os.environ["THEODOLITE_DATA"] = str(options.data_dir)
    prepared = survey.prepare(names, options.preset, seeds=options.seeds, overrides=options.set_ or ())
    place = options.out or str(Path("results") / options.preset)
    if options.dry_run:
        workers = options.jobs or os.cpu_count() or 1
        with remote.reading(place, remote.everything) as copy:
            rows = survey.estimate(prepared, copy.directory, workers=workers)
        title = f"To be done in {place}, by {workers} workers; seconds as measured elsewhere"
        console.show(console.table(title, rows, ["study", "runs", "analyses", "left", "seconds", "MB"]))
        return
    command = shlex.join(["theodolite", *sys.argv[1:]])
    _fetch(prepared)
    with remote.working(place, console.say) as copy:
        updates = survey.run(
            prepared,
            copy,
            workers=options.jobs,
            device=options.device,
            engine=options.engine,
            address=options.address,
            command=command,
        )
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


def _fetch(prepared: Sequence["Prepared"]) -> None:
    """Bring the data sets that the studies need, with a bar, before any worker asks for them."""
    from theodolite import data as sets
    from theodolite import survey

    with console.transfer() as progress:
        sets.fetch([name for name in survey.sources(prepared) if not name.startswith("function:")], progress=progress)


def _report(copy: "Copy", figure_width: str | None = None, *, as_json: bool = False) -> None:
    from theodolite import reporting
    from theodolite.figures import paper

    width = None if figure_width is None else paper.pixels(figure_width)
    page, found = reporting.build(copy.directory, figure_width=width)
    copy.send_pages()
    verdicts = [verdict for part in found for verdict in part.verdicts]
    if verdicts or as_json:  # a folder of recordings alone has none
        _show([v.model_dump(mode="json") for v in verdicts], as_json, lambda: console.verdicts(verdicts))
    say = console.say if as_json else typer.echo
    say(f"Report: {copy.place}/{page.name}")


def _compare(first: str, second: str, out: Path | None, *, as_json: bool) -> None:
    from theodolite import report, survey
    from theodolite.report import compare
    from theodolite.store import remote

    with remote.reading(first, remote.tables) as one, remote.reading(second, remote.tables) as other:
        found = survey.compare(one, other)
        if out is None and other.address is not None:
            raise SettingError(f"expected --out with a folder for the comparison with {second}, got none.")
    page = report.build_comparison(found, out or Path(second))
    _show(compare.facts(found), as_json, lambda: console.changes(found.changes))
    say = console.say if as_json else typer.echo
    say(compare.summary(found))
    say(f"Comparison: {page}")


def _show(facts: Sequence[Mapping[str, Any]], as_json: bool, view: Callable[[], RenderableType]) -> None:
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        console.show(view())


def _fetched(entry: "Fetched") -> dict[str, Any]:
    return asdict(entry) | {
        "inputs": " x ".join(map(str, entry.inputs)),
        "folder": str(entry.folder or ""),
        "MB": round(entry.bytes / 1e6),
    }
