"""What the records of the error surfaces say: numbers for the claims, tables and figures.

Beside :mod:`theodolite.studies.error_surface.study`, which trains, measures and claims.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from theodolite.claims import Evidence, row
from theodolite.claims.rows import groups
from theodolite.figures.curves import BAND, curves
from theodolite.figures.scales import Axis, Rule
from theodolite.figures.surface import LINES, surfaces
from theodolite.findings import Figure, Table
from theodolite.store.records import Records
from theodolite.studies.classifiers import CLASSES, covered
from theodolite.studies.error_surface.settings import ErrorSurface
from theodolite.wording import counted

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
            "that a checkpoint lies off the plane, as a share of the way from the first to the last; the loss that the "
            "plane shows over the true loss of the checkpoint, geometric mean over checkpoints before the last. "
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


def figures(records: Records[ErrorSurface]) -> list[Figure]:
    """The planes of the first seed, and width, off-plane losses and curves of all."""
    settings = records.settings
    width, path, curve, surface = (records.analysis(name) for name in ("width", "path", "curve", "surface"))
    found = _planes(records, surface) if len(surface) else []
    if len(width):
        seeds = width["seed"].nunique()
        mean = width.groupby(["network", "seed", "radius"])["loss"].mean().unstack("radius")
        rise = mean.sub(mean[0.0], axis=0).melt(value_name="rise", ignore_index=False).reset_index()
        chart = curves(
            rise[rise["radius"] > 0]
            .sort_values("network", key=lambda names: names.map(list(NETWORKS).index))
            .replace({"network": NETWORKS}),
            x=Axis("radius", "distance from the minimum (filter norms)", domain=(0.0, settings.reach)),
            y=Axis("rise", "rise of the training loss (cross entropy)", log=True),
            series="network",
            rules=[Rule(RISE, f"end of the minimum: {RISE:.2f}")],
        )
        found.append(
            Figure(
                "width",
                "How far from a minimum the loss rises",
                chart,
                f"Mean training loss over {settings.directions} filter-normalised random directions walked both "
                f"ways, less that at the minimum. {counted(seeds, 'seed')}. {BAND}",
                "The training loss rises with the distance from each minimum; where the curves cross the dashed line "
                "is the radius in the table of minima.",
            )
        )
    if len(path):
        found.append(_off_plane_figure(path))
    if len(curve):
        found.append(
            Figure(
                "connection",
                "Loss on the way between two networks",
                curves(
                    curve.replace({"path": WAYS}),
                    x=Axis("t", "share of the way from the small batch's network to the large one's"),
                    y=Axis("loss", "training loss (cross entropy)", log=True),
                    series="path",
                ),
                "Training loss on a trained Bézier curve and on the straight line. "
                f"{counted(curve['seed'].nunique(), 'seed')}. "
                f"{BAND}",
                "Training loss along the curve and along the straight line between the two networks.",
            )
        )
    return found


def _off_plane_figure(path: pd.DataFrame) -> Figure:
    renamed = path.rename(columns={"loss": "true loss of the checkpoint", "plane_loss": "loss on the plane beneath it"})
    long = renamed.melt(
        ["seed", "of", "epoch"],
        ["true loss of the checkpoint", "loss on the plane beneath it"],
        var_name="series",
        value_name="loss",
    )
    return Figure(
        "off-plane",
        "What the plane of a path shows, and what is true",
        curves(
            long,
            x=Axis("epoch", "epoch"),
            y=Axis("loss", "training loss (cross entropy)", log=True),
            series="series",
            panel="of",
        ),
        "True training loss of each checkpoint, and that of the point of the plane beneath it. "
        f"{counted(path['seed'].nunique(), 'seed')}. {BAND}",
        "The loss that the plane of the path shows at each checkpoint beside the checkpoint's true loss.",
    )


def _planes(records: Records[ErrorSurface], surface: pd.DataFrame) -> list[Figure]:
    """Maps of the first seed."""
    path, places, walk = (records.analysis(name) for name in ("path", "places", "walk"))
    places = places.replace({"label": NETWORKS})
    z = Axis("loss", "training loss (cross entropy)", log=True)
    found = []

    def add(kind: str, title: str, caption: str, alt: str, x: str, y: str, **more: Any) -> None:
        grid = surface[surface["measured"] == kind]
        if len(grid):
            panel = "of" if grid["of"].nunique() > 1 else None
            chart = surfaces(grid, x=Axis("x", x), y=Axis("y", y), z=z, panel=panel, **more)
            caption = f"{caption} Training loss, seed {grid['seed'].iloc[0]}. {LINES}"
            found.append(Figure(f"plane-{PLANES[kind]}", title, chart, caption, alt))

    first, second = "first direction (filter norms)", "second direction (filter norms)"
    add(
        RANDOM,
        "Around a minimum of small and of large batches",
        "The plane of two filter-normalised random directions; the network lies in the middle.",
        "Two maps of the training loss, each with a trained network in its middle.",
        first,
        second,
    )
    add(
        PATH,
        "The path of training on its own plane",
        "The plane of the first two principal components of the path; dots are checkpoints, projected.",
        "Two maps of the training loss with the path of training from its first checkpoint to its last.",
        "first component",
        "second component",
        paths=path[path["seed"] == 0] if len(path) else None,
        places=_ends(path[path["seed"] == 0]) if len(path) else None,
    )
    add(
        MINIMA,
        "The plane through three minima",
        "Lengths are distances between weights.",
        "A map of the training loss in the plane of three trained networks, each of them marked.",
        "distance",
        "distance",
        places=places[places["measured"] == MINIMA] if len(places) else None,
    )
    add(
        CURVE,
        "A trained curve between two minima",
        "The plane of the trained Bézier curve and of the straight line between its ends.",
        "A map of the training loss with two networks, the straight line between them and the trained curve.",
        "distance",
        "distance",
        paths=walk.replace({"path": WAYS}),
        places=places[places["measured"] == CURVE] if len(places) else None,
    )
    return found


def _ends(path: pd.DataFrame) -> pd.DataFrame:
    """First and last checkpoint of each path, named by their epochs."""
    chosen = path[path["epoch"].isin([path["epoch"].min(), path["epoch"].max()])]
    return chosen.assign(label="epoch " + chosen["epoch"].astype(str))


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
