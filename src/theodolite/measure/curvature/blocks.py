"""The blocks on the diagonal of a matrix of parameters, each a matrix of its own, from one operator."""

import fnmatch
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from theodolite.errors import SettingError
from theodolite.measure.curvature.matrix import SymmetricMatrix
from theodolite.measure.curvature.operator import HessianOperator
from theodolite.measure.problem.objective import Objective

Blocks = Literal["layer", "tensor"] | Sequence[str]


class Block(SymmetricMatrix):
    """The block of some parameters: the whole matrix times vectors that are zero elsewhere, seen there alone."""

    def __init__(self, whole: HessianOperator, places: Tensor) -> None:
        self._whole, self._places = whole, places

    @property
    def size(self) -> int:
        """How many parameters it has."""
        return len(self._places)

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in."""
        return self._whole.dtype

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._whole.device

    def rows(self, vectors: Tensor) -> Tensor:
        """Multiply each row of ``(k, n)``."""
        padded = torch.zeros(len(vectors), self._whole.size, dtype=self.dtype, device=self.device)
        padded[:, self._places] = vectors.to(padded)
        return self._whole.rows(padded)[:, self._places]


def blocks_of(H: HessianOperator, blocks: Blocks) -> dict[str, Block]:
    """The blocks by name, in the model's order.

    Raises:
        SettingError: patterns that overlap, leave a parameter out or match none; or a matrix that is seen in a basis.
    """
    if H.frame.basis is not None:
        raise SettingError(
            "expected blocks of parameters, got a matrix restricted to a basis, which has none. Leave one of them out."
        )
    groups = groups_of(H.objective.names, blocks)
    places = _places(H.objective)
    return {name: Block(H, torch.cat([places[own] for own in names]).to(H.device)) for name, names in groups.items()}


def groups_of(names: Sequence[str], blocks: Blocks) -> dict[str, list[str]]:
    """The names of parameters in each block.

    Example:
        >>> groups_of(["0.weight", "0.bias", "2.weight"], "layer")
        {'0': ['0.weight', '0.bias'], '2': ['2.weight']}
    """
    if blocks == "tensor":
        return {name: [name] for name in names}
    found: dict[str, list[str]] = {}
    if blocks == "layer":
        for name in names:
            found.setdefault(name.rpartition(".")[0] or name, []).append(name)
        return found
    for name in names:
        own = [pattern for pattern in blocks if fnmatch.fnmatchcase(name, pattern)]
        if len(own) != 1:
            what = f"'{own[0]}' and '{own[1]}' both match" if own else "no pattern matches"
            raise SettingError(
                f"expected blocks that each parameter belongs to one of, but {what} '{name}'. Pass blocks='layer', or "
                "parameters='NAME.*' to measure a part of the model."
            )
        found.setdefault(own[0], []).append(name)
    for pattern in blocks:
        if pattern not in found:
            raise SettingError(
                f"expected blocks that match parameters, got '{pattern}'; the model has: {', '.join(names[:8])}. Leave "
                "it out."
            )
    return found


def _places(whole: Objective) -> dict[str, Tensor]:
    sizes = [shape.numel() for shape in whole.shapes]
    return dict(zip(whole.names, torch.arange(sum(sizes)).split(sizes), strict=True))
