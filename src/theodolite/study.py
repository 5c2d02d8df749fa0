"""What a survey is made of: a study, its settings, and the specs of what it trains and measures. Imports no torch."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

from pydantic import PositiveInt, model_validator

from theodolite.claims import Claim
from theodolite.findings import Figure, Table
from theodolite.specs import AnalysisSpec, CodeSpec, Frozen, RecordingSpec, RunSpec, Seeds, Training
from theodolite.store.content import OWN, REST, TableSchema, number, text, truth, whole
from theodolite.store.records import Plan, Records, check_folder, read_plan

__all__ = [
    "METRICS", "AnalysisSpec", "Code", "CodeSpec", "Produced", "RecordingSpec", "RunSpec", "Say", "Seeds", "Settings",
    "Study", "TableSchema", "Training", "nothing", "number", "text", "truth", "whole",
]  # fmt: skip


LARGEST = 10**15  # in a setting: what a float holds exactly, and more steps than anybody waits for


LOSS = number(0, math.inf, null=True)  # NaN and infinity: the training diverged, or the test set is far from it
METRICS = TableSchema(  # of every training, whose losses are never negative in the ten studies
    {
        "epoch": whole(),
        "step": whole(),
        "train_loss": LOSS,
        "test_loss": LOSS,
        "train_accuracy": number(0, 1, null=True),  # there is none for regression
        "test_accuracy": number(0, 1, null=True),
    },
    key=("epoch",),
    ascending=True,
    always=True,
)


class Settings(Frozen):
    """The dials of a study, with their values at ``quick``; a study adds its own fields."""

    seeds: PositiveInt

    @model_validator(mode="after")
    def _of_this_world(self) -> Self:
        """No infinite number, and none that a processor's integer does not hold: both fail late, in a worker."""
        for name, value in self:
            for dial in _numbers(value):
                if not abs(dial) < LARGEST:
                    raise ValueError(f"expected numbers below {LARGEST:.0e} in '{name}'")
        return self

    def evaluations(self) -> float:
        """How often the measurements of one seed evaluate a network, beside its trainings: each gives a row."""
        return 0.0

    def settled(self) -> Self:
        """With what is left to the machine ("auto") settled on this one; ``expand`` is given nothing else to ask."""
        return self


def _numbers(value: Any) -> Iterator[float]:
    """Every number in a setting, however nested."""
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, Mapping):
        yield from _numbers(list(value.values()))


S = TypeVar("S", bound=Settings)


def nothing(spec: RunSpec, outcome: Any) -> Mapping[str, Any]:
    """What a study measures of one network unless it says so: nothing beyond the metrics of the training."""
    return {}


Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Produced:
    """What a run of the user's own code leaves behind."""

    tables: Mapping[str, Any]  # DataFrames by name
    blobs: Mapping[str, bytes] = field(default_factory=dict)  # other files by name
    facts: Mapping[str, Any] = field(default_factory=dict)  # to be kept beside the spec


class Code(Protocol):
    """The file of a study of one's own, as a survey needs it (theodolite/own)."""

    @property
    def carry_out(self) -> Callable[[CodeSpec], Produced]:
        """Does one run, in a worker; can be sent there."""
        ...

    def keeps(self, directory: Path) -> bool:
        """Whether runs of the folder stay that other code has finished."""
        ...

    def settle(
        self, directory: Path, runs: Sequence[RunSpec | CodeSpec], analyses: Sequence[AnalysisSpec], say: Say
    ) -> tuple[Sequence[RunSpec | CodeSpec], Sequence[AnalysisSpec]]:
        """Before a survey: what to do where the code has changed; describes the study in the folder."""
        ...

    def conclude(self, directory: Path, plan: Plan, say: Say) -> None:
        """After a survey: keeps what only the code can find out of the records."""
        ...


@dataclass(frozen=True, slots=True)
class Study(Generic[S]):
    """One experiment of the report: what to train, what to measure, its claims, its tables and figures."""

    name: str
    title: str
    question: str  # one or two sentences, for the page
    source: str  # what of the report it redoes: "Figures 1 and 2, Table 1"
    settings_type: type[S]
    presets: Mapping[str, S]  # smoke, quick, full
    expand: Callable[[S], Iterable[RunSpec | CodeSpec]]  # settled settings -> runs; asks nothing of the machine
    tables: Callable[[Records[S]], Sequence[Table]]
    figures: Callable[[Records[S]], Sequence[Figure]]
    claims: Sequence[Claim]
    not_shown: str  # what this study does not show, said on the page
    seconds: Mapping[str, float]  # on two cores; smoke and quick measured, full estimated (docs/performance.md)
    measure: Callable[[RunSpec, Any], Mapping[str, Any]] = nothing  # in the worker: spec, Outcome -> DataFrames by name
    analyses: Callable[[S], Iterable[AnalysisSpec]] = lambda settings: ()  # measurements beyond the runs
    analyse: Callable[[AnalysisSpec, Sequence[Any]], Mapping[str, Any]] | None = None  # in the worker: spec, its inputs
    renamed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # see Records: for tables of older versions
    # Of the tables of its records, by name; of one that declares none each holds numbers and texts.
    schemas: Mapping[str, TableSchema] = field(default_factory=lambda: {REST: OWN})
    code: Code | None = None  # of a study of one's own that is about to run; read from a folder it has none
    texts: Mapping[str, str] = field(default_factory=dict)  # the source text of its files by name, for the page

    def records(self, directory: Path, plan: Plan) -> Records[S]:
        """What a plan of this study has left behind in a results folder."""
        return Records(directory, plan, self.settings_type, self.renamed, self.schemas)

    def read(self, directory: Path) -> Records[S] | None:
        """The records of this study; None where no survey in this folder planned it.

        Raises:
            StoreError: not a results folder, or one of another version.
            RecordCorrupt: the plan is not what was written.
        """
        check_folder(directory)
        plan = read_plan(directory, self.name)
        return self.records(directory, plan) if plan else None
