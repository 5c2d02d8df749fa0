"""What is so around a measurement or a training and put back after it: random states, autocast, rounding, warnings."""

import random
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.module import _has_any_global_hook
from torch.overrides import TorchFunctionMode


@contextmanager
def preserve_rng() -> Iterator[None]:
    """Put the random state back: PyTorch's on every device, and those that a user's data may draw from."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def autocast_off(device: str) -> AbstractContextManager[object]:
    """Nothing is rounded by autocast inside, which does it in backward passes too."""
    on = torch.is_autocast_enabled(device)  # the context itself takes a hundredth of a small model's product
    return torch.autocast(device, enabled=False) if on else nullcontext()


@contextmanager
def without_subnormals() -> Iterator[None]:
    """Numbers below the smallest normal one (1e-38 in float32) count as zero on this thread.

    Adam's first moment of a weight whose input is seldom on, as a pixel at the rim of MNIST, loses a tenth a step and
    is below that after 800; a processor takes twenty times as long over each such number, half of all training of
    large perceptrons on MNIST (docs/performance.md). No weight could tell: what they move it by is below 1e-29.
    """
    before = float(torch.tensor(torch.finfo(torch.float32).tiny) / 2) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@contextmanager
def loops_allowed() -> Iterator[None]:
    """Where PyTorch has no batched form of an operation it loops, and warns: not here, where the loop is short."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")
        yield


@contextmanager
def preserve_loader_rng(data: Any) -> Iterator[None]:
    """Put back the states of the generators that a loader draws its order from."""
    found: dict[int, torch.Generator] = {}
    for part in _parts(data):
        generator = getattr(part, "generator", None)
        if isinstance(generator, torch.Generator):
            found[id(generator)] = generator
    states = [(generator, generator.get_state()) for generator in found.values()]
    try:
        yield
    finally:
        for generator, state in states:
            generator.set_state(state)


def _parts(loader: Any) -> Iterator[Any]:
    """A loader, its samplers, and what those wrap."""
    waiting, seen = [loader], set()
    while waiting:
        part = waiting.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        waiting += [getattr(part, name, None) for name in ("sampler", "batch_sampler")]


class ElementaryWeightNorm(TorchFunctionMode):
    """Computes ``torch._weight_norm``, which weight_norm calls, by operations whose second derivative is right."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch._weight_norm:
            v, g, dim = (*args, *(kwargs or {}).values(), 0)[:3]
            return v * (g / torch.norm_except_dim(v, 2, dim))
        return function(*args, **(kwargs or {}))


def of_torch(part: Any) -> bool:
    """Whether a module or function is PyTorch's own as it is, so that it does not normalise weights on its way.

    Looking at every operation takes a seventh of the time that the operator of a small model is made in.
    """
    if not isinstance(part, nn.Module):
        return str(getattr(part, "__module__", "")).startswith("torch.nn.")
    hooked = part._forward_pre_hooks or part._forward_hooks or _has_any_global_hook()
    if "forward" in vars(part) or hooked:  # weight_norm of old is such a hook
        return False
    kind = type(part).__module__
    return kind.startswith("torch.nn.modules.") and "parametrizations" not in part._modules
