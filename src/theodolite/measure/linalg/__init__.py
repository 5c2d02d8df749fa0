"""Eigenvalues, traces and densities of any symmetric operator; knows no model."""
