"""The data of a spec as instruments take them: batches of tensors, in the shape that the network wants."""

from typing import Literal

import torch
from torch import Tensor

from theodolite import data
from theodolite.data import DataSpec
from theodolite.models.description import MLP, Architecture
from theodolite.train.data import tensors

BATCH_SAMPLES = 1024  # samples a batch: within 10 % of the fastest for every instrument, and memory stays bounded
IMAGES = 64  # of them for convolutions: twice as fast as 256, whose outputs are larger than a processor's cache


def measured_batches(
    model: Architecture, spec: DataSpec, part: Literal["train", "test"] = "train", *, size: int | None = None
) -> list[tuple[Tensor, Tensor]]:
    """Batches ``(inputs, targets)`` of a spec's training or test set, in the order of the data.

    Args:
        model: what they are for; a multilayer perceptron takes flat inputs, others images whose channels lie side by
            side (``channels_last``), as in training.
        spec: the data.
        part: of the data.
        size: samples of a batch; the last one holds what is left. None: 1024, or 64 images.

    Example:
        >>> batches = measured_batches(MLP(inputs=64, outputs=10), DataSpec(source="digits"))
        >>> [tuple(inputs.shape) for inputs, _ in batches]
        [(1024, 64), (413, 64)]
    """
    split = getattr(tensors(data.load(spec), torch.float32), part)
    inputs, usual = split.inputs, BATCH_SAMPLES
    if isinstance(model, MLP):
        inputs = inputs.flatten(1)
    elif inputs.ndim == 4:
        inputs, usual = inputs.to(memory_format=torch.channels_last), IMAGES
    size = size or usual
    return list(zip(inputs.split(size), split.targets.split(size), strict=True))
