"""From names and settings to studies ready to run, and what they would take."""

import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ValidationError

from theodolite import studies
from theodolite.claims import planned
from theodolite.errors import RecordCorrupt, SettingError, UnknownName
from theodolite.jobs import ANALYSIS_COST, disk_bytes, training_cost
from theodolite.specs import FORMAT, AnalysisSpec, CodeSpec, RunSpec
from theodolite.store import records
from theodolite.store.plan import alike, counts_seeds
from theodolite.store.records import Plan, Planned
from theodolite.study import Settings, Study
from theodolite.survey import bounds

PRESETS = ("smoke", "quick", "full")
MOST = 1_000_000  # runs of a study: its plan has 200 MB by then, and the program that listens 6 GB (docs/scale.md)
MANY = 1000  # seeds, from which on the runs of one are counted before all are made


@dataclass(frozen=True)
class Prepared:
    """One study with its settings, ready to run."""

    study: Study[Any]
    preset: str
    asked: Settings  # what may still be left to the machine
    settings: Settings  # settled: nothing of it is
    runs: tuple[RunSpec | CodeSpec, ...]
    analyses: tuple[AnalysisSpec, ...]

    @classmethod
    def of(cls, study: Study[Any], preset: str, asked: Settings, settings: Settings) -> Self:
        """With the runs and analyses of the settled settings."""
        if settings.seeds > MANY:
            one = settings.model_copy(update={"seeds": 1})
            for each in (study.expand(one), study.analyses(one)):
                _refuse_more(study.name, sum(1 for _ in itertools.islice(each, MOST + 1)) * settings.seeds)
        runs = tuple(itertools.islice(study.expand(settings), MOST + 1))
        _refuse_more(study.name, len(runs))
        bounds.check(study.name, runs, settings.evaluations())
        analyses = tuple(itertools.islice(study.analyses(settings), MOST + 1))
        _refuse_more(study.name, len(analyses))
        return cls(study, preset, asked, settings, runs, analyses)

    def plan(self, command: str, *, until_decided: bool = False) -> Plan:
        """What is recorded of it before it runs, with its claims, and the command that makes it again."""
        return Plan(
            study=self.study.name,
            preset=self.preset,
            settings=self.settings.model_dump(mode="json"),
            command=command,
            format=FORMAT,
            runs=tuple(Planned.of(spec) for spec in self.runs),
            analyses=tuple(Planned.of(spec) for spec in self.analyses),
            claims=tuple(map(planned, self.study.claims)),
            until_decided=until_decided,
        )

    def planned_in(self, directory: Path, command: str, *, until_decided: bool = False) -> Plan:
        """The same where a folder has planned this study before: what was fixed before its first run stays so."""
        before = _plan(self, directory)
        started = before is not None and self.study.records(directory, before).started
        return records.gone_on(self.plan(command, until_decided=until_decided), before, started=started)


def prepare(
    names: Sequence[str],
    preset: str,
    *,
    seeds: int | None = None,
    overrides: Sequence[str] = (),
    changed: Literal["keep", "redo"] | None = None,
) -> list[Prepared]:
    """Look the studies up and settle their settings.

    Args:
        names: of studies, or ``FILE.py[:NAME]``, which runs that file; empty means all of Theodolite's own.
        preset: smoke, quick or full.
        seeds: in place of the preset's number of seeds.
        overrides: ``key=value`` for every study that has the key, or ``study.key=value``; values are JSON, or text.
        changed: what to do with finished runs where the code of a file has changed: ``keep`` or ``redo`` them.

    Raises:
        UnknownName: a study, preset or setting that does not exist.
        SettingError: a value out of its range or of the wrong kind.
        CodeFailed: a file cannot be run, or has no study in it, or several.
    """
    if preset not in PRESETS:
        raise UnknownName("preset", preset, PRESETS)
    chosen = [_study(name, changed) for name in dict.fromkeys(names)] if names else list(studies.INDEX.values())
    if again := [study.name for study in chosen if [other.name for other in chosen].count(study.name) > 1]:
        raise SettingError(f"expected each study once, got '{again[0]}' from two files. Give one another name.")
    changes = _changes(chosen, overrides)
    if seeds is not None:
        changes = {name: {"seeds": seeds, **change} for name, change in changes.items()}
    prepared = []
    for study in chosen:
        asked = _settings(study, preset, changes[study.name])
        prepared.append(Prepared.of(study, preset, asked, asked.settled()))
    return prepared


def _refuse_more(study: str, runs: int) -> None:
    if runs > MOST:
        raise SettingError(
            f"expected settings of {study} that give at most {MOST} runs, got about {runs:.3g}. Give it fewer seeds."
        )


def _study(name: str, changed: Literal["keep", "redo"] | None) -> Study[Any]:
    if ".py" not in name:
        return studies.get(name)
    from theodolite.own import file  # who runs no file waits for nothing that it needs

    return file.prepared(name, changed)


def as_planned(
    prepared: Sequence[Prepared], directory: Path, say: Callable[[str], None] = lambda text: None
) -> list[Prepared]:
    """The same studies as this folder has planned them before: what was left to the machine stays as it was settled.

    Another processor then finds the same runs. Where runs of earlier code are kept, the seeds that they finished are
    planned again, all of them. What the user has said himself is not touched.

    Args:
        prepared: of :func:`prepare`, settled on this machine.
        directory: the results folder; nothing need be there.
        say: gets a line where this machine would have chosen otherwise, or fewer seeds are asked for than are kept.
    """
    return [_with_kept_seeds(_as_planned(item, directory, say), directory, say) for item in prepared]


def with_seeds(item: Prepared, seeds: int) -> Prepared:
    """The same study with so many seeds; other settings that count seeds grow with them."""

    def grown(settings: Settings) -> Settings:
        counts = {name: value for name, value in settings if counts_seeds(name)}
        return settings.model_copy(
            update={name: math.ceil(value * seeds / settings.seeds) for name, value in counts.items()}
        )

    return Prepared.of(item.study, item.preset, grown(item.asked), grown(item.settings))


def outdated(prepared: Sequence[Prepared], directory: Path) -> str:
    """A sentence on the studies that this folder holds from before the last change of format; empty where none is."""
    found = {item.study.name: plan.format for item in prepared if (plan := _plan(item, directory))}
    names = [name for name, number in found.items() if number < FORMAT]
    if not names:
        return ""
    return (
        f"{', '.join(names)}: an earlier version trained what this folder holds, and drew other random numbers from "
        f"the same seeds (format {min(found.values())}, now {FORMAT}). All is trained again; the old records stay, but "
        "tables and claims will be of the new ones. To keep the old report, choose another folder with --out."
    )


def _plan(item: Prepared, directory: Path) -> Plan | None:
    try:
        return records.read_plan(directory, item.study.name)
    except RecordCorrupt:  # running the study again is what mends it
        return None


def _as_planned(item: Prepared, directory: Path, say: Callable[[str], None]) -> Prepared:
    if item.asked == item.settings:
        return item
    plan = _plan(item, directory)
    asked, here = (settings.model_dump(mode="json") for settings in (item.asked, item.settings))
    before = plan.settings if plan else {}
    # A plan that leaves it to the machine itself settles nothing.
    kept = {
        name: before[name]
        for name in here
        if here[name] != asked[name] and before.get(name, asked[name]) not in (asked[name], here[name])
    }
    if not kept:
        return item
    said = ", ".join(f"{name}={value} (this machine would take {here[name]})" for name, value in kept.items())
    say(f"{item.study.name}: goes on with {said}, as planned in this folder. To change it, set it with --set.")
    return Prepared.of(item.study, item.preset, item.asked, _validated(item.study, {**here, **kept}))


def _with_kept_seeds(item: Prepared, directory: Path, say: Callable[[str], None]) -> Prepared:
    """With the seeds that are finished in a folder of which the user keeps runs of earlier code."""
    study, now = item.study, item.settings.seeds
    if study.code is None or item.asked.seeds != study.presets[item.preset].seeds or not study.code.keeps(directory):
        return item
    before = _plan(item, directory)
    if before is None or not alike(item.plan(""), before):
        return item
    record = study.records(directory, before)
    undone = record.runs["status"] != "done"
    whole = set(record.runs["seed"]) - set(record.runs.loc[undone, "seed"])
    finished = min(max(whole, default=-1) + 1, record.settings.seeds)
    if finished <= now:
        return item
    say(
        f"{study.name}: goes on with {finished} seeds, which earlier code has finished and are kept (its settings say "
        f"{now}). For fewer, say so with --seeds."
    )
    return with_seeds(item, finished)


def sources(prepared: Sequence[Prepared]) -> list[str]:
    """The data sets that studies train on and that may have to be fetched, each once."""
    ours = [spec.data for item in prepared for spec in item.runs if isinstance(spec, RunSpec)]
    return list(dict.fromkeys(data.source for data in ours if data.code is None))


def estimate(prepared: Sequence[Prepared], directory: Path, *, workers: int) -> list[dict[str, Any]]:
    """What a survey would do and take, a row a study, before anything starts.

    Seconds are the preset's own on two cores (measured for smoke and quick, estimated for full), times how much of its
    multiplications is left or has been added.
    """
    prepared = as_planned(prepared, directory)

    def cost(trainings: Iterable[RunSpec | CodeSpec], analyses: Iterable[AnalysisSpec]) -> float:
        ours = sum(training_cost(spec) for spec in trainings if isinstance(spec, RunSpec))
        return ours + sum(ANALYSIS_COST for _ in analyses)

    def seconds(item: Prepared, left: Sequence[RunSpec | CodeSpec], waiting: Sequence[AnalysisSpec]) -> float | None:
        """None for a study of one's own, of which nothing was measured."""
        timed = item.preset if item.preset in item.study.seconds else "quick"
        if timed not in item.study.seconds:
            return None
        whole = item.study.presets[timed].settled()
        share = cost(left, waiting) / cost(item.study.expand(whole), item.study.analyses(whole))
        return _rounded(item.study.seconds[timed] * share * 2 / workers)

    rows = []
    for item in prepared:
        left = [spec for spec in item.runs if not records.finished(directory, spec, item.study.schemas)]
        waiting = [spec for spec in item.analyses if not records.finished(directory, spec, item.study.schemas)]
        rows.append(
            {
                "study": item.study.name,
                "runs": len(item.runs),
                "analyses": len(item.analyses),
                "left": len(left) + len(waiting),
                "seconds": seconds(item, left, waiting),
                "MB": round(sum(disk_bytes(spec) for spec in left if isinstance(spec, RunSpec)) / 1e6, 1),
            }
        )
    return rows


def _rounded(seconds: float) -> float:
    """To tenths below ten, whole above: an estimate is no better than that."""
    return round(seconds, 1) if seconds < 10 else round(seconds)


def _changes(chosen: Sequence[Study[Any]], overrides: Sequence[str]) -> dict[str, dict[str, Any]]:
    changes: dict[str, dict[str, Any]] = {study.name: {} for study in chosen}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise SettingError(f"expected --set key=value, got '{text}'. For example: --set seeds=4")
        owner, _, field = key.rpartition(".")
        holders = [s for s in chosen if owner in ("", s.name) and field in s.settings_type.model_fields]
        if not holders:
            known = {f for s in chosen if owner in ("", s.name) for f in s.settings_type.model_fields}
            raise UnknownName("setting", key, known) if known else UnknownName("study", owner, changes)
        for study in holders:
            changes[study.name][field] = _value(value)
    return changes


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _settings(study: Study[Any], preset: str, change: Mapping[str, Any]) -> Settings:
    return _validated(study, {**study.presets[preset].model_dump(), **change})


def _validated(study: Study[Any], settings: Mapping[str, Any]) -> Settings:
    """Settings of a study from their names and values."""
    settings_type: type[Settings] = study.settings_type
    try:
        return settings_type.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "settings"
        raise SettingError(
            f"setting '{name}' of {study.name}: {first['msg'][0].lower()}{first['msg'][1:]}, got {first['input']!r}. "
            f"`theodolite list {study.name}` shows each setting and its kind."
        ) from None
