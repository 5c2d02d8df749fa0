"""Memory for bases: taken as it is written to, and said in words."""

import mmap
from contextlib import suppress

import torch
from torch import Tensor

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
