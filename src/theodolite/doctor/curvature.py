"""The table of ways to curvature and what they are right on, on the PyTorch that is installed."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Literal

from theodolite.errors import CheckFailed

Outcome = Literal["right", "wrong", "raises", "crashes"]
RIGHT = 1e-6  # finite differences agree to about 1e-8; a wrong way is off by per cents
TIMEOUT = 120.0  # seconds for one process: PyTorch takes most of them to load


def curvature() -> list[dict[str, Any]]:
    """A row for each layer or loss, a column for each way: right, wrong by so much, raises, or crashes.

    The probes run one after the other in a process of their own. Where one ends it, the next starts another.

    Raises:
        CheckFailed: the process does not get as far as a first probe.
    """
    from theodolite.doctor.probes import CELLS, OURS

    found: dict[int, Mapping[str, Any]] = {}
    first = 0
    while first < len(CELLS):
        lines, ended = _run(first)
        started = max((line["cell"] for line in lines), default=None)
        if started is None:
            raise CheckFailed(f"expected probes of PyTorch to start, got a process that ended with {ended}.")
        found |= {line["cell"]: line for line in lines if len(line) > 1}
        if started not in found:
            found[started] = {"crash": ended}
        first = started + 1
    rows: dict[str, dict[str, Any]] = {}
    for number, (row, way) in enumerate(CELLS):
        cells = rows.setdefault(row, {"layer": row, "outcomes": {}, "errors": {}})
        cells[way] = say(found[number])
        cells["outcomes"][way] = outcome(found[number])
        cells["errors"][way] = found[number].get("error")
        if way == OURS:
            rows[row]["path"] = found[number].get("path", "")
    return list(rows.values())


def outcome(result: Mapping[str, Any]) -> Outcome:
    """What became of a probe."""
    if "crash" in result:
        return "crashes"
    if "says" in result:
        return "raises"
    return "right" if float(result["error"]) < RIGHT else "wrong"


def say(result: Mapping[str, Any]) -> str:
    """A cell in a word or two."""
    found = outcome(result)
    return f"wrong {float(result['error']):.0%}" if found == "wrong" else found


def _run(first: int) -> tuple[list[dict[str, Any]], int]:
    """What a process printed from this cell on, and how it ended (below zero: by which signal)."""
    command = [sys.executable, "-m", "theodolite.doctor.probes", str(first)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)  # noqa: S603
        text, ended = done.stdout, done.returncode
    except subprocess.TimeoutExpired as late:
        text, ended = (late.stdout or b"").decode() if isinstance(late.stdout, bytes) else late.stdout or "", -9
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")], ended
