"""The command line: parses, calls the library, prints; nothing else.

The commands are functions in the files beside this one, and join here, in the order in which the help lists them.
"""

import io
import os
import sys
from contextlib import suppress
from typing import Annotated

import typer

from theodolite import console
from theodolite.cli import lists, measuring, starting, surveys, testing
from theodolite.cli.refused import ended_like_ctrl_c, sentence
from theodolite.errors import TheodoliteError, UsageError

app = typer.Typer(
    name="theodolite",
    help="Survey how neural networks learn: classic experiments over many seeds, with their claims tested.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
WRONG_USE = 2


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
    if sys.flags.optimize > 1:  # Altair is made of its docstrings
        raise UsageError(
            "expected a Python that keeps docstrings, got one that drops them (-OO or PYTHONOPTIMIZE=2), in which "
            "figures cannot be drawn. Take that away, or take -O."
        )


app.command(name="list")(lists.list_)
app.command(name="test")(testing.numbers)
for command in (
    lists.data, surveys.run, surveys.survey, surveys.report, surveys.claims, surveys.status, surveys.serve,
    lists.doctor, lists.budget, measuring.measure, starting.new,
):  # fmt: skip
    app.command()(command)


def main() -> None:
    """Entry point. Exit codes: 0 done; 1 some runs failed; 2 wrong use; 130 interrupted, 143 by TERM, 129 by HUP."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where it was closed
            stream.reconfigure(errors="backslashreplace")  # what its encoding lacks
    with ended_like_ctrl_c():
        try:
            app()
        except TheodoliteError as error:
            if "THEODOLITE_DEBUG" in os.environ:
                raise
            console.complain(error)
            raise SystemExit(WRONG_USE) from None
        except (OSError, MemoryError, RuntimeError) as error:
            if "THEODOLITE_DEBUG" in os.environ or (said := sentence(error)) is None:
                raise
            _forget_output()
            with suppress(OSError):
                console.say(f"{type(error).__name__}: {said}")
            raise SystemExit(WRONG_USE) from None


def _forget_output() -> None:
    """Whatever is still to be written goes nowhere: it would fail once more when the program ends."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
