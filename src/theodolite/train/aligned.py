"""Matrices of many replicas in one buffer, laid out so that no replica's numbers depend on the others.

A matrix product on a CPU rounds differently when its operands lie differently against the vector registers, and an
elementwise kernel when an element falls into the remainder of its loop. So every matrix of every replica
fills a multiple of 128 bytes: then each replica sees the same alignment and no remainder in any stack, alone or with
others, and its results are the same bit for bit (tests/train/test_replicas.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor

from theodolite.models.description import MLP
from theodolite.train.outcome import Weights

ALIGNMENT_BYTES = 128  # bytes: two AVX-512 registers, which is the stride of PyTorch's vectorised loops


def lanes(dtype: torch.dtype) -> int:
    """Numbers of a type in one alignment unit."""
    return ALIGNMENT_BYTES // dtype.itemsize


def padded(size: int, dtype: torch.dtype) -> int:
    """The next multiple of an alignment unit."""
    return -(-size // lanes(dtype)) * lanes(dtype)


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer as one matrix ``(rows, columns)``, whose columns are the inputs and then the bias.

    The true part is ``[:outputs, :inputs + bias]``; the rest is zero and stays zero, since its gradient is.
    """

    inputs: int
    outputs: int
    bias: bool
    rows: int
    columns: int


def layers(architecture: MLP, dtype: torch.dtype) -> tuple[Layer, ...]:
    """The layers, each padded by the fewest numbers that fill whole alignment units.

    Example:
        >>> [(layer.rows, layer.columns) for layer in layers(MLP(inputs=1, hidden=(15, 19), outputs=1), torch.float32)]
        [(16, 2), (20, 16), (1, 32)]
    """
    result = []
    for inputs, outputs in pairwise(architecture.widths):
        width, unit = inputs + architecture.bias, lanes(dtype)
        fits = [
            (rows * columns, rows, columns)
            for rows in range(outputs, outputs + unit)
            for columns in range(width, width + unit)
            if rows * columns % unit == 0
        ]
        _, rows, columns = min(fits)
        result.append(Layer(inputs, outputs, architecture.bias, rows, columns))
    return tuple(result)


@dataclass(frozen=True, slots=True)
class AlignedStack:
    """One matrix a layer and replica, all in one buffer: the weights, their gradient, or an optimizer's moments."""

    layers: tuple[Layer, ...]
    replicas: int  # R
    buffer: Tensor  # (R P,), P the padded parameters of one replica; by layer, then by replica

    @classmethod
    def zeros(cls, shape: Sequence[Layer], replicas: int, dtype: torch.dtype, device: torch.device | str) -> Self:
        """All zero."""
        size = replicas * sum(layer.rows * layer.columns for layer in shape)
        return cls(tuple(shape), replicas, torch.zeros(size, dtype=dtype, device=device))

    @classmethod
    def of_rows(cls, shape: Sequence[Layer], rows: Sequence[Sequence[Tensor]], device: torch.device | str) -> Self:
        """Of each replica what :meth:`rows` gave."""
        buffer = torch.cat([part.flatten() for own in zip(*rows, strict=True) for part in own])
        return cls(tuple(shape), len(rows), buffer.to(device))

    def rows(self, replica: int) -> list[Tensor]:
        """A copy of one replica's matrices, padding and all, on the CPU."""
        return [matrix[replica].detach().to("cpu", copy=True) for matrix in self.matrices]

    @property
    def matrices(self) -> list[Tensor]:
        """Views ``(R, rows, columns)``, one a layer, each contiguous."""
        sizes = [self.replicas * layer.rows * layer.columns for layer in self.layers]
        parts = self.buffer.split(sizes)
        return [
            part.view(self.replicas, layer.rows, layer.columns) for part, layer in zip(parts, self.layers, strict=True)
        ]

    def zeros_like(self) -> "AlignedStack":
        """All zero, in the same shape."""
        return AlignedStack(self.layers, self.replicas, torch.zeros_like(self.buffer))

    def to(self, dtype: torch.dtype) -> "AlignedStack":
        """The same in another type; itself in its own."""
        return self if dtype == self.buffer.dtype else AlignedStack(self.layers, self.replicas, self.buffer.to(dtype))

    def take(self, other: "AlignedStack") -> None:
        """Have the numbers of the same in another type, rounded to this one's; nothing is done for itself."""
        if other is not self:
            self.buffer.copy_(other.buffer)

    def select(self, keep: Sequence[int]) -> "AlignedStack":
        """A copy with these replicas only."""
        rows = torch.tensor(keep, device=self.buffer.device)
        chosen = torch.cat([matrix.index_select(0, rows).flatten() for matrix in self.matrices])
        return AlignedStack(self.layers, len(keep), chosen)

    def write(self, replica: int, weights: Weights) -> None:
        """Take the weights of a ``nn.Sequential`` of linear layers with an activation after each but the last."""
        for number, (matrix, layer) in enumerate(zip(self.matrices, self.layers, strict=True)):
            matrix[replica, : layer.outputs, : layer.inputs] = weights[f"{2 * number}.weight"]
            if layer.bias:
                matrix[replica, : layer.outputs, layer.inputs] = weights[f"{2 * number}.bias"]

    def read(self, replica: int) -> Weights:
        """A copy of one replica's weights as the state dict of its ``nn.Sequential``, on the CPU."""
        weights = {}
        for number, (matrix, layer) in enumerate(zip(self.matrices, self.layers, strict=True)):
            own = matrix[replica, : layer.outputs].detach().cpu()
            weights[f"{2 * number}.weight"] = own[:, : layer.inputs].clone()
            if layer.bias:
                weights[f"{2 * number}.bias"] = own[:, layer.inputs].clone()
        return weights
