"""What becomes of finished runs where the code of their study has changed: nothing, before the user says it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from theodolite.code import sources
from theodolite.errors import RecordCorrupt, UsageError
from theodolite.own.described import Description, read_description
from theodolite.own.factors import named
from theodolite.specs import AnalysisSpec, CodeSpec, RunSpec
from theodolite.store import records
from theodolite.wording import counted

Changed = Literal["keep", "redo"]
Spec = RunSpec | CodeSpec | AnalysisSpec
S = TypeVar("S", bound=RunSpec | CodeSpec | AnalysisSpec)
NAMED = 3  # runs that a message names


@dataclass(frozen=True)
class Earlier:
    """What a results folder holds of a study from before."""

    directory: Path
    now: Description
    before: Description | None
    changed: Changed | None  # what the user said

    @classmethod
    def of(cls, directory: Path, now: Description, changed: Changed | None) -> "Earlier":
        """Look there.

        Raises:
            UsageError: it holds a study of this name from another file.
        """
        try:
            before = read_description(directory, now.name)
        except RecordCorrupt:  # describing it again is what mends it
            before = None
        if before is not None and before.code != now.code and before.file != now.file and changed is None:
            raise UsageError(
                f"expected a name of its own for each study in {directory}, but '{before.name}' of {before.file} is "
                "there. "
                f"Choose another name or another --out; if {now.file} is the same study, add --keep or --redo."
            )
        return cls(directory, now, before, changed)

    def settled(self, specs: Sequence[S], coded: Callable[[S, str], S]) -> list[S]:
        """The specs, and for those that other code has finished what the user said of them.

        Args:
            specs: with the code of now.
            coded: the same spec, with other code.

        Raises:
            UsageError: other code has finished some, and nobody said what to do; it names them.
        """
        found = [(spec, self._finished(spec, coded)) for spec in specs]
        asked = [spec for spec, code in found if code is not None and code not in self.kept]
        if asked and self.before is not None and self.changed != "redo":
            raise UsageError(_question(self.now.file, asked, sources.changed(self.before.texts, self.now.texts)))
        return [spec if code is None or code not in self.kept else coded(spec, code) for spec, code in found]

    @property
    def kept(self) -> tuple[str, ...]:
        """Hashes of earlier code whose runs the user keeps, now or before."""
        if self.before is None or self.changed == "redo":
            return ()
        if self.before.code == self.now.code:
            return self.before.kept
        return tuple(self._codes()) if self.changed == "keep" else ()

    def _codes(self) -> Iterator[str]:
        if self.before is not None:
            yield from (code for code in (self.before.code, *self.before.kept) if code != self.now.code)

    def _finished(self, spec: S, coded: Callable[[S, str], S]) -> str | None:
        """The earlier code that has finished a run which the code of now has not."""
        if records.finished(self.directory, spec):
            return None
        return next((code for code in self._codes() if records.finished(self.directory, coded(spec, code))), None)


def _question(file: str, asked: Sequence[Spec], changed: Sequence[str]) -> str:
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
