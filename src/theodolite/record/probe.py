"""The fixed set of samples that a recorder measures on, read once, without a trace in the user's own loader."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch.utils.data import DataLoader

from theodolite.errors import BadData, SettingError
from theodolite.measure.problem.batches import Batch, Data, copied, is_pair, pairs, tensors
from theodolite.measure.problem.isolation import preserve_loader_rng, preserve_rng

LIMIT = 2 * 2**30  # bytes of a set that is read into memory


def fixed(data: Data, samples: int | None = None, limit: int = LIMIT) -> Data:
    """The same batches whenever they are read, however the loader shuffles or augments.

    A pair or a list of batches is copied, since a training may alter its data in place, unless it is larger than the
    limit. Anything else is read once, now: the random state, and that of the loader's own generators, are put back, and
    workers that live as long as the loader are left alone.

    Args:
        data: one ``(inputs, targets)`` pair or an iterable of such batches.
        samples: read until there are so many; None: all.
        limit: bytes beyond which reading stops with an error, and data in memory are not copied.

    Raises:
        SettingError: more than ``limit`` bytes, or ``samples`` with data that is in memory already.
        BadData: no batch, or an iterator, which gives its batches once only, to us or to the training.
    """
    if isinstance(data, (tuple, list, Mapping)):
        if samples is not None:
            raise SettingError("expected first together with a loader, got data in memory. Pass a part of it.")
        return copied(data) if _bytes(data) <= limit else data
    readable: Any = pairs(data).data  # which refuses what cannot be read, or once only
    with preserve_loader_rng(readable), preserve_rng():
        read = list(_read(_own(readable), samples, limit))
    if not read:
        raise BadData("expected at least one batch to measure on, got none. Pass data that are not empty.")
    return read


def _read(data: Iterable[Batch], samples: int | None, limit: int) -> Iterator[Batch]:
    number = held = 0
    for batch in data:
        held += _bytes(batch)
        if held > limit:
            raise SettingError(
                f"expected a probe set of at most {limit / 2**30:.3g} GiB, got more. Pass first=, or a part of the "
                "data: a few thousand samples show a loss surface well."
            )
        yield copied(batch)
        number += _samples(batch)
        if samples is not None and number >= samples:
            return


def samples_in(data: Data) -> int:
    """How many samples there are in data in memory, by their first tensors."""
    batches: Any = [data] if is_pair(data) else data
    return sum(map(_samples, batches))


def _samples(batch: Any) -> int:
    found = tensors(batch)
    return found[0].shape[0] if found and found[0].ndim else 1


def _bytes(data: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tensors(data))


def _own(data: Any) -> Any:
    """A loader without the workers of the user's: reading it would move them on, or restart them under a loop."""
    if not isinstance(data, DataLoader):
        return data
    own = copy.copy(data)
    own._iterator = None
    return own
