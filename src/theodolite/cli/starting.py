"""The command that begins a file of the user's own."""

from pathlib import Path
from typing import Annotated

import typer

from theodolite import console


def new(
    kind: Annotated[str, typer.Argument(metavar="study|instrument", help="What to begin: study or instrument.")],
    file: Annotated[
        Path, typer.Argument(metavar="FILE.py", help="The file to write; one that is there is left alone.")
    ],
) -> None:
    """Begin a study or an instrument of your own: a commented file that runs as it is."""
    from theodolite.own.starting import start

    command = start(kind, file)
    typer.echo(f"Written: {file}")
    console.say(f"Try it: {command}")
