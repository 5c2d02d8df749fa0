"""From studies ready to run to records: every run that is not finished yet, as jobs of an engine."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theodolite import execute
from theodolite.errors import RecordCorrupt, SettingError
from theodolite.jobs import AnalysisJob, TrainingJob, check_device, plan, plan_analyses, split_job
from theodolite.specs import AnalysisSpec, CodeSpec, RunSpec
from theodolite.store import files, live, records
from theodolite.store.record import STATE
from theodolite.store.remote import workspace as remote
from theodolite.store.remote.workspace import Copy
from theodolite.survey.prepared import Prepared, as_planned, outdated, sources
from theodolite.survey.progress import Progress, Tally
from theodolite.wording import counted

if TYPE_CHECKING:
    from theodolite.execute.schedule import Emit
    from theodolite.own.job import CodeJob
    from theodolite.train.resume import Every

    Job = TrainingJob | AnalysisJob | CodeJob


def run(
    prepared: Sequence[Prepared],
    place: Path | Copy,
    *,
    workers: int | None = None,
    device: str = "cpu",
    engine: str = "local",
    address: str | None = None,
    command: str = "",
    until_decided: bool = False,
    resume_every: "Every | None" = None,
    say: Callable[[str], None] = lambda text: None,
) -> Generator[list[Progress]]:
    """Train and record every run that is not finished yet; tell how far each study is, a few times a second.

    A run that fails does not stop the others: it is in ``failed``, and in its record, and is tried again next time.
    Closing the iterator stops all workers at once and keeps what is finished.

    Args:
        prepared: the studies.
        place: the results folder, with ``ray`` one that all nodes share; or what
            :func:`theodolite.store.remote.workspace.working` holds already, for the report to be made before others may
            write: of an address, every record goes there when it is finished.
        workers: jobs at a time; None: one a processor of the machine, or of the cluster.
        device: where to train.
        engine: who carries the jobs; see :func:`theodolite.execute.engine`.
        address: of a running Ray cluster.
        command: that makes this survey again, for the record.
        until_decided: whether seeds will be added until the claims are decided; it is in the plan before the first run.
        resume_every: how often the state of a run under way is kept; where one was kept, the run goes on from it.
        say: gets a line where an earlier plan of the folder settles what this machine would have settled otherwise,
            where what the folder holds is of an earlier format, and on runs that go on from the middle.

    Raises:
        SettingError: this machine has no such device; or states are to be kept of runs of the user's own code.
        UsageError: there is no such engine, or it cannot start.
        StoreError: the folder is not a results folder, is in use, or cannot be written.
    """
    if address is None:  # else the driver need not have what the nodes have
        check_device(device)
    if resume_every is not None:
        check_resumable(prepared)
    with (
        execute.engine(engine, workers=workers, device=device, address=address) as carrier,
        nullcontext(place) if isinstance(place, Copy) else remote.working(place) as copy,
    ):
        directory, home = copy.directory, copy.address
        files.sweep(directory)
        live.clear(directory)
        prepared = [_settled(item, directory, say) for item in as_planned(prepared, directory, say)]
        if sentence := outdated(prepared, directory):
            say(sentence)
        for item in prepared:
            records.write_plan(directory, item.planned_in(directory, command, until_decided=until_decided))
        copy.send_plans()
        _say_resumed(prepared, directory, device, say)
        jobs: list[Job] = []
        how: dict[str, Any] = {"workers": carrier.workers, "device": device, "address": home}
        for item in prepared:
            jobs += _jobs(item, directory, **how, resume_every=resume_every)
        jobs.sort(key=lambda job: -job.cost)
        tally = Tally(prepared, jobs)
        yield tally.progress()
        carrier.equip(directory if home is None else None, sources(prepared))
        for event in carrier.run(work, jobs, after=_order(jobs), split=split_job):
            copy.check()
            if event.kind == "failed":
                _record_failure(tally.jobs[event.job].specs, event.value, copy)
            tally.hear(event)
            yield tally.progress()
        folders = [records.folder_of(directory, spec) for item in prepared for spec in item.runs]
        folders += [records.folder_of(directory, spec) for item in prepared for spec in item.analyses]
        remote.download(home, folders, remote.tables)  # what other machines made, for tables and claims
        conclude(prepared, directory, say)
        copy.send_plans()


def conclude(prepared: Sequence[Prepared], directory: Path, say: Callable[[str], None]) -> None:
    """Keep what only the code of a file can find out of the records that there are by now."""
    for item in prepared:
        if item.study.code is not None and (planned := records.read_plan(directory, item.study.name)) is not None:
            item.study.code.conclude(directory, planned, say)


def work(job: "Job", emit: "Emit") -> Any:
    """One job, in a worker: of a spec, or of the user's own code."""
    from theodolite import runs
    from theodolite.own import job as own

    return own.execute(job) if isinstance(job, own.CodeJob) else runs.execute(job, emit)


def _settled(item: Prepared, directory: Path, say: Callable[[str], None]) -> Prepared:
    """With what becomes of runs that other code has finished, where the study is of a file."""
    if item.study.code is None:
        return item
    settled, analyses = item.study.code.settle(directory, item.runs, item.analyses, say)
    return replace(item, runs=tuple(settled), analyses=tuple(analyses))


def check_resumable(prepared: Sequence[Prepared]) -> None:
    """Refuse to keep states of runs that only the user's own code knows."""
    own = [item.study for item in prepared if any(isinstance(spec, CodeSpec) for spec in item.runs)]
    if own:
        raise SettingError(
            f"expected --resume-every with networks that our engine trains, but '{own[0].name}' calls a function of "
            "its file, which cannot be resumed inside. Leave it out: finished runs are never done again."
        )


def _say_resumed(prepared: Sequence[Prepared], directory: Path, device: str, say: Callable[[str], None]) -> None:
    """Which runs go on from the middle, and which cannot; what finished ones left is removed."""
    for item in prepared:
        epochs, mine = [], {spec.fingerprint() for spec in item.runs}
        for path in sorted((directory / item.study.name / RunSpec.FOLDER).glob(f"*/{STATE}")):
            status = records.read_status(path.parent)
            if status is not None and status.state == "done":
                path.unlink(missing_ok=True)
                continue
            if path.parent.name not in mine:  # of other settings
                continue
            from theodolite.store import states  # these import torch, which few surveys wait for here
            from theodolite.train.resume import unusable

            try:
                state = states.read(path) or {}
            except RecordCorrupt as error:
                say(str(error))
                continue
            if why := unusable(state, path, device):
                say(f"{path} is of another version, device or run ({why}). Its run begins anew.")
            else:
                epochs.append(state["epoch"])
        if epochs:
            say(f"{item.study.name}: {counted(len(epochs), 'run')} in the middle, to go on after epoch {min(epochs)}.")


def _jobs(
    item: Prepared,
    directory: Path,
    *,
    workers: int,
    device: str,
    address: str | None,
    resume_every: "Every | None",
) -> "Iterable[Job]":
    """What is not finished yet of one study."""
    from theodolite.own import job as own

    study = item.study
    ours = [spec for spec in item.runs if isinstance(spec, RunSpec)]
    theirs = [spec for spec in item.runs if isinstance(spec, CodeSpec)]
    yield from plan(
        directory,
        ours,
        study.measure,
        device=device,
        workers=workers,
        address=address,
        resume_every=resume_every,
        schemas=study.schemas,
    )
    if theirs and study.code is not None:
        yield from own.plan(directory, theirs, study.code.carry_out, device=device, address=address)
    if study.analyse is not None:
        yield from plan_analyses(
            directory, item.analyses, study.analyse, device=device, address=address, schemas=study.schemas
        )


def _order(jobs: Sequence["Job"]) -> dict[int, set[int]]:
    """For each analysis the jobs that train what it reads."""
    trains = {spec.fingerprint(): n for n, job in enumerate(jobs) for spec in job.specs if isinstance(spec, RunSpec)}
    return {
        n: {trains[name] for name in spec.inputs if name in trains}
        for n, job in enumerate(jobs)
        for spec in job.specs
        if isinstance(spec, AnalysisSpec)
    }


def _record_failure(specs: Iterable[RunSpec | AnalysisSpec | CodeSpec], reason: str, copy: Copy) -> None:
    for spec in specs:
        records.write_failure(copy.directory, spec, reason)
        remote.upload(copy.address, records.folder_of(copy.directory, spec))
