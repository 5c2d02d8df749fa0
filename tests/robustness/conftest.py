"""The tiny study, for every test here that asks for it."""

from tiny import tiny

__all__ = ["tiny"]
