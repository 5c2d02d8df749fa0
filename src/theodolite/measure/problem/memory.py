"""How much memory an instrument may take: ``memory="2GB"``, in one place."""

import mmap
import re
from contextlib import suppress

import torch
from torch import Tensor, nn

from theodolite.errors import SettingError

HUGE = 2**21  # bytes of a large page
SHARE = 0.5  # of what is free, where nothing else is said
UNITS: dict[str, int] = {"": 1, "B": 1} | {
    f"{letter}{i}B": base ** (power + 1) for power, letter in enumerate("kMGT") for i, base in (("", 1000), ("i", 1024))
}

Memory = int | str | None


def room(memory: Memory, device: torch.device) -> float:
    """Bytes that may be taken.

    Args:
        memory: a number of bytes, or one with a unit such as ``"2GB"`` or ``"512 MiB"``; None: half of what is free.
        device: where they would be.

    Raises:
        SettingError: neither.

    Example:
        >>> room("1.5GB", torch.device("cpu")), room("2 MiB", torch.device("cpu"))
        (1500000000.0, 2097152.0)
    """
    if memory is None:
        return free(device) * SHARE
    if isinstance(memory, int) and not isinstance(memory, bool) and memory > 0:
        return float(memory)
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([a-zA-Z]*)\s*", memory) if isinstance(memory, str) else None
    units: dict[str, int] = {unit.lower(): size for unit, size in UNITS.items()}
    if found and found[2].lower() in units and float(found[1]) > 0:
        return float(found[1]) * units[found[2].lower()]
    raise SettingError(
        f"expected memory as a number of bytes or text such as '2GB' or '512 MiB', got {memory!r}. Leave it out to use "
        "half of what is free."
    )


def halves(memory: Memory, model: nn.Module) -> float:
    """Half of what may be taken: for graphs, and as much for vectors."""
    parameter = next(model.parameters(), None)
    return room(memory, parameter.device if parameter is not None else torch.device("cpu")) / 2


def free(device: torch.device) -> float:
    """Bytes free on a device; on a GPU with what PyTorch holds there and does not use."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + unused)
    try:
        with open("/proc/meminfo") as lines:
            return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 2.0**32


def rows(count: int, size: int, like: Tensor) -> Tensor:
    """An empty tensor ``(count, size)`` that costs memory only as it is written to.

    On Linux in pages of 2 MB, where the system has them: the first write to each page of 4 kB takes a microsecond or
    two, which for a basis of 80 vectors is as much as three products of a small model.
    """
    length = count * size * like.element_size()
    if like.device.type == "cpu" and hasattr(mmap, "MADV_HUGEPAGE") and length >= HUGE:
        space = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(OSError):  # a kernel without them
            space.madvise(mmap.MADV_HUGEPAGE)
        return torch.frombuffer(space, dtype=like.dtype).view(count, size)
    return like.new_empty(count, size)


def in_words(count: float) -> str:
    """A number of bytes for people, in the units :func:`room` reads.

    Example:
        >>> in_words(1_500_000_000), in_words(12_000)
        ('1.5GB', '12kB')
    """
    for unit in ("TB", "GB", "MB", "kB"):
        if count >= UNITS[unit]:
            return f"{count / UNITS[unit]:.3g}{unit}"
    return f"{count:.0f}B"
