"""What a user asks of a recorder, checked and resolved: the same in every process, so that it can be compared."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theodolite.errors import SettingError
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.reduction import Reduction, Samples
from theodolite.measure.problem.typed import is_instance
from theodolite.record.identity import described
from theodolite.record.instruments import WEIGHTS, Chosen, Instruments, resolve
from theodolite.record.model_state import Mode
from theodolite.record.probe import fixed, samples_in
from theodolite.record.schedule import Every, Schedule, parse_all

FLUSH_SHARE = 0.01  # of the time, at most, for writing
WRITING = 0.1  # of a budget, for writing; the rest is for measuring


@dataclass(frozen=True)
class Wanted:
    """What is measured, when, on which data and at what price."""

    instruments: Mapping[str, Chosen]
    schedules: Mapping[str, Schedule]  # of those, and of snapshots of the weights
    data: Data | None  # None: the batch of each step
    mode: Mode
    weights: str | None  # a pattern of parameters
    share: float | None  # of the training time, for measuring; None: whatever it takes
    flush_share: float  # likewise, for writing
    flush: float  # seconds between two writings, at least
    settings: Mapping[str, Any]  # in words, for the plan
    compared: Mapping[str, Any]  # what all seeds of a training have in common, beside the settings

    @property
    def names(self) -> list[str]:
        """Of all that has a schedule."""
        return list(self.schedules)


def check(
    *,
    budget: float | None,
    first: int | None,
    flush: float,
    labels: Mapping[str, Any] | None,
    resume: bool | int,
    replace: bool,
    out: str | Path | None,
) -> None:
    """Raise SettingError for what is out of its range, or does not go together."""
    if budget is not None and not 0 < budget <= 1:
        raise SettingError(f"expected budget as a share of the training time, 0 < budget ≤ 1, got {budget}.")
    if flush < 0 or (first is not None and first < 1):
        raise SettingError(f"expected flush ≥ 0 and first ≥ 1, got flush={flush}, first={first}.")
    known = is_instance(labels or {}, Mapping[str, str | int | float])
    if not known or not all(not isinstance(label, float) or math.isfinite(label) for label in (labels or {}).values()):
        raise SettingError(
            f"expected labels as {{name: text or finite number}}, got {labels!r:.80}. Leave out the others."
        )
    if resume < 0 or (resume is not False and (replace or out is None)):
        raise SettingError(
            f"expected resume as True or the step of a checkpoint, with a folder and without replace, got "
            f"resume={resume}, replace={replace}, out={out!r}. Pass one of the two, and out=…."
        )


def check_number(number: Any, of: str) -> None:
    """Raise SettingError unless it is a count, or left out."""
    if not (number is None or (is_instance(number, int) and number >= 0)):
        raise SettingError(f"expected number as that of {of}, 0 or more, got {number!r}. Leave it out to count.")


def resolved(
    instruments: Instruments,
    every: Every | Mapping[str, Every],
    data: Data | None,
    *,
    first: int | None,
    samples: Samples | None,
    reduction: Reduction | None,
    budget: float | None,
    mode: Mode,
    weights: str | None,
    flush: float,
) -> Wanted:
    """All that was asked for, of arguments of :class:`~theodolite.record.recorder.Recorder`; raises as that says."""
    shared = {"samples": samples, "reduction": reduction}
    chosen = resolve(instruments, {name: value for name, value in shared.items() if value is not None})
    names = [*chosen, *([WEIGHTS] if weights is not None else [])]
    if not names:
        raise SettingError("expected at least one instrument, or weights='*'; got neither.")
    schedules = parse_all(every, names)
    own = None if data is None else fixed(data, first)
    return Wanted(
        instruments=chosen,
        schedules=schedules,
        data=own,
        mode=mode,
        weights=weights,
        share=None if budget is None else (1 - WRITING) * budget,
        flush_share=FLUSH_SHARE if budget is None else WRITING * budget,
        flush=flush,
        settings={
            "instruments": ", ".join(names),
            "every": str(every) if not isinstance(every, Mapping) else ", ".join(f"{k}: {v}" for k, v in every.items()),
            "budget": budget,
            "mode": mode,
            "measured on": "the batch of the step" if own is None else "a fixed set",
        },
        compared={
            "options": "; ".join(one.words for one in chosen.values()),
            "schedule": described(every),
            "probe_samples": None if own is None else samples_in(own),
            **{name: described(value) for name, value in shared.items()},
        },
    )
