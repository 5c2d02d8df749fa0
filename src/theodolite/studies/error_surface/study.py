"""The error surface around, along and between trained networks: planes, a path, a curve, and how wide minima are.

Beyond the report. Every setting is chosen here, before any run, with its reason beside it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from theodolite.claims import Claim, Evidence, worded
from theodolite.store.records import Records
from theodolite.streams import named_seed
from theodolite.studies.classifiers import classifier, images, training_of
from theodolite.studies.error_surface.figures import figures
from theodolite.studies.error_surface.findings import (
    CURVE,
    HIGHER_END,
    LARGE,
    MINIMA,
    OTHER,
    PATH,
    RANDOM,
    RENAMED,
    RISE,
    SMALL,
    WIDTH,
    heights_of,
    radius,
    tables,
)
from theodolite.studies.error_surface.schemas import SCHEMAS
from theodolite.studies.error_surface.settings import PRESETS, ErrorSurface
from theodolite.studies.error_surface.words import WORDS
from theodolite.study import AnalysisSpec, RunSpec, Seeds, Study

if TYPE_CHECKING:
    from theodolite.runs import Trained

NAME = "error-surface"


LABELS = {SMALL: "small batch", LARGE: "large batch", OTHER: "another small batch"}  # of runs: they enter their names


def expand(settings: ErrorSurface) -> Iterator[RunSpec]:
    """Two networks a seed: small batches and large ones; and of the first, whose maps are drawn, a third."""
    for network in (SMALL, LARGE):
        for seed in range(settings.seeds):
            yield _spec(settings, network, seed)
    yield _spec(settings, OTHER, 0)


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
            yield analysis(RANDOM, LABELS[SMALL], seed, small)
            yield analysis(RANDOM, LABELS[LARGE], seed, large)
            yield analysis(MINIMA, "three", seed, small, large, _spec(settings, OTHER, seed))
        yield analysis(PATH, LABELS[SMALL], seed, small)
        yield analysis(PATH, LABELS[LARGE], seed, large)
        yield analysis(CURVE, "both", seed, small, large)
        yield analysis(WIDTH, "both", seed, small, large)


def analyse(spec: AnalysisSpec, trained: Sequence["Trained"]) -> Mapping[str, pd.DataFrame]:
    """One of five measurements, all of the training loss."""
    from theodolite.studies.error_surface import measurements as error_surface_measurements

    return error_surface_measurements.measured(spec, trained)


def _exact(table: pd.DataFrame, column: str) -> Evidence:
    return Evidence.exact(table.set_index("seed")[column])


def _failed(records: Records[ErrorSurface], kind: str, evidence: Evidence) -> Evidence:
    """A measurement that failed (a network diverged) keeps its seed, with a number that nobody knows."""
    lost = records.analyses[(records.analyses["measured"] == kind) & (records.analyses["status"] == "failed")]["seed"]
    index = evidence.low.index.append(pd.Index(lost, dtype="int64"))
    return Evidence(evidence.low.reindex(index), evidence.high.reindex(index))


def _wider(records: Records[ErrorSurface]) -> Evidence:
    width = records.analysis("width")
    if width.empty:
        return Evidence.exact(pd.Series(dtype="float64"))
    small, large = (radius(width[width["network"] == network]) for network in (SMALL, LARGE))
    return _failed(records, WIDTH, small / large)


def _rise(records: Records[ErrorSurface]) -> Evidence:
    heights = dict(heights_of(records.analysis("curve")))
    if not heights:
        return Evidence.exact(pd.Series(dtype="float64"))
    return _failed(records, CURVE, _exact(heights[CURVE], "loss") - _exact(heights[HIGHER_END], "loss"))


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
        sentence="Two minima are connected by a curve along which the loss never rises out of them.",
        source="beyond",
        statistic="highest training loss on the trained Bézier curve less that of the higher of its ends",
        kind="mean",
        side="below",
        # A tenth of the loss of guessing is where a minimum ends in the claim on widths too. That the curve is lower
        # than the straight line it was trained from could not fail.
        threshold=round(RISE, 2),
        evidence=_rise,
    ),
)


def _spec(settings: ErrorSurface, network: str, seed: int) -> RunSpec:
    number = int(network == LARGE)
    own = seed if network == SMALL else named_seed(seed, LABELS[network])  # they share nothing but their data
    return training_of(
        NAME,
        {"network": LABELS[network], "batch_size": settings.batch_sizes[number]},
        seed,
        images(settings.source, seed, train=settings.images, test=None),
        classifier(settings.source, settings.hidden),
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_sizes[number],
        epochs=settings.epochs,
        evaluate_every=10,
        snapshot_every=settings.snapshot_every,
        seeds=Seeds(weights=own, order=own),
    )


STUDY = Study(
    name=NAME,
    title="The error surface around and between minima",
    question="How wide are the minima that small and large batches find, and is there a low way from one to the other?",
    source="beyond the report",
    settings_type=ErrorSurface,
    presets=PRESETS,
    expand=expand,
    analyses=analyses,
    analyse=analyse,
    tables=tables,
    figures=figures,
    claims=worded(CLAIMS, WORDS),
    renamed=RENAMED,
    schemas=SCHEMAS,
    seconds={"smoke": 11, "quick": 51, "full": 2560},
    not_shown=(
        "A plane is two dimensions of very many: basins that look separate on it may be connected off it, which is "
        "what the curve looks for. Maps are of one seed. At equal epochs the small batch takes more "
        "steps and reaches a lower loss, so its width also tells how long it trained; the row at equal loss is for "
        "that. Width is measured on the training loss and says nothing by itself about test error. That no curve was "
        "found would not show there is none."
    ),
)
