"""From jobs to records: train, measure, analyse, write. The only place where these meet."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from theodolite import data, machine, models, train
from theodolite.data import Dataset
from theodolite.jobs import AnalysisJob, TrainingJob, is_stackable
from theodolite.models import MLP
from theodolite.specs import RunSpec
from theodolite.store import records, weights
from theodolite.store.live import Live
from theodolite.store.remote import workspace as remote
from theodolite.train import Outcome, Replica, TrainingData
from theodolite.train.resume import Keeper

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


def _train(job: TrainingJob, emit: Emit, shown: Live, keepers: Sequence[Keeper]) -> list[Outcome]:
    """As replicas what they train, always, and all else in the loop."""
    model, training = job.specs[0].model, job.specs[0].training
    loaded = {given: data.load(given) for given in {spec.data for spec in job.specs}}
    sets = [loaded[spec.data] for spec in job.specs]
    if not is_stackable(job.specs[0], job.device, sets[0]):
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
