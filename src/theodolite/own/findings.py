"""The page of a study of one's own, without any figure or table of the user's. Imports no torch.

Curves of whatever has epochs or steps, a figure a claim with its arms, and a table of all numbers.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from theodolite.claims import Evidence, interval, row
from theodolite.claims.claim import by_task
from theodolite.figures.curves import BAND, curves
from theodolite.figures.points import MEDIAN, forest, over_factor
from theodolite.figures.scales import Axis, Rule
from theodolite.findings import Figure, Table
from theodolite.own.claimed import by_level, stored
from theodolite.own.described import Claimed, Description
from theodolite.own.factors import named
from theodolite.own.values import METRICS, value
from theodolite.store.record import holds, read_status
from theodolite.store.records import Records
from theodolite.wording import counted

ALONG = ("epoch", "step")  # columns that make a table one of curves
CURVES = 8  # figures of curves, at most: a table may have a hundred columns
SERIES = 8  # in one of them: no more colours can be told apart
ENTRIES = 5  # of a vector, in the table of all numbers


def tables(study: Description, records: Records[Any]) -> list[Table]:
    """All numbers: each quantity of each combination of levels over seeds, and each of a single run."""
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
            f"Means over {counted(seeds, 'seed')} with 95 % intervals; a seed that gave no number leaves them open. Of a "
            f"vector the first {ENTRIES} entries; of a table, none.{note}",
        ),
        Table("runs", "The numbers of each run", wide, "A row a run.", digits=5),
    ]


def figures(study: Description, records: Records[Any]) -> list[Figure]:
    """Curves, and a figure a claim."""
    drawn = [_claimed(study, claim, records) for claim in study.claims]
    return [*_curves(study, records), *(figure for figure in drawn if figure is not None)]


def numbers(study: Description, records: Records[Any]) -> pd.DataFrame:
    """A row a run and quantity: its factors, seed and number."""
    parts = []
    metrics = records.table(METRICS)
    keys = ["seed", *study.factors]
    if len(metrics):
        own = [column for column in metrics if column not in ("fingerprint", *keys)]
        parts.append(metrics.melt(keys, own, "quantity", "number"))
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
    for name in _tables(records):
        table = records.table(name)
        along = next((column for column in ALONG if column in table), None)
        if along is None:
            continue
        keys = ["fingerprint", "seed", along, *study.factors]
        own = [c for c in table if c not in keys and c not in ALONG and pd.api.types.is_numeric_dtype(table[c])]
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


def _tables(records: Records[Any]) -> list[str]:
    """Names of all tables that finished runs have."""
    found: dict[str, None] = {}
    for _, folder in records.readable():
        status = read_status(folder)
        files = status.files if status is not None else {}
        found |= dict.fromkeys(name.removesuffix(".parquet") for name in files if name.endswith(".parquet"))
        assert holds  # noqa: S101
    return sorted(found)


def _cells(study: Description, table: pd.DataFrame) -> pd.Series:
    """Of each row its combination of levels in words; of a factor with one level nothing is said."""
    told = [name for name, levels in study.factors.items() if len(levels) > 1]
    if not told:
        return pd.Series("all", index=table.index)
    distinct = table[told].drop_duplicates()
    words = {tuple(levels): named(dict(zip(told, levels, strict=True))) for levels in distinct.itertuples(index=False)}
    return pd.Series([words[levels] for levels in table[told].itertuples(index=False, name=None)], index=table.index)


def _claimed(study: Description, claim: Claimed, records: Records[Any]) -> Figure | None:
    """Every seed of every arm; and what is tested, with its threshold."""
    judged = claim.claim(None)
    limits = claim.threshold if isinstance(claim.threshold, tuple) else (claim.threshold,)
    if claim.value is None:
        dots, evidence = pd.DataFrame(), by_task(stored(study, claim, records))
    else:
        from theodolite.own.claimed import of_value

        found = value(records, claim.value, study.measures)
        parts = [part.assign(panel=named(cell)) for cell, part in by_level(study, claim, found)]
        dots, evidence = pd.concat(parts), by_task(of_value(study, claim, records))
        if claim.compare:
            levels = [tuple(level) for level in zip(*claim.compare.values(), strict=True)]
            kept = [tuple(row) in levels for row in dots[list(claim.compare)].itertuples(index=False, name=None)]
            dots = dots[kept]
    return Figure(
        f"claim-{claim.id}",
        claim.sentence,
        _chart(claim, dots, evidence, [Rule(limit, "claimed", "x") for limit in limits]),
        f"{claim.statistic}; claimed: {judged.claimed}. {counted(_seeds(evidence), 'seed')}. {MEDIAN}",
        f"{claim.statistic}, with its interval, against what is claimed: {judged.claimed}.",
    )


def _seeds(evidence: Any) -> int:
    return max(len(part.low) for part in evidence.values())


def _chart(claim: Claimed, dots: pd.DataFrame, evidence: Any, rules: list[Rule]) -> Any:
    return forest(
        pd.DataFrame([_interval(name or "all", part, claim) for name, part in evidence.items()]),
        x=Axis("estimate", claim.statistic),
        label="task",
        low="low",
        high="high",
        rules=rules,
    )


def _interval(name: str, evidence: Evidence, claim: Claimed) -> dict[str, Any]:
    found = interval(evidence, claim.kind)
    return {"task": name, "estimate": found.estimate, "low": found.low, "high": found.high}


__all__ = ["figures", "numbers", "same_for_all_seeds", "tables", "over_factor"]
