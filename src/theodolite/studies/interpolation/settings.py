"""The dials of the study of interpolation, and their values at each preset. Imports no torch."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from theodolite.study import Settings


class Interpolation(Settings):
    """Dials of the study, at ``quick``."""

    seeds: PositiveInt = 8  # pairs of networks
    source: str = "mnist"
    images: PositiveInt | None = (
        16_384  # of the training set, each seed its own: sixteen whole batches of 1024; null: all
    )
    hidden: tuple[PositiveInt, ...] = (
        64,
        64,
    )  # "the same DNN": two hidden layers, so that both must be matched at once
    batch_sizes: tuple[PositiveInt, PositiveInt] = (32, 1024)  # the report's
    epochs: PositiveInt = 25  # the report's
    learning_rate: PositiveFloat = 1e-3  # Adam's default, for both batch sizes: the report names one training
    alphas: Annotated[int, Field(ge=31)] = 31  # from -1 to 2, evenly spaced; 0 and 1 are among them
    shared_start: bool = False  # also pairs from the same initial weights: the report does not say which it took
    cnn_seeds: Annotated[int, Field(ge=0, le=10_000)] = 0  # pairs of small convolutional networks with BatchNorm
    cnn_channels: tuple[PositiveInt, ...] = (16, 32)  # two pools, as many as the smallest images allow comfortably
    cnn_hidden: tuple[PositiveInt, ...] = (64,)
    cnn_images: PositiveInt | None = 16_384  # renewing statistics reads them once more for every alpha
    cnn_alphas: Annotated[int, Field(ge=31)] = 31  # ten times as dear as a DNN's, and no claim is of them

    def evaluations(self) -> float:
        """Three matchings of each pair, on both sets."""
        return 12.0 * self.alphas

    @model_validator(mode="after")
    def _check(self) -> "Interpolation":
        if self.alphas % 3 != 1 or self.cnn_alphas % 3 != 1:
            raise ValueError("0 and 1 are among the alphas only if their number is 1 more than a multiple of 3")
        return self


PRESETS = {
    "smoke": Interpolation(
        seeds=3, source="digits", images=None, hidden=(32, 32), batch_sizes=(32, 256), shared_start=True,
        cnn_seeds=1, cnn_channels=(4, 8), cnn_hidden=(), cnn_images=256,
    ),
    "quick": Interpolation(),
    "full": Interpolation(seeds=16, images=None, hidden=(128, 128), alphas=61, shared_start=True, cnn_seeds=5),
}  # fmt: skip
