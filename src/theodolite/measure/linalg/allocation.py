"""Memory for bases: taken as it is written to, refused where there is too little, and said in words."""

import mmap
from contextlib import suppress

import torch
from torch import Tensor

from theodolite.errors import TooLarge

HUGE_PAGE_BYTES = 2**21
UNITS: dict[str, int] = {"": 1, "B": 1} | {
    f"{letter}{i}B": base ** (power + 1) for power, letter in enumerate("kMGT") for i, base in (("", 1000), ("i", 1024))
}


def empty_rows(count: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """An empty tensor ``(count, size)`` that costs memory only as it is written to.

    On Linux in pages of 2 MB, where the system has them: the first write to each page of 4 kB takes a microsecond or
    two, which for a basis of 80 vectors is as much as three products of a small model.
    """
    length = count * size * dtype.itemsize
    if device.type == "cpu" and hasattr(mmap, "MADV_HUGEPAGE") and length >= HUGE_PAGE_BYTES:
        space = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(OSError):  # a kernel without them
            space.madvise(mmap.MADV_HUGEPAGE)
        return torch.frombuffer(space, dtype=dtype).view(count, size)
    return torch.empty(count, size, dtype=dtype, device=device)


def check_fits(need: float, memory: float, what: str, instead: str) -> None:
    """Raise TooLarge where so many bytes are more than there are; ``instead`` is what takes fewer.

    Example:
        >>> check_fits(2e9, 1e9, "the vectors", "fewer products")
        Traceback (most recent call last):
        ...
        theodolite.errors.TooLarge: expected memory for the vectors, 2GB, got 1GB, the other half being for graphs. Pass
        more memory, or fewer products.
    """
    if need > memory:
        raise TooLarge(
            f"expected memory for {what}, {in_words(need)}, got {in_words(memory)}, the other half being for graphs. "
            f"Pass more memory, or {instead}."
        )


def in_words(count: float) -> str:
    """A number of bytes for people.

    Example:
        >>> in_words(1_500_000_000), in_words(12_000)
        ('1.5GB', '12kB')
    """
    for unit in ("TB", "GB", "MB", "kB"):
        if count >= UNITS[unit]:
            return f"{count / UNITS[unit]:.3g}{unit}"
    return f"{count:.0f}B"
