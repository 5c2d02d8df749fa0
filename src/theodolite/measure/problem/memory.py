"""How much memory an instrument may take: ``memory="2GB"``, in one place."""

import re

import torch
from torch import nn

from theodolite.errors import SettingError
from theodolite.measure.linalg.allocation import UNITS
from theodolite.measure.linalg.allocation import in_words as in_words

SHARE = 0.5  # of what is free, where nothing else is said

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


def room_beside(model: nn.Module, memory: Memory) -> float:
    """The same where a model is."""
    return room(memory, next((parameter.device for parameter in model.parameters()), torch.device("cpu")))


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
