"""A study of one's own about to run: its file, and what becomes of finished runs where the code has changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from theodolite.claims import Evidence, given
from theodolite.errors import CodeFailed, RecordCorrupt, UsageError
from theodolite.own import loading, sources
from theodolite.own.declared import OwnStudy
from theodolite.own.described import (
    Description,
    StoredEvidence,
    by_task,
    read_description,
    write_description,
    write_evidence,
)
from theodolite.own.factors import cells, named
from theodolite.own.findings import same_for_all_seeds
from theodolite.own.reading import OwnSettings, study_of
from theodolite.specs import CodeSpec
from theodolite.store import records
from theodolite.store.records import Plan, Records
from theodolite.study import Say, Study
from theodolite.wording import counted

if TYPE_CHECKING:
    from theodolite.own.worker import Trainer

Changed = Literal["keep", "redo"]
NAMED = 3  # runs that a message names


@dataclass(frozen=True)
class File:
    """The file of a study, as a survey needs it (:class:`theodolite.study.Code`)."""

    path: Path
    own: OwnStudy
    description: Description
    changed: Changed | None

    @property
    def carry_out(self) -> "Trainer":
        """Does one run, in a worker."""
        from theodolite.own.worker import Trainer

        return Trainer(self.path, self.own.name, self.description.code, self.description.texts)

    def specs(self, settings: OwnSettings) -> list[CodeSpec]:
        """Every combination of levels with every seed, those of one seed together."""
        levels = {name: list(found) for name, found in self.own.factors.items()}
        return [
            CodeSpec(study=self.own.name, labels=cell, seed=seed, code=self.description.code)
            for seed in range(settings.seeds)
            for cell in cells(levels)
        ]

    def settle(self, directory: Path, specs: Sequence[CodeSpec], say: Say) -> list[CodeSpec]:
        """The runs, those that other code has finished as the user says; and the study described in the folder.

        Raises:
            UsageError: other code has finished some of them, and nobody said what to do; or the folder holds a study
                of this name from another file.
        """
        before = _described(directory, self.own.name)
        now = self.description
        if before is None or before.code == now.code:
            allowed = before.kept if before is not None else ()
        else:
            self._same_file(directory, before)
            allowed = (before.code, *before.kept) if self.changed == "keep" else ()
        earlier = [] if before is None else [code for code in (before.code, *before.kept) if code != now.code]
        settled: list[CodeSpec] = []
        asked: list[CodeSpec] = []
        kept: dict[str, None] = {}
        for spec in specs:
            other = None if records.finished(directory, spec) else _finished(directory, spec, earlier)
            if other is None or self.changed == "redo":
                settled.append(spec)
            elif other.code in allowed:
                settled.append(other)
                kept[other.code] = None
            else:
                asked.append(spec)
        if asked:
            raise UsageError(_question(self.path.name, asked, sources.changed(before.texts, now.texts)))  # type: ignore[union-attr]
        if kept:
            number = sum(spec.code != now.code for spec in settled)
            say(f"{self.own.name}: {counted(number, 'run')} of earlier code {'is' if number == 1 else 'are'} kept.")
        write_description(directory, now.model_copy(update={"kept": tuple(kept)}))
        return settled

    def conclude(self, directory: Path, plan: Plan, say: Say) -> None:
        """Keep what functions of the file make of the records; say where the seed makes no difference."""
        found: Records[OwnSettings] = Records(directory, plan, OwnSettings)
        done = tuple(found.done["fingerprint"])
        if self.own.evidence and done:
            made = {
                claim: by_task(_evidence(claim, function, found, say)) for claim, function in self.own.evidence.items()
            }
            write_evidence(directory, self.own.name, StoredEvidence(claims=made, made_of=done))
        if same := same_for_all_seeds(self.description, found):
            say(f"{self.own.name}: every seed gave the same numbers ({same[0]}). Does the function use its seed?")

    def _same_file(self, directory: Path, before: Description) -> None:
        if before.file != self.description.file and self.changed is None:
            raise UsageError(
                f"expected a name of its own for each study in {directory}, but '{before.name}' of {before.file} is "
                "there. "
                f"Choose another name or another --out; if {self.description.file} is the same study, add --keep or "
                "--redo."
            )


def _described(directory: Path, name: str) -> Description | None:
    try:
        return read_description(directory, name)
    except RecordCorrupt:  # describing it again is what mends it
        return None


def prepared(reference: str, changed: Changed | None = None) -> Study[Any]:
    """The study in a file, ready to run.

    Raises:
        CodeFailed, UnknownName: see :func:`theodolite.own.loading.load`.
        SettingError: it cannot run as it is.
    """
    path, found = loading.load(reference)
    if not isinstance(found, OwnStudy):
        raise CodeFailed(f"expected a study made by th.study(…) in {path.name}, got a th.Study. Make it with th.study.")
    found.check()
    texts = sources.read(path)
    description = Description(
        name=found.name,
        title=found.title,
        question=found.question,
        not_shown=found.not_shown,
        file=path.name,
        factors={name: tuple(levels) for name, levels in found.factors.items()},
        measures=tuple(found.measures),
        claims=tuple(found.claims.values()),
        texts=texts,
        code=sources.code(texts),
    )
    file = File(path, found, description, changed)
    reader = study_of(description, seeds=found.seeds, functions=_functions(found))
    return replace(reader, expand=file.specs, code=file)


def _functions(own: OwnStudy) -> dict[str, Any]:
    def made(claim: str, function: Any) -> Any:
        def evidence(found: Records[Any]) -> Evidence | Mapping[str, Evidence]:
            return _evidence(claim, function, found, lambda text: None)

        return evidence

    return {claim: made(claim, function) for claim, function in own.evidence.items()}


def _evidence(claim: str, function: Any, found: Records[Any], say: Say) -> Evidence | Mapping[str, Evidence]:
    """What a function of the user's makes of the records; where it raises, why there is none."""
    try:
        made = function(found)
        if isinstance(made, Evidence):
            return made
        if isinstance(made, Mapping) and made and all(isinstance(part, Evidence) for part in made.values()):
            return made
        return given.numbers(made, "mean")
    except Exception as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        sentence = f"The function of claim '{claim}' gave no evidence ({why})."
        say(sentence)
        return Evidence.exact(pd.Series(dtype="float64"), sentence)


def _finished(directory: Path, spec: CodeSpec, codes: Sequence[str]) -> CodeSpec | None:
    """The same run as earlier code has finished it."""
    others = (spec.model_copy(update={"code": code}) for code in codes)
    return next((other for other in others if records.finished(directory, other)), None)


def _question(file: str, asked: Sequence[CodeSpec], changed: Sequence[str]) -> str:
    some = "; ".join(named({**spec.labels, "seed": spec.seed}) for spec in asked[:NAMED])
    more = f"; and {len(asked) - NAMED} more" if len(asked) > NAMED else ""
    where = ", ".join(changed) or file
    return (
        f"expected the code that finished runs were made with, but {where} has changed since "
        f"{counted(len(asked), 'run')} "
        f"finished ({some}{more}). Run it again with --keep, to take them as they are and do the rest with the code "
        "of now, "
        "or with --redo, to do them anew."
    )
