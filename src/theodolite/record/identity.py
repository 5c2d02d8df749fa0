"""What a training is known by: its model and settings, and the weights and random state that it begins with.

Two recordings of one model with the same settings and different beginnings are two seeds. Whatever agrees or differs
otherwise is no second seed (:mod:`~theodolite.record.place` says so).
"""

import hashlib
import random
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SAMPLED = 4096  # entries of each parameter that a beginning is known by: one step changes nearly all


def described(value: Any) -> str:
    """A setting in words that are the same in every process: functions by name, objects by their class.

    >>> described({"k": 3, "loss": nn.CrossEntropyLoss(label_smoothing=0.1)})
    "{k: 3, loss: CrossEntropyLoss{ignore_index: -100, label_smoothing: 0.1, reduction: 'mean'}}"
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {described(part)}' for key, part in sorted(value.items(), key=str))}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(described, value))}]"
    if isinstance(value, partial):
        return described(value.func) + (described(value.keywords) if value.keywords else "")
    if isinstance(value, nn.Module):
        kept = {name: part for name, part in vars(value).items() if isinstance(part, (bool, int, float, str))}
        own = {name: part for name, part in kept.items() if not name.startswith("_") and name != "training"}
        return type(value).__qualname__ + (described(own) if own else "")
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def of_model(model: nn.Module) -> dict[str, Any]:
    """What tells models apart: class, number of trained parameters, and the names and shapes of all."""
    shapes = [f"{name} {tuple(p.shape)}" for name, p in model.named_parameters()]
    return {
        "model": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "shapes": _hash(line.encode() for line in shapes),
    }


def of_beginning(model: nn.Module) -> dict[str, str]:
    """Weights and random state as they are now.

    Both alike: the same script with the same seed. The random state alone: the same seed, and other settings, such as
    a learning rate, which nobody told the recorder.
    """
    return {"weights_at_start": _hash(map(_some, model.parameters())), "chance_at_start": _hash(_chance())}


def _some(parameter: Tensor) -> bytes:
    flat = parameter.detach().flatten()
    part = flat[:: max(1, len(flat) // SAMPLED)].cpu().contiguous()
    return part.view(torch.uint8).numpy().tobytes() if len(part) else b""


def _chance() -> Iterable[bytes]:
    yield torch.get_rng_state().numpy().tobytes()
    yield repr(random.getstate()).encode()
    yield repr([np.asarray(part).tolist() for part in np.random.get_state(legacy=True)]).encode()


def _hash(parts: Iterable[bytes]) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()[:16]
