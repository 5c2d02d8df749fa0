"""Findings to files: the page, its Markdown twin, tables, figures and claims."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from theodolite.findings import Figure, Table, Verdict


@dataclass(frozen=True, slots=True)
class RunsSummary:
    """What the runs of a study cost and how they ended."""

    done: int
    failed: int
    diverged: int  # among the done
    censored: int  # done, not diverged, but not converged within their epochs; 0 where a study has no convergence
    seeds: int
    wall_seconds: float  # all runs together, as recorded
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)  # {"theodolite": "0.1.0", "torch": "2.13.0"}
    errors: Sequence[str] = ()  # of the failed runs


@dataclass(frozen=True, slots=True)
class StudyFindings:
    """All that the page says about one study."""

    name: str
    title: str
    question: str
    source: str
    settings: Mapping[str, object]
    tables: Sequence[Table]
    figures: Sequence[Figure]
    verdicts: Sequence[Verdict]
    runs: RunsSummary
    not_shown: str
    command: str  # that makes this study again


def build(directory: Path, findings: Sequence[StudyFindings]) -> Path:
    """Write the report of a survey into its results folder, and return the path of the page."""
    raise NotImplementedError
