"""What is done and recorded, described to the last setting, and named by that. Imports no torch.

RunSpec is one training, AnalysisSpec one measurement beyond it. CodeSpec is a run of the user's own code, in a study of
one's own, and RecordingSpec a training that is not a survey's: the user's own, watched by a recorder.
"""

import hashlib
import json
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    model_validator,
)

from theodolite.data.spec import FUNCTION, DataSpec
from theodolite.models.description import MLP, Architecture, CodeModel
from theodolite.recipes import Loss, Optimizer

# Columns that records have beside the factors of a design, so that no factor may be called by one of these names.
RUN_COLUMNS = (
    "converged_epoch", "diverged_epoch", "epochs", "convergence", "parameters", "layers", "shape", "wall_seconds",
)  # fmt: skip
COLUMNS = ("fingerprint", "seed", "status", "error", *RUN_COLUMNS, "epoch", "step")
FORMAT = 2  # of runs and analyses; 2: every generator has a stream of its own, so the same seeds train otherwise
ADDED: dict[str, JsonValue] = {
    "added": True
}  # ``json_schema_extra`` of a field younger than format 1: at its default it enters no name


class Frozen(BaseModel):
    """Fixed once made, and of these fields alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Training(Frozen):
    """How one network is trained. Losses are means over samples; ``mse`` is also a mean over outputs."""

    loss: Annotated[str | SerializeAsAny[Loss], BeforeValidator(Loss.parsed)]  # a name, or settings with it
    optimizer: Annotated[str | SerializeAsAny[Optimizer], BeforeValidator(Optimizer.parsed)] = "adam"
    learning_rate: PositiveFloat = 1e-3
    momentum: NonNegativeFloat = 0.0  # sgd only
    weight_decay: NonNegativeFloat = 0.0  # added to the gradient (L2), as torch.optim.Adam and SGD do
    schedule: Literal["constant", "cosine", "step", "one_cycle"] = "constant"  # theodolite/train/schedule.py
    warmup: NonNegativeInt = Field(0, json_schema_extra=ADDED)  # epochs in which the rate rises, before the schedule
    step_epochs: PositiveInt | None = Field(None, json_schema_extra=ADDED)  # step: epochs after which the rate falls
    step_factor: PositiveFloat = Field(0.1, json_schema_extra=ADDED)  # step: what it is multiplied by each time
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
        if self.momentum and self.optimizer != "sgd":  # it would change the name of a run and no number
            name = self.optimizer if isinstance(self.optimizer, str) else self.optimizer.kind
            raise ValueError(
                f"expected momentum 0 with {name or 'this optimizer'}, which has moments of its own; "
                "leave it out, or take sgd"
            )
        if (self.schedule == "step") != (self.step_epochs is not None):
            raise ValueError("expected step_epochs with the schedule 'step', and with no other")
        if self.step_factor != 0.1 and self.schedule != "step":
            raise ValueError("expected step_factor with the schedule 'step' only; leave it out")
        if self.warmup and self.schedule == "one_cycle":
            raise ValueError("expected warmup 0 with the schedule 'one_cycle', which has its own; leave it out")
        if self.stop_at_convergence and self.convergence is None:
            raise ValueError("expected a convergence to stop at, got none; give one, or leave stop_at_convergence out")
        return self


class Seeds(Frozen):
    """One seed a source of chance, so that each can be varied alone (the data's own is in DataSpec)."""

    weights: NonNegativeInt
    order: NonNegativeInt


def canonical(model: BaseModel) -> dict[str, Any]:
    """The fields of a model as JSON has them, without those that were added since format 1 and are at their default.

    Minus zero is zero.
    """
    content: dict[str, Any] = _unsigned(model.model_dump(mode="json"))
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("added") and value == field.get_default(call_default_factory=True):
            del content[name]
        elif isinstance(value, BaseModel):
            content[name] = canonical(value)
    return content


def _unsigned(value: Any) -> Any:
    """The same, its zeros without a sign."""
    if isinstance(value, dict):
        return {name: _unsigned(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_unsigned(part) for part in value]
    return 0.0 if isinstance(value, float) and value == 0 else value


class _Spec(Frozen):
    """What all specs share: their study, their place in its design, and their name."""

    FOLDER: ClassVar[str]  # of its record, below the study's
    FORMAT: ClassVar[int] = FORMAT  # enters its name: raised when the meaning of a spec or of its numbers changes
    TAKEN: ClassVar[tuple[str, ...]] = COLUMNS  # names that none of its labels may have

    study: str
    labels: dict[str, str | int | float]  # factors of the design, as columns: {"model": "Model 1", "function": "cos"}
    seed: NonNegativeInt  # the unit of evidence it belongs to

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        for name in self.labels:
            if name in self.TAKEN:
                raise ValueError(f"expected labels of other names than the columns of records, got '{name}'; rename it")
        return self

    def fingerprint(self) -> str:
        """Its name: the first 16 hexadecimal digits of the SHA-256 of its canonical JSON.

        Every field of format 1 enters, with ``FORMAT``, and a field added since where it is not at its default,
        so that a spec keeps its name when specs grow. Keys are sorted, without white space, floats in the shortest form
        that reads back as the same number, so it is the same in every process and every Python.
        """
        content = {"format": self.FORMAT, **canonical(self._effective())}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _effective(self) -> Self:
        """The same, where settings that change no number are at their default."""
        return self


class RunSpec(_Spec):
    """One training of one model: all that decides its result, and nothing else.

    Runs that differ only in ``seeds``, ``learning_rate``, the subset of the data (``data.seed``) or their training
    labels (``data.label_seed``, ``data.random_labels``) can train as replicas of one stack (:meth:`stack_key`).
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
        del content["training"]["learning_rate"]
        for drawn in ("seed", "label_seed", "random_labels"):
            del content["data"][drawn]
        return json.dumps(content, sort_keys=True)

    def _effective(self) -> Self:
        """What a study sets for all of its networks and data, where one has no use for it; and what is past the end."""
        data, model, training = self.data, self.model, self.training
        unused = {"scale", "seed"} if data.source.startswith(FUNCTION) else {"domain"}
        if data.code is not None:  # its numbers are taken as they are
            unused.add("scale")
        if data.train is None and data.test is None:  # there is no subset to draw
            unused.add("seed")
        data = data.model_copy(update={name: type(data).model_fields[name].default for name in unused})
        if data.code is not None:
            data = data.model_copy(update={"code": data.code.anywhere()})
        if isinstance(model, CodeModel):
            model = model.model_copy(update={"made": model.made.anywhere()})
        if isinstance(model, MLP) and not model.hidden:
            model = model.model_copy(update={"activation": MLP.model_fields["activation"].default})
        last = max(1, training.epochs)
        every: dict[str, Any] = {"evaluate_every": min(training.evaluate_every, last)}
        if training.step_epochs is not None and training.step_epochs >= training.epochs - training.warmup:
            every |= {"schedule": "constant", "step_epochs": None, "step_factor": 0.1}  # the rate never falls
        if training.snapshot_every is not None:
            every["snapshot_every"] = min(training.snapshot_every, last)
        return self.model_copy(update={"data": data, "model": model, "training": training.model_copy(update=every)})


class AnalysisSpec(_Spec):
    """One measurement that is not of one training: of several runs together, or of none."""

    FOLDER = "analyses"

    inputs: tuple[str, ...] = ()  # fingerprints of the runs it reads; it starts when they are done
    settings: dict[str, Any] = Field(default_factory=dict)  # all else that decides the result


class RecordingSpec(_Spec):
    """One training of the user's own, which no spec describes: its labels and its seed are its name."""

    FOLDER = "runs"
    FORMAT = 1  # nothing is drawn for it


# Columns of the records of one's own code: it may have factors called ``epochs`` or ``layers``, which no spec knows.
OWN_COLUMNS = (
    "fingerprint", "seed", "status", "error", "wall_seconds", "convergence", "converged_epoch", "diverged_epoch",
    "epoch", "step", "quantity", "entry", "number",
)  # fmt: skip


class CodeSpec(_Spec):
    """One run of the user's own code: its factors are the labels, and the code itself is known by a hash."""

    FOLDER = "runs"
    FORMAT = 1  # all that is drawn is drawn by the user's code
    TAKEN = OWN_COLUMNS

    code: str  # of the file and the local modules that it imports (theodolite/code/sources.py)
