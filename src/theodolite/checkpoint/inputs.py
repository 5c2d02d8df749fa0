"""Data and loss for a measurement: a data set by its name, or what a function of the user's gives."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from theodolite import data as sets
from theodolite.checkpoint import code
from theodolite.errors import BadData, CodeFailed, SettingError, TheodoliteError, UnknownName
from theodolite.measure.problem.batches import Batch
from theodolite.measure.problem.objective import Loss
from theodolite.train.data import Split, tensors

BATCH = 1000  # samples at once, where data come whole: what one pass over them keeps in memory
LOSSES: dict[str, Loss] = {
    "cross_entropy": functional.cross_entropy,
    "mse": functional.mse_loss,
    "l1": functional.l1_loss,
    "huber": functional.huber_loss,
    "nll": functional.nll_loss,
    "bce_with_logits": functional.binary_cross_entropy_with_logits,
}


def batches(
    source: str, *, part: str = "train", samples: int | None = None, batch_size: int | None = None, dtype: torch.dtype
) -> list[Batch]:
    """The data, read once, as batches.

    Args:
        source: a data set's name, of which ``samples`` are drawn at random, the same each time; or ``FILE.py:NAME``,
            a function that gives a pair, batches, or a torch data set, of which the first ``samples`` are taken.
        part: ``"train"`` or ``"test"``, of a named data set.
        samples: how many to use; None: all.
        batch_size: of data that come whole; None: 1,000. Sums over batches are exact, so it changes no number.
        dtype: that floating-point inputs and targets get.

    Raises:
        UnknownName, DataUnavailable, DataCorrupt: there is no such data set, or it cannot be had.
        SettingError: a batch size where the function chose its own.
        BadData: the function gave something else, or nothing.
        CodeFailed: the file cannot be run.
    """
    if code.is_code(source):
        return _own(source, samples, batch_size, dtype)
    wanted = {} if samples is None else {"train" if part == "train" else "test": samples}
    split = _split(source, part, wanted, dtype)
    return list(_cut((split.inputs, split.targets), batch_size or BATCH))


def loss_named(name: str | None, data: Sequence[Batch]) -> tuple[str, Loss]:
    """A loss by its name, or the user's own; None: cross entropy where targets are classes, else the mean square.

    Raises:
        UnknownName: there is none; the message gives the closest.
        CodeFailed: the user's file cannot be run.
    """
    if name is None:
        targets = data[0][1]
        classes = isinstance(targets, Tensor) and targets.dtype == torch.int64
        name = "cross_entropy" if classes else "mse"
    if not code.is_code(name):
        if name not in LOSSES:
            raise UnknownName("loss", name, [*LOSSES, "FILE.py:NAME"])
        return name, LOSSES[name]
    own = code.named(name, "--loss")
    own = code.called(own, name) if isinstance(own, type) and issubclass(own, nn.Module) else own
    if not callable(own):
        raise SettingError(f"expected {name} to be a function of (outputs, targets), got {type(own).__name__}.")
    return name, own


def count(data: Iterable[Batch]) -> int:
    """Samples in all batches."""
    return sum(len(_rows(inputs)) for inputs, _ in data)


def _split(source: str, part: str, kept: dict[str, int], dtype: torch.dtype) -> Split:
    computed = dtype if dtype in (torch.float32, torch.float64) else torch.float32
    both = tensors(sets.load(sets.DataSpec(source=source, **kept)), computed).to("cpu", dtype)
    return both.train if part == "train" else both.test


def _own(source: str, samples: int | None, batch_size: int | None, dtype: torch.dtype) -> list[Batch]:
    given = code.called(code.named(source, "--data"), source)
    if isinstance(given, Dataset):
        given = DataLoader(given, batch_size or BATCH)
    elif isinstance(given, tuple | list) and len(given) == 2 and isinstance(given[1], Tensor):
        given = _cut((given[0], given[1]), batch_size or BATCH)
    elif batch_size is not None:
        raise SettingError(
            f"expected no --batch-size, since {source} gives batches of its own, got {batch_size}. Leave it out."
        )
    if not isinstance(given, Iterable):
        raise BadData(
            f"expected {source}() to give (inputs, targets), batches of them or a torch data set, got "
            f"{type(given).__name__}. Return one of those."
        )
    kept: list[Batch] = []
    left = samples
    try:
        for batch in given:
            if left is not None and left <= 0:
                break
            if not isinstance(batch, tuple | list) or len(batch) != 2:
                raise BadData(
                    f"expected batches of (inputs, targets) from {source}(), got {type(batch).__name__}. "
                    "Return such pairs."
                )
            inputs, targets = (_cast(_first(p, left), dtype) for p in batch)
            kept.append((inputs, targets))
            left = left - len(_rows(inputs)) if left is not None else None
    except TheodoliteError:
        raise
    except Exception as error:  # of the user's own data set
        raise CodeFailed(f"expected batches from {source}(), but {code.told(error)}. Correct it there.") from error
    if not kept:
        raise BadData(f"expected at least one batch from {source}(), got none. Return (inputs, targets).")
    return kept


def _cut(pair: Batch, size: int) -> Iterator[Batch]:
    inputs, targets = pair
    total = len(_rows(inputs))
    for at in range(0, total, size):
        yield _slice(inputs, slice(at, at + size)), _slice(targets, slice(at, at + size))


def _first(part: Any, number: int | None) -> Any:
    return part if number is None else _slice(part, slice(number))


def _slice(part: Any, rows: slice) -> Any:
    return _each(part, lambda tensor: tensor[rows] if tensor.ndim else tensor)


def _cast(part: Any, dtype: torch.dtype) -> Any:
    return _each(part, lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)


def _each(part: Any, change: Any) -> Any:
    if isinstance(part, Tensor):
        return change(part)
    if isinstance(part, dict):
        return {name: _each(value, change) for name, value in part.items()}
    return type(part)(_each(p, change) for p in part) if isinstance(part, tuple | list) else part


def _rows(part: Any) -> Any:
    """The first tensor, whose rows are the samples."""
    if isinstance(part, Tensor):
        return part if part.ndim else part[None]
    parts = part.values() if isinstance(part, dict) else part if isinstance(part, tuple | list) else ()
    return next((_rows(p) for p in parts), torch.empty(0))
