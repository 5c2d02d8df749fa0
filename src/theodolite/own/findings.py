"""The page of a study of one's own, without any figure or table of the user's. Imports no torch.

Curves of whatever has epochs or steps, a figure a claim with its arms, and a table of all numbers.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from theodolite.claims import Evidence, interval, row
from theodolite.claims.claim import by_task
from theodolite.errors import RecordCorrupt
from theodolite.figures.composed import above
from theodolite.figures.curves import BAND, curves
from theodolite.figures.points import MEDIAN, forest, over_factor
from theodolite.figures.scales import Axis, Rule
from theodolite.findings import Figure, Table
from theodolite.own.claimed import by_level, done
from theodolite.own.claimed import claim as claim_of
from theodolite.own.described import AGAIN, Claimed, Description, StoredTables, read_tables
from theodolite.own.factors import named, together
from theodolite.own.values import METRICS, value, written
from theodolite.store.plan import DESCRIPTION, PLAN
from theodolite.store.records import Records
from theodolite.wording import counted

ALONG = ("epoch", "step")  # columns that make a table one of curves
CURVES = 8  # figures of curves, at most: a table may have a hundred columns
SERIES = 8  # in one of them: no more colours can be told apart
ENTRIES = 5  # of a vector, in the table of all numbers

Captioned = TypeVar("Captioned", Table, Figure)
OLD = "Made of other runs than there are now: run the study's file again."


def tables(study: Description, records: Records[Any]) -> list[Table]:
    """What a whole study drew itself; and all numbers, each quantity over seeds, and each of a single run."""
    drawn = _drawn(records, lambda kept: [one.table() for one in kept.tables])
    taken = {table.name for table in drawn}
    return [*drawn, *(table for table in _all_numbers(study, records) if table.name not in taken)]


def _stored(records: Records[Any]) -> StoredTables | None:
    return read_tables(records.directory, records.plan.study)


def _drawn(records: Records[Any], made: Callable[[StoredTables], list[Captioned]]) -> list[Captioned]:
    kept = records.derived(_stored)
    if kept is None:
        return []
    found = made(kept)
    if set(kept.made_of) != set(done(records)):
        found = [replace(one, caption=f"{one.caption} {OLD}".strip()) for one in found]
    return found


def _all_numbers(study: Description, records: Records[Any]) -> list[Table]:
    long = numbers(study, records)
    if long.empty:
        return []
    factors = [name for name in study.factors if name in long]
    rows = []
    for keys, part in long.groupby([*factors, "quantity"], sort=False, observed=True, dropna=False):
        cell = dict(zip([*factors, "quantity"], keys, strict=True))
        finite = part.assign(number=part["number"].replace([np.inf, -np.inf], np.nan))
        rows.append({**cell, "seeds": len(part)} | row(finite, {"mean": ("number", "mean")}))
    seeds = long["seed"].nunique()
    wide = long.pivot_table(index=[*factors, "seed"], columns="quantity", values="number", sort=False, dropna=False)
    wide = wide.dropna(how="all").reset_index()
    wide.columns.name = None
    same = same_for_all_seeds(study, records)
    note = f" The same for every seed: {'; '.join(same)}. Does the function use its seed?" if same else ""
    return [
        Table(
            "numbers",
            "All numbers",
            pd.DataFrame(rows),
            f"Means over {counted(seeds, 'seed')} with 95 % intervals; a seed that gave no number leaves them open. "
            "Of a "
            f"vector the first {ENTRIES} entries; of a table, none.{note}",
        ),
        Table("runs", "The numbers of each run", wide, "A row a run.", digits=5),
    ]


def figures(study: Description, records: Records[Any]) -> list[Figure]:
    """What a whole study drew itself; curves, and a figure a claim."""
    drawn = _drawn(records, lambda kept: [one.figure() for one in kept.figures])
    general = [*_curves(study, records), *(_claimed(study, claim, records) for claim in study.claims)]
    taken = {figure.name for figure in drawn}
    return [*drawn, *(figure for figure in general if figure.name not in taken)]


def numbers(study: Description, records: Records[Any]) -> pd.DataFrame:
    """A row a run and quantity: its factors, seed and number.

    Raises:
        RecordCorrupt: the study is described with other factors than its runs have.
    """
    _check_factors(study, records)
    parts = []
    metrics = records.table(METRICS)
    keys = ["seed", *study.factors]
    if len(metrics):
        along = [column for column in ALONG if column in metrics]
        if along:  # curves of a training: their last points
            metrics = metrics.groupby("fingerprint", sort=False, observed=True).tail(1).drop(columns=along)
        own = {column: f"{METRICS}.{column}" for column in metrics if column not in ("fingerprint", *keys)}
        parts.append(metrics.rename(columns=own).melt(keys, list(own.values()), "quantity", "number"))
    for name in study.measures:
        table = records.table(name)
        if len(table):
            table = table[table["entry"] < ENTRIES]
            count = table.groupby(["fingerprint", "quantity"], observed=True)["entry"].transform("size")
            entry = np.where(count > 1, "." + table["entry"].astype(str), "")
            parts.append(
                table.assign(quantity=f"{name}." + table["quantity"].astype(str) + entry)[[*keys, "quantity", "number"]]
            )
    if not parts:
        return pd.DataFrame(columns=[*keys, "quantity", "number"])
    found = pd.concat(parts, ignore_index=True)
    return found.assign(**{name: found[name].astype(object) for name in study.factors})


def _check_factors(study: Description, records: Records[Any]) -> None:
    planned = together(item.labels for item in records.plan.runs)
    if set(planned) != set(study.factors):
        both = (", ".join(names) or "none" for names in (study.factors, planned))
        raise RecordCorrupt(
            f"{records.directory / study.name / DESCRIPTION} and {PLAN} beside it name other factors: "
            f"{' there, '.join(both)} here. {AGAIN}"
        )


def same_for_all_seeds(study: Description, records: Records[Any]) -> list[str]:
    """Combinations of levels in which every seed gave the very same numbers, in words."""
    long = numbers(study, records)
    found = []
    factors = list(study.factors)
    groups = long.groupby(factors, sort=False) if factors else [((), long)]
    for keys, part in groups:
        wide = part.pivot_table(index="seed", columns="quantity", values="number", dropna=False)
        if len(wide) > 1 and not wide.isna().to_numpy().any() and (wide.nunique() == 1).all():
            found.append(named(dict(zip(factors, keys, strict=True))) or "all runs")
    return found


def _curves(study: Description, records: Records[Any]) -> Iterator[Figure]:
    left = CURVES
    for name in written(records):
        table = records.table(name)
        along = next((column for column in ALONG if column in table), None)
        if along is None:
            continue
        keys = ["fingerprint", "seed", along, *study.factors]
        skipped = {*keys, *ALONG}
        own = [str(c) for c in table if c not in skipped and pd.api.types.is_numeric_dtype(table[c])]
        cell = _cells(study, table)
        shown = list(dict.fromkeys(cell))[:SERIES]
        for column in own[:left]:
            left -= 1
            long = pd.DataFrame({along: table[along], column: table[column], "cell": cell, "seed": table["seed"]})
            long = long[long["cell"].isin(shown)].dropna(subset=along)
            few = f" The first {SERIES} combinations of levels." if cell.nunique() > SERIES else ""
            yield Figure(
                f"curves-{name}-{column}" if column.isascii() and column.isidentifier() else f"curves-{name}-{left}",
                f"{name}: {column} over the {along}s",
                curves(long, x=Axis(along, along), y=Axis(column, column), series="cell"),
                f"{counted(table['seed'].nunique(), 'seed')}. {BAND}{few}",
                f"{column} against {along}, a line a combination of levels.",
            )


def _cells(study: Description, table: pd.DataFrame) -> pd.Series:
    """Of each row its combination of levels in words; of a factor with one level nothing is said."""
    told = [name for name, levels in study.factors.items() if len(levels) > 1]
    if not told:
        return pd.Series("all", index=table.index)
    distinct = table[told].drop_duplicates()
    words = {tuple(levels): named(dict(zip(told, levels, strict=True))) for levels in distinct.itertuples(index=False)}
    return pd.Series([words[levels] for levels in table[told].itertuples(index=False, name=None)], index=table.index)


def _claimed(study: Description, claim: Claimed, records: Records[Any]) -> Figure:
    """What is tested with its interval, a row a level of all other factors; below it every seed of every arm."""
    limits = claim.threshold if isinstance(claim.threshold, tuple) else (claim.threshold,)
    evidence = by_task(claim_of(study, claim).evidence(records))
    rows = [_interval(name, part, claim) for name, part in evidence.items()]
    chart = forest(
        pd.DataFrame(rows),
        x=Axis("estimate", claim.statistic),
        label="task",
        low="low",
        high="high",
        rules=[Rule(limit, "claimed", "x") for limit in limits],
    )
    claimed = f"{claim.statistic}; claimed: {claim.claim(None).claimed}"
    dots = _arms(study, claim, records) if claim.value else pd.DataFrame()
    if len(dots):
        panel = "panel" if dots["panel"].nunique() > 1 else None
        arms = over_factor(dots, x=Axis("arm", ""), y=Axis("number", str(claim.value)), panel=panel)
        chart = above(chart, arms)
    seeds = max(len(part.low) for part in evidence.values())
    return Figure(
        f"claim-{claim.id}",
        claim.sentence,
        chart,
        f"{claimed}. {counted(seeds, 'seed')}, with the 95 % "
        f"interval.{f' Below, each arm. {MEDIAN}' if len(dots) else ''}",
        " ".join(f"{row['task']}: {row['estimate']:.3g} from {row['low']:.3g} to {row['high']:.3g}." for row in rows),
    )


def _arms(study: Description, claim: Claimed, records: Records[Any]) -> pd.DataFrame:
    """A row a run that the claim compares, or is about: its arm and panel in words, and its number."""
    found = value(records, str(claim.value), study.measures)
    parts = [part.assign(panel=named(cell)) for cell, part in by_level(claim, found)]
    dots = pd.concat(parts)
    if not claim.compare:
        return dots.assign(arm=dots["panel"].replace("", "all"), panel="")
    first, second = (dict(zip(claim.compare, side, strict=True)) for side in zip(*claim.compare.values(), strict=True))
    arms = []
    for number, arm in enumerate((first, second), 1):
        there = np.logical_and.reduce([dots[name] == level for name, level in arm.items()])
        arms.append(dots[there].assign(arm=f"{number}: {named(arm)}"))
    return pd.concat(arms)


def _interval(name: str, evidence: Evidence, claim: Claimed) -> dict[str, Any]:
    found = interval(evidence, claim.kind)
    return {"task": name or "all runs", "estimate": found.estimate, "low": found.low, "high": found.high}
