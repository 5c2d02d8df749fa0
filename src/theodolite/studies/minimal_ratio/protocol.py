"""What the report's protocol did, step by step, and the verdict on each of its author's steps; imports no torch."""

from typing import Any

import numpy as np
import pandas as pd

from theodolite.claims import Evidence, interval, rank_correlation
from theodolite.findings import Table
from theodolite.store.records import Records
from theodolite.studies.minimal_ratio.findings import (
    AGAIN,
    DIGITS,
    FIRST,
    LETTER,
    NORM,
    PHASES,
    PROTOCOL,
    VARIANTS,
    columns,
    each_seed,
    points,
)
from theodolite.studies.minimal_ratio.settings import MinimalRatio
from theodolite.wording import per_cent


def tables(records: Records[MinimalRatio]) -> list[Table]:
    """The verdict on each step, and the numbers of all of them."""
    table, found = records.analysis(PROTOCOL), points(records, DIGITS)
    if table.empty or found.empty:
        return []
    return [_verdicts(records, table), _steps(records, table, found)]


def _verdicts(records: Records[MinimalRatio], table: pd.DataFrame) -> Table:
    """Each verdict follows from its number by the rule beside it."""
    own = table[table["variant"] == LETTER]
    ends = own[own["epoch"].isin(own.groupby("phase")["epoch"].max())].set_index("seed")
    norms = {phase: ends.loc[ends["phase"] == phase, "gradient_norm"] for phase in PHASES}
    certified = own.loc[own["phase"] != FIRST, "certified"].mean()
    zero = own.groupby("seed")["zero"].mean()
    initial = records.analysis("initial")
    control = rank_correlation(initial[initial["task"] == DIGITS], "loss", "positive").low
    rows: list[dict[str, Any]] = []

    def add(step: str, what: str, values: pd.Series, kind: Any, below: str, above: str, even: float) -> None:
        span = interval(Evidence.exact(values), kind)
        verdict = below if span.high < even else above if span.low > even else "undecided"
        rows.append({"step": step, "measured": what, **span.columns("value"), "verdict": verdict})

    add(
        "definition: the share of eigenvalues greater than zero",
        "share of eigenvalues that are zero within rounding, at the report's weights",
        zero, "mean", "", "right only with a tolerance: rounding signs these", 0.0,
    )  # fmt: skip
    add(
        "optimiser: the gradient norm as loss brings it to zero",
        "ratio of the gradient norm after this phase to before",
        norms[NORM] / norms[FIRST], "ratio", "smaller", "larger", 1.0,
    )  # fmt: skip
    rows[-1]["verdict"] += (
        ", but no weights certified" if not certified else f", and {per_cent(certified, 1)} certified"
    )
    add(
        f"the {records.settings.after} epochs of cross entropy after it stay there",
        "ratio of the gradient norm after them to before",
        norms[AGAIN] / norms[NORM], "ratio", "it falls further: they move on", "it rises: they lead away", 1.0,
    )  # fmt: skip
    add(
        "control: initial weights, where nothing is critical",
        "correlation of minimal ratio and loss",
        control, "correlation", "negative there too: its sign is no evidence", "positive there", 0.0,
    )  # fmt: skip
    return Table(
        "report-verdicts",
        "The steps of the report's protocol, and what became of each",
        pd.DataFrame(rows),
        f"Protocol to the letter, on {DIGITS}; means over seeds (of ratios, geometric) with 95 % intervals. A verdict "
        "is given where the interval lies on one side of zero, or of one for ratios.",
    )


def _steps(records: Records[MinimalRatio], table: pd.DataFrame, found: pd.DataFrame) -> Table:
    """What each step of the report's protocol did to the gradient, beside the control and the certified points."""
    rows = []
    for variant, part in table.groupby("variant", sort=False):
        ends = part[part["epoch"].isin([0, *part.groupby(["seed", "phase"])["epoch"].max()])]
        name = VARIANTS[str(variant)]
        rows.append(_step(f"{name}: initial weights", ends[ends["epoch"] == 0]))
        for phase, words in PHASES.items():
            rows.append(_step(f"{name}: after {words}", ends[(ends["phase"] == phase) & (ends["epoch"] > 0)]))
        rows.append(_step(f"{name}: every epoch of {PHASES[AGAIN]}", part[part["phase"] == AGAIN], correlate=True))
    initial = records.analysis("initial")
    control = initial[initial["task"] == DIGITS]
    rows.append(_step("control: random initial weights", control, correlate=True))
    rows.append(_step("certified critical points", found.assign(certified=True), correlate=True))
    return Table(
        "report-steps",
        "The report's protocol, step by step",
        pd.DataFrame(rows),
        "On three digits. Gradient norm and its ratio to the largest curvature: geometric means over seeds of each "
        "seed's median, with 95 % intervals; a critical point must stay below 1e−9 and 1e−8. Certified: share of the "
        "weights looked at that pass the test. Zero: mean share of eigenvalues within rounding of zero, whose signs "
        "decide nothing; the report counts those above 0. Ratio of ‖Hg‖ to ‖g‖: the first is what a script reads that "
        "looks at the gradient after the backward pass of half the squared norm. Correlation of minimal ratio and loss "
        "within a seed, 0 where the ratio never changes.",
    )


def _step(name: str, rows: pd.DataFrame, *, correlate: bool = False) -> dict[str, Any]:
    norms = rows.groupby("seed")["gradient_norm"].median()
    relative = (rows["gradient_norm"] / rows["largest"]).groupby(rows["seed"]).median()
    row: dict[str, Any] = {"weights": name, **columns(norms, "ratio", "gradient norm")}
    row |= {**columns(relative, "ratio", "ratio to largest curvature"), "certified": rows["certified"].mean()}
    row["zero"] = rows["zero"].mean()
    row["ratio of ‖Hg‖ to ‖g‖"] = (
        (rows["product_norm"] / rows["gradient_norm"]).median() if "product_norm" in rows else np.nan
    )
    name = "minimal ratio and loss"
    if not correlate:  # a weight a seed: nothing to correlate
        return row | dict.fromkeys((name, f"{name} low", f"{name} high"), np.nan)
    return row | columns(each_seed(rows, "positive"), "correlation", name)
