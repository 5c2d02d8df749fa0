"""Optimizers and losses as frozen descriptions: what a RunSpec holds and a fingerprint covers.

One's own are classes with a ``kind``. Torch is imported when one is used, not when one is described.
"""

from theodolite.recipes.losses import Hinge, LabelSmoothing, Loss, OneHot
from theodolite.recipes.optimizers import SAM, AdamW, Muon, Optimizer, RMSprop

__all__ = ["SAM", "AdamW", "Hinge", "LabelSmoothing", "Loss", "Muon", "OneHot", "Optimizer", "RMSprop"]
