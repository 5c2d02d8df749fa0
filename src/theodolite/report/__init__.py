"""Findings to one self-contained page and its Markdown twin, and two surveys side by side."""

from theodolite.report.build import build, check_free, draw, finish
from theodolite.report.compare import build as build_comparison
from theodolite.report.findings import Comparison, RunsSummary, Side, StudyFindings

__all__ = [
    "Comparison",
    "RunsSummary",
    "Side",
    "StudyFindings",
    "build",
    "build_comparison",
    "check_free",
    "draw",
    "finish",
]
