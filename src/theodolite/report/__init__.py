"""Findings to one self-contained page and its Markdown twin."""

from theodolite.report.build import RunsSummary, StudyFindings, build

__all__ = ["RunsSummary", "StudyFindings", "build"]
