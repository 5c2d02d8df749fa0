"""The error surface around, along and between trained networks: planes, a path, a curve, and how wide minima are.

Beyond the report. Every setting is chosen here, before any run, with its reason beside it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field, PositiveFloat, PositiveInt

from theodolite.claims import Claim, Evidence, Kind, interval
from theodolite.data import DataSpec
from theodolite.figures.curves import BAND, curves
from theodolite.figures.scales import Axis, Rule
from theodolite.figures.surface import LINES, surfaces
from theodolite.findings import Figure, Table
from theodolite.store.records import Records
from theodolite.studies.classifiers import CLASSES, classifier
from theodolite.study import AnalysisSpec, RunSpec, Seeds, Settings, Study, Training

if TYPE_CHECKING:
    from theodolite.runs import Trained
    from theodolite.train import Outcome

NAME = "error-surface"
SMALL, LARGE, STOPPED = "small batch", "large batch", "small batch, stopped at the large batch's loss"
NETWORKS = (SMALL, LARGE, STOPPED)
WIDTH, RANDOM, PATH, MINIMA, CURVE = "width", "random plane", "path", "three minima", "curve"  # what is measured
LINE = "straight line"
RISE = 0.1 * math.log(CLASSES)  # of the loss, at which a minimum ends: a tenth of the loss of guessing
SECOND = 10_000  # added to the seeds of the large batch's network, so that the two share nothing but their data


class ErrorSurface(Settings):
    """Dials of the study, at ``quick``."""

    seeds: PositiveInt = 8
    source: str = "mnist"
    images: PositiveInt | None = 5120  # all planes show the loss on exactly these; null: the whole training set
    hidden: tuple[PositiveInt, ...] = (32, 32)
    batch_sizes: tuple[PositiveInt, PositiveInt] = (
        32,
        512,
    )  # the large one a tenth of the images, as Keskar et al. 2017
    epochs: PositiveInt = 100  # equal for both, as Keskar et al. and Li et al. have it; 1000 steps of the large batch
    learning_rate: PositiveFloat = 1e-3  # Adam's default, for both
    snapshot_every: PositiveInt = 4  # epochs between the points of a path
    grid: Annotated[int, Field(ge=5)] = 51  # points along each axis of a plane
    directions: PositiveInt = 10  # random ones, each walked both ways, whose mean loss tells how wide a minimum is
    reach: PositiveFloat = 1.0  # the farthest they go, in filter norms: as far as the weights are long
    radii: Annotated[int, Field(ge=2)] = 20  # steps on the way
    curve_epochs: PositiveInt = 25  # passes over the images in which the curve is trained


PRESETS = {
    "smoke": ErrorSurface(
        seeds=3, source="digits", images=None, hidden=(16, 16), batch_sizes=(16, 144), epochs=20, snapshot_every=2,
        grid=21, directions=3, radii=10, curve_epochs=5,
    ),
    "quick": ErrorSurface(),
    "full": ErrorSurface(seeds=10, images=None, hidden=(64, 64), batch_sizes=(32, 6000), directions=20),
}  # fmt: skip


def expand(settings: ErrorSurface) -> Iterator[RunSpec]:
    """Two networks a seed: small batches and large ones."""
    for network in (SMALL, LARGE):
        for seed in range(settings.seeds):
            yield _spec(settings, network, seed)


def analyses(settings: ErrorSurface) -> Iterator[AnalysisSpec]:
    """Widths, paths and curves of every seed; whole planes of the first seed only, for they are to look at."""
    wanted = settings.model_dump(include={"grid", "directions", "reach", "radii", "curve_epochs"})

    def analysis(kind: str, of: str, seed: int, *inputs: RunSpec) -> AnalysisSpec:
        own = {**wanted, "kind": kind, "plane": seed == 0}
        names = tuple(spec.fingerprint() for spec in inputs)
        return AnalysisSpec(study=NAME, labels={"measured": kind, "of": of}, seed=seed, inputs=names, settings=own)

    for seed in range(settings.seeds):
        small, large = (_spec(settings, network, seed) for network in (SMALL, LARGE))
        if seed == 0:
            yield analysis(RANDOM, SMALL, seed, small)
            yield analysis(RANDOM, LARGE, seed, large)
            if settings.seeds > 1:
                yield analysis(MINIMA, "three", seed, small, large, _spec(settings, SMALL, 1))
        yield analysis(PATH, SMALL, seed, small)
        yield analysis(PATH, LARGE, seed, large)
        yield analysis(CURVE, "both", seed, small, large)
        yield analysis(WIDTH, "both", seed, small, large)


def measure(spec: RunSpec, outcome: "Outcome") -> Mapping[str, pd.DataFrame]:
    """Nothing of one network while it trains: all is measured on finished ones."""
    return {}


def analyse(spec: AnalysisSpec, trained: Sequence["Trained"]) -> Mapping[str, pd.DataFrame]:
    """One of five measurements, all of the training loss."""
    from theodolite.studies import surface_measurements

    return surface_measurements.measured(spec, trained)


def tables(records: Records) -> list[Table]:
    """How wide the minima are, how flat the paths, how high the line and the curve."""
    width, path, curve = (records.analysis(name) for name in ("width", "path", "curve"))
    minima = [
        {
            "network": network,
            "seeds": part["seed"].nunique(),
            **_interval(_at_minimum(part), "ratio", "training loss"),
            **_interval(_radius(part), "median", "radius"),
        }
        for network, part in _groups(width, "network")
    ]
    ways = [
        {
            "network": network,
            "seeds": part["seed"].nunique(),
            **{
                name: value
                for column, label in PATH_COLUMNS.items()
                for name, value in _interval(_exact(_of_path(part), column), "ratio", label).items()
            },
        }
        for network, part in _groups(path, "of")
    ]
    heights = [
        {
            "way": way,
            "seeds": part["seed"].nunique(),
            **_interval(_exact(part, "loss"), "ratio", "highest training loss"),
        }
        for way, part in _heights(curve)
    ]
    found = [
        Table(
            "minima",
            "How wide the minima are",
            pd.DataFrame(minima),
            "Geometric mean of the training loss and median radius over seeds with their 95 % intervals. Radius: "
            "where the mean training loss over filter-normalised random directions, walked both ways, has risen by "
            f"{RISE:.2f} (a tenth of the loss of guessing); 1 is as far as the weights of each unit are long.",
        ),
        Table(
            "paths",
            "What the plane of a training path leaves out",
            pd.DataFrame(ways),
            "Geometric means over seeds with their 95 % intervals. Shares of variance along the two axes; the farthest "
            "that a checkpoint lies off the plane, as a share of the way from the first to the last; the loss that the "
            "plane shows over the true loss of the checkpoint, geometric mean over checkpoints before the last.",
        ),
        Table(
            "connection",
            "The way between the two networks",
            pd.DataFrame(heights),
            "Geometric mean over seeds of the highest training loss with its 95 % interval.",
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


def _heights(curve: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Per way its highest loss, a row a seed; the higher of the two ends is the lowest that any way can have."""
    if curve.empty:
        return
    ends = curve[curve["t"].isin([0.0, 1.0]) & (curve["path"] == LINE)]
    for way, part in (("the higher end", ends), *((path, curve[curve["path"] == path]) for path in (CURVE, LINE))):
        yield way, part.groupby("seed")[["loss"]].max().reset_index()


def figures(records: Records) -> list[Figure]:
    """The planes of the first seed, and width, off-plane losses and curves of all."""
    settings = records.plan.settings
    width, path, curve, surface = (records.analysis(name) for name in ("width", "path", "curve", "surface"))
    found = _planes(records, surface) if len(surface) else []
    if len(width):
        seeds = width["seed"].nunique()
        mean = width.groupby(["network", "seed", "radius"])["loss"].mean().unstack("radius")
        rise = mean.sub(mean[0.0], axis=0).melt(value_name="rise", ignore_index=False).reset_index()
        chart = curves(
            rise[rise["radius"] > 0].sort_values("network", key=lambda names: names.map(NETWORKS.index)),
            x=Axis("radius", "distance from the minimum (filter norms)", domain=(0.0, settings["reach"])),
            y=Axis("rise", "rise of the training loss", log=True),
            series="network",
            rules=[Rule(RISE, f"end of the minimum: {RISE:.2f}")],
        )
        found.append(
            Figure(
                "width",
                "How far from a minimum the loss rises",
                chart,
                f"Mean training loss over {settings['directions']} filter-normalised random directions walked both "
                f"ways, less that at the minimum. {seeds} seeds. {BAND}",
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
                    curve,
                    x=Axis("t", "share of the way from the small batch's network to the large one's"),
                    y=Axis("loss", "training loss (cross entropy)", log=True),
                    series="path",
                ),
                f"Training loss on a trained Bézier curve and on the straight line. {curve['seed'].nunique()} seeds. "
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
        f"{path['seed'].nunique()} seeds. {BAND}",
        "The loss that the plane of the path shows at each checkpoint beside the checkpoint's true loss.",
    )


def _planes(records: Records, surface: pd.DataFrame) -> list[Figure]:
    """Maps of the first seed."""
    path, places, walk = (records.analysis(name) for name in ("path", "places", "walk"))
    z = Axis("loss", "training loss (cross entropy)", log=True)
    found = []

    def add(kind: str, title: str, caption: str, alt: str, x: str, y: str, **more: Any) -> None:
        grid = surface[surface["measured"] == kind]
        if len(grid):
            panel = "of" if grid["of"].nunique() > 1 else None
            chart = surfaces(grid, x=Axis("x", x), y=Axis("y", y), z=z, panel=panel, **more)
            caption = f"{caption} Training loss, seed {grid['seed'].iloc[0]}. {LINES}"
            found.append(Figure(f"plane-{kind.replace(' ', '-')}", title, chart, caption, alt))

    first, second = "first direction (filter norms)", "second direction (filter norms)"
    add(
        RANDOM,
        "Around a minimum of small and of large batches",
        "The plane of two filter-normalised random directions; the network lies in the middle.",
        "Two maps of the training loss around a trained network: a basin with its lowest point in the middle.",
        first,
        second,
    )
    add(
        PATH,
        "The path of training on its own plane",
        "The plane of the first two principal components of the path; dots are checkpoints, projected.",
        "Two maps of the training loss with the path of training from a region of high loss to a minimum.",
        "first component",
        "second component",
        paths=path[path["seed"] == 0] if len(path) else None,
        places=_ends(path[path["seed"] == 0]) if len(path) else None,
    )
    add(
        MINIMA,
        "The plane through three minima",
        "Lengths are distances between weights.",
        "A map of the training loss with three separate basins, one at each network.",
        "distance",
        "distance",
        places=places[places["measured"] == MINIMA] if len(places) else None,
    )
    add(
        CURVE,
        "A curve of low loss between two minima",
        "The plane of the trained Bézier curve, which bends around what the straight line crosses.",
        "A map of the training loss with two networks, the straight line between them and a curve around the ridge.",
        "distance",
        "distance",
        paths=walk,
        places=places[places["measured"] == CURVE] if len(places) else None,
    )
    return found


def _ends(path: pd.DataFrame) -> pd.DataFrame:
    """First and last checkpoint of each path, named by their epochs."""
    chosen = path[path["epoch"].isin([path["epoch"].min(), path["epoch"].max()])]
    return chosen.assign(label="epoch " + chosen["epoch"].astype(str))


def _groups(table: pd.DataFrame, by: str) -> Iterator[tuple[Any, pd.DataFrame]]:
    return iter(table.groupby(by, sort=False)) if len(table) else iter(())


def _interval(evidence: Evidence, kind: Kind, name: str) -> dict[str, float]:
    found = interval(evidence, kind)
    return found.columns(name)


def _exact(table: pd.DataFrame, column: str) -> Evidence:
    return Evidence.exact(table.set_index("seed")[column])


def _at_minimum(width: pd.DataFrame) -> Evidence:
    return Evidence.exact(width[width["radius"] == 0].groupby("seed")["loss"].first())


def _radius(width: pd.DataFrame) -> Evidence:
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


def _failed(records: Records, kind: str, evidence: Evidence) -> Evidence:
    """A measurement that failed (a network diverged) keeps its seed, with a number that nobody knows."""
    lost = records.analyses[(records.analyses["measured"] == kind) & (records.analyses["status"] == "failed")]["seed"]
    index = evidence.low.index.append(pd.Index(lost, dtype="int64"))
    return Evidence(evidence.low.reindex(index), evidence.high.reindex(index))


def _wider(records: Records) -> Evidence:
    width = records.analysis("width")
    if width.empty:
        return Evidence.exact(pd.Series(dtype="float64"))
    small, large = (_radius(width[width["network"] == network]) for network in (SMALL, LARGE))
    return _failed(records, WIDTH, small / large)


def _lower(records: Records) -> Evidence:
    heights = dict(_heights(records.analysis("curve")))
    if not heights:
        return Evidence.exact(pd.Series(dtype="float64"))
    return _failed(records, CURVE, _exact(heights[CURVE], "loss") / _exact(heights[LINE], "loss"))


CLAIMS = (
    Claim(
        id="small-batch-is-wider",
        sentence="A minimum found with small batches is wider than one found with large batches.",
        source="beyond",
        statistic="radius at which the mean training loss over filter-normalised random directions has risen by a "
        "tenth of the loss of guessing, small batch over large batch at equal epochs",
        kind="median_ratio",
        side="above",
        threshold=1.0,
        evidence=_wider,
    ),
    Claim(
        id="curve-connects",
        sentence="Two minima are connected by a curve on which the loss stays lower than on the straight line.",
        source="beyond",
        statistic="highest training loss on the trained Bézier curve over the highest on the straight line",
        kind="ratio",
        side="below",
        threshold=1.0,
        evidence=_lower,
    ),
)


def _spec(settings: ErrorSurface, network: str, seed: int) -> RunSpec:
    number = (SMALL, LARGE).index(network)
    return RunSpec(
        study=NAME,
        labels={"network": network, "batch_size": settings.batch_sizes[number]},
        seed=seed,
        data=DataSpec(source=settings.source, train=settings.images),
        model=classifier(settings.source, settings.hidden),
        training=Training(
            loss="cross_entropy",
            learning_rate=settings.learning_rate,
            batch_size=settings.batch_sizes[number],
            epochs=settings.epochs,
            evaluate_every=10,
            snapshot_every=settings.snapshot_every,
        ),
        seeds=Seeds(weights=seed + SECOND * number, order=seed + SECOND * number),
    )


STUDY = Study(
    name=NAME,
    title="The error surface around and between minima",
    question="How wide are the minima that small and large batches find, and is there a low way from one to the other?",
    source="beyond the report",
    presets=PRESETS,
    expand=expand,
    measure=measure,
    analyses=analyses,
    analyse=analyse,
    tables=tables,
    figures=figures,
    claims=CLAIMS,
    seconds={"smoke": 11, "quick": 82},
    not_shown=(
        "A plane is two dimensions of tens of thousands: basins that look separate on it may be connected off it, "
        "and the curve shows that they can be. Maps are of one seed. At equal epochs the small batch takes more "
        "steps and reaches a lower loss, so its width also tells how long it trained; the row at equal loss is for "
        "that. Width is measured on the training loss and says nothing by itself about test error. That no curve was "
        "found would not show there is none."
    ),
)
