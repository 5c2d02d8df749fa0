"""Random signs, and products of an operator with many vectors, group by group."""

import torch
from torch import Tensor

from theodolite.measure.linalg.operator import Progress, SymmetricOperator

LOOK_PRODUCTS = 8  # between two looks at whether the user wants to stop


def multiply(A: SymmetricOperator, rows: Tensor, progress: Progress) -> Tensor:
    """A times the rows, float64; only the first of them where it was interrupted."""
    found = []
    for part in rows.split(LOOK_PRODUCTS):
        found.append(A.rows(part.to(A.dtype)).double())
        progress.advance(len(part))
        if progress.interrupted:
            break
    return torch.cat(found)


def signs(count: int, size: int, random: torch.Generator, A: SymmetricOperator) -> Tensor:
    """Rows ``(count, size)`` of -1 and 1, float64."""
    found: Tensor = 2.0 * torch.randint(0, 2, (count, size), generator=random).to(A.device, torch.float64) - 1
    return found
