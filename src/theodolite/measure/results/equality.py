"""When two results are equal: the same numbers bit for bit, whatever device tensors lie on; NaN equals NaN."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn


def same(a: Any, b: Any) -> bool:
    """Whether two values of one field, or two results, hold the same."""
    if a is b:
        return True
    if isinstance(a, np.generic):  # files hold plain numbers
        a = a.item()
    if isinstance(b, np.generic):
        b = b.item()
    if isinstance(a, nn.Module) and isinstance(b, nn.Module):
        return same(dict(a.state_dict()), dict(b.state_dict()))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and _same_numbers(a.detach().cpu(), b.detach().cpu())
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a) if f.compare)
    return bool(a == b or (a != a and b != b))


def _same_numbers(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all()) if a.numel() else True
