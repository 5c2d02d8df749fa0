"""From specs to records: group runs into jobs, train, measure, analyse, write. The only place where these meet."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from theodolite import data, machine, models, train
from theodolite.data import Dataset
from theodolite.errors import SettingError, TheodoliteError
from theodolite.models import MLP
from theodolite.specs import AnalysisSpec, RunSpec
from theodolite.store import records, weights
from theodolite.store.live import Live
from theodolite.store.record import ANY, Schemas
from theodolite.store.remote import workspace as remote
from theodolite.train import Outcome, Replica, TrainingData, stackable
from theodolite.train.optimizers import is_elementwise
from theodolite.train.resume import Every, Keeper

STACK = 16  # replicas of one stack: beyond it a replica hardly gets cheaper (benchmarks/replicas.py)
LARGE = 200_000  # parameters above which a stack gains nothing over one after another on a CPU
GPU_STACK = 1024  # replicas of a GPU's job, which the worker cuts by the memory there is: what an interruption costs
ANALYSIS_COST = 1e10  # multiplications: a second's worth; nothing is known beforehand

Tables = Mapping[str, pd.DataFrame]
Emit = Callable[[tuple[int, int]], None]  # (epochs of all runs of the job, samples trained on)


@dataclass(frozen=True)
class Trained:
    """A finished run, as an analysis reads it."""

    spec: RunSpec
    weights: dict[str, torch.Tensor]
    snapshots: dict[int, dict[str, torch.Tensor]]  # by epoch; empty where the training kept none

    def module(self, snapshot: int | None = None) -> torch.nn.Module:
        """The trained network, or what it was after an epoch: a new copy, on the CPU, in evaluation mode."""
        module = models.build(self.spec.model, dtype=getattr(torch, self.spec.training.dtype))
        module.load_state_dict(self.weights if snapshot is None else self.snapshots[snapshot])
        return module.eval()


@dataclass(frozen=True)
class TrainingJob:
    """A job: runs that one worker trains at once, as replicas of one stack."""

    directory: Path  # the results folder
    specs: tuple[RunSpec, ...]
    measure: Callable[[RunSpec, Outcome], Tables]
    device: str
    machine: Mapping[str, Any]  # what :func:`theodolite.machine.describe` said, for the record
    address: str | None = None  # of the results, where the folder is a copy of them
    resume_every: Every | None = None  # how often states are kept to go on from inside a run
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
    analyse: Callable[[AnalysisSpec, Sequence[Trained]], Tables]
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
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingError(f"expected a device of this machine, got '{device}' ({reason}). Use cpu.") from None


def plan(
    directory: Path,
    specs: Sequence[RunSpec],
    measure: Callable[[RunSpec, Outcome], Tables],
    *,
    device: str,
    workers: int,
    address: str | None = None,
    resume_every: Every | None = None,
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
    analyse: Callable[[AnalysisSpec, Sequence[Trained]], Tables],
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


@machine.one_thread()
def execute(job: TrainingJob | AnalysisJob, emit: Emit) -> list[tuple[str, str]]:
    """Do a job in a worker: train and measure its runs, or make its analysis, and write the records.

    Returns:
        For each run or analysis its fingerprint and ``done`` or ``diverged``.

    Raises:
        MemoryError: the device has too little for so many replicas.
    """
    machine.keep_memory()
    machine.forget_peak_memory()
    with remote.local_folder(job.directory, job.address) as directory:
        return _execute(replace(job, directory=directory), emit)


def _execute(job: TrainingJob | AnalysisJob, emit: Emit) -> list[tuple[str, str]]:
    for spec in job.specs:
        records.write_start(job.directory, spec)
        remote.upload(job.address, records.folder_of(job.directory, spec))
    started = time.perf_counter()
    shown = Live(job.directory, job.specs[0].study, [spec.fingerprint() for spec in job.specs])
    keepers: list[Keeper] = []
    try:
        if isinstance(job, AnalysisJob):
            return [_analyse(job, started)]
        folders = [records.folder_of(job.directory, spec) for spec in job.specs]
        keepers = [Keeper(folder, job.resume_every, job.device, share=1 / len(folders)) for folder in folders]
        outcomes = _train(job, emit, shown, keepers)
    except torch.OutOfMemoryError as error:  # known to the engines, which know no torch, as Python's own
        raise MemoryError(str(error)) from error
    finally:
        shown.close()
    share = (time.perf_counter() - started) / len(job.specs)
    return [_record(job, *one, share) for one in zip(job.specs, outcomes, keepers, strict=True)]


def _record(job: TrainingJob, spec: RunSpec, outcome: Outcome, keeper: Keeper, share: float) -> tuple[str, str]:
    started, trained = time.perf_counter(), share + keeper.seconds
    resumed = {"resumed_after_epoch": keeper.resumed} if keeper.resumed else {}
    tables = {"metrics": outcome.metrics, **job.measure(spec, outcome)}
    blobs = {"weights.safetensors": weights.to_bytes(outcome.weights)}
    if outcome.snapshots:
        blobs["snapshots.safetensors"] = weights.snapshots_to_bytes(outcome.snapshots)
    records.write(
        job.directory,
        spec,
        tables=tables,
        environment=_environment(job, trained + time.perf_counter() - started) | resumed,
        blobs=blobs,
        converged_epoch=outcome.converged_epoch,
        diverged_epoch=outcome.diverged_epoch,
        schemas=job.schemas,
    )
    keeper.remove()
    remote.upload(job.address, records.folder_of(job.directory, spec))
    return spec.fingerprint(), "done" if outcome.diverged_epoch is None else "diverged"


def _analyse(job: AnalysisJob, started: float) -> tuple[str, str]:
    spec = job.specs[0]
    folders = [job.directory / spec.study / RunSpec.FOLDER / name for name in spec.inputs]
    remote.download(job.address, folders, remote.everything)
    inputs = [_trained(folder) for folder in folders]
    tables = job.analyse(spec, inputs)
    environment = _environment(job, time.perf_counter() - started)
    records.write(job.directory, spec, tables=tables, environment=environment, schemas=job.schemas)
    remote.upload(job.address, records.folder_of(job.directory, spec))
    return spec.fingerprint(), "done"


def _trained(folder: Path) -> Trained:
    spec = records.read_spec(folder)
    final, snapshots = folder / "weights.safetensors", folder / "snapshots.safetensors"
    kept = spec.training.snapshot_every is not None
    return Trained(
        spec,
        weights.from_bytes(records.read_file(final), final),
        weights.snapshots_from_bytes(records.read_file(snapshots), snapshots) if kept else {},
    )


def _environment(job: TrainingJob | AnalysisJob, seconds: float) -> dict[str, Any]:
    return {
        **job.machine,
        **machine.arithmetic(),
        "device": job.device,
        "stack": len(job.specs),  # replicas it was trained with
        "wall_seconds": seconds,  # its share of the stack's training, and its own measuring
        "peak_memory_bytes": machine.peak_memory(),  # of the worker, that is of the whole stack
    }


def _size(stack: Sequence[RunSpec], stacks: int, workers: int, device: str) -> int:
    """Replicas a job: as many as pay, but fewer where there would be too few jobs to keep all workers busy."""
    if len(stack) == 1 or not _stacks(stack[0], device):
        return 1
    if device.startswith("cuda"):  # alone, such networks leave a GPU idle, so each gets all it can
        return min(GPU_STACK, -(-len(stack) * stacks // workers))
    if stack[0].model.parameters > LARGE:
        return 1
    return min(STACK, -(-len(stack) * stacks // (2 * workers)))


def _stacks(spec: RunSpec, device: str, dataset: Dataset | None = None) -> bool:
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
    if device != "cpu" or not stackable.pays(spec.model.multiplications, batch):
        return False
    try:
        sets = train.tensors(dataset or data.load(spec.data), dtype=getattr(torch, training.dtype))
        return not stackable.reason(spec.model, sets, training, paying=True)
    except TheodoliteError:  # no data, or no module: who trains it says so
        return False


def _cut(stack: Sequence[RunSpec], size: int) -> Iterator[tuple[RunSpec, ...]]:
    for start in range(0, len(stack), size):
        yield tuple(stack[start : start + size])


def _train(job: TrainingJob, emit: Emit, shown: Live, keepers: Sequence[Keeper]) -> list[Outcome]:
    """As replicas what they train, always, and all else in the loop."""
    model, training = job.specs[0].model, job.specs[0].training
    loaded = {given: data.load(given) for given in {spec.data for spec in job.specs}}
    sets = [loaded[spec.data] for spec in job.specs]
    if not _stacks(job.specs[0], job.device, sets[0]):
        return [_train_one(job, number, dataset, emit, shown, keepers[number]) for number, dataset in enumerate(sets)]
    own = len({spec.data.seed for spec in job.specs}) > 1  # each seed has drawn its own subset
    replicas = [_replica(job, spec, dataset, own=own) for spec, dataset in zip(job.specs, sets, strict=True)]

    def told(epoch: int, samples: int) -> None:
        emit((epoch * len(replicas), samples))

    shared = _tensors(sets[0], job)
    return train.train_replicas(
        model, shared, training, replicas, device=job.device, on_epoch=told, on_rows=shown, keepers=keepers
    )


def _train_one(job: TrainingJob, number: int, dataset: Dataset, emit: Emit, shown: Live, keeper: Keeper) -> Outcome:
    spec = job.specs[number]
    module = models.build(spec.model, seed=spec.seeds.weights, dtype=getattr(torch, spec.training.dtype))

    def told(epoch: int, samples: int) -> None:
        emit((number * spec.training.epochs + epoch, samples))

    return train.train(
        module, _tensors(dataset, job), spec.training, order_seed=spec.seeds.order,
        flatten=isinstance(spec.model, MLP), device=job.device, on_epoch=told,
        on_rows=lambda rows: shown(rows, number), keeper=keeper,
    )  # fmt: skip


def _tensors(dataset: Dataset, job: TrainingJob, device: str | None = None) -> TrainingData:
    return train.tensors(dataset, dtype=getattr(torch, job.specs[0].training.dtype), device=device or job.device)


def _replica(job: TrainingJob, spec: RunSpec, dataset: Dataset, *, own: bool) -> Replica:
    """What the run has for itself; data of its own wait on the CPU until its stack begins."""
    labels = torch.tensor(dataset.train_targets) if spec.data.random_labels and not own else None
    return Replica(
        weights_seed=spec.seeds.weights,
        order_seed=spec.seeds.order,
        learning_rate=spec.training.learning_rate,
        train_targets=labels,
        data=_tensors(dataset, job, "cpu") if own else None,
    )
