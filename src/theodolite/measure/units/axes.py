"""Where hidden units lie in a model's tensors, and their order there changed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from theodolite.errors import SettingError, UnknownName

Permutation: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of one parameter or buffer, or a part of it, along which hidden units lie.

    The axis is read as ``(outer, units, inner)``. How many units there are follows from all axes that share them:
    the greatest common divisor of what each could hold. So a linear layer that reads flattened channels needs no
    word for their pixels, nor a projection that reads attention heads for their width.

    Example:
        >>> Axis("lstm.weight_ih_l0", 0, outer=4)  # every hidden unit has a row in each of four gates
        Axis(tensor='lstm.weight_ih_l0', axis=0, outer=4, inner=1, start=0, stop=None, blocks=1)
    """

    tensor: str  # its name in the model
    axis: int
    outer: int = 1  # how often the units come one after the other: gates; queries, keys and values; time steps
    inner: int = 1  # numbers of one unit side by side, at least: the width of a head
    start: int = 0  # where the units begin on the axis, and
    stop: int | None = None  # where they end: what is concatenated from several layers holds several kinds of units
    blocks: int = 1  # the units stay together in so many blocks of equal size, as the groups of GroupNorm


Units: TypeAlias = Mapping[str, Sequence[Axis]]


@dataclass(frozen=True, slots=True)
class Place:
    """An axis as it is in a given model."""

    tensor: str
    axis: int
    start: int
    shape: tuple[int, int, int]  # (outer, units, inner)

    def index(self, order: Permutation) -> npt.NDArray[np.intp]:
        """What of the part goes where, for unit ``order[i]`` to come to place i."""
        places = np.arange(math.prod(self.shape)).reshape(self.shape)
        return self.start + places[:, order].ravel()

    def by_unit(self, tensor: Tensor) -> Tensor:
        """The numbers of each unit as a row, ``(units, ...)``."""
        length = math.prod(self.shape)
        part = tensor.movedim(self.axis, 0)[self.start : self.start + length]
        return part.reshape(*self.shape, -1).transpose(0, 1).reshape(self.shape[1], -1)


@dataclass(frozen=True, slots=True)
class Group:
    """Hidden units that are permuted together wherever they lie."""

    name: str
    size: int  # how many units
    blocks: int  # that they stay together in
    places: tuple[Place, ...]


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers under every name that they have."""
    return {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}


def groups_of(model: nn.Module, units: Units) -> tuple[Group, ...]:
    """What shares units, with sizes, as it is in this model.

    Raises:
        SettingError: an axis is none of the model's, is shared by two kinds of units, or cannot be divided as said.
        UnknownName: the model has no such tensor.
    """
    tensors = tensors_of(model)
    if not isinstance(units, Mapping):
        raise SettingError(
            f"expected units as a mapping from names to lists of Axis, got {type(units).__name__}. "
            "Pass for example units=resnet(model)."
        )
    found = tuple(_group(str(name), axes, tensors) for name, axes in units.items())
    taken: dict[tuple[int, int], list[tuple[int, int, str]]] = {}
    for group in found:
        for place in group.places:
            start, stop = place.start, place.start + math.prod(place.shape)
            others = taken.setdefault((id(tensors[place.tensor]), place.axis), [])
            other = next((name for first, last, name in others if start < last and first < stop), None)
            if other is not None:
                raise SettingError(
                    f"expected each axis to hold units of one kind, but axis {place.axis} of '{place.tensor}' is in "
                    f"'{other}' and again in '{group.name}'. Join what shares units, or give start and stop."
                )
            others.append((start, stop, group.name))
    return found


def permute(tensors: Mapping[str, Tensor], group: Group, order: Permutation) -> None:
    """Put unit ``order[i]`` in place i, in all that holds these units."""
    with torch.no_grad():
        for place in group.places:
            tensor = tensors[place.tensor]
            index = np.arange(tensor.shape[place.axis])
            index[place.start : place.start + math.prod(place.shape)] = place.index(order)
            tensor.copy_(tensor.index_select(place.axis, torch.from_numpy(index).to(tensor.device)))


def _group(name: str, given: Sequence[Axis], tensors: Mapping[str, Tensor]) -> Group:
    axes: list[Any] = list(given) if isinstance(given, (list, tuple)) else [given]
    wrong = next((axis for axis in axes if not isinstance(axis, Axis)), None)
    if wrong is not None or not axes:
        got = "none" if wrong is None else type(wrong).__name__
        raise SettingError(f"expected units '{name}' as a list of Axis, got {got}. Write Axis(tensor, axis).")
    lengths = [_length(name, axis, tensors) for axis in axes]
    size = math.gcd(*(length // (a.outer * a.inner) for a, length in zip(axes, lengths, strict=True)))
    kept = {axis.blocks for axis in axes} - {1}
    if len(kept) > 1 or any(size % blocks for blocks in kept):
        size, kept = math.gcd(size, *kept), set()  # whole blocks of all kinds at once
    places: dict[tuple[int, int, int], Place] = {}  # tied weights once
    for axis, length in zip(axes, lengths, strict=True):
        tensor = tensors[axis.tensor]
        shape = (axis.outer, size, length // (axis.outer * size))
        place = Place(axis.tensor, axis.axis % tensor.ndim, axis.start, shape)
        known = places.setdefault((id(tensor), place.axis, place.start), place)
        if known.shape != shape:
            raise SettingError(
                f"expected axis {place.axis} of '{axis.tensor}', whose weights are tied, to be said alike, got "
                f"{known.shape} and {shape} in '{name}'. Leave one out."
            )
    return Group(name, size, kept.pop() if kept else 1, tuple(places.values()))


def _length(name: str, axis: Axis, tensors: Mapping[str, Tensor]) -> int:
    """Of the part of the axis that holds units."""
    if axis.tensor not in tensors:
        raise UnknownName("parameter or buffer", axis.tensor, tensors)
    shape = tuple(tensors[axis.tensor].shape)
    if not -len(shape) <= axis.axis < len(shape):
        raise SettingError(
            f"expected an axis of '{axis.tensor}', which has shape {shape}, got {axis.axis} in '{name}'."
        )
    whole = shape[axis.axis]
    stop = whole if axis.stop is None else axis.stop
    length, each = stop - axis.start, axis.outer * axis.inner
    if not (0 <= axis.start < stop <= whole and axis.outer > 0 and axis.inner > 0 and length % each == 0):
        raise SettingError(
            f"expected {whole} numbers along axis {axis.axis} of '{axis.tensor}' as whole units, got {axis}. "
            "Check outer, inner, start and stop."
        )
    if axis.blocks < 1:
        raise SettingError(f"expected at least one block of units, got {axis}. Leave out blocks=.")
    return length
