"""The dials of the study of sensitivity, and their values at each preset. Imports no torch."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from theodolite.study import Settings


class Sensitivity(Settings):
    """Dials of the study, at ``quick``."""

    seeds: PositiveInt = 8
    data: str = "mnist"
    train: PositiveInt = 4096  # each seed its own; a multiple of all batch sizes: epochs and steps are exactly equal
    test: PositiveInt | None = 4096  # as many, so that both sets are measured with like error
    hidden: tuple[PositiveInt, ...] = (64, 64)  # the report does not say which network
    batch_sizes: tuple[PositiveInt, ...] = (32, 64, 256, 512, 1024)  # the report's
    middle: PositiveInt = 256  # at equal steps all take as many as this one does in its epochs
    learning_rate: PositiveFloat = 1e-3  # Adam's default, for every batch size: the report changes nothing else
    epochs: PositiveInt = 24  # close to the 25 of the report's Figure 11, and divisible as the check below asks
    loss: PositiveFloat = 0.1  # at which all are compared too: a training loss that every batch size reaches
    jump: PositiveFloat = 1.0  # length of the step by which test images are moved, in units of a pixel's deviation
    sharpness_samples: Annotated[int, Field(ge=1)] = 1024  # of the training set: it takes some 30 gradients a network

    @model_validator(mode="after")
    def _check(self) -> "Sensitivity":
        if self.middle not in self.batch_sizes or len(set(self.batch_sizes)) < 3:
            raise ValueError("expected at least three batch sizes, the one in the middle among them")
        for size in self.batch_sizes:
            if self.epochs * size % self.middle:
                raise ValueError(
                    f"expected epochs * batch_size / middle to be whole, as {self.epochs} * {size} / {self.middle} is "
                    "not; change epochs or middle"
                )
        return self


PRESETS = {
    "smoke": Sensitivity(
        seeds=3, data="mnist1d", train=1024, test=512, hidden=(32,), batch_sizes=(32, 64, 128), middle=64, epochs=16,
        loss=1.7, sharpness_samples=256,
    ),
    "quick": Sensitivity(),
    "full": Sensitivity(seeds=10, train=60_000, test=None, hidden=(128, 64), loss=0.05, sharpness_samples=8192),
}  # fmt: skip
