"""What is to be trained and measured, cut into jobs that workers do (:mod:`theodolite.runs`). Imports no torch.

A survey is ready, and its workers begin, a second earlier for that.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from theodolite import data, machine
from theodolite.data import Dataset
from theodolite.errors import SettingError, TheodoliteError
from theodolite.models import MLP
from theodolite.models.stacks import pays
from theodolite.recipes.optimizers import is_elementwise
from theodolite.specs import AnalysisSpec, RunSpec
from theodolite.store import records
from theodolite.store.record import ANY, Schemas

if TYPE_CHECKING:
    from theodolite.train import Outcome
    from theodolite.train.resume import Every

STACK = 16  # replicas of one stack: beyond it a replica hardly gets cheaper (benchmarks/replicas.py)
LARGE = 200_000  # parameters above which a stack gains nothing over one after another on a CPU
GPU_STACK = 1024  # replicas of a GPU's job, which the worker cuts by the memory there is: what an interruption costs
ANALYSIS_COST = 1e10  # multiplications: a second's worth; nothing is known beforehand

Tables = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class TrainingJob:
    """A job: runs that one worker trains at once, as replicas of one stack."""

    directory: Path  # the results folder
    specs: tuple[RunSpec, ...]
    measure: "Callable[[RunSpec, Outcome], Tables]"
    device: str
    machine: Mapping[str, Any]  # what :func:`theodolite.machine.describe` said, for the record
    address: str | None = None  # of the results, where the folder is a copy of them
    resume_every: "Every | None" = None  # how often states are kept to go on from inside a run
    schemas: Schemas = field(default_factory=lambda: ANY)  # of its tables

    @property
    def epochs(self) -> int:
        """Of all runs together: what progress counts in."""
        return sum(spec.training.epochs for spec in self.specs)

    @property
    def cost(self) -> float:
        """Roughly the multiplications it takes, so that the longest can start first."""
        return sum(training_cost(spec) for spec in self.specs)


@dataclass(frozen=True)
class AnalysisJob:
    """A job: one measurement of several runs, or of none."""

    directory: Path
    specs: tuple[AnalysisSpec]
    analyse: Callable[[AnalysisSpec, Sequence[Any]], Tables]
    device: str
    machine: Mapping[str, Any]
    address: str | None = None
    schemas: Schemas = field(default_factory=lambda: ANY)
    epochs: int = 1
    cost: float = ANALYSIS_COST


def training_cost(spec: RunSpec) -> float:
    """Roughly the multiplications of a training, forward and backward, with what a step costs however small it is."""
    samples = spec.data.train or 50_000
    steps = samples / (spec.training.batch_size or samples)
    return spec.training.epochs * (3.0 * samples * spec.model.multiplications + 1e6 * steps)


def disk_bytes(spec: RunSpec) -> int:
    """Roughly what a run's record takes: weights, snapshots, a row an evaluation, and the files themselves."""
    training = spec.training
    copies = 1 + (training.epochs // training.snapshot_every if training.snapshot_every else 0)
    number = 8 if training.dtype == "float64" else 4
    return copies * spec.model.parameters * number + training.epochs // training.evaluate_every * 50 + 20_000


def check_device(device: str) -> None:
    """Raise SettingError where this machine has no such device."""
    if device == "cpu":
        return
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingError(f"expected a device of this machine, got '{device}' ({reason}). Use cpu.") from None


def plan(
    directory: Path,
    specs: Sequence[RunSpec],
    measure: "Callable[[RunSpec, Outcome], Tables]",
    *,
    device: str,
    workers: int,
    address: str | None = None,
    resume_every: "Every | None" = None,
    schemas: Schemas = ANY,
) -> list[TrainingJob]:
    """Jobs for the runs that are not finished yet.

    How runs are grouped changes no number: a replica's result does not depend on its stack.
    """
    stacks: dict[str, list[RunSpec]] = {}
    for spec in specs:
        if not records.finished(directory, spec, schemas):
            stacks.setdefault(spec.stack_key(), []).append(spec)
    described = machine.describe()
    return [
        TrainingJob(directory, part, measure, device, described, address, resume_every, schemas)
        for stack in stacks.values()
        for part in _cut(stack, _size(stack, len(stacks), workers, device))
    ]


def plan_analyses(
    directory: Path,
    specs: Sequence[AnalysisSpec],
    analyse: Callable[[AnalysisSpec, Sequence[Any]], Tables],
    *,
    device: str,
    address: str | None = None,
    schemas: Schemas = ANY,
) -> list[AnalysisJob]:
    """Jobs for the analyses that are not finished yet."""
    described = machine.describe()
    left = [spec for spec in specs if not records.finished(directory, spec, schemas)]
    return [AnalysisJob(directory, (spec,), analyse, device, described, address, schemas) for spec in left]


def split_job(job: TrainingJob | AnalysisJob) -> Sequence[TrainingJob | AnalysisJob]:
    """Two smaller jobs for the same runs, for a machine on which one was too large; the job itself if it is one run.

    It changes no number: a replica's result does not depend on its stack.
    """
    if not isinstance(job, TrainingJob) or len(job.specs) < 2:
        return [job]
    middle = len(job.specs) // 2
    return [replace(job, specs=job.specs[:middle]), replace(job, specs=job.specs[middle:])]


def _size(stack: Sequence[RunSpec], stacks: int, workers: int, device: str) -> int:
    """Replicas a job: as many as pay, but fewer where there would be too few jobs to keep all workers busy."""
    if len(stack) == 1 or not is_stackable(stack[0], device):
        return 1
    if device.startswith("cuda"):  # alone, such networks leave a GPU idle, so each gets all it can
        return min(GPU_STACK, -(-len(stack) * stacks // workers))
    if stack[0].model.parameters > LARGE:
        return 1
    return min(STACK, -(-len(stack) * stacks // (2 * workers)))


def is_stackable(spec: RunSpec, device: str, dataset: Dataset | None = None) -> bool:
    """Whether replicas train it, decided by what is described alone: a spec has one way to its numbers.

    Perceptrons do on the data as they are; other networks on a CPU, where they can, and are so small that it pays.
    Whichever it is, the optimizer updates each number of the weights alone.
    """
    training = spec.training
    if not is_elementwise(training.optimizer):
        return False
    if isinstance(spec.model, MLP):
        return not training.augment
    batch = training.batch_size or spec.data.train or 1  # what is known without the data
    if device != "cpu" or not pays(spec.model.multiplications, batch):
        return False
    import torch

    from theodolite import train
    from theodolite.train import stackable

    try:
        sets = train.tensors(dataset or data.load(spec.data), dtype=getattr(torch, training.dtype))
        return not stackable.reason(spec.model, sets, training, paying=True)
    except TheodoliteError:  # no data, or no module: who trains it says so
        return False


def _cut(stack: Sequence[RunSpec], size: int) -> Iterator[tuple[RunSpec, ...]]:
    for start in range(0, len(stack), size):
        yield tuple(stack[start : start + size])
