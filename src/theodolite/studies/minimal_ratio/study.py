"""The minimal ratio against the loss at certified critical points: the report's Figure 8 put right.

Beside it the report's own protocol, measured. Every setting is chosen here, before any run, with its reason beside it;
:mod:`~theodolite.studies.minimal_ratio.measurements` measures, :mod:`~theodolite.studies.minimal_ratio.findings` tells.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from theodolite.claims import Claim
from theodolite.findings import Table
from theodolite.store.records import Records
from theodolite.studies.minimal_ratio import figures as minimal_ratio_figures
from theodolite.studies.minimal_ratio import findings
from theodolite.studies.minimal_ratio import protocol as minimal_ratio_protocol
from theodolite.studies.minimal_ratio.settings import PRESETS, MinimalRatio
from theodolite.study import AnalysisSpec, RunSpec, Study

if TYPE_CHECKING:
    from theodolite.runs import Trained
    from theodolite.train import Outcome

NAME = "minimal-ratio"


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


def tables(records: Records[MinimalRatio]) -> list[Table]:
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
    settings_type=MinimalRatio,
    presets=PRESETS,
    expand=expand,
    measure=measure,
    analyses=analyses,
    analyse=analyse,
    tables=tables,
    figures=minimal_ratio_figures.figures,
    claims=CLAIMS,
    renamed=findings.RENAMED,
    seconds={"smoke": 10, "quick": 125, "full": 900},
    not_shown=(
        "Anything about large networks: these have 19 to 51 parameters, and exact certificates end near a thousand. "
        "The points found are no fair sample of all there are: each way to start has its own taste, which is why "
        "correlations stand by start and by number of live units too. A correlation over points says nothing about the "
        "path of a training, which need not come near any of them. The prediction from random matrices is compared at "
        "sizes where it is an approximation at best."
    ),
)
