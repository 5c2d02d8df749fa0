"""The dials of the study of capacity, and their values at each preset. Imports no torch."""

from itertools import pairwise
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from theodolite.study import Settings


class Capacity(Settings):
    """Dials of the study, at ``quick``."""

    seeds: PositiveInt = 8
    data: str = "mnist"
    train: PositiveInt | None = 1000  # few, so that a million parameters lie far past the interpolation threshold
    test: PositiveInt | None = None  # the whole test set: what differs between large networks is small
    # One hidden layer, so that size is one dial; 805 to 1,000,120 parameters on MNIST. The steps widen where they cost.
    hidden: tuple[PositiveInt, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 320, 1258)
    noise: Annotated[float, Field(ge=0, le=0.9)] = 0.2  # share of wrong labels; 0 leaves the noisy half out
    # Chosen by the training loss of four sizes on noisy labels, of which 0.001 left up to six times as much.
    learning_rate: PositiveFloat = 3e-3
    batch_size: PositiveInt = 100
    epochs: PositiveInt = 40  # the one criterion for all sizes: so many, while the learning rate goes to zero

    @model_validator(mode="after")
    def _check(self) -> "Capacity":
        if len(self.hidden) < 3 or any(a >= b for a, b in pairwise(self.hidden)):
            raise ValueError("expected at least three hidden widths, each larger than the one before")
        return self


PRESETS = {
    "smoke": Capacity(seeds=3, data="digits", train=256, hidden=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512), batch_size=32),
    "quick": Capacity(),
    # 4,000 images, as Belkin et al. 2019 took of MNIST; all 60,000 would take fifteen times as long.
    "full": Capacity(seeds=10, train=4000, hidden=(1, 2, 4, 8, 16, 32, 64, 128, 256, 400, 640, 1258), epochs=100),
}
