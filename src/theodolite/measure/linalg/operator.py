"""What the algorithms of this folder ask of a matrix, and of whoever shows how far they are."""

from typing import Protocol

import torch
from torch import Tensor


class SymmetricOperator(Protocol):
    """A symmetric matrix that is known by its products alone.

    Example:
        >>> class Diagonal:
        ...     size, dtype, device = 3, torch.float64, torch.device("cpu")
        ...     def rows(self, vectors):
        ...         return vectors * torch.tensor([1.0, 2.0, 3.0]).double()
        >>> from theodolite.measure.linalg.eigensolver import eigenvalues
        >>> eigenvalues(Diagonal(), k=1, random=torch.Generator()).eigenvalues.round(decimals=6).tolist()
        [3.0]
    """

    @property
    def size(self) -> int:
        """P: the matrix is (P, P)."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of products: float32 or float64."""
        ...

    @property
    def device(self) -> torch.device:
        """Where products are computed."""
        ...

    def rows(self, vectors: Tensor, /) -> Tensor:
        """Multiply each row of ``(k, P)``."""
        ...


class Progress(Protocol):
    """Counts products, and says whether the user wants what there is by now."""

    @property
    def interrupted(self) -> bool:
        """Looked at between two steps, so that what is handed back is whole."""
        ...

    def advance(self, count: int, /) -> None:
        """So many more products are done."""
        ...


class Silent:
    """Progress that nobody sees or ends."""

    interrupted = False

    def advance(self, count: int, /) -> None:
        """Show nothing."""
