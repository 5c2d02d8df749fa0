"""A survey from end to end: settings to specs to jobs to records, and records to findings."""

import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from altair.utils.schemapi import debug_mode
from pydantic import ValidationError

from theodolite import claims, execute, studies
from theodolite.claims import Judged, holm, judge
from theodolite.errors import SettingError, StoreError, UnknownName
from theodolite.findings import Verdict
from theodolite.report import Comparison, RunsSummary, Side, StudyFindings
from theodolite.store import files, live, lock, records, remote
from theodolite.store.records import Plan, Planned, Records
from theodolite.store.remote import Copy
from theodolite.study import AnalysisSpec, RunSpec, Settings, Study

if TYPE_CHECKING:
    from theodolite import runs

PRESETS = ("smoke", "quick", "full")
Found = tuple[list[Judged], StudyFindings]  # of one study by itself


@dataclass(frozen=True)
class Prepared:
    """One study with its settings, ready to run."""

    study: Study
    preset: str
    settings: Settings
    runs: tuple[RunSpec, ...]
    analyses: tuple[AnalysisSpec, ...]


@dataclass(frozen=True)
class Progress:
    """How far one study is."""

    study: str
    total: int  # runs and analyses
    done: int  # of them finished, now or before; diverged ones included
    failed: Mapping[str, str]  # fingerprint to reason
    diverged: int  # of those that finished now
    share: float  # of the work that was left at the start, 0 to 1
    samples: int  # trained on since the start


def prepare(
    names: Sequence[str], preset: str, *, seeds: int | None = None, overrides: Sequence[str] = ()
) -> list[Prepared]:
    """Look the studies up and settle their settings.

    Args:
        names: of studies; empty means all.
        preset: smoke, quick or full.
        seeds: in place of the preset's number of seeds.
        overrides: ``key=value`` for every study that has the key, or ``study.key=value``; values are JSON, or text.

    Raises:
        UnknownName: a study, preset or setting that does not exist.
        SettingError: a value out of its range or of the wrong kind.
    """
    if preset not in PRESETS:
        raise UnknownName("preset", preset, PRESETS)
    chosen = [studies.get(name) for name in dict.fromkeys(names)] if names else list(studies.INDEX.values())
    changes = _changes(chosen, overrides)
    if seeds is not None:
        changes = {name: {"seeds": seeds, **change} for name, change in changes.items()}
    prepared = []
    for study in chosen:
        settings = _settle(study, preset, changes[study.name])
        prepared.append(
            Prepared(study, preset, settings, tuple(study.expand(settings)), tuple(study.analyses(settings)))
        )
    return prepared


def estimate(prepared: Sequence[Prepared], directory: Path, *, workers: int) -> list[dict[str, Any]]:
    """What a survey would do and take, a row a study, before anything starts.

    Seconds are the preset's own on two cores (measured for smoke and quick, estimated for full), times how much of its
    multiplications is left or has been added.
    """
    from theodolite import runs

    def cost(trainings: Iterable[RunSpec], analyses: Iterable[AnalysisSpec]) -> float:
        return sum(map(runs.training_cost, trainings)) + sum(runs.ANALYSIS_COST for _ in analyses)

    rows = []
    for item in prepared:
        left = [spec for spec in item.runs if not records.finished(directory, spec)]
        waiting = [spec for spec in item.analyses if not records.finished(directory, spec)]
        timed = item.preset if item.preset in item.study.seconds else "quick"
        whole = item.study.presets[timed]
        share = cost(left, waiting) / cost(item.study.expand(whole), item.study.analyses(whole))
        rows.append(
            {
                "study": item.study.name,
                "runs": len(item.runs),
                "analyses": len(item.analyses),
                "left": len(left) + len(waiting),
                "seconds": _rounded(item.study.seconds[timed] * share * 2 / workers),
                "MB": round(sum(map(runs.disk_bytes, left)) / 1e6, 1),
            }
        )
    return rows


def _rounded(seconds: float) -> float:
    """To tenths below ten, whole above: an estimate is no better than that."""
    return round(seconds, 1) if seconds < 10 else round(seconds)


def run(
    prepared: Sequence[Prepared],
    place: Path | Copy,
    *,
    workers: int | None = None,
    device: str = "cpu",
    engine: str = "local",
    address: str | None = None,
    command: str = "",
) -> Generator[list[Progress]]:
    """Train and record every run that is not finished yet; tell how far each study is, a few times a second.

    A run that fails does not stop the others: it is in ``failed``, and in its record, and is tried again next time.
    Closing the iterator stops all workers at once and keeps what is finished.

    Args:
        prepared: the studies.
        place: the results folder, with ``ray`` one that all nodes share; or the copy of an address
            (:func:`theodolite.store.remote.working`), to which every record goes when it is finished.
        workers: jobs at a time; None: one a processor of the machine, or of the cluster.
        device: where to train.
        engine: who carries the jobs; see :func:`theodolite.execute.engine`.
        address: of a running Ray cluster.
        command: that makes this survey again, for the record.

    Raises:
        SettingError: this machine has no such device.
        UsageError: there is no such engine, or it cannot start.
        StoreError: the folder is not a results folder, is in use, or cannot be written.
    """
    from theodolite import runs

    copy = place if isinstance(place, Copy) else Copy(place)
    directory, home = copy.directory, copy.address
    if address is None:  # else the driver need not have what the nodes have
        runs.check_device(device)
    with execute.engine(engine, workers=workers, device=device, address=address) as carrier, _held(directory):
        files.sweep(directory)
        live.clear(directory)
        for item in prepared:
            records.write_plan(directory, _plan(item, command))
        copy.send_plans()
        jobs: list[runs.Training | runs.Analysis] = []
        for item in prepared:
            study, many = item.study, carrier.workers
            jobs += runs.plan(directory, item.runs, study.measure, device=device, workers=many, address=home)
            if study.analyse is not None:
                jobs += runs.plan_analyses(directory, item.analyses, study.analyse, device=device, address=home)
        jobs.sort(key=lambda job: -job.cost)
        tally = _Tally(prepared, jobs)
        yield tally.progress()
        carrier.equip(directory if home is None else None, sources(prepared))
        for event in carrier.run(runs.execute, jobs, after=_order(jobs), split=runs.halves):
            copy.check()
            tally.hear(event, copy)
            yield tally.progress()
        folders = [records.folder_of(directory, spec) for item in prepared for spec in item.runs]
        folders += [records.folder_of(directory, spec) for item in prepared for spec in item.analyses]
        remote.bring(home, folders, remote.tables)  # what other machines made, for tables and claims


def sources(prepared: Sequence[Prepared]) -> list[str]:
    """The data sets that studies train on, each once."""
    return list(dict.fromkeys(spec.data.source for item in prepared for spec in item.runs))


def findings(directory: Path) -> list[StudyFindings]:
    """Tables, figures and verdicts of every study in a results folder, from its records alone.

    Raises:
        StoreError: not a results folder, or one that holds no finished run.
        RecordCorrupt: a file is not what was written; the message names it.
    """
    # The tables of one study at a time are held.
    return together([(_judged(study, record), _findings(study, record)) for study, record in _read(directory)])


def found(directory: Path, study: Study) -> Found | None:
    """What one study found by itself, its claims not yet corrected; None where nothing of it is finished."""
    record = records.read(directory, study.name)
    if record is None or not record.environment():
        return None
    return _judged(study, record), _findings(study, record)


def together(found: Sequence[Found]) -> list[StudyFindings]:
    """What all studies of a survey found, their claims corrected by Holm's method over all of them."""
    verdicts = holm([claim for judged, _ in found for claim in judged])
    return [replace(study, verdicts=[v for v in verdicts if v.study == study.name]) for _, study in found]


def verdicts(directory: Path) -> list[Verdict]:
    """What became of every claim in a results folder, from its records alone; raises as :func:`findings` does."""
    return holm([claim for study, record in _read(directory) for claim in _judged(study, record)])


def compare(first: Path | Copy, second: Path | Copy) -> Comparison:
    """Two surveys side by side: the claims that both have, and whether their estimates differ by more than chance.

    Raises:
        StoreError: either is not a results folder with a finished run, or they have no claim in common.
        RecordCorrupt: a file is not what was written; the message names it.
    """
    copies = [place if isinstance(place, Copy) else Copy(place) for place in (first, second)]
    sides = [list(_read(copy.directory)) for copy in copies]
    verdicts = [
        {(v.study, v.id): v for v in holm([claim for study, record in found for claim in _judged(study, record)])}
        for found in sides
    ]
    record_a, record_b = ({study.name: record for study, record in found} for found in sides)
    shared = [
        (study.name, claim) for study, _ in sides[0] for claim in study.claims if (study.name, claim.id) in verdicts[1]
    ]
    if not shared:
        names = " and ".join(copy.place for copy in copies)
        raise StoreError(f"expected surveys with a study in common, but {names} share none.")
    changes = claims.compare(
        [
            (
                verdicts[0][name, claim.id],
                verdicts[1][name, claim.id],
                claim.evidence(record_a[name]),
                claim.evidence(record_b[name]),
                claim.kind,
            )
            for name, claim in shared
        ]
    )
    only = [
        sorted({study for study, _ in verdicts[side]} - {study for study, _ in verdicts[1 - side]}) for side in (0, 1)
    ]
    return Comparison(
        _side(copies[0], sides[0]), _side(copies[1], sides[1]), changes, only_a=tuple(only[0]), only_b=tuple(only[1])
    )


def _side(copy: Copy, found: Sequence[tuple[Study, Records]]) -> Side:
    facts = found[0][1].environment()
    return Side(
        copy.place,
        tuple(dict.fromkeys(record.plan.preset for _, record in found)),
        f"{facts['device']}, {facts['processor']}",
        facts["versions"],
    )


def status(directory: Path) -> list[dict[str, Any]]:
    """For each study planned in a folder: preset, runs and analyses done, diverged, running, failed, left, and why."""
    records.check_folder(directory)
    held = lock.is_held(directory)
    found = ((study, records.read(directory, study.name)) for study in studies.readable())
    return [_status(study, record, held=held) for study, record in found if record is not None]


def _status(study: Study, record: Records, *, held: bool) -> dict[str, Any]:
    table = pd.concat([record.runs, record.analyses])
    count = table["status"].value_counts().to_dict()
    done, failed = count.get("done", 0), count.get("failed", 0)
    surveyed = count.get("running", 0) if held else 0  # else they were interrupted
    running = surveyed if study.name in studies.INDEX else record.recording()
    errors = table[table["status"] == "failed"]
    return {
        "study": study.name,
        "preset": record.plan.preset,
        "runs": len(record.runs),
        "analyses": len(record.analyses),
        "done": done,
        "diverged": int(record.runs["diverged_epoch"].notna().sum()),
        "running": running,
        "failed": failed,
        "left": len(table) - done - failed - running,
        "errors": dict(zip(errors["fingerprint"], errors["error"], strict=True)),
    }


def _changes(chosen: Sequence[Study], overrides: Sequence[str]) -> dict[str, dict[str, Any]]:
    changes: dict[str, dict[str, Any]] = {study.name: {} for study in chosen}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise SettingError(f"expected --set key=value, got '{text}'. For example: --set seeds=4")
        owner, _, field = key.rpartition(".")
        holders = [s for s in chosen if owner in ("", s.name) and field in type(s.presets["quick"]).model_fields]
        if not holders:
            known = {f for s in chosen if owner in ("", s.name) for f in type(s.presets["quick"]).model_fields}
            raise UnknownName("setting", key, known) if known else UnknownName("study", owner, changes)
        for study in holders:
            changes[study.name][field] = _value(value)
    return changes


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _settle(study: Study, preset: str, change: Mapping[str, Any]) -> Settings:
    base = study.presets[preset]
    try:
        return type(base).model_validate({**base.model_dump(), **change})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "settings"
        raise SettingError(
            f"setting '{name}' of {study.name}: {first['msg'][0].lower()}{first['msg'][1:]}, got {first['input']!r}. "
            f"`theodolite list {study.name}` shows each setting and its kind."
        ) from None


def _plan(item: Prepared, command: str) -> Plan:
    return Plan(
        study=item.study.name,
        preset=item.preset,
        settings=item.settings.model_dump(mode="json"),
        command=command,
        runs=tuple(Planned.of(spec) for spec in item.runs),
        analyses=tuple(Planned.of(spec) for spec in item.analyses),
    )


def _order(jobs: Sequence["runs.Training | runs.Analysis"]) -> dict[int, set[int]]:
    """For each analysis the jobs that train what it reads."""
    trains = {spec.fingerprint(): n for n, job in enumerate(jobs) for spec in job.specs if isinstance(spec, RunSpec)}
    return {
        n: {trains[name] for name in spec.inputs if name in trains}
        for n, job in enumerate(jobs)
        for spec in job.specs
        if isinstance(spec, AnalysisSpec)
    }


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Claim the folder and hold it: one survey at a time writes into it."""
    records.claim_folder(directory)
    with lock.hold(directory):
        yield


def _read(directory: Path) -> Iterator[tuple[Study, Records]]:
    records.check_folder(directory)
    empty = True
    for study in studies.readable():
        record = records.read(directory, study.name)
        if record is not None and record.environment():  # something of it is finished
            empty = False
            yield study, record
    if empty:
        raise StoreError(f"expected finished runs, but {directory} holds none. Run `theodolite survey` first.")


def _judged(study: Study, record: Records) -> list[Judged]:
    """Each claim by itself; Holm's correction is over all claims of the survey, and comes last."""
    return [judge(claim, record, study=study.name, preset=record.plan.preset) for claim in study.claims]


def _findings(study: Study, record: Records) -> StudyFindings:
    """All but the verdicts, which wait for those of the other studies."""
    done, kind = record.done, "runs" if len(record.runs) else "analyses"
    counted = record.runs if len(record.runs) else record.analyses
    failed = counted[counted["status"] == "failed"]
    facts = record.environment()
    ended = done["converged_epoch"].notna() | done["diverged_epoch"].notna()
    summary = RunsSummary(
        done=int((counted["status"] == "done").sum()),
        failed=len(failed),
        diverged=int(done["diverged_epoch"].notna().sum()),
        censored=int((done["convergence"].notna() & ~ended).sum()),
        unfinished=int(counted["status"].isin(["missing", "running"]).sum()),
        seeds=pd.concat([done["seed"], record.analyses["seed"]]).nunique()
        if len(record.analyses)
        else done["seed"].nunique(),
        wall_seconds=float(done["wall_seconds"].sum() + record.analyses["wall_seconds"].sum()),
        device=f"{facts['device']}, {facts['processor']}",
        versions=facts["versions"],
        errors=tuple(failed["error"].unique()),
        kind=kind,
    )
    with debug_mode(False):  # no schema is asked for every part of a chart as it is made: tests do, for each family
        figures = study.figures(record)
    return StudyFindings(
        name=study.name,
        title=study.title,
        question=study.question,
        source=study.source,
        preset=record.plan.preset,
        settings=record.plan.settings,
        tables=study.tables(record),
        figures=figures,
        verdicts=(),
        runs=summary,
        not_shown=study.not_shown,
        command=record.plan.command,
    )


class _Tally:
    """Counts of each study, brought up to date event by event: what an event costs does not grow with the survey."""

    def __init__(self, prepared: Sequence[Prepared], jobs: Sequence["runs.Training | runs.Analysis"]) -> None:
        self.jobs = list(jobs)
        self.part = [0.0] * len(jobs)  # share of each job done
        self.samples = [0] * len(jobs)  # trained on
        self.left: dict[str, float] = {}  # cost at the start, by study
        self.spent: dict[str, float] = {}  # of it
        self.counts: dict[str, Progress] = {}
        for item in prepared:
            name = item.study.name
            own = [job for job in jobs if job.specs[0].study == name]
            total, left = len(item.runs) + len(item.analyses), sum(len(job.specs) for job in own)
            self.left[name], self.spent[name] = sum(job.cost for job in own), 0.0
            self.counts[name] = Progress(name, total, total - left, {}, 0, 0.0 if left else 1.0, 0)

    def hear(self, event: Any, copy: Copy) -> None:
        if event.kind in ("tick", "started"):
            return
        job = self.jobs[event.job]
        name = job.specs[0].study
        now = self.counts[name]
        part, samples = self.part[event.job], self.samples[event.job]
        if event.kind == "progress":
            epochs, samples = event.value
            part = min(epochs / max(job.epochs, 1), 1.0)
        elif event.kind == "done":
            diverged = sum(state == "diverged" for _, state in event.value)
            now = replace(now, done=now.done + len(job.specs), diverged=now.diverged + diverged)
            part = 1.0
        elif event.kind == "failed":
            for spec in job.specs:
                records.write_failure(copy.directory, spec, event.value)
                remote.send(copy.address, records.folder_of(copy.directory, spec))
            now = replace(now, failed={**now.failed, **{spec.fingerprint(): event.value for spec in job.specs}})
            part = 1.0
        elif event.kind == "died":
            part, samples = 0.0, 0
        elif event.kind == "split":
            self.jobs += event.value
            self.part += [0.0] * len(event.value)
            self.samples += [0] * len(event.value)
        self.spent[name] += job.cost * (part - self.part[event.job])
        done, self.part[event.job] = now.samples + samples - self.samples[event.job], part
        self.samples[event.job] = samples
        share = min(1.0, self.spent[name] / self.left[name]) if len(now.failed) + now.done < now.total else 1.0
        self.counts[name] = replace(now, share=share, samples=done)

    def progress(self) -> list[Progress]:
        return list(self.counts.values())
