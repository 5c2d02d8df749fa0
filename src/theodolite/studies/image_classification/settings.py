"""The dials of the study of image classification, and their values at each preset. Imports no torch."""

from typing import Literal, Self

from pydantic import PositiveFloat, PositiveInt

from theodolite import machine
from theodolite.study import Settings


class ImageClassification(Settings):
    """Dials of the study, at ``quick``."""

    seeds: PositiveInt = 8  # of each DNN
    cnn_seeds: PositiveInt = 3  # of each CNN, never more than seeds: they are ten times as dear
    data: Literal["cifar10", "digits"] = "cifar10"
    train: PositiveInt | None = 2000  # what two cores can train 33 networks on in minutes; null: all 50,000
    test: PositiveInt | None = 1000
    learning_rate: PositiveFloat = 1e-3  # Adam's default; the report names Adam elsewhere
    batch_size: PositiveInt = 64  # 128 on the whole set; less here, so that an epoch is not too few steps
    epochs: PositiveInt = 20  # so that five are left after the fifteenth
    # Of inputs and passes; auto: bfloat16 where the processor says that it has instructions for it, else float32.
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    augment: bool = False  # random crops and mirror images; the report has none

    def seeds_of_cnns(self) -> int:
        """Of each."""
        return min(self.seeds, self.cnn_seeds)

    def settled(self) -> Self:
        """With the precision that this processor is fast in."""
        if self.precision != "auto":
            return self
        return self.model_copy(update={"precision": "bfloat16" if machine.has_bfloat16() else "float32"})


PRESETS = {
    "smoke": ImageClassification(seeds=3, data="digits", train=256, test=128),
    "quick": ImageClassification(),
    # 25 epochs, as the report trains a DNN elsewhere (Figure 11).
    "full": ImageClassification(seeds=10, cnn_seeds=5, train=None, test=None, batch_size=128, epochs=25),
}
