"""A whole survey in a tenth of a second: a study of four small trainings and two analyses, run in this process."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pandas as pd
import pytest

from theodolite import execute, runs, studies, survey
from theodolite.claims import Claim, Evidence
from theodolite.data.spec import DataSpec
from theodolite.execute.schedule import Event, Work
from theodolite.findings import Table
from theodolite.jobs import AnalysisJob
from theodolite.models.description import MLP
from theodolite.store import records
from theodolite.study import (
    METRICS,
    AnalysisSpec,
    RunSpec,
    Seeds,
    Settings,
    Study,
    TableSchema,
    Training,
    number,
    text,
    whole,
)  # fmt: skip

MODELS = {"small": (3,), "large": (7, 5)}


def expand(settings: Settings) -> Iterator[RunSpec]:
    for seed in range(settings.seeds):
        for name, hidden in MODELS.items():
            yield RunSpec(
                study="tiny",
                labels={"model": name},
                seed=seed,
                data=DataSpec(source="function:cos", train=16, test=16),
                model=MLP(inputs=1, hidden=hidden, outputs=1, activation="tanh"),
                training=Training(loss="mse", learning_rate=0.02, epochs=9, snapshot_every=3, convergence=0.1),
                seeds=Seeds(weights=seed, order=seed),
            )


def analyses(settings: Settings) -> Iterator[AnalysisSpec]:
    specs = list(expand(settings))
    for seed in range(settings.seeds):
        inputs = tuple(spec.fingerprint() for spec in specs if spec.seed == seed)
        yield AnalysisSpec(study="tiny", labels={}, seed=seed, inputs=inputs)


def measure(spec: RunSpec, outcome: object) -> dict[str, pd.DataFrame]:
    return {"size": pd.DataFrame({"parameters": [spec.model.parameters], "name": [spec.model.shape]})}


def analyse(spec: AnalysisSpec, trained: list[runs.Trained]) -> dict[str, pd.DataFrame]:
    moved = [
        sum(float((run.weights[name] - first).norm()) for name, first in run.snapshots[0].items()) for run in trained
    ]
    return {"moved": pd.DataFrame({"model": [run.spec.labels["model"] for run in trained], "distance": moved})}


def last_loss(found: records.Records) -> Evidence:
    rows = found.table("metrics").query("model == 'large'").groupby("seed")["train_loss"].last()
    return Evidence.exact(rows)


STUDY = Study(
    name="tiny",
    title="A tiny study",
    question="Does anything get lost?",
    source="beyond",
    settings_type=Settings,
    presets=dict.fromkeys(survey.PRESETS, Settings(seeds=2)),
    expand=expand,
    measure=measure,
    analyses=analyses,
    analyse=analyse,
    tables=lambda found: [
        Table("runs", "Runs", found.runs.drop(columns="wall_seconds")),
        Table("metrics", "Metrics", found.table("metrics")),
        Table("size", "Sizes", found.table("size")),
        Table("moved", "How far the weights went", found.analysis("moved")),
    ],
    figures=lambda found: [],
    claims=[
        Claim(
            id="learns",
            sentence="It learns.",
            source="beyond",
            statistic="training loss",
            kind="mean",
            side="below",
            threshold=1.0,
            evidence=last_loss,
        )
    ],
    not_shown="Anything else.",
    schemas={
        "metrics": METRICS,
        "size": TableSchema({"parameters": whole(1), "name": text()}),
        "moved": TableSchema({"model": text(*MODELS), "distance": number(0)}, key=("model",)),
    },
    seconds={"quick": 0.1, "smoke": 0.1},
)


class Here:
    """An engine without processes: what a job raises, the survey raises."""

    workers = 1

    def equip(self, folder: Path, sources: object) -> None:
        pass

    def run(self, work: Work, jobs: list[object], **_: object) -> Iterator[Event]:
        for place, job in sorted(enumerate(jobs), key=lambda pair: isinstance(pair[1], AnalysisJob)):
            yield Event("started", place)
            yield Event("done", place, work(job, lambda value: None))


@contextmanager
def alone() -> Iterator[None]:
    """The tiny study is the only one, and surveys run in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studies, "INDEX", {"tiny": STUDY})
        patch.setattr(execute, "engine", lambda *_, **__: nullcontext(Here()))
        yield


@pytest.fixture
def tiny() -> Iterator[None]:
    """As :func:`alone`, for one test."""
    with alone():
        yield


def run(directory: Path) -> None:
    """The survey of the tiny study, from the start or going on."""
    for _ in survey.run(survey.prepare(["tiny"], "smoke"), directory, workers=1):
        pass


def seen(directory: Path) -> dict[str, str]:
    """What a reader sees of a results folder: every table, every verdict."""
    (found,) = survey.findings(directory)
    shown = {table.name: table.frame.to_csv(index=False) for table in found.tables}
    return {**shown, "claims": "\n".join(verdict.model_dump_json() for verdict in found.verdicts)}
