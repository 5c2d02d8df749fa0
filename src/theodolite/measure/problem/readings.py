r"""Whether data are the same whenever they are read: augmentation and generators of their own make them others.

Two readings are compared by a number for each: every sample's inputs and targets are multiplied by fixed random
signs and summed, the products of the two over all samples added. So it does not ask in which order samples come or
how they are put into batches, but notices a pixel that moved. Data held in memory are not compared: they cannot differ.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from theodolite.errors import BadData, NotDeterministic
from theodolite.measure.problem.batches import Batch, Pairs, tensors
from theodolite.streams import named_seed

SAME = 1e-5  # of the sum of magnitudes: float32 sums over samples round less, one sample in a thousand moved is more


@dataclass(slots=True)
class Readings:
    """Batches that are compared with those of the first reading when they are read through for the second time."""

    data: Pairs
    first: tuple[float, float] | None = None  # the number of the first reading, and its scale
    done: bool = False  # compared, or nothing to compare
    signs: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Data in memory are not compared."""
        self.done = in_memory(self.data.data)

    def __iter__(self) -> Iterator[Batch]:
        """The batches.

        Raises:
            NotDeterministic: they are not those of the first reading.
            BadData: there are none any more.
        """
        if self.done:
            yield from self.data
            return
        total = scale = 0.0
        batches = 0
        for batch in self.data:
            value, size = self._number(batch)
            total, scale, batches = total + value, scale + size, batches + 1
            yield batch
        if self.first is None:
            self.first = total, scale
            return
        if not batches:
            raise BadData(
                "expected data that can be read more than once, got none at the second reading. Let __iter__ begin "
                "anew."
            )
        if abs(total - self.first[0]) > SAME * (scale + self.first[1]):
            raise NotDeterministic(
                "expected the same data at every reading, got others at the second: they are augmented, or drawn with "
                "a generator of their own. Read them once, data=list(loader), or turn augmentation off."
            )
        self.done = True

    def _number(self, batch: Batch) -> tuple[float, float]:
        parts = [self._of(part, salt) for salt, part in enumerate(batch)]
        rows = parts[0] * (1 + parts[1]) if parts[0].shape == parts[1].shape else torch.cat(parts)
        return float(rows.sum()), float(rows.abs().sum())

    def _of(self, part: Any, salt: int) -> Tensor:
        """A number for each sample ``(n,)``, float64; the sum ``(1,)`` of tensors without a common first dimension."""
        found = [self._rows(t, salt + 2 * i) for i, t in enumerate(tensors(part))]
        if not found:
            return torch.zeros(1, dtype=torch.float64)
        if len({len(rows) for rows in found}) > 1:
            found = [rows.sum()[None] for rows in found]
        return torch.stack(found).sum(0)

    def _rows(self, tensor: Tensor, salt: int) -> Tensor:
        flat = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
        flat = (flat if flat.ndim else flat[None]).flatten(1) if flat.ndim > 1 else flat.reshape(-1, 1)
        flat = flat.real if flat.is_complex() else flat
        flat = torch.nan_to_num(flat.float() if flat.dtype != torch.float64 else flat, 0.0, 1.0, -1.0)
        width = flat.shape[1]
        key = width * 64 + salt
        if key not in self.signs:
            draw = torch.Generator().manual_seed(named_seed(0, f"signs {width} {salt}"))
            self.signs[key] = torch.randn(width, generator=draw, dtype=torch.float32, device="cpu")
        return (flat @ self.signs[key].to(flat)).double().cpu()


def in_memory(data: Iterable[Any]) -> bool:
    """Whether data are a list or tuple of tensors, in whatever structure, and so the same at every reading."""
    return type(data) in (list, tuple) and all(_held(batch) for batch in data)


def _held(part: Any) -> bool:
    if isinstance(part, Mapping):
        return all(map(_held, part.values()))
    if isinstance(part, (tuple, list)):
        return all(map(_held, part))
    return not hasattr(part, "__iter__") or isinstance(part, (Tensor, str))
