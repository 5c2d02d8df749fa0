"""The command that measures a model of the user's own."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from theodolite import console
from theodolite.cli.options import DataDir, Device, Json, complete_instrument, show
from theodolite.errors import UsageError


def measure(
    instrument: Annotated[
        str | None,
        typer.Argument(
            help="One of `theodolite measure --list`, or FILE.py:NAME, a function of your own.",
            autocompletion=complete_instrument,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="FILE.py:NAME", help="A function that gives the model, or the model. The file is run."),
    ] = None,
    weights: Annotated[
        list[Path] | None,
        typer.Option(help="safetensors or PyTorch's weights-only files; again for a second model or a path; a folder."),
    ] = None,
    weights_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Where the weights lie in the file; found by the model's names by default."),
    ] = None,
    strip_prefix: Annotated[
        str | None,
        typer.Option(metavar="PREFIX", help="What comes before the model's names there; found by itself by default."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.py:NAME",
            help="A data set of `theodolite data`, or a function that gives (inputs, targets), batches or a data set.",
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
    scale: Annotated[
        str | None,
        typer.Option(help="Of the pixels of a named data set: standard (the default), unit (0 to 1) or none."),
    ] = None,
    samples: Annotated[
        str | None,
        typer.Option(
            metavar="N|FILE.py:NAME",
            help="Samples to use, all by default; or a function that says for how many samples a batch counts.",
        ),
    ] = None,
    reduction: Annotated[
        str | None, typer.Option(help="What the loss is over a batch, mean or sum; as PyTorch's losses say by default.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Samples at once of a data set; 1,000 by default.")
    ] = None,
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

    if figure is not None:
        from theodolite.figures import render

        render.check(figure)
    if data_dir is not None:
        os.environ["THEODOLITE_DATA"] = str(data_dir)
    found = checkpoint.measure(
        instrument, model=model, checkpoints=weights or [], weights_key=weights_key, strip_prefix=strip_prefix,
        data=data, loss=loss, options=set_ or [], part=part, scale=scale, samples=samples, reduction=reduction,
        batch_size=batch_size, device=device, dtype=dtype, mode=mode,
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


def _instruments(name: str | None, as_json: bool, *, asked: bool) -> None:
    """The instruments with their costs, or the options of one."""
    from theodolite.measure.catalogue import COSTS, in_shell

    if not asked:
        names = ", ".join(one.name for one in in_shell())
        raise UsageError(f"expected an instrument, got none. Name one of: {names}.")
    if name is not None:
        from theodolite import checkpoint

        options = checkpoint.options(name)
        show(options, as_json, lambda: console.table(f"--set for {name}", options, ["option", "values", "default"]))
        return
    facts = [
        {"instrument": one.name, "asks": one.asks, "cost": one.cost, "k": one.k, "checkpoints": one.checkpoints}
        for one in in_shell()
    ]
    show(facts, as_json, lambda: console.table("Instruments", facts, ["instrument", "cost", "asks"]))
    if not as_json:
        console.show("\n".join(f"{cost}: {means}" for cost, means in COSTS.items()))
