"""Findings to one self-contained page and its Markdown twin."""
