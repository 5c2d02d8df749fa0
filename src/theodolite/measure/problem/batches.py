"""Data as pairs of inputs and targets, a batch each, and what an instrument asks of a batch.

A batch is a pair ``(inputs, targets)``. Inputs that are a tuple are the model's positional arguments, a mapping its
keyword arguments (or its one argument, where ``forward`` takes one and none of those names), and anything else its one
argument. A list of tensors with one first dimension, which is what
PyTorch's ``default_collate`` makes of several inputs, is a tuple too where ``forward`` requires several arguments. A
batch that is itself a mapping, as tokenizers and the data sets of Hugging Face give it, is both: the model gets it as
keyword arguments, and the loss as its targets. So a model that computes its own loss takes
``loss=lambda outputs, _: outputs.loss``, and one whose loss you write
``loss=lambda outputs, batch: cross_entropy(outputs.logits, batch["labels"])``. A graph batch of PyTorch Geometric is
the model's one argument, and its ``y`` the targets.

How many samples a batch counts for is the first dimension of the first input tensor, or the length of a list of
samples of several sizes (images of a detector).
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import DataLoader, Dataset, IterableDataset

from theodolite.errors import BadData
from theodolite.measure.problem.isolation import preserve_loader_rng

Batch = tuple[Any, Any]
Data = Batch | Mapping[str, Any] | Iterable[Batch | Mapping[str, Any]]

DATASET_BATCH = 256  # samples in a batch of a data set that comes without a loader


@dataclass(frozen=True, slots=True)
class Pairs:
    """Data as they were given, as pairs (a mapping is both parts of one), in the same order at every reading."""

    data: Iterable[Any]

    def __iter__(self) -> Iterator[Batch]:
        """The batches, one reading like the other."""
        with preserve_loader_rng(self.data):
            for number, batch in enumerate(self.data):
                yield _pair(batch, number)


def pairs(data: Data) -> Pairs:
    """Data as pairs, whatever they were given as.

    Raises:
        BadData: an iterator, which can be read once only, or what cannot be read at all.
    """
    given: Any = data
    if isinstance(given, Dataset) and not isinstance(given, IterableDataset):
        given = DataLoader(given, batch_size=DATASET_BATCH)
    elif is_pair(data) or is_graph(data):
        given = [data]
    if not (hasattr(given, "__iter__") or hasattr(given, "__getitem__")):
        raise BadData(f"expected data, got {type(given).__name__}. Pass (inputs, targets) or batches of them.")
    if hasattr(given, "__next__"):
        raise BadData(
            "expected data that can be read more than once, got an iterator. Pass a list of batches or a DataLoader."
        )
    return Pairs(given)


def _pair(batch: Any, number: int) -> Batch:
    if isinstance(batch, Mapping):
        return batch, batch
    if is_graph(batch):
        return batch, batch.y
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        return batch[0], batch[1]
    if isinstance(batch, (tuple, list)) and len(batch) > 2:
        raise BadData(
            f"expected batches of (inputs, targets), got {len(batch)} parts in batch {number}. Say which are which: "
            "data=[(x, (y, w)) for x, y, w in loader] gives the loss a pair as targets, [((x, z), y) for x, z, y in "
            "loader] the model two inputs."
        )
    raise BadData(
        f"expected batches of (inputs, targets), got {type(batch).__name__} as batch {number}. "
        "Wrap the data in such pairs."
    )


def is_pair(data: Any) -> bool:
    """Whether data are one batch, not many: a list of two dicts or graphs is two of them, a tuple of two is a pair."""
    if isinstance(data, Mapping):
        return True
    if not (isinstance(data, (tuple, list)) and len(data) == 2):
        return False
    inputs, targets = data
    single = isinstance(inputs, (Tensor, PackedSequence))  # which no batch is
    pair = isinstance(data, tuple) and (single or _has_names(inputs))
    return isinstance(targets, Tensor) or (
        pair and (targets is None or _has_names(targets) or (single and isinstance(targets, (tuple, list))))
    )


def _has_names(part: Any) -> bool:
    return isinstance(part, Mapping) or is_graph(part)


def is_graph(batch: Any) -> bool:
    """Whether this is a batch of graphs in the manner of PyTorch Geometric, known by what it has."""
    return all(hasattr(batch, name) for name in ("edge_index", "num_nodes", "y", "to")) and not isinstance(
        batch, (Mapping, tuple, list)
    )


def arguments_of(model: nn.Module, inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """How a model is called with the inputs of a batch."""
    if isinstance(inputs, Mapping):
        return ((inputs,), {}) if _takes_whole(model, inputs) else ((), dict(inputs))
    if isinstance(inputs, tuple) and not isinstance(inputs, PackedSequence):
        return inputs, {}
    if isinstance(inputs, list) and len(inputs) > 1 and _same_length(inputs) and _requires_several(model):
        return tuple(inputs), {}
    return (inputs,), {}


def _same_length(parts: list[Any]) -> bool:
    return all(isinstance(p, Tensor) and p.ndim for p in parts) and len({len(p) for p in parts}) == 1


def _requires_several(model: nn.Module) -> bool:
    given = _parameters(model)
    required = [p for p in given if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
    return len(required) > 1 or any(p.kind is p.VAR_POSITIONAL for p in given)


def _takes_whole(model: nn.Module, inputs: Mapping[Any, Any]) -> bool:
    """Whether a mapping is the one argument of a model, which takes none of its entries by name."""
    given = _parameters(model)
    return (
        len(given) == 1
        and given[0].kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        and given[0].name not in inputs
    )


def _parameters(model: nn.Module) -> list[inspect.Parameter]:
    """What ``forward`` takes; nothing, where that cannot be told."""
    try:
        return list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):
        return []


def tensors(part: Any) -> list[Tensor]:
    """All tensors in a part of a batch, in its order."""
    if isinstance(part, Tensor):
        return [part]
    if isinstance(part, PackedSequence):
        return [part.data]
    if isinstance(part, Mapping):
        part = list(part.values())
    return [t for p in part for t in tensors(p)] if isinstance(part, (tuple, list)) else []


def count(batch: Batch) -> int:
    """How many samples a batch holds."""
    inputs, targets = batch
    if isinstance(inputs, PackedSequence):
        return int(inputs.batch_sizes[0])
    if is_graph(inputs):
        return int(getattr(inputs, "num_graphs", None) or inputs.num_nodes)
    if is_list_of_samples(inputs, targets):
        return len(inputs)
    found = tensors(inputs) or tensors(targets)
    return found[0].shape[0] if found and found[0].ndim else 1


def is_list_of_samples(inputs: Any, targets: Any) -> bool:
    """Whether inputs are a list with a sample each, as detectors take them, and not one tensor of samples each."""
    if not (isinstance(inputs, list) and tensors(inputs)) or not isinstance(targets, (list, tuple, Tensor)):
        return False
    lengths = {len(t) for t in (*tensors(inputs), *tensors(targets)) if t.ndim}
    return len(lengths) > 1 and (not isinstance(targets, Tensor) or targets.ndim > 0) and len(inputs) == len(targets)


def moved(part: Any, device: torch.device, dtype: torch.dtype | None) -> Any:
    """A batch or a part of it on a device, its floating-point numbers in a precision if one is given."""
    if isinstance(part, Tensor):
        part = part.clone() if part.is_inference() else part  # autograd does not take those
        return part.to(device, dtype if part.is_floating_point() else None)
    if isinstance(part, PackedSequence):
        return part.to(device) if dtype is None else part.to(device, dtype)  # type: ignore[arg-type]
    if isinstance(part, Mapping):
        return alike(part, {key: moved(value, device, dtype) for key, value in part.items()})
    if is_graph(part):
        return part.to(device)
    if not isinstance(part, (tuple, list)):
        return part
    return alike(part, [moved(p, device, dtype) for p in part])


def copied(part: Any) -> Any:
    """The same batch or part of one with tensors of its own."""
    if isinstance(part, Tensor):
        return part.clone()
    if isinstance(part, Mapping):
        return alike(part, {key: copied(value) for key, value in part.items()})
    if isinstance(part, PackedSequence) or not isinstance(part, (tuple, list)):
        return part.clone() if hasattr(part, "clone") else part
    return alike(part, [copied(p) for p in part])


def alike(part: Any, values: list[Any] | dict[Any, Any]) -> Any:
    """The values as a tuple, list or mapping of the same type, which may be a named tuple, or have attributes."""
    if isinstance(values, dict):
        if type(part) is dict or not isinstance(part, MutableMapping):
            return values
        same = copy(part)
        same.update(values)
        return same
    return type(part)(*values) if hasattr(part, "_fields") else type(part)(values)
