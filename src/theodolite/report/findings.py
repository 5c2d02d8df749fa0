"""What the report is made from: plain data, a study at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from theodolite.claims import Change
from theodolite.findings import Figure, Table, Verdict


@dataclass(frozen=True, slots=True)
class RunsSummary:
    """What the runs of a study cost and how they ended."""

    done: int
    failed: int
    diverged: int  # among the done
    censored: int  # done, not diverged, but not converged within their epochs; 0 where a study has no convergence
    seeds: int
    wall_seconds: float  # of all runs together, as recorded
    unfinished: int = 0  # planned, and neither done nor failed: the survey was interrupted or is still running
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)  # {"theodolite": "0.1.0", "torch": "2.13.0"}
    errors: Sequence[str] = ()  # of the failed runs
    kind: str = "runs"  # "analyses" of a study that trains nothing beforehand
    ended_by: Sequence[str] = ()  # the errors that ended recorded trainings, by name


@dataclass(frozen=True, slots=True)
class StudyFindings:
    """All that the page says about one study."""

    name: str
    title: str
    question: str
    source: str
    preset: str
    settings: Mapping[str, object]
    tables: Sequence[Table]
    figures: Sequence[Figure]
    verdicts: Sequence[Verdict]
    runs: RunsSummary
    not_shown: str
    command: str  # that makes this study again
    texts: Mapping[str, str] = field(default_factory=dict)  # source text of a study of one's own, by file


@dataclass(frozen=True, slots=True)
class Side:
    """One of two surveys that are compared."""

    directory: str
    presets: Sequence[str]
    device: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two surveys side by side, claim by claim."""

    a: Side
    b: Side
    changes: Sequence[Change]  # of the claims that both have
    only_a: Sequence[str] = ()  # studies that just one of them has
    only_b: Sequence[str] = ()
    recorded: Table | None = None  # series that both recorded, a row each; None: they have no recordings in common
