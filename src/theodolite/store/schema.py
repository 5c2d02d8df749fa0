"""What the JSON files of a results folder hold, checked when read: they may come from anybody. Imports no torch."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, ValidationError, field_validator

from theodolite.specs import COLUMNS, OWN_COLUMNS, AnalysisSpec, CodeSpec, RecordingSpec, RunSpec
from theodolite.store import files
from theodolite.wording import shown

LARGEST = 1 << 30  # bytes of a JSON file: the plan of a million runs has 200 MB
LONGEST = 100_000  # characters of an error: a terminal takes half a minute to lay out a hundred million

Spec = RunSpec | AnalysisSpec | RecordingSpec | CodeSpec
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Whole = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
NO_LABEL = frozenset(COLUMNS) & frozenset(OWN_COLUMNS)  # of any kind of record
Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]  # never a path


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Sealed(_Frozen):
    """What carries its own checksum: nothing else would notice a digit that changed in it."""

    seal: str = ""

    def sealed(self) -> bytes:
        """As the content of a file."""
        content = self.model_dump(mode="json")
        read_back = type(self).model_validate_json(as_json(content))  # its keys in the order that readers will find
        return as_json({**content, "seal": read_back._sum()})

    @classmethod
    def unsealed(cls, content: bytes) -> Self:
        """From the content of a file; ValueError where it is not what was written."""
        found = cls.model_validate_json(content)
        if found.seal != found._sum():
            raise ValueError("its seal does not fit: it is not what was written")
        return found.model_copy(update={"seal": ""})

    def _sum(self) -> str:
        return files.checksum(self.model_dump_json(exclude={"seal"}, exclude_defaults=True).encode())


class RecordMetadata(BaseModel):
    """What ``spec.json`` holds beside the spec, as far as a report needs it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    spec: dict[str, Any]
    wall_seconds: float = Field(ge=0, allow_inf_nan=False)
    device: str = ""
    processor: str = ""
    versions: dict[str, str] = {}
    parameters: Count = 0  # of a recording, whose spec does not say, as all that follows
    model: str | None = None
    steps: Count | None = None
    epochs: Count | None = None
    training_seconds: float | None = Field(None, allow_inf_nan=False)  # without any measuring, by the clock of the user
    epoch_ends: tuple[tuple[Count, Count], ...] | None = None  # steps at which an epoch ended, and its number
    resumed_at: tuple[Count, ...] | None = None  # steps
    ended_by: str = ""  # the error that ended the training, by its name


class Status(Sealed):
    """How far a run or an analysis is; ``running`` in a folder that nobody holds: it was interrupted."""

    fingerprint: Fingerprint  # whose it is: a folder that was renamed, or copied over another, is noticed
    state: Literal["running", "done", "failed"]
    error: Annotated[str, StringConstraints(max_length=LONGEST)] = ""  # why it failed
    partial: bool = False  # running, and what is there may be read: each file is whole, but none is the last
    converged_epoch: Count | None = None  # first epoch at the convergence; None: not within its epochs
    diverged_epoch: Count | None = None  # epoch at which the loss became NaN or infinite
    files: dict[FileName, str] = {}  # checksum of every other file of the record

    @property
    def readable(self) -> bool:
        """Whether tables may be made of it."""
        return self.state == "done" or self.partial


class Planned(_Frozen):
    """One run or analysis of a plan, known before it is done."""

    fingerprint: Fingerprint
    seed: Count
    labels: dict[str, str | Whole | FiniteFloat]

    @field_validator("labels")
    @classmethod
    def _named(cls, labels: dict[str, Any]) -> dict[str, Any]:
        if taken := [name for name in labels if name in NO_LABEL]:
            raise ValueError(f"a label is called '{taken[0]}', as a column of every record is")
        return labels

    @classmethod
    def of(cls, spec: Spec) -> "Planned":
        """What a plan holds of a spec."""
        return cls(fingerprint=spec.fingerprint(), seed=spec.seed, labels=spec.labels)


class PlannedClaim(_Frozen):
    """A claim as it was before the first run: all that decides its verdict."""

    id: str
    sentence: str
    statistic: str
    kind: str
    side: str
    threshold: float | tuple[float, float]
    evidence: str  # hash of the source that takes it from the records; empty where there is none


class Opening(_Frozen):
    """What a plan set out to do first, where it has other seeds by now."""

    settings: dict[str, Any]  # those that count seeds
    runs: tuple[Fingerprint, ...]
    analyses: tuple[Fingerprint, ...] = ()


class Plan(Sealed):
    """What a survey set out to do in one study: what its tables are made of, in the study's order.

    The fields behind ``format`` are younger than it: plans of older versions lack them.
    """

    study: str
    preset: str
    settings: dict[str, Any]
    command: str
    runs: tuple[Planned, ...]
    analyses: tuple[Planned, ...] = ()
    format: Count = 1  # of its specs (:data:`theodolite.specs.FORMAT`); a plan that does not say is of the first
    claims: tuple[PlannedClaim, ...] = ()  # as they were before the first run
    until_decided: bool = False  # seeds are added until the claims are decided: no number of them was fixed
    opening: Opening | None = None
    looks: tuple[Count, ...] = ()  # seeds planned at each look; empty: this is the first

    def first(self) -> "Plan | None":
        """The plan with the seeds it had first; None where it has lost some of them."""
        if self.opening is None:
            return self
        runs = tuple(item for item in self.runs if item.fingerprint in self.opening.runs)
        analyses = tuple(item for item in self.analyses if item.fingerprint in self.opening.analyses)
        if (len(runs), len(analyses)) != (len(self.opening.runs), len(self.opening.analyses)):
            return None
        settings = {**self.settings, **self.opening.settings}
        return self.model_copy(update={"settings": settings, "runs": runs, "analyses": analyses, "opening": None})


def as_json(content: Any) -> bytes:
    """JSON as every file of a results folder has it: keys sorted, a line each."""
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def parsed(content: bytes) -> Any:
    """JSON from anybody: nesting too deep for the parser is a ValueError like all else that is none."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def first_line(error: Exception) -> str:
    """Of an error's message; of a file that does not hold what it should, where that is, and why."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False)[0]
        return shown(f"{'.'.join(map(str, first['loc'])) or 'JSON'}: {first['msg']}")[:200]
    return str(error).splitlines()[0] if str(error) else type(error).__name__
