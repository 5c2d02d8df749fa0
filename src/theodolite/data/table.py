"""A table of the ``datasets`` library as arrays: which columns are taken, and what becomes of them.

The target is the only class column, or else the column named label, labels, target or y. The inputs are the first
image column, or else the column named features, inputs or x, or else all other columns of numbers, side by side.
"""

from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any

import numpy as np

from theodolite.data.arrays import Array, Arrays
from theodolite.errors import DataCorrupt, DataUnavailable

TARGETS = ("label", "labels", "target", "y")
INPUTS = ("features", "inputs", "x")
TRAIN = ("train", "training")
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # Pillow has others, and EPS starts another program
PIXELS = 50_000_000  # of one image; more is a mistake, or a small file that unfolds to fill the memory
TEST = ("test", "testing", "validation", "valid", "val", "dev")


def arrays(splits: Mapping[str, Any], where: str, *, paths: bool = True) -> Arrays:
    """Training and test arrays of a table's splits.

    Images become uint8 ``(N, channels, height, width)``, grey or RGB; numbers float32 ``(N, features)``, lists of equal
    length flattened. Whole numbers and words become classes 0 … K-1 in ascending order, fractions float64 ``(N, 1)``.
    Without ``paths`` a table that names files in place of images is refused.

    Raises:
        DataUnavailable: no training or test split, or no columns that fit.
        DataCorrupt: an image cannot be read, or images or rows differ in size.
    """
    train, test = _split(splits, TRAIN, where), _split(splits, TEST, where)
    target = _target(train, where)
    inputs = _inputs(train, target, where)
    train_targets, test_targets, classes = _targets(train, test, target, where)
    image = len(inputs) == 1 and _kind(train, inputs[0]) == "Image"
    train_inputs, test_inputs = (
        images(split, inputs[0], paths=paths) if image else _numbers(split, inputs, where) for split in (train, test)
    )
    return Arrays(train_inputs, train_targets, test_inputs, test_targets, classes, peak=255 if image else None)


def images(split: Any, column: str, *, paths: bool = True) -> Array:
    """Every image of a column, decoded: uint8 ``(N, channels, height, width)``.

    Raises:
        DataCorrupt: one cannot be read, or is of another size than the first.
        KeyError: there is no such column, which the library would take for one without images.
    """
    if column not in split.column_names:
        raise KeyError(column)
    result: Array | None = None
    for row, pixels in enumerate(_decoded(split, column, paths=paths)):
        if result is None:
            try:
                result = np.empty((len(split), *pixels.shape), np.uint8)
            except MemoryError as error:
                raise DataCorrupt(f"expected images that fit into memory together, but: {error}") from error
        if pixels.shape != result.shape[1:]:
            raise DataCorrupt(
                f"expected images of one size, (channels, height, width) = {result.shape[1:]}, got {pixels.shape} "
                f"in row {row}. Resize them first."
            )
        result[row] = pixels
    if result is None:
        raise DataCorrupt("expected at least one image, got none")
    return result


def values(split: Any, column: str) -> Any:
    """A column as a list, without decoding the images beside it."""
    return split.select_columns([column]).with_format(None)[:][column]


def _decoded(split: Any, column: str, *, paths: bool) -> Iterator[Array]:
    from datasets import Image
    from PIL import Image as Pictures

    for row, cell in enumerate(split.cast_column(column, Image(decode=False))[column]):
        if cell is None or (cell["bytes"] is None and not (paths and cell["path"])):  # else it could name any file here
            raise DataCorrupt(f"expected an image in row {row} of column '{column}', got none. Leave that row out.")
        try:
            source = BytesIO(cell["bytes"]) if cell["bytes"] is not None else cell["path"]
            with Pictures.open(source, formats=FORMATS) as picture:
                if picture.width * picture.height > PIXELS:  # before a pixel is decoded
                    raise DataCorrupt(f"expected at most {PIXELS} pixels, got {picture.size} in row {row}. Resize it.")
                grey = picture.mode in ("1", "L")
                if picture.mode.startswith(("I", "F")):
                    raise DataCorrupt(
                        f"expected images of 8 bits, got mode {picture.mode} in row {row}. Convert them first."
                    )
                pixels = np.asarray(picture.convert("L" if grey else "RGB"))
        except (OSError, SyntaxError, ValueError, Pictures.DecompressionBombError) as error:
            raise DataCorrupt(f"expected an image in row {row} of column '{column}', but: {error}") from error
        yield pixels[None] if grey else pixels.transpose(2, 0, 1)


def _split(splits: Mapping[str, Any], names: tuple[str, ...], where: str) -> Any:
    for name in names:
        if name in splits and len(splits[name]):
            return splits[name]
    raise DataUnavailable(
        f"expected a split named {' or '.join(names)} in {where}, got {', '.join(splits) or 'none'}. Rename one."
    )


def _kind(split: Any, column: str) -> str:
    return str(type(split.features[column]).__name__)


def _target(split: Any, where: str) -> str:
    classes: list[str] = [name for name in split.column_names if _kind(split, name) == "ClassLabel"]
    if len(classes) == 1:
        return classes[0]
    for name in TARGETS:
        if name in split.column_names:
            return name
    raise DataUnavailable(
        f"expected one class column, or one named {', '.join(TARGETS)}, in {where}, "
        f"got {', '.join(split.column_names)}. Rename the target."
    )


def _inputs(split: Any, target: str, where: str) -> list[str]:
    others = [name for name in split.column_names if name != target]
    for name in others:
        if _kind(split, name) == "Image":
            return [name]
    for name in INPUTS:
        if name in others:
            return [name]
    numbers = [name for name in others if _is_number(split.features[name])]
    if not numbers:
        raise DataUnavailable(
            f"expected an image column, one named {', '.join(INPUTS)}, or columns of numbers in {where}, "
            f"got {', '.join(others) or 'only the target'}. Choose another data set."
        )
    return numbers


def _is_number(feature: Any) -> bool:
    return str(getattr(feature, "dtype", "")).startswith(("int", "uint", "float", "bool"))


def _numbers(split: Any, columns: list[str], where: str) -> Array:
    parts = []
    for column in columns:
        try:
            numbers = np.asarray(values(split, column), dtype=np.float32)
        except (ValueError, TypeError) as error:
            raise DataCorrupt(
                f"expected numbers, as many in each row, in column '{column}' of {where}: {error}"
            ) from error
        if not np.isfinite(numbers).all():
            raise DataCorrupt(
                f"expected finite numbers in column '{column}' of {where}, got NaN or infinity. Clean it first."
            )
        parts.append(numbers.reshape(len(split), -1))
    return np.concatenate(parts, axis=1)


def _targets(train: Any, test: Any, column: str, where: str) -> tuple[Array, Array, int | None]:
    both = [np.asarray(values(split, column)) for split in (train, test)]
    known = getattr(train.features[column], "names", None)
    if any(part.ndim != 1 or part.dtype == object for part in both):
        raise DataUnavailable(
            f"expected one target for each sample in column '{column}' of {where}. Choose another data set."
        )
    if all(np.issubdtype(part.dtype, np.floating) for part in both):
        if not all(np.isfinite(part).all() for part in both):
            raise DataCorrupt(f"expected finite targets in column '{column}' of {where}, got NaN or infinity.")
        return both[0].astype(np.float64)[:, None], both[1].astype(np.float64)[:, None], None
    if known is not None:
        if any(part.min() < 0 or part.max() >= len(known) for part in both):
            raise DataUnavailable(
                f"expected classes 0 to {len(known) - 1} in column '{column}' of {where}, got some without a label."
            )
        return both[0].astype(np.int64), both[1].astype(np.int64), len(known)
    kinds = np.unique(np.concatenate(both))
    return np.searchsorted(kinds, both[0]), np.searchsorted(kinds, both[1]), len(kinds)
