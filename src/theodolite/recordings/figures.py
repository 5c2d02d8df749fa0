"""Figures of the paths of the weights; those of all else that was recorded are in ``figures/recorded.py``."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from theodolite.figures.curves import curves
from theodolite.figures.paths import MARKS, paths
from theodolite.figures.recorded import PANELS, axis_of, left_out, who
from theodolite.figures.scales import Axis
from theodolite.findings import Figure
from theodolite.recordings.paths import Paths
from theodolite.wording import counted, per_cent


def path_figures(path: Paths, runs: pd.DataFrame, number: str) -> Iterator[Figure]:
    """The paths of the weights in their plane, and how far they went; ``runs`` says which training each is."""
    walks = path.walks.merge(runs, on="fingerprint")
    walks, key = _numbered(walks)
    across, up = (
        Axis(f"component_{k + 1}", f"PCA {k + 1} ({per_cent(path.shares[k])} of the variance)") for k in (0, 1)
    )
    count = walks["name"].nunique()
    yield Figure(
        f"weights-plane{number}",
        "Paths of the weights in the plane of their first two principal components",
        paths(walks, x=across, y=up, series="name", step="step"),
        f"{counted(count, 'training')}, {path.parameters:,} weights, a dot a snapshot. "
        f"{MARKS} {key}Both axes have the same scale. A plane can mislead: a random walk in many dimensions has "
        "61 % and 15 % of its variance on its own first two components, and draws as smooth a curve.",
        f"The plane holds {per_cent(sum(path.shares))} of the variance of all snapshots.",
    )
    kinds = {"distance_from_start": "distance from the start", "step_length": "step since the last snapshot"}
    long = walks.melt(["seed", "training", "step"], list(kinds), "line", "value").replace({"line": kinds})
    long = long[long["value"] > 0].assign(fingerprint="")
    if not len(long):  # each stayed where it was
        return
    trainings = list(dict.fromkeys(long["training"]))[:PANELS]
    shown = long[long["training"].isin(trainings)]
    chart = curves(
        shown,
        x=axis_of("step", "step", shown["step"]),
        y=axis_of("value", "distance in weight space", shown["value"]),
        series="line",
        panel="training" if len(trainings) > 1 else None,
    )
    yield Figure(
        f"weights-distances{number}",
        "How far the weights went",
        chart,
        f"Euclidean distances in the full space of {path.parameters:,} weights. {who(shown)}"
        f"{left_out(long, trainings)}",
        f"At the last snapshot the weights are {walks['distance_from_start'].iloc[-1]:.3g} from their start.",
    )


def _numbered(walks: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Paths by number, which fits beside their ends; and what each number is, where labels were given."""
    runs = walks[["fingerprint", "training", "seed"]].drop_duplicates().reset_index(drop=True)
    named = runs["training"] != ""
    runs["name"] = np.where(named, runs.index + 1, runs["seed"]).astype(int).astype(str)
    key = "; ".join(f"{number}: {training}, seed {seed}" for _, training, seed, number in runs[named].to_numpy())
    return walks.merge(runs[["fingerprint", "name"]], on="fingerprint"), f"{key}. " if key else ""
