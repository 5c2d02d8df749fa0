"""What one network of a stack has for itself."""

from dataclasses import dataclass

from torch import Tensor

from theodolite.train.data import TrainingData


@dataclass(frozen=True, slots=True, eq=False)
class Replica:
    """One network of a stack: all in which it may differ from the others."""

    weights_seed: int  # of its initial weights
    order_seed: int  # of the order of its samples
    learning_rate: float
    train_targets: Tensor | None = None  # (N,) or (N, outputs), like the data's own; None: the data's own
    data: TrainingData | None = None  # of its own, as many samples as the stack's; None: the stack's
