"""Data out of a file of the user's own."""

from typing import Any

import numpy as np

from theodolite.code.reference import Reference
from theodolite.data.arrays import Array, Arrays
from theodolite.data.spec import CODE, DataSpec
from theodolite.errors import CodeFailed


def code(reference: str, /, **arguments: Any) -> DataSpec:
    """Describe the data that a function in a file returns, for a run of our engine.

    Integers stay integers: token ids as inputs, a class for each sample, or for each token, as targets. What is drawn
    must be drawn from an argument, ``seed=3``: the same description gives the same data.

    Args:
        reference: ``FILE.py:NAME``, a function that returns ``(inputs, targets), (test_inputs, test_targets)``, arrays
            or tensors.
        arguments: of the function: numbers, texts and lists of them.

    Raises:
        CodeFailed: there is no such file, or it is no Python.
    """
    made = Reference.to(reference, arguments)
    return DataSpec(source=f"{CODE}{made.name}", code=made)


def code_arrays(made: Reference) -> Arrays:
    """The arrays that the function returns.

    Raises:
        CodeFailed: it does not return what :func:`code` says.
    """
    returned = made.call()
    try:
        (inputs, targets), (test_inputs, test_targets) = returned
        arrays = [np.asarray(part) for part in (inputs, targets, test_inputs, test_targets)]
    except (TypeError, ValueError, RuntimeError) as error:
        raise CodeFailed(
            f"expected (inputs, targets), (test_inputs, test_targets) from {made.name}(), as arrays or tensors on the "
            f"CPU, got what cannot be taken so ({error}). Return that."
        ) from None
    for rows, labels in (arrays[:2], arrays[2:]):
        if rows.ndim == 0 or labels.ndim == 0 or len(rows) != len(labels):
            raise CodeFailed(
                f"expected as many targets as inputs from {made.name}(), got {labels.shape} and {rows.shape}. Return a "
                "target for each."
            )
    inputs, targets, test_inputs, test_targets = (_numbers(part, made.name) for part in arrays)
    integers = targets.dtype.kind == "i"
    if not integers and targets.ndim == 1:
        targets, test_targets = targets[:, None], test_targets[:, None]
    classes = int(max(targets.max(initial=0), test_targets.max(initial=0))) + 1 if integers else None
    return Arrays(inputs, targets, test_inputs, test_targets, classes, None)


def _numbers(part: Array, name: str) -> Array:
    if part.dtype.kind in "iub":
        return part.astype(np.int64)
    if part.dtype.kind == "f":
        return part
    raise CodeFailed(f"expected numbers from {name}(), got an array of {part.dtype}. Return floats or integers.")
