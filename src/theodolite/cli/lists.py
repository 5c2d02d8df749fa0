"""Commands that say what there is: studies, data sets, architectures, and the machine."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from theodolite import console
from theodolite.cli.options import DataDir, Json, complete_data, complete_study, show

if TYPE_CHECKING:
    from theodolite.data import Fetched


def list_(
    study: Annotated[
        str | None, typer.Argument(help="One study, with its settings.", autocompletion=complete_study)
    ] = None,
    preset: Annotated[str, typer.Option(help="Whose seeds the smallest effects are for.")] = "quick",
    out: Annotated[
        Path | None, typer.Option(help="A results folder that says how far seeds lie apart; results/<preset>.")
    ] = None,
    as_json: Json = False,
) -> None:
    """The studies: what each shows, and what it costs; or one study with its settings and claims."""
    from theodolite import studies, survey

    if study is None:
        facts = [studies.facts(s) for s in studies.INDEX.values()]
        show(facts, as_json, lambda: console.studies(facts))
        return
    chosen = studies.get(study)
    details = studies.details(chosen)
    (item,) = survey.prepare([study], preset)
    found = survey.smallest_effects(item, out or Path("results") / preset)
    details["claims"] = [
        {**claim, "seeds": row["seeds"], "finds": row["finds"]}
        for claim, row in zip(details["claims"], found, strict=True)
    ]
    if as_json:
        typer.echo(json.dumps(details))
        return
    console.show(Text.assemble((chosen.title, "bold"), f" ({chosen.source})\n{chosen.question}\n"))
    console.show(console.table("Settings", details["settings"], ["setting", "smoke", "quick", "full"]))
    console.show(console.table("Claims", details["claims"], ["claim", "statistic", "side", "threshold"]))
    console.show(console.effects(found))


def data(
    names: Annotated[
        list[str] | None, typer.Argument(help="Data sets; none lists them.", autocompletion=complete_data)
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Fetch and verify data sets, once; without names, list them."""
    from theodolite import data as sets

    if not names:
        facts = [asdict(entry) for entry in sets.known()]
        show(
            facts,
            as_json,
            lambda: console.table("Data sets", facts, ["name", "title", "train", "test", "inputs", "present"]),
        )
        return
    with console.transfer() as progress:
        fetched = sets.fetch(names, data_dir=data_dir, progress=progress)
    facts = [_fetched(entry) for entry in fetched]
    columns = ["name", "origin", "fresh", "train", "test", "inputs", "classes", "MB"]
    show(facts, as_json, lambda: console.table("Verified", facts, columns))


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
        show(rows, as_json, lambda: console.ways(rows))
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
    show(
        facts,
        as_json,
        lambda: console.table("Architectures, the most balanced first", facts, ["parameters", "layers", "shape"]),
    )


def _fetched(entry: "Fetched") -> dict[str, Any]:
    return asdict(entry) | {
        "inputs": " x ".join(map(str, entry.inputs)),
        "folder": str(entry.folder or ""),
        "MB": round(entry.bytes / 1e6),
    }
