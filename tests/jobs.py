"""Work that fails and dies for real, in whatever process an engine does it, and what came of it: shared by tests."""

import os
import signal
from pathlib import Path
from typing import Any

from theodolite.execute.schedule import Emit, Event


def fail_on_two(job: int, emit: Emit) -> int:
    if job == 2:
        raise ValueError("two is not allowed")
    return job


def die_first_time(job: str, emit: Emit) -> str:
    mark = Path(job)
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), getattr(signal, mark.suffix[1:], signal.SIGKILL))
    return "survived"


def outcomes(events: list[Event]) -> dict[int, Any]:
    return {event.job: event.value for event in events if event.kind in ("done", "failed")}
