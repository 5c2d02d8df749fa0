"""Copies of parameters, to be kept on disk."""

from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from theodolite.errors import BadModel


def parameters_of(model: nn.Module, pattern: str) -> dict[str, Tensor]:
    """Copies on the CPU of all parameters whose names match.

    Raises:
        BadModel: none does.
    """
    chosen = {
        name: p.detach().to("cpu", torch.float32 if p.dtype == torch.bfloat16 else p.dtype, copy=True)  # as exact
        for name, p in model.named_parameters()
        if fnmatchcase(name, pattern)
    }
    if not chosen:
        some = ", ".join(name for name, _ in list(model.named_parameters())[:8]) or "none at all"
        raise BadModel(f"expected weights as a pattern that a parameter matches, got {pattern!r}; there are: {some}.")
    return chosen
