"""Data that a function of the user's gives: whole, in batches, or as a data set; as pairs of inputs and targets."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from theodolite.code import running as code
from theodolite.errors import BadData, CodeFailed, SettingError, TheodoliteError
from theodolite.measure.problem.batches import Batch, alike, is_pair, moved
from theodolite.measure.problem.batches import tensors as tensors_of

BATCH = 1000  # samples at once, where data sets are read: what one pass over them keeps in memory
CPU = torch.device("cpu")


def batches(source: str, samples: int | None, batch_size: int | None, dtype: torch.dtype) -> list[Batch]:
    """The data that ``FILE.py:NAME`` gives, read once, as pairs.

    A pair that comes whole stays whole: a loss with class weights and statistics of a batch are other numbers on its
    parts. Of more than two parts the first is the inputs and the others are the targets. A batch that is a mapping is
    both inputs and targets.

    Args:
        source: ``FILE.py:NAME``, a function or what it would give.
        samples: how many to use, the first ones; None: all.
        batch_size: of a torch data set; None: 1,000.
        dtype: that floating-point tensors get.

    Raises:
        SettingError: a batch size where the function chose its own.
        BadData: it gave something else, or nothing.
        CodeFailed: the file cannot be run.
    """
    own = code.named(source, "--data")
    data = code.called(own, source) if callable(own) else own
    kept: list[Batch] = []
    left = samples
    try:
        for batch in _read(data, source, batch_size):
            if left is not None and left <= 0:
                break
            first = batch if left is None else _first(batch, left, source)
            left = left if left is None else left - rows(first)
            kept.append(_pair(moved(first, CPU, dtype), source))
    except TheodoliteError:
        raise
    except Exception as error:  # of the user's own data set
        raise CodeFailed(f"expected batches from {source}(), but {code.told(error)}. Correct it there.") from error
    if not kept:
        raise BadData(f"expected at least one batch from {source}(), got none. Return (inputs, targets).")
    return kept


def rows(part: Any) -> int:
    """Rows of the first tensor in a part of a batch, which are its samples."""
    found = tensors_of(part)
    return (found[0].shape[0] if found[0].ndim else 1) if found else 0


def _read(data: Any, source: str, batch_size: int | None) -> Iterator[Any]:
    """Batches, of whatever form."""
    if type(data).__module__.startswith("datasets."):  # of Hugging Face, which gives one sample at a time
        data = DataLoader(data.with_format("torch"), batch_size or BATCH)
    elif isinstance(data, Dataset):
        data = DataLoader(data, batch_size or BATCH)
    elif batch_size is not None:
        raise SettingError(
            f"expected no --batch-size, since {source} gives batches of its own, or one whole, got {batch_size}. "
            "Leave it out; to have data cut, return a torch data set, as TensorDataset(inputs, targets)."
        )
    if isinstance(data, DataLoader):
        yield from map(_collated, data) if data.collate_fn is default_collate else data
    elif _is_whole(data, source):
        yield data
    elif isinstance(data, Iterable) and not isinstance(data, Tensor | str):
        yield from data
    else:
        raise BadData(
            f"expected {source}() to give (inputs, targets), batches of them or a torch data set, got "
            f"{type(data).__name__}. Return one of those."
        )


def _is_whole(data: Any, source: str) -> bool:
    """Whether this is one batch, and not many."""
    if is_pair(data):
        return True
    if not isinstance(data, tuple):
        return False
    if len(data) == 2 and all(isinstance(part, tuple | list) for part in data):
        raise BadData(
            f"expected one pair or several from {source}(), got two of {type(data[0]).__name__}, which may be either. "
            "Return a list: [(inputs, targets)], or [(inputs, targets), (inputs, targets)]."
        )
    return len(data) >= 2 and isinstance(data[0], Tensor)


def _collated(batch: Any) -> Any:
    """A batch with its inputs, and its targets, as a tuple where a sample had one: collating makes lists of tuples."""
    if not isinstance(batch, tuple | list):
        return batch
    return [tuple(p) if type(p) is list and all(isinstance(t, Tensor) for t in p) else p for p in batch]


def _pair(batch: Any, source: str) -> Batch:
    if isinstance(batch, Mapping):
        return batch, batch
    if not isinstance(batch, tuple | list) or len(batch) < 2:
        raise BadData(
            f"expected batches of (inputs, targets) from {source}(), got {type(batch).__name__}. Return such pairs; "
            "of what is inputs and targets in one, (batch, batch)."
        )
    return (batch[0], batch[1]) if len(batch) == 2 else (batch[0], tuple(batch[1:]))


def _first(batch: Any, number: int, source: str) -> Any:
    """The first samples of a batch."""
    lengths = {len(tensor) for tensor in tensors_of(batch) if tensor.ndim}
    if max(lengths, default=0) <= number:
        return batch
    if len(lengths) > 1:
        raise BadData(
            f"expected tensors with as many rows as there are samples from {source}(), got {sorted(lengths)}, of which "
            f"the first {number} cannot be taken. Leave --samples out, and have {source}() give fewer."
        )
    return _each(batch, lambda tensor: tensor[:number] if tensor.ndim else tensor)


def _each(part: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(part, Tensor):
        return change(part)
    if isinstance(part, Mapping):
        return {name: _each(value, change) for name, value in part.items()}
    return alike(part, [_each(p, change) for p in part]) if isinstance(part, tuple | list) else part
