"""The state of a results folder as the page's script reads it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from theodolite.findings import Verdict
from theodolite.report import text
from theodolite.serve.folder import Part
from theodolite.store import live
from theodolite.store.records import Planned

COUNTED = ("planned", "done", "diverged", "failed")


def row(part: Part, directory: Path, *, held: bool) -> dict[str, Any]:
    """One study: how far it is, what failed and why, and the curves of what is under way."""
    total, done, diverged, failed = (
        sum(len(getattr(statuses, name)) for statuses in part.statuses) for name in COUNTED
    )
    running = len(part.under_way)
    drawn = _curves(part, directory) if held and running else []
    return {
        "name": part.study.name,
        "title": part.study.title,
        "preset": part.plan.preset,
        "total": total,
        "done": done,
        "diverged": diverged,
        "running": running,
        "failed": failed,
        "left": total - done - failed - running,  # as `theodolite status` counts: the columns add up
        "errors": _failures(part),
        "curves": drawn,
        "more_curves": running - len(drawn) if drawn else 0,
    }


def verdicts(found: Sequence[Verdict]) -> list[dict[str, Any]]:
    """As the page's table says them."""
    return [
        {
            "row": f"{verdict.study}-{verdict.id}",
            "verdict": verdict.verdict_holm,
            "decision": text.corrected(verdict),
            "estimate": text.tied(text.estimate(verdict)),
            "seeds": str(verdict.seeds),
            "alone": verdict.verdict,
        }
        for verdict in found
    ]


def _failures(part: Part) -> list[dict[str, Any]]:
    """Each reason once, with the runs that failed by it."""
    found: dict[str, list[str]] = {}
    for statuses in part.statuses:
        for fingerprint, reason in sorted(statuses.failed.items()):
            found.setdefault(reason, []).append(fingerprint)
    return [{"reason": reason, "runs": names} for reason, names in found.items()]


def _curves(part: Part, directory: Path) -> list[dict[str, Any]]:
    """Losses of the first runs under way."""
    curves = live.read(directory, part.study.name)
    named = [(_label(part.under_way[name]), *curve) for name, curve in curves.items() if name in part.under_way]
    return [dict(zip(("label", "epoch", "train", "test"), curve, strict=True)) for curve in named[: live.DRAWN]]


def _label(item: Planned) -> str:
    return ", ".join([*(f"{name} {value}" for name, value in item.labels.items()), f"seed {item.seed}"])
