"""Claims of a study of one's own, from its description and the records alone. Imports no torch."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from theodolite.claims.claim import Claim
from theodolite.claims.evidence import Evidence
from theodolite.claims.intervals import Statistic
from theodolite.own.described import Claimed, Description, read_evidence
from theodolite.own.factors import cells, named, shown
from theodolite.own.values import Value, value
from theodolite.store.records import Records

Tasks = Evidence | Mapping[str, Evidence]
Function = Callable[[Records[Any]], Any]
MEANS: dict[Statistic, str] = {"ratio": "geometric mean", "median_ratio": "median", "correlation": "mean"}
POSITIVE = ("ratio", "median_ratio")


@dataclass(frozen=True)
class Taken:
    """How the evidence of a claim is taken; its plain fields enter the plan's hash of the claim."""

    value: str
    compare: str
    how: str
    made_by: str  # a hash of the function's source, where it is a function
    study: Description
    claimed: Claimed
    function: Function  # never None, which is a plain field

    def __call__(self, records: Records[Any]) -> Tasks:
        """One number a seed, of each task."""
        if self.claimed.value is not None:
            return of_value(self.study, self.claimed, records)
        found: Tasks = self.function(records)
        return found


def claim(study: Description, claimed: Claimed, function: Function | None = None) -> Claim:
    """A claim as it is judged.

    Args:
        study: its study.
        claimed: itself.
        function: what its evidence is made by, where the file is at hand; else what that gave is read.
    """
    fixed = (claimed.value or "", repr(claimed.compare), claimed.how, claimed.made_by)
    return claimed.claim(Taken(*fixed, study, claimed, function or partial(stored, study, claimed)))


def of_value(study: Description, claimed: Claimed, records: Records[Any]) -> Tasks:
    """Evidence of each level of the factors that the claim does not name: it holds if it holds in all."""
    found = value(records, str(claimed.value), study.measures)
    tasks = {named(cell): _evidence(part, claimed, found.problem) for cell, part in by_level(claimed, found)}
    return next(iter(tasks.values())) if len(tasks) == 1 else tasks


def by_level(claimed: Claimed, found: Value) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """The rows of each level of the factors that a claim does not name; of a factor with one level no name is made."""
    free = {name: levels for name, levels in found.levels.items() if name not in claimed.compare}
    for cell in cells(free):
        part = found.rows
        for name, level in cell.items():
            part = part[part[name] == level]
        yield {name: level for name, level in cell.items() if len(free[name]) > 1}, part


def _evidence(rows: pd.DataFrame, claimed: Claimed, problem: str) -> Evidence:
    if not claimed.compare:
        return _ranged(rows.set_index("seed")["number"], claimed.kind, problem)
    arms = []
    for side in (0, 1):
        part = rows
        for name, levels in claimed.compare.items():
            part = part[part[name] == levels[side]]
        arms.append(part.set_index("seed")["number"])
    seeds = arms[0].index.intersection(arms[1].index)  # a pair is complete when both its runs have ended
    both = [arm.loc[seeds] for arm in arms]
    if claimed.how == "difference":
        return _ranged(both[0] - both[1], claimed.kind, problem)
    first, second = (_ranged(arm, claimed.kind, problem) for arm in both)
    return Evidence.exact(first.low / second.low, first.note or second.note)


def _ranged(numbers: pd.Series, kind: Statistic, problem: str) -> Evidence:
    """Numbers outside the range of their statistic are none, and that is said."""
    outside = numbers <= 0 if kind in POSITIVE else pd.Series(data=False, index=numbers.index)
    if kind == "share":
        outside = numbers.notna() & ~numbers.isin((0, 1))
    elif kind == "correlation":
        outside = numbers.abs() > 1
    if outside.any() and not problem:
        form = {"share": "0 or 1", "correlation": "from -1 to 1"}.get(kind, "above 0")
        problem = f"Expected numbers {form}, got {numbers[outside].iloc[0]:g}. Claim another statistic of them."
    return Evidence.exact(numbers.mask(outside, np.nan), problem)


def stored(study: Description, claimed: Claimed, records: Records[Any]) -> Tasks:
    """What the function of a claim gave when the file was last run."""
    found = read_evidence(records.directory, study.name)
    if found is None or claimed.id not in found.claims:
        return Evidence.exact(pd.Series(dtype="float64"), "Its function runs when the study's file has run to its end.")
    tasks = {name: part.evidence() for name, part in found.claims[claimed.id].items()}
    if set(found.made_of) != set(done(records)):
        old = "Its function saw other runs than there are now: run the study's file again."
        tasks = {name: Evidence(part.low, part.high, f"{part.note} {old}".strip()) for name, part in tasks.items()}
    return tasks[""] if list(tasks) == [""] else tasks


def done(records: Records[Any]) -> tuple[str, ...]:
    """Fingerprints of all that is finished."""
    found = (table for table in (records.runs, records.analyses) if len(table))
    return tuple(str(name) for table in found for name in table.loc[table["status"] == "done", "fingerprint"])


def statistic(value: str, compare: Mapping[str, tuple[Any, Any]], how: str, kind: Statistic) -> str:
    """What is tested, in words.

    >>> statistic("top.value", {"decay": (0.01, 0.0)}, "ratio", "ratio")
    'top.value, decay 0.01 over decay 0, geometric mean'
    """
    word = MEANS.get(kind, kind)
    if not compare:
        return f"{value}, {word}"
    arms = [", ".join(f"{name} {shown(levels[side])}" for name, levels in compare.items()) for side in (0, 1)]
    return f"{value}, {arms[0]} {'over' if how == 'ratio' else 'minus'} {arms[1]}, {word}"
