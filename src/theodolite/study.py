"""What a survey is made of: RunSpec, one training; AnalysisSpec, one measurement beyond it; Study. Imports no torch.

RecordingSpec stands for a training that is not a survey's: the user's own, watched by a recorder.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from theodolite.data.spec import DataSpec
from theodolite.models.description import Architecture

if TYPE_CHECKING:
    from theodolite.claims import Claim
    from theodolite.findings import Figure, Table
    from theodolite.store.records import Records

FORMAT = 1  # enters every fingerprint: raised when the meaning of a spec or of its numbers changes


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Training(_Frozen):
    """How one network is trained. Losses are means over samples; ``mse`` is also a mean over outputs."""

    loss: Literal["mse", "cross_entropy"]
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: PositiveFloat = 1e-3
    momentum: NonNegativeFloat = 0.0  # sgd only
    weight_decay: NonNegativeFloat = 0.0  # added to the gradient (L2), as torch.optim.Adam and SGD do
    schedule: Literal["constant", "cosine"] = "constant"  # cosine: to zero at the last epoch, stepped per epoch
    batch_size: PositiveInt | None = None  # None: full batch
    epochs: NonNegativeInt
    evaluate_every: PositiveInt = 1  # epochs between full-set evaluations; epoch 0 and the last are always evaluated
    convergence: PositiveFloat | None = None  # training loss at or below which a run counts as converged
    stop_at_convergence: bool = False
    snapshot_every: PositiveInt | None = None  # epochs between copies of the weights kept in the record
    dtype: Literal["float32", "float64"] = "float32"
    autocast: bool = False  # inputs and both passes in bfloat16; weights, their updates and losses stay in float32
    augment: bool = False  # images: cropped at random from a border of 4 pixels, and mirrored at random, in every batch

    @model_validator(mode="after")
    def _check(self) -> "Training":
        if self.autocast and self.dtype != "float32":
            raise ValueError("expected dtype float32 with autocast; PyTorch casts no other to bfloat16")
        return self


class Seeds(_Frozen):
    """One seed a source of chance, so that each can be varied alone (the data's own is in DataSpec)."""

    weights: NonNegativeInt
    order: NonNegativeInt


class _Spec(_Frozen):
    """What all specs share: their study, their place in its design, and their name."""

    FOLDER: ClassVar[str]  # of its record, below the study's

    study: str
    labels: dict[str, str | int | float]  # factors of the design, as columns: {"model": "Model 1", "function": "cos"}
    seed: NonNegativeInt  # the unit of evidence it belongs to

    def fingerprint(self) -> str:
        """Its name: the first 16 hexadecimal digits of the SHA-256 of its canonical JSON.

        Every field enters, with :data:`FORMAT`; keys sorted, no white space, floats in the shortest form that
        reads back as the same number, so it is the same in every process and every Python.
        """
        content = {"format": FORMAT, **self.model_dump(mode="json")}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class RunSpec(_Spec):
    """One training of one model: all that decides its result, and nothing else.

    Runs that differ only in ``seeds``, ``learning_rate`` or their training labels (``data.label_seed``,
    ``data.random_labels``) can train as replicas of one stack (:meth:`stack_key`).
    The device does not enter: it changes rounding, not meaning.
    """

    FOLDER = "runs"

    data: DataSpec
    model: Architecture
    training: Training
    seeds: Seeds
    measure: dict[str, Any] = Field(default_factory=dict)  # settings of what the study measures after training

    def stack_key(self) -> str:
        """Equal for runs that can train as replicas of one stack."""
        content = self.model_dump(mode="json", exclude={"seed", "seeds", "labels", "measure"})
        del content["training"]["learning_rate"], content["data"]["label_seed"], content["data"]["random_labels"]
        return json.dumps(content, sort_keys=True)


class AnalysisSpec(_Spec):
    """One measurement that is not of one training: of several runs together, or of none."""

    FOLDER = "analyses"

    inputs: tuple[str, ...] = ()  # fingerprints of the runs it reads; it starts when they are done
    settings: dict[str, Any] = Field(default_factory=dict)  # all else that decides the result


class RecordingSpec(_Spec):
    """One training of the user's own, which no spec describes: its labels and its seed are its name."""

    FOLDER = "runs"


class Settings(_Frozen):
    """The dials of a study, with their values at ``quick``; a study adds its own fields."""

    seeds: PositiveInt


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
    expand: Callable[[Any], Iterable[RunSpec]]  # Settings -> runs
    tables: Callable[["Records"], Sequence["Table"]]
    figures: Callable[["Records"], Sequence["Figure"]]
    claims: Sequence["Claim"]
    not_shown: str  # what this study does not show, said on the page
    seconds: Mapping[str, float]  # on two cores; smoke and quick measured, full estimated (docs/performance.md)
    measure: Callable[[RunSpec, Any], Mapping[str, Any]] = nothing  # in the worker: spec, Outcome -> DataFrames by name
    analyses: Callable[[Any], Iterable[AnalysisSpec]] = lambda settings: ()  # Settings -> measurements beyond the runs
    analyse: Callable[[AnalysisSpec, Sequence[Any]], Mapping[str, Any]] | None = None  # in the worker: spec, its inputs
