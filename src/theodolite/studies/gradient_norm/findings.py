"""What the records of the gradient norms say: numbers for the claims, tables and figures.

Beside :mod:`theodolite.studies.gradient_norm.study`, which trains, measures and claims.
"""

import numpy as np
import pandas as pd

from theodolite.claims import Number, Numbers, each_seed, row
from theodolite.figures.curves import BAND, curves
from theodolite.figures.points import scatter
from theodolite.figures.scales import Axis
from theodolite.findings import Figure, Table
from theodolite.store.records import Records
from theodolite.studies.classifiers import covered
from theodolite.studies.gradient_norm.settings import GradientNorm
from theodolite.wording import counted, per_cent

WHOLE, BATCH = "whole training set", "one mini-batch"


LATE = 0.9  # share of the epochs at which "the end" begins: Adam's steps keep the norm from settling at one number


def tables(records: Records[GradientNorm]) -> list[Table]:
    """For each task, how the norm goes with the loss, where it ends, and how much of a mini-batch's is noise."""
    seeds = records.done["seed"].nunique()
    share = 1 - LATE
    return [
        Table(
            "figure-6-numbers",
            "Gradient norm and loss in numbers",
            pd.DataFrame([_row(str(task), norms) for task, norms in norms_of(records).groupby("task", sort=False)]),
            f"Over {counted(seeds, 'seed')}, with 95 % intervals. {covered(records)} Within a run, correlation of the "
            "logarithms of norm and training loss, and by which power of the loss the norm goes (least squares on "
            "logarithms; at the bottom of a parabola it is one half); "
            f"ratio of the norm in the last {per_cent(share)} of the epochs (geometric mean) to that before "
            "training; at the end, share of a mini-batch's squared gradient norm that is sampling noise, and not the "
            "gradient of the training loss.",
        )
    ]


def figures(records: Records[GradientNorm]) -> list[Figure]:
    """Figure 6 for each task: norm against loss, and both norms over the epochs."""
    found = []
    for task, norms in norms_of(records).groupby("task", sort=False):
        found += _figures(str(task), norms, records.settings)
    return found


def _figures(task: str, norms: pd.DataFrame, settings: GradientNorm) -> list[Figure]:
    seeds = norms["seed"].nunique()
    long = norms.rename(columns={"norm": WHOLE, "batch_norm": BATCH}).melt(
        ["seed", "epoch", "loss"], [WHOLE, BATCH], "of", "norm"
    )
    unit = "mean squared error" if task == settings.function else "cross entropy"
    loss = Axis("loss", f"training loss ({unit})", log=True)
    norm = Axis("norm", "norm of the gradient (loss / weight)", log=True)
    about = (
        f"Frobenius norm of the gradient of the loss on {task} (Figure 7: the root of the sum of its squares), of the "
        f"whole training set and of one batch of {settings.batch_size}"
    )
    correlation = correlation_of_logs(norms)
    start, end = start_and_end(norms)
    return [
        Figure(
            f"figure-6-{task}",
            f"Figure 6: gradient norm against loss on {task}",
            scatter(long, x=loss, y=norm, series="of", detail=("seed", "epoch")),
            f"{about}. A point a snapshot, {counted(seeds, 'seed')}; training goes from right to left.",
            "Norm of the whole training set's gradient and loss: correlation of their logarithms within a run "
            f"{correlation.mean():.2g} on average, the norm going with the loss to the power of "
            f"{power_of_loss(norms).mean():.2g}.",
            "This graph shows a direct relationship between loss and the gradient norm: as the loss decreases, so "
            "does the gradient norm.",
        ),
        Figure(
            f"norm-over-epochs-{task}",
            f"Gradient norm through training on {task}",
            curves(long, x=Axis("epoch", "epoch"), y=norm, series="of"),
            f"{about}. {counted(seeds, 'seed')}. {BAND}",
            f"The median norm of the whole training set's gradient goes from {start.median():.2g} before training to "
            f"{end.median():.2g} at the end.",
            "the slope will begin to decrease as it gets closer and closer to the minimum",
        ),
    ]


def norms_of(records: Records[GradientNorm]) -> pd.DataFrame:
    """All snapshots; a diverged run has a last row without numbers, so that what is made of it has none either."""
    norms = records.table("norms")
    runs = records.done.set_index("fingerprint")
    lost = runs.loc[runs["diverged_epoch"].notna(), ["seed", "task", "diverged_epoch"]]
    ends = lost.rename(columns={"diverged_epoch": "epoch"}).reset_index()
    return pd.concat([norms, ends], ignore_index=True) if len(ends) else norms


def start_and_end(norms: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """For each seed the norm before training and in the last epochs, NaN where it diverged."""
    last = norms.groupby("seed")["epoch"].transform("max")
    late = norms[norms["epoch"] >= LATE * last].groupby("seed")["norm"]
    start = norms[norms["epoch"] == 0].set_index("seed")["norm"]
    return start, late.agg(lambda values: float(np.exp(np.log(values).mean(skipna=False))))


def correlation_of_logs(norms: pd.DataFrame) -> pd.Series:
    """For each seed how loss and norm go together within a run, NaN where it diverged."""
    return each_seed(norms, "loss", "norm", lambda loss, norm: _on_logs(loss, norm)[0])


def power_of_loss(norms: pd.DataFrame) -> pd.Series:
    """For each seed the p of norm ∝ lossᵖ within a run, NaN where it diverged."""
    return each_seed(norms, "loss", "norm", lambda loss, norm: _on_logs(loss, norm)[1])


def _on_logs(loss: Numbers, norm: Numbers) -> tuple[float, float]:
    """Correlation and slope of the logarithms; NaN where a number is not positive and finite, or none ever changes."""
    both = np.array([loss, norm])
    if not (np.isfinite(both).all() and (both > 0).all() and (np.ptp(both, axis=1) > 0).all()):
        return np.nan, np.nan
    covariance = np.cov(np.log(both))
    slope = covariance[0, 1] / covariance[0, 0]
    return float(np.corrcoef(np.log(both))[0, 1]), float(slope)


def _noise(norms: pd.DataFrame) -> pd.Series:
    """Share of noise in a mini-batch's squared norm, over the last epochs: 1 - |g|² / E|g_batch|²."""
    last = norms.groupby("seed")["epoch"].transform("max")
    late = norms[norms["epoch"] >= LATE * last].groupby("seed")[["norm", "batch_square"]]
    return late.apply(
        lambda rows: float(1 - (rows["norm"] ** 2).sum(skipna=False) / rows["batch_square"].sum(skipna=False))
    )


def _row(task: str, norms: pd.DataFrame) -> dict[str, object]:
    start, end = start_and_end(norms)
    numbers: dict[str, Number] = {
        "correlation with loss": (correlation_of_logs(norms), "correlation"),
        "power of the loss": (power_of_loss(norms), "mean"),
        "norm before": (start, "ratio"),
        "norm at the end": (end, "ratio"),
        "ratio of end to before": (end / start, "ratio"),
        "noise in a mini-batch": (_noise(norms), "mean"),
    }
    return {"task": task} | row(norms, numbers)
