"""From a spec to arrays: the source, its subset, its labels and the scale of its inputs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from theodolite.data import draw, sources
from theodolite.data.arrays import Array, Arrays, blocks
from theodolite.data.function import function_arrays
from theodolite.data.own import code_arrays
from theodolite.data.spec import CODE, FUNCTION, DataSpec
from theodolite.errors import SettingError


@dataclass(frozen=True, slots=True)
class Dataset:
    """The arrays of a spec. Whole sets are read-only views of the cache, whose pages all processes share.

    Images stay as they were published, with their scale beside them: a network sees ``(pixel - offset) * factor``.
    """

    train_inputs: Array  # (N, channels, height, width) uint8, or (N, ...) float
    train_targets: Array  # (N,) int64 classes, or (N, outputs) float64
    test_inputs: Array
    test_targets: Array
    classes: int | None  # None: the targets are numbers
    name: str  # the spec's source
    offset: NDArray[np.float32] | None  # (channels,) pixel values; None: inputs are floats already
    factor: NDArray[np.float32] | None  # (channels,) per pixel value

    def inputs_as(self, dtype: DTypeLike = np.float32, part: Literal["train", "test"] = "train") -> NDArray[Any]:
        """Inputs as a network sees them: a new array of this type, scaled, converted in blocks.

        Example:
            >>> images = load(DataSpec(source="digits", scale="unit")).inputs_as()
            >>> images.shape, images.dtype, float(images.max())
            ((1437, 1, 8, 8), dtype('float32'), 1.0)
        """
        inputs = self.train_inputs if part == "train" else self.test_inputs
        if self.offset is None or self.factor is None:
            tokens = inputs.dtype.kind == "i" and self.name.startswith(CODE)  # which index an embedding
            return inputs.astype(np.int64 if tokens else dtype)
        shape = (-1, *(1,) * (inputs.ndim - 2))
        offset, factor = self.offset.astype(dtype).reshape(shape), self.factor.astype(dtype).reshape(shape)
        result = np.empty(inputs.shape, dtype)
        for block in blocks(len(inputs)):
            result[block] = inputs[block]
            result[block] -= offset
            result[block] *= factor
        return result


def load(spec: DataSpec, *, data_dir: Path | str | None = None) -> Dataset:
    """The data of a spec, the same bit for bit in every process.

    Args:
        spec: the source and what is made of it. ``train`` and ``test`` keep a random subset drawn by ``seed``;
            ``random_labels`` redraws that share of the training labels kept, by ``label_seed``. The ``standard`` scale
            is that of the whole training set, so it does not change with the subset. Floats are taken as they are.
        data_dir: a folder with the published files, asked before the cache; by default ``THEODOLITE_DATA``.

    Raises:
        UnknownName: there is no such source.
        ExpressionError, SettingError: the spec asks for what the source cannot give.
        DataUnavailable, DataCorrupt: it is found nowhere, or not with the bytes that were published.

    Example:
        >>> data = load(DataSpec(source="function:cos", train=5))
        >>> data.train_inputs.ravel()
        array([-1. , -0.5,  0. ,  0.5,  1. ])
    """
    if spec.source.startswith(FUNCTION):
        return _whole(spec, function_arrays(spec), None, None)
    if spec.code is not None:
        return _whole(spec, _kept(code_arrays(spec.code), spec), None, None)
    entry = sources.open_source(spec.source, data_dir=data_dir)
    arrays = _kept(entry.arrays, spec)
    if arrays.peak is None or entry.mean is None or entry.deviation is None:
        return _whole(spec, arrays, None, None)
    if spec.scale == "unit":
        offset, spread = np.zeros(len(entry.mean)), np.full(len(entry.mean), float(arrays.peak))
    else:
        offset, spread = np.array(entry.mean), np.array(entry.deviation)
    factor = 1 / np.where(spread > 0, spread, 1.0)  # a channel that never changes stays 0
    return _whole(spec, arrays, offset.astype(np.float32), factor.astype(np.float32))


def _kept(arrays: Arrays, spec: DataSpec) -> Arrays:
    if spec.random_labels and arrays.train_targets.ndim > 1 and arrays.classes is not None:
        raise SettingError(
            f"expected one class a sample for random labels, but '{spec.source}' has several. Set random_labels=0."
        )
    if spec.random_labels and arrays.classes is None:
        raise SettingError(
            f"expected classes for random labels, but '{spec.source}' has numbers as targets. Set random_labels=0."
        )
    train = draw.subset(len(arrays.train_inputs), spec.train, spec.seed, "train")
    test = draw.subset(len(arrays.test_inputs), spec.test, spec.seed, "test")
    labels = _rows(arrays.train_targets, train)
    if arrays.classes is not None:
        labels = draw.random_labels(labels, arrays.classes, spec.random_labels, spec.label_seed)
    return Arrays(
        _rows(arrays.train_inputs, train),
        labels,
        _rows(arrays.test_inputs, test),
        _rows(arrays.test_targets, test),
        arrays.classes,
        arrays.peak,
    )


def _rows(array: Array, rows: Array | None) -> Array:
    return array if rows is None else np.asarray(array[rows])


def _whole(
    spec: DataSpec, arrays: Arrays, offset: NDArray[np.float32] | None, factor: NDArray[np.float32] | None
) -> Dataset:
    return Dataset(
        arrays.train_inputs,
        arrays.train_targets,
        arrays.test_inputs,
        arrays.test_targets,
        arrays.classes,
        spec.source,
        offset,
        factor,
    )
