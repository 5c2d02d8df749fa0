"""The minimal ratio against the loss at certified critical points: the report's Figure 8 put right.

Beside it the report's own protocol, measured. Every setting is chosen here, before any run, with its reason beside it;
:mod:`~theodolite.studies.minimal_ratio.measurements` measures, :mod:`~theodolite.studies.minimal_ratio.findings` tells.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import pandas as pd
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from theodolite.claims import Claim
from theodolite.findings import Table
from theodolite.store.records import Records
from theodolite.studies.minimal_ratio import figures as minimal_ratio_figures
from theodolite.studies.minimal_ratio import findings
from theodolite.studies.minimal_ratio import protocol as minimal_ratio_protocol
from theodolite.study import AnalysisSpec, RunSpec, Settings, Study

if TYPE_CHECKING:
    from theodolite.runs import Trained
    from theodolite.train import Outcome

NAME = "minimal-ratio"
Widths = Annotated[tuple[PositiveInt, ...], Field(min_length=3)]


class MinimalRatio(Settings):
    """Dials of the study, at ``quick``. Networks are tanh perceptrons: a Hessian must exist everywhere."""

    seeds: PositiveInt = 10  # each draws its own data; points on the same data are not independent
    targets: Widths = (3, 6, 1)  # inputs and targets N(0, 1): nothing to learn, so that points of all indices are many
    deep: Widths = (3, 4, 4, 1)  # the same data, two hidden layers
    digits: Widths = (4, 6, 3)  # three classes drawn by the seed, on their first principal components
    cos: Widths = (1, 6, 1)  # one period of the cosine at points drawn by the seed
    samples: PositiveInt = 40  # of random targets and cos: about as many as the network has parameters
    images: PositiveInt = 120  # of digits: what one core walks through in seven seconds
    weight_decay: PositiveFloat = 3e-3  # so that no point lies at infinity or on a flat surface; the dial goes below it
    decays: tuple[NonNegativeFloat, ...] = (1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 0.0)  # the dial, on random targets
    random: PositiveInt = 120  # starts at random weights with an index to reach
    symmetric: PositiveInt = 60  # starts with tied or dead units
    steps: PositiveInt | None = None  # the most of a walk; null: what the finder thinks right
    trainings: PositiveInt = 8  # whose snapshots are starts
    snapshots: PositiveInt = 5  # of each training, evenly spaced
    epochs: PositiveInt = 200  # of each: full batches, Adam at the rate below, by then near a minimum
    learning_rate: PositiveFloat = (
        1e-2  # ten times Adam's default: a network of 50 weights bears it, and epochs are few
    )
    initial: PositiveInt = 100  # initial weights measured as a control
    first: PositiveInt = 100  # epochs of cross entropy: the report's
    norm: PositiveInt = 100  # epochs with the gradient norm as loss: the report is silent, so as many as before
    after: PositiveInt = 40  # epochs of cross entropy after that: the report's
    batch_size: PositiveInt = 32  # of the protocol: the report's in Figure 11
    spectra: NonNegativeInt = 1  # seeds whose spectra are kept: they are to look at


PRESETS = {
    "smoke": MinimalRatio(
        seeds=3, images=60, decays=(0.0,), random=20, symmetric=10, steps=40, trainings=2, snapshots=3, epochs=40,
        initial=30, first=20, norm=20, after=10,
    ),
    "quick": MinimalRatio(),
    "full": MinimalRatio(
        seeds=12, targets=(3, 10, 1), deep=(3, 6, 6, 1), digits=(4, 10, 3), cos=(1, 12, 1), samples=60, random=240,
        symmetric=80, initial=400,
    ),
}  # fmt: skip


def expand(settings: MinimalRatio) -> Iterator[RunSpec]:
    """No run: networks this small are trained where they are measured."""
    return iter(())


def analyses(settings: MinimalRatio) -> Iterator[AnalysisSpec]:
    """For every seed the points of each task, and the report's protocol on digits."""
    search = {
        "samples",
        "weight_decay",
        "random",
        "symmetric",
        "steps",
        "trainings",
        "snapshots",
        "epochs",
        "learning_rate",
    }
    widths = {
        findings.DIGITS: settings.digits, findings.TARGETS: settings.targets, findings.DEEP: settings.deep,
        findings.COS: settings.cos,
    }  # fmt: skip
    for seed in range(settings.seeds):
        for task, layers in widths.items():
            own = {
                **settings.model_dump(include={*search, "initial"}),
                "widths": list(layers),
                "spectra": seed < settings.spectra and task in (findings.TARGETS, findings.DIGITS),
                "decays": list(settings.decays) if task == findings.TARGETS else [],
            }
            if task == findings.DIGITS:
                own["samples"] = settings.images
            yield _analysis(findings.POINTS, task, seed, own)
        own = settings.model_dump(include={"weight_decay", "learning_rate", "first", "norm", "after", "batch_size"})
        own |= {"widths": list(settings.digits), "samples": settings.images}
        yield _analysis(findings.PROTOCOL, findings.DIGITS, seed, own)


def _analysis(kind: str, task: str, seed: int, settings: dict[str, object]) -> AnalysisSpec:
    return AnalysisSpec(study=NAME, labels={"measured": kind, "task": task}, seed=seed, settings=settings)


def measure(spec: RunSpec, outcome: "Outcome") -> Mapping[str, pd.DataFrame]:
    """Nothing: there are no runs."""
    return {}


def analyse(spec: AnalysisSpec, trained: Sequence["Trained"]) -> Mapping[str, pd.DataFrame]:
    """Critical points of one task on one seed's data, or the report's protocol there."""
    from theodolite.studies.minimal_ratio import measurements as minimal_ratio_measurements

    return minimal_ratio_measurements.measured(spec)


def tables(records: Records) -> list[Table]:
    """What certified points show, and what became of the report's protocol."""
    return [*findings.tables(records), *minimal_ratio_protocol.tables(records)]


CLAIMS = (
    Claim(
        id="inverse-correlation",
        sentence="I should see an inverse correlation between the minimal ratio and the loss of the model.",
        source="report, Figure 8",
        statistic="Spearman's correlation of minimal ratio and loss over the distinct certified critical points on one "
        "seed's data, the highest of four tasks",
        kind="correlation",
        side="below",
        threshold=0.0,  # the sentence claims a sign, and no strength
        evidence=findings.inverse,
    ),
    Claim(
        id="report-protocol-is-critical",
        sentence="In order to get the model to a point where the gradient was zero […] optimizing with this loss "
        "function, this brought the grad norm to zero.",
        source="report, Figure 8",
        statistic="norm of the gradient over the largest curvature, median over the last 40 epochs of the report's "
        "protocol, the smaller of the protocol to the letter and with weight decay",
        kind="ratio",
        side="below",
        threshold=1e-8,  # what every certified critical point must meet; float64 reaches 1e-15
        evidence=findings.protocol,
    ),
    Claim(
        id="higher-loss-more-negative",
        sentence="Also at one number of live units and for one way to start, critical points of higher loss have more "
        "negative eigenvalues.",
        source="beyond",
        statistic="Spearman's correlation of index and loss within strata of equal start and equal number of live "
        "units, mean over strata weighted by their points, on one seed's data, the lowest of four tasks",
        kind="correlation",
        side="above",
        threshold=0.0,  # as above; over all points together it would be the first claim again
        evidence=findings.stratified,
    ),
)

STUDY = Study(
    name=NAME,
    title="The minimal ratio at critical points",
    question="Do critical points of higher loss have fewer directions of positive curvature, and what did the report's "
    "protocol measure?",
    source="Figure 8",
    presets=PRESETS,
    expand=expand,
    measure=measure,
    analyses=analyses,
    analyse=analyse,
    tables=tables,
    figures=minimal_ratio_figures.figures,
    claims=CLAIMS,
    seconds={"smoke": 10, "quick": 125, "full": 900},
    not_shown=(
        "Anything about large networks: these have 19 to 51 parameters, and exact certificates end near a thousand. "
        "The points found are no fair sample of all there are: each way to start has its own taste, which is why "
        "correlations stand by start and by number of live units too. A correlation over points says nothing about the "
        "path of a training, which need not come near any of them. The prediction from random matrices is compared at "
        "sizes where it is an approximation at best."
    ),
)
