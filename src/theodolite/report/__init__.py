"""Findings to one self-contained page and its Markdown twin."""

from theodolite.report.build import build
from theodolite.report.findings import RunsSummary, StudyFindings

__all__ = ["RunsSummary", "StudyFindings", "build"]
