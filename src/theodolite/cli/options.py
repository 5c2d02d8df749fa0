"""What commands have in common: options, what a shell completes, and the two forms of an answer."""

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from theodolite import console
from theodolite.errors import SettingError


def complete_study(incomplete: str) -> list[str]:
    """Names of studies that begin so."""
    from theodolite import studies

    return [name for name in studies.INDEX if name.startswith(incomplete)]


def complete_data(incomplete: str) -> list[str]:
    """Names of data sets that begin so."""
    from theodolite import data

    return [entry.name for entry in data.known() if entry.name.startswith(incomplete)]


def complete_instrument(incomplete: str) -> list[str]:
    """Names of instruments that begin so."""
    from theodolite.measure.catalogue import in_shell

    return [one.name for one in in_shell() if one.name.startswith(incomplete)]


Preset = Annotated[
    str, typer.Option(help="Size of the survey: smoke (seconds), quick, or full (the report's own sizes).")
]
Seeds = Annotated[int | None, typer.Option(min=1, help="Seeds in place of the preset's number.")]
UntilDecided = Annotated[
    bool, typer.Option("--until-decided", help="Add seeds until every claim is decided, or cannot be.")
]
Budget = Annotated[
    str | None, typer.Option(metavar="TIME", help="With --until-decided: stop after 90s, 30min, 2h or 1h30min.")
]
MaxSeeds = Annotated[
    int | None, typer.Option(help="With --until-decided: most seeds of a study; 100 by default.", show_default=False)
]
ResumeEvery = Annotated[
    str | None,
    typer.Option(
        metavar="EPOCHS|TIME",
        help="Keep the state of each run this often (10, 90s, 5min): after a crash it goes on from there.",
    ),
]
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
    list[str],
    typer.Argument(
        help="Studies, as `theodolite list` shows them, or FILE.py[:NAME] with one of your own.",
        autocompletion=complete_study,
    ),
]
Keep = Annotated[bool, typer.Option("--keep", help="Where FILE.py has changed: take finished runs as they are.")]
Redo = Annotated[bool, typer.Option("--redo", help="Where FILE.py has changed: do finished runs anew.")]


@dataclass(frozen=True, slots=True)
class Options:
    """What `run` and `survey` can be told."""

    preset: Preset = "quick"
    seeds: Seeds = None
    until_decided: UntilDecided = False
    budget: Budget = None
    max_seeds: MaxSeeds = None
    resume_every: ResumeEvery = None
    engine: Engine = "local"
    address: Address = None
    jobs: Jobs = None
    device: Device = "cpu"
    set_: Set = None
    out: Out = None
    data_dir: DataDir = None
    dry_run: DryRun = False


UNITS = {"h": 3600.0, "min": 60.0, "s": 1.0}


def seconds(text: str) -> float:
    """A time as people write it.

    Raises:
        SettingError: it is none.

    Example:
        >>> [seconds(text) for text in ("90s", "30min", "1h30min", "45 s", "0.5h")]
        [90.0, 1800.0, 5400.0, 45.0, 1800.0]
    """
    found = re.fullmatch(r"(?:([\d.]+)h)?(?:([\d.]+)min)?(?:([\d.]+)s)?", text.replace(" ", "").lower())
    try:
        parts = (
            []
            if found is None
            else [float(part) * unit for part, unit in zip(found.groups(), UNITS.values(), strict=True) if part]
        )
    except ValueError:
        parts = []
    if not parts:
        raise SettingError(f"expected a time such as 90s, 30min, 2h or 1h30min, got '{text}'.")
    return sum(parts)


def with_options(command: Callable[..., None]) -> Callable[..., None]:
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


def show(facts: Sequence[Mapping[str, Any]], as_json: bool, view: Callable[[], RenderableType]) -> None:
    """An answer, as JSON for a program or as a view for people."""
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        console.show(view())
