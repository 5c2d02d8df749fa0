"""The minimal ratio against the loss at certified critical points: the report's Figure 8 put right.

Beside it the report's own protocol, measured. Every setting is chosen here, before any run, with its reason beside it;
:mod:`~theodolite.studies.minimal_ratio.measurements` measures, :mod:`~theodolite.studies.minimal_ratio.findings` tells.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from theodolite.claims import Claim, worded
from theodolite.findings import Table
from theodolite.store.records import Records
from theodolite.studies.minimal_ratio import coverage as minimal_ratio_coverage
from theodolite.studies.minimal_ratio import figures as minimal_ratio_figures
from theodolite.studies.minimal_ratio import findings
from theodolite.studies.minimal_ratio import protocol as minimal_ratio_protocol
from theodolite.studies.minimal_ratio.schemas import SCHEMAS
from theodolite.studies.minimal_ratio.settings import PRESETS, MinimalRatio
from theodolite.studies.minimal_ratio.words import WORDS
from theodolite.study import AnalysisSpec, RunSpec, Study

if TYPE_CHECKING:
    from theodolite.runs import Trained
    from theodolite.train import Outcome

NAME = "minimal-ratio"
FINDER = 2  # enters the name of what it finds: 2 certifies within the certificate's own radius, counts walks and copies


def expand(settings: MinimalRatio) -> Iterator[RunSpec]:
    """No run: networks this small are trained where they are measured."""
    return iter(())


def analyses(settings: MinimalRatio) -> Iterator[AnalysisSpec]:
    """For every seed the points of each task, a random field beside each, and the report's protocol on digits."""
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
                "finder": FINDER,
                "widths": list(layers),
                "spectra": seed < settings.spectra and task in (findings.TARGETS, findings.DIGITS),
                "decays": list(settings.decays) if task == findings.TARGETS else [],
            }
            if task == findings.DIGITS:
                own["samples"] = settings.images
            yield _analysis(findings.POINTS, task, seed, own)
            null = settings.model_dump(include={"features", "weight_decay", "steps"})
            null |= {"finder": FINDER, "widths": list(layers), "starts": settings.field}
            yield _analysis(findings.FIELD, task, seed, null)
        own = settings.model_dump(include={"weight_decay", "learning_rate", "first", "norm", "after", "batch_size"})
        own |= {"finder": FINDER, "widths": list(settings.digits), "samples": settings.images}
        yield _analysis(findings.PROTOCOL, findings.DIGITS, seed, own)


def _analysis(kind: str, task: str, seed: int, settings: dict[str, object]) -> AnalysisSpec:
    return AnalysisSpec(study=NAME, labels={"measured": kind, "task": task}, seed=seed, settings=settings)


def measure(spec: RunSpec, outcome: "Outcome") -> Mapping[str, pd.DataFrame]:
    """Nothing: there are no runs."""
    return {}


def analyse(spec: AnalysisSpec, trained: Sequence["Trained"]) -> Mapping[str, pd.DataFrame]:
    """Critical points of one task on one seed's data or of a random field, or the report's protocol there."""
    from theodolite.studies.minimal_ratio import measurements as minimal_ratio_measurements

    return minimal_ratio_measurements.measured(spec)


def tables(records: Records[MinimalRatio]) -> list[Table]:
    """What certified points show, and what became of the report's protocol."""
    return [*findings.tables(records), *minimal_ratio_coverage.tables(records), *minimal_ratio_protocol.tables(records)]


CLAIMS = (
    Claim(
        id="inverse-correlation",
        sentence="I should see an inverse correlation between the minimal ratio and the loss of the model.",
        source="report, Figure 8",
        statistic="Spearman's correlation of minimal ratio and loss over the distinct certified critical points on one "
        "seed's data, on each of four tasks",
        kind="correlation",
        side="below",
        threshold=0.0,  # the sentence claims a sign, and no strength
        evidence=findings.inverse,
    ),
    Claim(
        id="stronger-than-a-random-field",
        sentence="That inverse correlation is stronger on the loss of a network than on a smooth random function.",
        source="beyond",
        statistic="Spearman's correlation of minimal ratio and loss over certified points from random starts, less the "
        "same on a Gaussian random field of as many dimensions, on each of four tasks",
        kind="mean",
        side="below",
        threshold=0.0,  # a field has learned nothing: what it shows as well is no property of networks
        evidence=findings.beyond_field,
    ),
    Claim(
        id="larger-ratio-nearer-a-minimum",
        sentence="A larger minimal ratio represents a higher likelihood that the model is approaching a local minima "
        "of the training function.",
        source="report, Figure 8",
        statistic="Spearman's correlation of the minimal ratio at weights on the way of a training and the index of "
        "the critical point that Newton's walk from there ends at (0: a minimum), on each of four tasks",
        kind="correlation",
        side="below",
        threshold=0.0,  # the sentence claims a sign, and no strength
        evidence=findings.approach,
    ),
    Claim(
        id="report-protocol-is-critical",
        sentence="In order to get the model to a point where the gradient was zero […] optimizing with this loss "
        "function, this brought the grad norm to zero.",
        source="report, Figure 8",
        statistic="norm of the gradient over the largest curvature after the last epoch with the gradient norm as loss",
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
        "units, mean over strata weighted by their points, on one seed's data, on each of four tasks",
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
    settings_type=MinimalRatio,
    presets=PRESETS,
    expand=expand,
    measure=measure,
    analyses=analyses,
    analyse=analyse,
    tables=tables,
    figures=minimal_ratio_figures.figures,
    claims=worded(CLAIMS, WORDS),
    renamed=findings.RENAMED,
    schemas=SCHEMAS,
    seconds={"smoke": 10, "quick": 150, "full": 1080},
    not_shown=(
        "Anything about large networks: these have 19 to 51 parameters, and exact certificates end near a thousand. "
        "The points found are no fair sample of all there are, and few of them, as the table of coverage says: each "
        "way to start has its own taste, which is why correlations stand by start and by number of live units too. A "
        "correlation over points says nothing about the path of a training, which need not come near any of them. The "
        "prediction from random matrices is compared at sizes where it is an approximation at best."
    ),
)
