"""A survey from end to end: names and settings to studies, studies to records, and records to findings."""

from theodolite.survey.comparing import compare
from theodolite.survey.deciding import until_decided
from theodolite.survey.effects import smallest_effects
from theodolite.survey.prepared import PRESETS, Prepared, estimate, prepare, sources
from theodolite.survey.progress import Progress
from theodolite.survey.reading import Found, findings, found, readable, status, together, verdicts
from theodolite.survey.running import run

__all__ = [
    "PRESETS", "Found", "Prepared", "Progress", "compare", "estimate", "findings", "found", "prepare", "readable",
    "run", "smallest_effects", "sources", "status", "together", "until_decided", "verdicts",
]  # fmt: skip
