"""How the learning rate changes from step to step."""

import math

from theodolite.specs import Training

RISE, START, END = 0.3, 1 / 25, 1 / 25 / 1e4  # one cycle: share of the steps, and parts of the learning rate


def factor(training: Training, epoch: int, step: int, steps: int) -> float:
    """What the learning rate is multiplied by.

    ``cosine`` falls from 1 in the first epoch towards 0 after the last (Loshchilov and Hutter 2017, equation 5, without
    restarts), ``step`` by ``step_factor`` after every ``step_epochs``; both change from epoch to epoch. ``one_cycle``
    rises and falls from step to step along half cosines (Smith and Topin 2018; as ``OneCycleLR`` does by default).
    With ``warmup`` the rate first rises in equal steps to all of it, and the schedule has the epochs that are left.

    Args:
        training: how.
        epoch: counted from 1.
        step: of the epoch, counted from 0.
        steps: of an epoch.

    Example:
        >>> cosine = Training(loss="mse", schedule="cosine", epochs=4)
        >>> [round(factor(cosine, epoch, 0, 1), 3) for epoch in (1, 2, 3, 4)]
        [1.0, 0.854, 0.5, 0.146]
    """
    warmup = training.warmup
    if epoch <= warmup:
        return ((epoch - 1) * steps + step + 1) / (warmup * steps)
    done, epochs = epoch - 1 - warmup, training.epochs - warmup
    if training.schedule == "cosine":
        return (1 + math.cos(math.pi * done / epochs)) / 2
    if training.schedule == "step" and training.step_epochs is not None:
        return float(training.step_factor ** (done // training.step_epochs))
    if training.schedule == "one_cycle":
        return _one_cycle(done * steps + step, epochs * steps)
    return 1.0


def _one_cycle(step: int, steps: int) -> float:
    top = RISE * steps - 1  # the step of the highest rate, whole or not
    if step <= top:
        return _between(START, 1.0, step / top)
    return _between(1.0, END, (step - top) / (steps - 1 - top))


def _between(low: float, high: float, share: float) -> float:
    return high + (low - high) * (1 + math.cos(math.pi * share)) / 2
