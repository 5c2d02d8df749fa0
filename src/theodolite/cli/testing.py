"""The command that tests a claim on numbers of one's own."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from theodolite import console
from theodolite.cli.options import Json
from theodolite.errors import SettingError


def numbers(
    table: Annotated[Path, typer.Argument(metavar="TABLE.csv", help="A row a seed, or a row a seed and arm.")],
    value: Annotated[str, typer.Option(metavar="COLUMN", help="The numbers.")],
    seed: Annotated[str, typer.Option(metavar="COLUMN", help="What tells the runs apart.")],
    arms: Annotated[
        str | None, typer.Option(metavar="COLUMN=A,B", help="Compare arm A with arm B.", show_default=False)
    ] = None,
    how: Annotated[str, typer.Option(help="Of two arms: difference (A - B) or ratio (A / B).")] = "difference",
    unpaired: Annotated[bool, typer.Option("--unpaired", help="The arms share nothing seed by seed.")] = False,
    above: Annotated[float | None, typer.Option(help="Claimed: it lies above this.", show_default=False)] = None,
    below: Annotated[float | None, typer.Option(help="Claimed: below this.", show_default=False)] = None,
    within: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="Claimed: between these two.", show_default=False)
    ] = None,
    statistic: Annotated[
        str, typer.Option(help="mean, median; without arms also ratio, correlation, share, median_ratio.")
    ] = "mean",
    level: Annotated[float, typer.Option(help="Of the interval.")] = 0.95,
    as_json: Json = False,
) -> None:
    """Test a claim on your own numbers: one a seed, at a number of seeds fixed beforehand."""
    from theodolite import claims
    from theodolite.claims import tables

    limits: dict[str, Any] = {"above": above, "below": below, "within": _pair(within), "level": level}
    known: Any = {"statistic": statistic}
    frame = tables.read(table)
    if arms is None:
        if how != "difference" or unpaired:
            raise SettingError("expected --arms COLUMN=A,B with --how and --unpaired, got one of them alone.")
        found = claims.test(tables.one_number_a_seed(frame, value, seed), **known, **limits)
    else:
        a, b = (tables.one_number_a_seed(rows, value, seed) for rows in tables.arms(frame, arms))
        known["how"] = how
        found = claims.compare(a, b, paired=not unpaired, **known, **limits)
    if as_json:
        typer.echo(json.dumps(_finite(asdict(found))))
    else:
        console.tell(str(found))


def _pair(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise SettingError(f"expected --within LOW,HIGH, got '{text}'. For example: --within -0.1,0.1") from None
    return low, high


def _finite(value: Any) -> Any:
    """What JSON has: null for an end that nothing bounds, and for an estimate that there is not."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
