"""What the records say of the ends of trainings: what lies between them, how still they are, how they differ."""

import numpy as np
import pandas as pd

from theodolite.claims import Number, row
from theodolite.store.records import Records
from theodolite.studies.weight_trajectory.settings import WeightTrajectory

AS_TRAINED, MATCHED, ITSELF = "as_trained", "matched", "itself"  # what a line leads to from a network
KINDS = {
    AS_TRAINED: "another training",
    MATCHED: "another training, units matched",
    ITSELF: "itself, units in another order",
}


def kinds_of(lines: pd.DataFrame) -> pd.DataFrame:
    """Lines with their kinds; older folders have one."""
    return lines if "kind" in lines else lines.assign(kind=AS_TRAINED)


def ends_table(records: Records[WeightTrajectory]) -> pd.DataFrame:
    """A row for each kind of line: the barriers on it."""
    lines = records.analysis("lines")
    rows = []
    for kind, part in kinds_of(lines).groupby("kind", sort=False) if len(lines) else ():
        pairs = part.groupby(["seed", "first"]).first()
        numbers: dict[str, Number] = {"loss barrier": (pairs["barrier"].groupby("seed").mean(), "mean")}
        if "error_barrier" in pairs:
            numbers["error barrier"] = (pairs["error_barrier"].groupby("seed").mean(), "mean")
        rows.append({"from a network to": KINDS[str(kind)], "pairs": len(pairs)} | row(part, numbers))
    return pd.DataFrame(rows)


def convergence_table(records: Records[WeightTrajectory]) -> pd.DataFrame:
    """How far ends are from a zero of the gradient, and how differently they answer; empty for older folders."""
    ends = records.analysis("stationary")
    if ends.empty:
        return pd.DataFrame()
    numbers: dict[str, Number] = {
        "gradient norm": (geometric(ends, ends["gradient_norm"]), "ratio"),
        "largest curvature": (geometric(ends, ends["curvature"]), "ratio"),
        "ratio of gradient to curvature": (geometric(ends, ends["gradient_norm"] / ends["curvature"]), "ratio"),
        "ratio of that to the norm of the weights": (stillness(records), "ratio"),
        "who is right": (disagreement(records), "mean"),
    }
    return pd.DataFrame([row(ends, numbers)])


def geometric(table: pd.DataFrame, values: pd.Series) -> pd.Series:
    """The geometric mean of positive numbers in each group."""
    means: pd.Series = np.exp(np.log(values).groupby(table["seed"]).mean())
    return means


def stillness(records: Records[WeightTrajectory]) -> pd.Series:
    """For each group ‖g‖ / λ_max at the ends, over the norm of the weights: geometric mean over first of pairs."""
    ends = records.analysis("stationary")
    return geometric(ends, ends["gradient_norm"] / ends["curvature"] / ends["weights"])


def disagreement(records: Records[WeightTrajectory]) -> pd.Series:
    """For each group the mean over pairs of McNemar's (b − c)² / (b + c); 0 where two trainings are right alike."""
    tested = records.analysis("tested")
    only, other = tested["only_first"], tested["only_second"]
    statistic = (only - other) ** 2 / (only + other).clip(lower=1)
    means: pd.Series = statistic.groupby(tested["seed"]).mean()
    return means
