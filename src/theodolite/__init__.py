"""Theodolite surveys how neural networks learn."""
