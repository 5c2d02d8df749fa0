"""Where a module's own chance comes from while it trains: the global generators of PyTorch, NumPy and Python."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch

from theodolite.streams import named_seed

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def drawn_from(seed: int, device: torch.device | str) -> Iterator[None]:
    """Dropout and its like draw from this seed, whatever the process did before; the caller's generators come back."""
    device, stream = torch.device(device), named_seed(seed, "chance of the modules")
    before = state(device)
    torch.manual_seed(named_seed(seed, "chance of the modules"))
    np.random.seed(stream % 2**32)
    random.seed(stream)
    try:
        yield
    finally:
        put(before, device)


def seeded(training: Callable[P, T]) -> Callable[P, T]:
    """The same function, within which modules draw from its ``order_seed``."""

    @wraps(training)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> T:
        given: Any = kwargs
        with drawn_from(given["order_seed"], given.get("device", "cpu")):
            return training(*args, **kwargs)

    return drawn


def state(device: torch.device | str) -> dict[str, Any]:
    """The generators as they are, as numbers and tensors."""
    device = torch.device(device)
    numpy: Any = np.random.get_state()
    found = {
        "torch": torch.get_rng_state(),
        "numpy": [numpy[0], numpy[1].tolist(), *numpy[2:]],
        "python": random.getstate(),
    }
    return found | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def put(state: dict[str, Any], device: torch.device | str) -> None:
    """Go on with generators as they were."""
    torch.set_rng_state(state["torch"])
    np.random.set_state(tuple(state["numpy"]))
    random.setstate(state["python"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], torch.device(device))
