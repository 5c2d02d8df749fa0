"""What networks are trained on: whole sets in one tensor each, on the device, indexed there."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

if TYPE_CHECKING:
    from theodolite.data import Dataset


@dataclass(frozen=True, slots=True)
class Split:
    """Inputs and targets of one set."""

    inputs: Tensor  # (N, ...) of the training's dtype, or int64 tokens
    targets: Tensor  # (N,) int64 classes, (N, tokens) a class each, or (N, outputs) of the training's dtype

    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """The same on a device and in a type; class labels and the numbers of tokens stay integers."""
        targets = self.targets.to(device, dtype if self.targets.is_floating_point() else torch.int64)
        inputs = self.inputs.to(device, dtype if self.inputs.is_floating_point() else torch.int64)
        return type(self)(inputs, targets)


@dataclass(frozen=True, slots=True)
class TrainingData:
    """A training set and the test set it is judged on."""

    train: Split
    test: Split

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """The same on a device and in a type."""
        return type(self)(self.train.to(device, dtype), self.test.to(device, dtype))


def tensors(dataset: "Dataset", dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> TrainingData:
    """Turn the arrays of a data set into tensors: once a training, not once a batch.

    Inputs keep their shape, ``(N, channels, height, width)`` for images, and are scaled as the data set says.
    """
    array = torch.empty((), dtype=dtype).numpy().dtype
    train = Split(torch.from_numpy(dataset.inputs_as(array, "train")), torch.tensor(dataset.train_targets))
    test = Split(torch.from_numpy(dataset.inputs_as(array, "test")), torch.tensor(dataset.test_targets))
    return TrainingData(train, test).to(device, dtype)
