"""Data as pairs of inputs and targets, a batch each, and what an instrument asks of a batch.

A batch is a pair ``(inputs, targets)``. Inputs that are a tuple are the model's positional arguments, a mapping its
keyword arguments, and anything else its one argument. A batch that is itself a mapping, as tokenizers and the data
sets of Hugging Face give it, is both: the model gets it as keyword arguments, and the loss as its targets. So a model
that computes its own loss takes ``loss=lambda outputs, _: outputs.loss``, and one whose loss you write
``loss=lambda outputs, batch: cross_entropy(outputs.logits, batch["labels"])``.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from theodolite.errors import BadData
from theodolite.measure.problem.isolation import preserve_loader_rng

Batch = tuple[Any, Any]
Data = Batch | Mapping[str, Any] | Iterable[Batch | Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Data as they were given, as pairs (a mapping is both parts of one), in the same order at every reading."""

    data: Iterable[Batch | Mapping[str, Any]]

    def __iter__(self) -> Iterator[Batch]:
        """The batches, one reading like the other."""
        with preserve_loader_rng(self.data):
            for batch in self.data:
                yield (batch, batch) if isinstance(batch, Mapping) else batch


def pairs(data: Data) -> Pairs:
    """Data as pairs, whatever they were given as.

    Raises:
        BadData: an iterator, which can be read once only, or what cannot be read at all.
    """
    given: Any = [data] if is_pair(data) else data
    if not (hasattr(given, "__iter__") or hasattr(given, "__getitem__")):
        raise BadData(f"expected data, got {type(given).__name__}. Pass (inputs, targets) or batches of them.")
    if hasattr(given, "__next__"):
        raise BadData(
            "expected data that can be read more than once, got an iterator. Pass a list of batches or a DataLoader."
        )
    return Pairs(given)


def is_pair(data: Any) -> bool:
    """Whether data are one batch, not many: a list of two dicts is two of them, a tuple of two is a pair."""
    if isinstance(data, Mapping):
        return True
    if not (isinstance(data, (tuple, list)) and len(data) == 2):
        return False
    inputs, targets = data
    pair = isinstance(data, tuple) and isinstance(inputs, (Tensor, Mapping))
    return isinstance(targets, Tensor) or (pair and (targets is None or isinstance(targets, Mapping)))


def tensors(part: Any) -> list[Tensor]:
    """All tensors in a part of a batch, in its order."""
    if isinstance(part, Tensor):
        return [part]
    if isinstance(part, Mapping):
        part = list(part.values())
    return [t for p in part for t in tensors(p)] if isinstance(part, (tuple, list)) else []


def samples(batch: Batch) -> int:
    """How many samples a batch holds."""
    found = tensors(batch[1]) or tensors(batch[0])
    return found[0].shape[0] if found and found[0].ndim else 1


def moved(part: Any, device: torch.device, dtype: torch.dtype | None) -> Any:
    """A batch or a part of it on a device, its floating-point numbers in a precision if one is given."""
    if isinstance(part, Tensor):
        return part.to(device, dtype if part.is_floating_point() else None)
    if isinstance(part, Mapping):
        return {key: moved(value, device, dtype) for key, value in part.items()}
    if not isinstance(part, (tuple, list)):
        return part
    return alike(part, [moved(p, device, dtype) for p in part])


def alike(part: Any, values: list[Any]) -> Any:
    """The values as a tuple or list of the same type, which may be a named tuple."""
    return type(part)(*values) if hasattr(part, "_fields") else type(part)(values)
