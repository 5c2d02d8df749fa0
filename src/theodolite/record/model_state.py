"""A model as it is measured: unwrapped, in the mode asked for, and afterwards as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from theodolite.measure.problem.isolation import preserve_rng

Mode = Literal["evaluation", "training", "as it is"]


def unwrap(model: nn.Module) -> nn.Module:
    """The module whose parameters are trained, without what compiles it or spreads it over processes.

    Compiled code cannot be differentiated twice, and a wrapper's hooks would wait for processes that do not measure.
    """
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


@contextmanager
def measuring(model: nn.Module, mode: Mode) -> Iterator[None]:
    """Measure within: every module in ``mode``, gradients on whatever the caller has switched off.

    Flags are set one by one and not by ``model.eval()``, which a user's model may have made do more. Afterwards each
    module has its own flag again, and the random state is what it was.
    """
    flags = [(module, module.training) for module in model.modules()]
    try:
        if mode != "as it is":
            for module, _ in flags:
                module.training = mode == "training"
        with preserve_rng(), torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, training in flags:
            module.training = training


def synchronize(device: torch.device) -> None:
    """Wait for what training has queued on an accelerator, so that its time is not taken for ours."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters lie."""
    first: Any = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device
