"""The dials of the study of the gradient norm, and their values at each preset. Imports no torch."""

import math
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from theodolite.study import Settings


class GradientNorm(Settings):
    """Dials of the study, at ``quick``."""

    seeds: PositiveInt = 8
    function: str = "cos"  # the report's first
    domain: tuple[float, float] = (-math.pi, math.pi)  # one whole period
    points: Annotated[int, Field(ge=8)] = 512  # training points, evenly spaced
    function_epochs: PositiveInt = 500  # of eight steps each: the training loss then falls a thousandfold
    source: str = "mnist"  # the data set of the report's other networks of this part
    train: PositiveInt | None = 10_000  # a subset
    test: PositiveInt | None = 2_000
    hidden: tuple[PositiveInt, ...] = (32, 32)
    epochs: PositiveInt = 30
    learning_rate: PositiveFloat = 1e-3  # Adam's default
    batch_size: PositiveInt = 64  # of training, and of the mini-batches measured
    batches: PositiveInt = 8  # mini-batches measured at each snapshot
    snapshots: PositiveInt = 30  # of each run, evenly spaced, beside that before training

    def evaluations(self) -> float:
        """The whole set and some mini-batches at each snapshot."""
        return float(self.snapshots) * (self.batches + 1)


PRESETS = {
    "smoke": GradientNorm(
        seeds=3,
        points=128,
        function_epochs=120,
        source="digits",
        train=None,
        test=None,
        epochs=20,
        batches=2,
        snapshots=10,
    ),
    "quick": GradientNorm(),
    "full": GradientNorm(seeds=10, function_epochs=2_500, train=None, test=None, epochs=51, batches=32, snapshots=51),
}
