"""Bridges to libraries that people already train and track with; each optional, one file each, its only importer."""
