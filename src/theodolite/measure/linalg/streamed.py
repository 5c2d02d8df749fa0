"""Inner products of long vectors and random ones, in double precision piece by piece: no copy of a whole vector."""

import torch
from torch import Tensor

PIECE = 2**22  # numbers: 32 MB in float64; shorter vectors go in one


def dots(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of the rows of two tensors ``(..., P)``, float64 ``(...,)``."""
    pairs = zip(a.split(PIECE, -1), b.split(PIECE, -1), strict=True)
    return torch.stack([torch.linalg.vecdot(x.double(), y.double()) for x, y in pairs]).sum(0)


def lengths(a: Tensor) -> Tensor:
    """Of the rows of ``(..., P)``, float64 ``(...,)``."""
    return dots(a, a).sqrt()


def joined(parts: list[Tensor]) -> list[Tensor]:
    """A long vector in its parts, a short one whole: calls for each small tensor would be most of the time."""
    return [torch.cat([part.flatten() for part in parts])] if sum(map(Tensor.numel, parts)) <= PIECE else parts


def fill_normal(rows: Tensor, random: torch.Generator) -> Tensor:
    """The tensor, contiguous, with normal numbers drawn in double precision on the CPU."""
    for piece in rows.view(-1).split(PIECE):
        piece.copy_(torch.randn(len(piece), generator=random, dtype=torch.float64, device="cpu"))
    return rows
