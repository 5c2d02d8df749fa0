"""What every stored source comes down to: four arrays, before a spec makes anything of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Progress = Callable[[int, int | None, str], None]  # bytes done, bytes in all where known, what is being done


def silent(done: int, total: int | None, text: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Arrays:
    """A source whole, as it was published."""

    train_inputs: Array  # (N, channels, height, width) uint8, or (N, ...) float32
    train_targets: Array  # (N,) int64 classes, or (N, outputs) float64
    test_inputs: Array
    test_targets: Array
    classes: int | None  # None: the targets are numbers, not classes
    peak: int | None  # images: the largest value a pixel can have; None: inputs are floats


def pixel_statistics(images: Array) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel, in pixel values, from exact counts of the 256 values.

    Args:
        images: ``(N, channels, height, width)`` uint8.

    Example:
        >>> pixel_statistics(np.array([[[[0, 2]]]], dtype=np.uint8))
        ([1.0], [1.0])
    """
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    for block in blocks(len(images)):
        for channel in range(images.shape[1]):
            counts[channel] += np.bincount(images[block, channel].ravel(), minlength=256)
    values = np.arange(256)
    total = counts.sum(axis=1)
    mean = counts @ values / total
    variance = counts @ values**2 / total - mean**2
    return mean.tolist(), np.sqrt(variance).tolist()


def blocks(rows: int, size: int = 4096) -> list[slice]:
    """Slices that cover the rows, so that a conversion needs no second copy of the whole."""
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]
