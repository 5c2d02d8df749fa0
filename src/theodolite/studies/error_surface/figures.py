"""Figures of the error surface: how wide minima are, maps of four planes, and the path of training on its own."""

from dataclasses import replace
from typing import Any

import pandas as pd

from theodolite.claims import interval
from theodolite.figures import walk
from theodolite.figures.composed import above, beside
from theodolite.figures.curves import BAND, curves
from theodolite.figures.lines import lines
from theodolite.figures.scales import Axis, Rule, order
from theodolite.figures.surface import LINES, surfaces
from theodolite.figures.theme import SQUARE, WIDTH
from theodolite.findings import Figure
from theodolite.store.records import Records
from theodolite.studies.error_surface.findings import (
    CURVE,
    HIGHER_END,
    MINIMA,
    NETWORKS,
    PATH,
    PLANES,
    RANDOM,
    RISE,
    WAYS,
    heights_of,
    radius,
)
from theodolite.studies.error_surface.settings import ErrorSurface
from theodolite.wording import counted, rounded

LOSS = Axis("loss", "training loss (cross entropy)", log=True)
TRUE, BENEATH = "true loss of the checkpoint", "loss on the plane beneath it"


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
            marks=_radii(width),
        )
        found.append(
            Figure(
                "width",
                "How far from a minimum the loss rises",
                chart,
                f"Mean training loss over {settings.directions} random directions walked both ways, minus that at the "
                f"minimum. {counted(seeds, 'seed')}. {BAND} Diamonds with bars: median radius, which is where the loss "
                f"has risen by {RISE:.2f}, and its 95 % interval.",
                "The training loss rises with the distance from each minimum. Median radius: "
                + "; ".join(f"{row['network']} {row['radius']:.2g}" for _, row in _radii(width).iterrows())
                + ".",
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
                    y=LOSS,
                    series="path",
                    rules=[_allowed(curve)],
                ),
                "Training loss on a trained Bézier curve and on the straight line. "
                f"{counted(curve['seed'].nunique(), 'seed')}. {BAND} Shaded: less than {RISE:.2f} above the higher "
                "end, median over seeds, as claimed of the curve.",
                "Highest training loss on the way, median over seeds: "
                + "; ".join(f"{WAYS.get(way, way)} {part['loss'].median():.2g}" for way, part in heights_of(curve))
                + ".",
            )
        )
    return found


def _radii(width: pd.DataFrame) -> pd.DataFrame:
    """The median radius of each network's minimum with its interval: what the claim compares."""
    rows = []
    for network, part in width.groupby("network", sort=False):
        found = interval(radius(part), "median")
        ends = {"radius": found.estimate, "low": found.low, "high": found.high}
        rows.append({"network": NETWORKS[str(network)], "rise": RISE, "label": "", **ends})
    return pd.DataFrame(rows)


def _allowed(curve: pd.DataFrame) -> Rule:
    """Up to where the loss on the way may rise for two networks to be connected."""
    higher = next(part["loss"].median() for way, part in heights_of(curve) if way == HIGHER_END)
    return Rule(higher + RISE, f"{RISE:.2f} above the higher end", claimed=(0.0, higher + RISE))


def _off_plane_figure(path: pd.DataFrame) -> Figure:
    renamed = path.rename(columns={"loss": TRUE, "plane_loss": BENEATH})
    long = renamed.melt(["seed", "of", "epoch"], [TRUE, BENEATH], var_name="series", value_name="loss")
    return Figure(
        "off-plane",
        "What the plane of a path shows, and what is true",
        curves(
            long,
            x=Axis("epoch", "epoch"),
            y=LOSS,
            series="series",
            panel="of",
        ),
        "True training loss of each checkpoint, and that of the point of the plane beneath it. "
        f"{counted(path['seed'].nunique(), 'seed')}. {BAND}",
        "Median ratio of the loss on the plane to the checkpoint's true loss, all checkpoints: "
        + "; ".join(
            f"{of} {ratio:.2g}"
            for of, ratio in (path["plane_loss"] / path["loss"]).groupby(path["of"]).median().items()
        )
        + ".",
    )


def _planes(records: Records[ErrorSurface], surface: pd.DataFrame) -> list[Figure]:
    """Maps of the first seed."""
    path, places, way = (records.analysis(name) for name in ("path", "places", "walk"))
    places = places.replace({"label": NETWORKS})
    found = []

    def add(kind: str, title: str, caption: str, alt: str, x: str, y: str, **more: Any) -> None:
        grid = surface[surface["measured"] == kind]
        if len(grid):
            panel = "of" if grid["of"].nunique() > 1 else None
            chart = surfaces(grid, x=Axis("x", x), y=Axis("y", y), z=LOSS, panel=panel, **more)
            caption = f"{caption} Training loss, seed {grid['seed'].iloc[0]}. {LINES}"
            found.append(Figure(f"plane-{PLANES[kind]}", title, chart, caption, alt))

    first, second = "first direction (filter norms)", "second direction (filter norms)"
    add(
        RANDOM,
        "Around a minimum of small and of large batches",
        "The plane of two random directions, in which each unit's weights are as long as the network's own (filter "
        "norms); the network lies in the middle.",
        "Two maps of the training loss, each with a trained network in its middle, from which the loss rises to all "
        "sides.",
        first,
        second,
    )
    add(
        MINIMA,
        "The plane through three minima",
        "Lengths are distances between weights.",
        "A map of the training loss in the plane of three trained networks: each lies in a basin of its own.",
        "distance",
        "distance",
        places=places[places["measured"] == MINIMA] if len(places) else None,
    )
    grid = surface[surface["measured"] == PATH]
    if len(grid):
        found.append(_path_figure(grid, path[path["seed"] == grid["seed"].iloc[0]] if len(path) else path))
    add(
        CURVE,
        "A trained curve between two minima",
        "The plane of the trained Bézier curve and of the straight line between its ends.",
        "A map of the training loss: the straight line between two networks crosses a ridge, the trained curve goes "
        "round it.",
        "distance",
        "distance",
        paths=way.replace({"path": WAYS}),
        places=places[places["measured"] == CURVE] if len(places) else None,
    )
    return found


def _path_figure(grid: pd.DataFrame, path: pd.DataFrame) -> Figure:
    """Maps with the path of each training, and below each its loss; a slider walks along both."""
    epochs = sorted(path["epoch"].unique()) if len(path) else []
    path = path.assign(step=path["epoch"].map(epochs.index)) if len(path) else path
    networks = order(grid["of"])
    maps = surfaces(
        grid,
        x=Axis("x", "first component"),
        y=Axis("y", "second component"),
        z=LOSS,
        panel="of" if len(networks) > 1 else None,
        paths=path,
        places=_ends(path) if len(path) else None,
        stops=path if len(path) else None,
    )
    caption = (
        "The plane of the first two principal components of the path; dots are checkpoints, projected on it. Below, "
        "the true loss of each checkpoint and the loss of the plane at its projection. Training loss, seed "
        f"{grid['seed'].iloc[0]}. {LINES}"
    )
    alt_text = "Two maps of the training loss with the path of training from its first checkpoint to its last."
    title = "The path of training on its own plane"
    if path.empty:
        return Figure(f"plane-{PLANES[PATH]}", title, maps, caption, alt_text)
    known = path.rename(columns={"loss": TRUE, "plane_loss": BENEATH}).melt(
        ["of", "epoch"], [TRUE, BENEATH], "what", "loss"
    )
    limits = LOSS.limits(known["loss"])
    below = [
        lines(
            known[known["of"] == of],
            x=Axis("epoch", "epoch"),
            y=replace(LOSS, domain=limits),
            series="what",
            stops=epochs,
            titled=number == 0,
            part=f"_below{number}",
            width=WIDTH // len(networks),
            height=130,
        )
        for number, of in enumerate(networks)
    ]
    losses = path.pivot_table(index="epoch", columns="of", values="loss")
    said = [
        f"{epoch}: training loss " + ", ".join(f"{rounded(losses.loc[epoch, of])} ({of})" for of in networks)
        for epoch in epochs
    ]
    both = above(maps, beside(*below, spacing=24), spacing=16).properties(usermeta=SQUARE)
    return Figure(f"plane-{PLANES[PATH]}", title, walk.slider(both, "epoch", said), caption, alt_text)


def _ends(path: pd.DataFrame) -> pd.DataFrame:
    """First and last checkpoint of each path, named by their epochs."""
    chosen = path[path["epoch"].isin([path["epoch"].min(), path["epoch"].max()])]
    return chosen.assign(label="epoch " + chosen["epoch"].astype(str))
