"""Studies of one's own as data, so that a reader needs no file of theirs and runs none. Imports no torch.

| file, below the results folder | what it holds |
| --- | --- |
| STUDY/study.json | question, factors, measurements, claims, and the text of the file, for the page alone |
| STUDY/evidence.json | for claims whose evidence is a function in that file: what it gave, a number a seed |
| STUDY/drawn.json | tables and pictures that a whole study in that file draws of its records |
"""

import base64
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from theodolite.claims.claim import Claim, Side
from theodolite.claims.evidence import Evidence
from theodolite.claims.intervals import Statistic
from theodolite.claims.words import Words
from theodolite.errors import RecordCorrupt, SettingError
from theodolite.findings import Figure, Table
from theodolite.own import picture
from theodolite.store import files
from theodolite.store.plan import DESCRIPTION, DRAWN, EVIDENCE
from theodolite.store.schema import LARGEST, Count, Sealed, first_line

AGAIN = "Run the study's file again: finished runs are kept."

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=100)]  # of a folder
Value = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*\..+$")]  # of a table: never a path
Label = str | int | float
PICTURE = 4 << 20  # bytes of one, at most: a page holds all of them


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Claimed(_Frozen):
    """A claim: a sentence with all that decides its verdict."""

    id: Name
    sentence: str
    source: str
    value: Value | None  # NAME.FIELD[.INDEX]; None: a function in the file gives the evidence
    made_by: str = ""  # a hash of that function's source
    compare: dict[str, tuple[Label, Label]] = {}  # of factors the levels of both arms
    how: Literal["difference", "ratio"] = "difference"
    kind: Statistic
    side: Side
    threshold: float | tuple[float, float]
    statistic: str  # in words
    words: dict[Literal["title", "holds", "fails", "undecided"], str] = {}  # for a reader: see Words

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            self.claim(lambda records: {})
        except SettingError as error:
            raise ValueError(str(error)) from None
        return self

    def claim(self, evidence: object) -> Claim:
        """As it is judged."""
        return Claim(
            id=self.id, sentence=self.sentence, source=self.source, statistic=self.statistic, kind=self.kind,
            side=self.side, threshold=self.threshold, evidence=evidence, words=Words(**self.words),  # type: ignore[arg-type]
        )  # fmt: skip


def said(words: Words) -> dict[Any, str]:
    """The words of a claim as data; figures are not: which there are is found out from the records."""
    return {name: text for name in ("title", "holds", "fails", "undecided") if (text := getattr(words, name))}


class Description(Sealed):
    """A study of one's own."""

    name: Name
    title: str
    question: str
    not_shown: str
    file: str  # its name, without a path
    factors: dict[str, tuple[Label, ...]]
    measures: tuple[Name, ...]  # names of what is measured of each trained network
    claims: tuple[Claimed, ...]
    texts: dict[str, str]  # the file and the local modules that it imports
    code: str  # their hash
    kept: tuple[str, ...] = ()  # hashes of earlier code, whose runs the user has kept


Row = tuple[Count, str, str]  # a seed, and both bounds as Python writes floats: JSON has no infinity


class Found(_Frozen):
    """Evidence of one task."""

    rows: tuple[Row, ...]
    note: str = ""

    @classmethod
    def of(cls, evidence: Evidence) -> Self:
        """As data."""
        both = zip(evidence.low.items(), evidence.high, strict=True)
        return cls(
            rows=tuple((int(str(seed)), repr(float(low)), repr(float(high))) for (seed, low), high in both),
            note=evidence.note,
        )

    def evidence(self) -> Evidence:
        """As claims take it."""
        seeds = [seed for seed, _, _ in self.rows]
        low, high = (pd.Series([float(row[end]) for row in self.rows], index=seeds, dtype="float64") for end in (1, 2))
        return Evidence(low, high, self.note)

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.evidence()
        return self


class StoredEvidence(Sealed):
    """Evidence by claim and task."""

    claims: dict[str, dict[str, Found]]
    made_of: tuple[str, ...]  # fingerprints of the runs that were done then


class Drawn(_Frozen):
    """A table as data: each column's name with its numbers, or texts; None where there is neither."""

    name: Name
    title: str
    caption: str
    digits: Annotated[int, Field(ge=0, le=17)]
    columns: tuple[tuple[str, tuple[Label | None, ...]], ...]  # no mapping: a sealed file has its keys in another order

    @classmethod
    def of(cls, table: Table) -> Self:
        """As data."""
        columns = tuple((str(name), tuple(map(_cell, values))) for name, values in table.frame.items())
        return cls(name=table.name, title=table.title, caption=table.caption, digits=table.digits, columns=columns)

    def table(self) -> Table:
        """As a page takes it."""
        return Table(self.name, self.title, pd.DataFrame(dict(self.columns)), self.caption, self.digits)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len({len(column) for _, column in self.columns}) > 1 or len(dict(self.columns)) < len(self.columns):
            raise ValueError(f"expected columns of one length with names of their own in the table '{self.name}'")
        return self


def _cell(value: Any) -> Label | None:
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


class Pictured(_Frozen):
    """A figure as a picture: a specification could hold addresses and code, and whoever reads a folder runs none."""

    name: Name
    title: str
    caption: str
    alt: str
    png: str  # in base64

    @classmethod
    def of(cls, figure: Figure) -> Self:
        """As data.

        Raises:
            ValueError: the picture is too large.
        """
        from theodolite.figures import still  # who draws nothing needs no altair

        content = still.png(figure.chart)
        if len(content) > PICTURE:
            raise ValueError(f"expected a figure of at most {PICTURE >> 20} MiB as a picture; draw fewer points")
        text = base64.b64encode(content).decode()
        return cls(name=figure.name, title=figure.title, caption=figure.caption, alt=figure.alt, png=text)

    def figure(self) -> Figure:
        """As a page takes it."""
        from theodolite.figures import still

        return Figure(
            self.name, self.title, still.still(self._content(), picture.size(self._content())), self.caption, self.alt
        )

    def _content(self) -> bytes:
        return base64.b64decode(self.png, validate=True)

    @model_validator(mode="after")
    def _check(self) -> Self:
        picture.size(self._content())
        return self


class StoredTables(Sealed):
    """What a whole study made of its records."""

    tables: tuple[Drawn, ...]
    figures: tuple[Pictured, ...] = ()
    made_of: tuple[str, ...]  # as of evidence


def write_description(directory: Path, description: Description) -> None:
    """Describe a study in a results folder."""
    files.write(directory / description.name / DESCRIPTION, description.sealed())


def write_evidence(directory: Path, study: str, evidence: StoredEvidence) -> None:
    """Keep what the functions of a file gave."""
    files.write(directory / study / EVIDENCE, evidence.sealed())


def write_tables(directory: Path, study: str, tables: StoredTables) -> None:
    """Keep what a whole study drew."""
    files.write(directory / study / DRAWN, tables.sealed())


def read_tables(directory: Path, study: str) -> StoredTables | None:
    """The tables of a whole study; raises as :func:`read_description`."""
    return _read(directory / study / DRAWN, StoredTables)


def read_description(directory: Path, study: str) -> Description | None:
    """The study of a folder; None where there is none of one's own.

    Raises:
        RecordCorrupt: the file is not what was written.
    """
    found = _read(directory / study / DESCRIPTION, Description)
    if found is not None and found.name != study:
        raise RecordCorrupt(f"{directory / study / DESCRIPTION} describes another study, '{found.name}'. {AGAIN}")
    return found


def read_evidence(directory: Path, study: str) -> StoredEvidence | None:
    """What the functions of the study's file gave; raises as :func:`read_description`."""
    return _read(directory / study / EVIDENCE, StoredEvidence)


def names(directory: Path) -> Iterator[str]:
    """The studies of one's own in a results folder."""
    return (path.parent.name for path in sorted(directory.glob(f"*/{DESCRIPTION}")))


S = TypeVar("S", bound=Sealed)


def _read(path: Path, kind: type[S]) -> S | None:
    try:
        return kind.unsealed(files.read(path, LARGEST >> 4))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise RecordCorrupt(f"{path} cannot be read ({first_line(error)}). {AGAIN}") from None


def by_task(evidence: Evidence | Mapping[str, Evidence]) -> dict[str, Found]:
    """As data, by the name of the task; of one task alone the name is empty."""
    return {
        name: Found.of(part) for name, part in ({"": evidence} if isinstance(evidence, Evidence) else evidence).items()
    }
