"""A study of one's own about to run, from its file: made by ``th.study``, or a whole ``th.Study``."""

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from theodolite.claims import Claim, Evidence, given
from theodolite.claims.planned import source_hash
from theodolite.code import sources
from theodolite.own import loading
from theodolite.own.changed import Changed, Earlier
from theodolite.own.claimed import claim, done
from theodolite.own.declared import OwnStudy, check_name
from theodolite.own.described import (
    Claimed,
    Description,
    Drawn,
    Pictured,
    StoredEvidence,
    StoredTables,
    by_task,
    said,
    write_description,
    write_evidence,
    write_tables,
)
from theodolite.own.factors import cells, chosen, found, together
from theodolite.own.findings import same_for_all_seeds
from theodolite.own.reading import OwnSettings, study_of
from theodolite.own.values import value
from theodolite.specs import AnalysisSpec, CodeSpec, RunSpec
from theodolite.store.records import Plan, Records
from theodolite.study import Say, Settings, Study
from theodolite.wording import counted

if TYPE_CHECKING:
    from theodolite.own.worker import Here, Trainer

PRESETS = ("smoke", "quick", "full")


@dataclass(frozen=True)
class File:
    """The file of a study, as a survey needs it (:class:`theodolite.study.Code`)."""

    path: Path
    description: Description
    changed: Changed | None
    reader: Callable[[], Study[Any]]  # makes the study as those know it who have its records alone
    evidence: Mapping[str, Callable[..., Any]]  # by claim
    seeded: bool  # whether it is the user's own code that takes the seed

    @property
    def here(self) -> "Here":
        """Finds the study in a worker."""
        from theodolite.own.worker import Here

        return Here(self.path, self.description.name, self.description.code, self.description.texts)

    @property
    def carry_out(self) -> "Trainer":
        """Does one run, in a worker."""
        from theodolite.own.worker import Trainer

        return Trainer(self.here)

    def keeps(self, directory: Path) -> bool:
        """Whether the user keeps runs that earlier code has finished; raises as :meth:`settle`."""
        return bool(Earlier.of(directory, self.description, self.changed).kept)

    def settle(
        self, directory: Path, runs: Sequence[RunSpec | CodeSpec], analyses: Sequence[AnalysisSpec], say: Say
    ) -> tuple[list[RunSpec | CodeSpec], list[AnalysisSpec]]:
        """Runs and analyses, those that other code has finished as the user says; describes the study in the folder.

        Raises:
            UsageError: other code has finished some of them, and nobody said what to do; or the folder holds a study
                of this name from another file.
        """
        earlier = Earlier.of(directory, self.description, self.changed)
        settled = earlier.settled(runs, coded)
        names = {spec.fingerprint(): own.fingerprint() for spec, own in zip(runs, settled, strict=True)}
        read = [s.model_copy(update={"inputs": tuple(names.get(name, name) for name in s.inputs)}) for s in analyses]
        analysed = earlier.settled(read, coded)
        kept = {code_of(spec): None for spec in (*settled, *analysed) if code_of(spec) != self.description.code}
        if kept:
            number = sum(code_of(spec) in kept for spec in (*settled, *analysed))
            are = "is" if number == 1 else "are"
            say(f"{self.description.name}: {counted(number, 'run')} of earlier code {are} kept.")
        planned = {"factors": together(spec.labels for spec in settled), "kept": tuple(kept)}
        write_description(directory, self.description.model_copy(update=planned))
        return settled, analysed

    def conclude(self, directory: Path, plan: Plan, say: Say) -> None:
        """Keep what functions of the file make of the records; say where the seed makes no difference."""
        left = self.reader().records(directory, plan)
        if self.evidence and (made_of := done(left)):
            made = {name: by_task(evidence_of(name, function, left, say)) for name, function in self.evidence.items()}
            write_evidence(directory, self.description.name, StoredEvidence(claims=made, made_of=made_of))
        for one in self.description.claims:  # what a claim names is known now, and a name that is not there is said
            if one.value and (problem := value(left, one.value, self.description.measures).problem):
                say(f"{plan.study}: claim '{one.id}' has no numbers. {problem}")
        if not self.seeded:
            self._keep_drawn(directory, left, say)
        elif same := same_for_all_seeds(self.description, left):
            say(f"{plan.study}: every seed gave the same numbers ({same[0]}). Does the function use its seed?")

    def _keep_drawn(self, directory: Path, records: Records[Any], say: Say) -> None:
        """Tables and figures of a whole study, which readers without its file show too."""

        def made(what: str, of: Callable[[Any], Any], draw: Callable[[Records[Any]], Sequence[Any]]) -> tuple[Any, ...]:
            try:
                return tuple(map(of, draw(records)))
            except Exception as error:
                why = f"{type(error).__name__}: {' '.join(str(error).split())}"
                say(f"The {what} of {self.description.name} were not drawn ({why}).")
                return ()

        study = self.reader()
        tables, figures = made("tables", Drawn.of, study.tables), made("figures", Pictured.of, study.figures)
        if tables or figures:
            kept = StoredTables(tables=tables, figures=figures, made_of=done(records))
            write_tables(directory, self.description.name, kept)


def coded(spec: Any, code: str) -> Any:
    """The same spec, of other code."""
    if isinstance(spec, CodeSpec):
        return spec.model_copy(update={"code": code})
    if isinstance(spec, RunSpec):
        return spec.model_copy(update={"measure": {**spec.measure, "code": code}})
    return spec.model_copy(update={"settings": {**spec.settings, "code": code}})


def code_of(spec: RunSpec | CodeSpec | AnalysisSpec) -> str:
    """A hash of the code that a spec is of."""
    if isinstance(spec, CodeSpec):
        return spec.code
    return str((spec.measure if isinstance(spec, RunSpec) else spec.settings)["code"])


def prepared(reference: str, changed: Changed | None = None) -> Study[Any]:
    """The study in a file, ready to run.

    Raises:
        CodeFailed, UnknownName: see :func:`theodolite.own.loading.load`.
        SettingError: it cannot run as it is.
    """
    path, study = loading.load(reference)
    return _declared(path, study, changed) if isinstance(study, OwnStudy) else _whole(path, study, changed)


def _declared(path: Path, own: OwnStudy, changed: Changed | None) -> Study[Any]:
    """Of ``th.study``."""
    own.check()
    levels = {name: tuple(found) for name, found in own.factors.items()}
    description = _description(
        path, own, factors=levels, measures=tuple(own.measures), claims=tuple(own.claims.values())
    )
    functions = {name: _live(name, function) for name, function in own.evidence.items()}
    reader = study_of(description, seeds=own.seeds, functions=functions)

    def expand(settings: OwnSettings) -> list[CodeSpec]:
        """Every combination of levels with every seed, those of one seed together."""
        asked = settings.model_dump()
        set_ = {
            name: chosen(name, asked[name], own.factors[name]) if name in asked else known
            for name, known in levels.items()
        }
        for one in own.claims.values():
            for name, both in one.compare.items():
                for level in both:
                    found(name, level, set_)
        return [
            CodeSpec(study=own.name, labels=cell, seed=seed, code=description.code)
            for seed in range(settings.seeds)
            for cell in cells(set_)
        ]

    file = File(path, description, changed, lambda: reader, own.evidence, seeded=True)
    return replace(reader, expand=expand, code=file)


def _whole(path: Path, study: Study[Any], changed: Changed | None) -> Study[Any]:
    """Of ``th.Study``: our engine trains what it expands to, and its functions are called in this file's name."""
    from theodolite.own.worker import Called

    check_name(study.name)
    presets = {name: study.presets.get(name, next(iter(study.presets.values()))) for name in PRESETS}
    description = _description(
        path,
        study,
        factors=together(spec.labels for spec in study.expand(presets["quick"].settled())),
        measures=(),
        claims=tuple(map(_claimed, study.claims)),
    )
    evidence = {one.id: one.evidence for one in study.claims}
    live = {name: _live(name, function) for name, function in evidence.items()}
    file = File(path, description, changed, lambda: study, evidence, seeded=False)

    def expand(settings: Settings) -> Iterable[RunSpec]:
        return (coded(spec, description.code) for spec in study.expand(settings))

    def analyses(settings: Settings) -> Iterable[AnalysisSpec]:
        own = {spec.fingerprint(): coded(spec, description.code).fingerprint() for spec in study.expand(settings)}
        for spec in study.analyses(settings):
            inputs = tuple(own.get(name, name) for name in spec.inputs)
            yield coded(spec.model_copy(update={"inputs": inputs}), description.code)

    return replace(
        study,
        presets=presets,
        claims=[claim(description, one, live[one.id]) for one in description.claims],
        expand=expand,
        analyses=analyses,
        measure=Called(file.here, "measure"),
        analyse=None if study.analyse is None else Called(file.here, "analyse"),
        code=file,
        texts=description.texts,
    )


def _description(path: Path, study: OwnStudy | Study[Any], **rest: Any) -> Description:
    texts = sources.read(path)
    return Description(
        name=study.name,
        title=study.title,
        question=study.question,
        not_shown=study.not_shown,
        file=path.name,
        texts=texts,
        code=sources.code(texts),
        **rest,
    )


def _claimed(whole: Claim) -> Claimed:
    return Claimed(
        id=whole.id,
        sentence=whole.sentence,
        source=whole.source,
        value=None,
        made_by=source_hash(whole.evidence),
        kind=whole.kind,
        side=whole.side,
        threshold=whole.threshold,
        statistic=whole.statistic,
        words=said(whole.words),
    )


def _live(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A claim's function as it is judged while its file is at hand."""

    def evidence(records: Any) -> Evidence | Mapping[str, Evidence]:
        return evidence_of(name, function, records, lambda text: None)

    return evidence


def evidence_of(name: str, function: Any, records: Any, say: Say) -> Evidence | Mapping[str, Evidence]:
    """What a function of the user's makes of the records; where it raises, why there is none."""
    try:
        made = function(records)
        if isinstance(made, Evidence):
            return made
        if isinstance(made, Mapping) and made and all(isinstance(part, Evidence) for part in made.values()):
            return made
        return given.numbers(made, "mean")
    except Exception as error:
        home = getattr(getattr(function, "__code__", None), "co_filename", None)
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == home]
        place = f" in line {lines[-1]}" if lines else ""
        why = f"{type(error).__name__}: {' '.join(str(error).split())}{place}"
        sentence = f"The function of claim '{name}' gave no evidence ({why})."
        say(sentence)
        return Evidence.exact(pd.Series(dtype="float64"), sentence)
