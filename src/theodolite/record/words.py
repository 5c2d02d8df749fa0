"""What a recorder says of itself, and the line of the user's that it says it at."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from theodolite.record.schedule import Ledger
from theodolite.wording import shown

LONGEST = 2000  # letters of a reason that are kept


def summary(
    steps: int,
    trained: float,
    own: float,
    ledgers: Mapping[str, Ledger],
    directory: Path | None,
    folder: Path | None,
) -> str:
    """What was measured, where it lies, and how to look at it."""
    lines = [f"Recorder: {steps} steps, {trained:.3g} s of training, {own:.3g} s of recording"]
    for name, ledger in ledgers.items():
        parts = [f"measured {ledger.measured} of {ledger.asked} times asked, {ledger.spent:.3g} s"]
        parts += [f"{ledger.skipped} left out to keep the budget"] if ledger.skipped else []
        parts += [f"{ledger.failed} failed"] if ledger.failed else []
        lines.append(f"{name}: {', '.join(parts)}")
    if directory is None:
        return "\n".join([*lines, "in memory: recorder.table('numbers')"])
    where = str(folder) if folder is not None else f"{directory}, from the first step on"
    return "\n".join([*lines, f"folder: {where}", f"next: theodolite report {shlex.quote(str(directory))}"])


def resumed(recorded: int, step: int, *, guessed: bool) -> str:
    """Where a recording goes on, after so many recorded steps; nothing where nobody needs to know.

    >>> resumed(9, 9, guessed=False)
    ''
    """
    if guessed and recorded:
        return (
            f"The recording goes on after step {step}, the last one recorded. If the checkpoint that you loaded is of "
            "another step, pass resume=STEP, or number= with each step."
        )
    if step < recorded:
        return (
            f"The recording goes on after step {step}: what was recorded of steps {step + 1} to {recorded} is measured "
            "again."
        )
    return ""


def outside() -> int:
    """How far up the stack the user's own line is, for a warning that points there."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and Path(frame.f_code.co_filename).parent == Path(__file__).parent:
        level, frame = level + 1, frame.f_back
    return level


def reason(error: Exception) -> str:
    """What an error says, as text that can be kept and shown; it is of the user's own, and may fail at that too."""
    try:
        said = str(error)
    except Exception:
        said = "(it cannot say what)"
    return shown(said if len(said) <= LONGEST else f"{said[:LONGEST]} …")
