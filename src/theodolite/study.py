"""What a survey is made of: a study, its settings, and the specs of what it trains and measures. Imports no torch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import PositiveInt

from theodolite.claims import Claim
from theodolite.findings import Figure, Table
from theodolite.specs import AnalysisSpec, Frozen, RecordingSpec, RunSpec, Seeds, Training
from theodolite.store.records import Records

__all__ = ["AnalysisSpec", "RecordingSpec", "RunSpec", "Seeds", "Settings", "Study", "Training", "nothing"]


class Settings(Frozen):
    """The dials of a study, with their values at ``quick``; a study adds its own fields."""

    seeds: PositiveInt

    def settled(self) -> Self:
        """With what is left to the machine ("auto") settled on this one; ``expand`` is given nothing else to ask."""
        return self


def nothing(spec: RunSpec, outcome: Any) -> Mapping[str, Any]:
    """What a study measures of one network unless it says so: nothing beyond the metrics of the training."""
    return {}


@dataclass(frozen=True, slots=True)
class Study:
    """One experiment of the report: what to train, what to measure, its claims, its tables and figures."""

    name: str
    title: str
    question: str  # one or two sentences, for the page
    source: str  # what of the report it redoes: "Figures 1 and 2, Table 1"
    presets: Mapping[str, Settings]  # smoke, quick, full
    expand: Callable[[Any], Iterable[RunSpec]]  # settled Settings -> runs; asks nothing of the machine
    tables: Callable[[Records], Sequence[Table]]
    figures: Callable[[Records], Sequence[Figure]]
    claims: Sequence[Claim]
    not_shown: str  # what this study does not show, said on the page
    seconds: Mapping[str, float]  # on two cores; smoke and quick measured, full estimated (docs/performance.md)
    measure: Callable[[RunSpec, Any], Mapping[str, Any]] = nothing  # in the worker: spec, Outcome -> DataFrames by name
    analyses: Callable[[Any], Iterable[AnalysisSpec]] = lambda settings: ()  # Settings -> measurements beyond the runs
    analyse: Callable[[AnalysisSpec, Sequence[Any]], Mapping[str, Any]] | None = None  # in the worker: spec, its inputs
