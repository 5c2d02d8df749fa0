"""How the learning rate changes from epoch to epoch."""

import math
from typing import Literal


def factor(schedule: Literal["constant", "cosine"], epoch: int, epochs: int) -> float:
    """What the learning rate is multiplied by in an epoch, counted from 1.

    ``cosine`` falls from 1 in the first epoch towards 0 after the last, as ``CosineAnnealingLR(T_max=epochs)`` stepped
    once an epoch does (Loshchilov and Hutter 2017, equation 5, without restarts).

    Example:
        >>> [round(factor("cosine", epoch, 4), 3) for epoch in (1, 2, 3, 4)]
        [1.0, 0.854, 0.5, 0.146]
    """
    if schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2
