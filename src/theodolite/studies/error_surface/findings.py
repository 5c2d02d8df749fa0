"""What the records of the error surfaces say: numbers for the claims, and tables.

Beside :mod:`theodolite.studies.error_surface.study`, which trains, measures and claims.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from theodolite.claims import Evidence, groups, row
from theodolite.findings import Table
from theodolite.store.records import Records
from theodolite.studies.classifiers import CLASSES, covered
from theodolite.studies.error_surface.settings import ErrorSurface

SMALL, LARGE, STOPPED, OTHER = "small_batch", "large_batch", "small_batch_stopped", "small_batch_other_seed"
NETWORKS = {
    SMALL: "small batch",
    LARGE: "large batch",
    STOPPED: "small batch, stopped at the large batch's loss",
    OTHER: "small batch, trained again",
}
WIDTH, RANDOM, PATH, MINIMA, CURVE = "width", "random plane", "path", "three minima", "curve"  # labels of analyses
PLANES = {RANDOM: "random-plane", PATH: "path", MINIMA: "three-minima", CURVE: "curve"}  # as figures are called
LINE, HIGHER_END = "line", "the higher end"  # the other way between two networks; the lowest that any can have
WAYS = {CURVE: "curve", LINE: "straight line"}
RENAMED = {
    "network": {"small batch": SMALL, "large batch": LARGE, "small batch, stopped at the large batch's loss": STOPPED},
    "label": {"small batch": SMALL, "large batch": LARGE, "small batch, another seed": OTHER},
    "path": {"straight line": LINE},
}

RISE = 0.1 * math.log(CLASSES)  # of the loss, at which a minimum ends: a tenth of the loss of guessing


def tables(records: Records[ErrorSurface]) -> list[Table]:
    """How wide the minima are, how flat the paths, how high the line and the curve."""
    width, path, curve = (records.analysis(name) for name in ("width", "path", "curve"))
    minima = [
        _of(part, "network", NETWORKS[network])
        | row(part, {"training loss": (_at_minimum(part), "ratio"), "radius": (radius(part), "median")})
        for network, part in groups(width, "network")
    ]
    ways = [
        _of(part, "network", network)
        | row(_of_path(part), {label: (column, "ratio") for column, label in PATH_COLUMNS.items()})
        for network, part in groups(path, "of")
    ]
    highest = [
        _of(part, "way", WAYS.get(way, way)) | row(part, {"highest training loss": ("loss", "ratio")})
        for way, part in heights_of(curve)
    ]
    chance = covered(records)
    found = [
        Table(
            "minima",
            "How wide the minima are",
            pd.DataFrame(minima),
            "Geometric mean of the training loss and median radius over seeds with their 95 % intervals. Radius: "
            "where the mean training loss over filter-normalised random directions, walked both ways, has risen by "
            f"{RISE:.2f} (a tenth of the loss of guessing); 1 is as far as the weights of each unit are long. {chance}",
        ),
        Table(
            "paths",
            "What the plane of a training path leaves out",
            pd.DataFrame(ways),
            "Geometric means over seeds with their 95 % intervals. Shares of variance along the two axes; the farthest "
            "that a checkpoint lies off the plane, as a share of the way from the first to the last; ratio of the loss "
            "that the plane shows to the true loss of the checkpoint, geometric mean over checkpoints before the last. "
            f"{chance}",
        ),
        Table(
            "connection",
            "The way between the two networks",
            pd.DataFrame(highest),
            f"Geometric mean over seeds of the highest training loss with its 95 % interval. {chance}",
        ),
    ]
    return [table for table in found if len(table.frame)]


PATH_COLUMNS = {
    "share_x": "variance along x",
    "share_y": "variance along y",
    "off": "farthest off the plane",
    "wrong": "loss on the plane / true loss",
}


def _of_path(path: pd.DataFrame) -> pd.DataFrame:
    """A row a seed, from a row a checkpoint."""
    rows = []
    for seed, part in path.groupby("seed"):
        before = part.sort_values("epoch")
        first, before = before.iloc[0], before.iloc[:-1]  # the last checkpoint is the plane's origin
        whole = math.sqrt(first["x"] ** 2 + first["y"] ** 2 + first["off_plane"] ** 2)
        wrong = float(np.exp(np.log(before["plane_loss"] / before["loss"]).mean()))
        shares = {"share_x": first["share_x"], "share_y": first["share_y"]}
        rows.append({"seed": seed, **shares, "off": part["off_plane"].max() / whole, "wrong": wrong})
    return pd.DataFrame(rows)


def heights_of(curve: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Per way its highest loss, a row a seed; the higher of the two ends is the lowest that any way can have."""
    if curve.empty:
        return
    ends = curve[curve["t"].isin([0.0, 1.0]) & (curve["path"] == LINE)]
    for way, part in ((HIGHER_END, ends), *((path, curve[curve["path"] == path]) for path in (CURVE, LINE))):
        yield way, part.groupby("seed")[["loss"]].max().reset_index()


def _of(part: pd.DataFrame, what: str, name: object) -> dict[str, Any]:
    return {what: name, "seeds": part["seed"].nunique()}


def _at_minimum(width: pd.DataFrame) -> Evidence:
    return Evidence.exact(width[width["radius"] == 0].groupby("seed")["loss"].first())


def radius(width: pd.DataFrame) -> Evidence:
    """Where the mean loss over directions has risen by RISE, between two measured radii on a straight line.

    Where it never has, the radius is at least the farthest one measured.
    """
    mean = width.groupby(["seed", "radius"])["loss"].mean().unstack("radius").sort_index(axis=1)
    rise = mean.sub(mean[0.0], axis=0)
    radii = rise.columns.to_numpy(dtype=np.float64)
    crossed = {seed: _crossing(radii, row.to_numpy(dtype=np.float64)) for seed, row in rise.iterrows()}
    found = pd.Series(crossed, dtype="float64")
    return Evidence(found.fillna(radii[-1]), found.fillna(math.inf))


def _crossing(radii: Any, rise: Any) -> float:
    over = np.flatnonzero(~(rise < RISE))
    if not len(over):
        return math.nan
    after = int(over[0])
    low, high = rise[after - 1], rise[after]
    return float(radii[after - 1] + (RISE - low) / (high - low) * (radii[after] - radii[after - 1]))
