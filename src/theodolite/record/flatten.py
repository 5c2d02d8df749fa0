"""A result as numbers and vectors by name: what tables, figures and trackers can take."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from theodolite.errors import SettingError
from theodolite.wording import shown

Numbers = dict[str, float]
Vectors = dict[str, npt.NDArray[np.float64]]


def flatten(result: Any) -> tuple[Numbers, Vectors]:
    """Split what an instrument returned.

    Args:
        result: a frozen result, a mapping, a number, or a vector; tensors and arrays of any precision. A field that
            is a mapping gives a number a key, ``field.key``. Text, and arrays of two or more dimensions (such as
            eigenvectors), are left out.

    Returns:
        Numbers and vectors by name; a bare number or vector is called ``value``.

    Raises:
        SettingError: there is no number in it.

    >>> flatten({"loss": 0.5, "eigenvalues": [1.0, 2.0], "method": "sam"})
    ({'loss': 0.5}, {'eigenvalues': array([1., 2.])})
    """
    numbers: Numbers = {}
    vectors: Vectors = {}
    for name, value in _named(result):
        array = _array(value)
        if array is None or array.ndim > 1:
            continue
        if array.ndim:
            vectors[name] = array
        else:
            numbers[name] = float(array)
    if not numbers and not vectors:
        raise SettingError(
            f"expected an instrument to return a number, a vector, a mapping of them or a result, got "
            f"{type(result).__name__}. Return for example float(accuracy)."
        )
    return numbers, vectors


def _named(result: Any) -> list[tuple[str, Any]]:
    if is_dataclass(result) and not isinstance(result, type):
        result = {field.name: getattr(result, field.name) for field in fields(result)}
    if not isinstance(result, Mapping):
        return [("value", result)]
    found: list[tuple[str, Any]] = []
    for name, value in result.items():
        inner = [(f"{name}.{key}", v) for key, v in value.items()] if isinstance(value, Mapping) else [(name, value)]
        found += [(str(key), v) for key, v in inner]
    return [(shown(name), value) for name, value in found]


def _array(value: Any) -> npt.NDArray[np.float64] | None:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = (value.double() if value.is_floating_point() else value).numpy()
    if isinstance(value, str) or not isinstance(value, (int, float, np.ndarray, np.generic, Sequence)):
        return None
    array = np.asarray(value)
    return array.astype(np.float64) if array.dtype.kind in "biuf" else None
