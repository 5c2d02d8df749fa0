"""Weights as safetensors: opening a file never runs code."""

from collections.abc import Mapping

import safetensors.torch
from torch import Tensor


def to_bytes(weights: Mapping[str, Tensor]) -> bytes:
    """Serialise named tensors."""
    content: bytes = safetensors.torch.save({name: t.detach().cpu().contiguous() for name, t in weights.items()})
    return content


def from_bytes(content: bytes) -> dict[str, Tensor]:
    """Read them back."""
    weights: dict[str, Tensor] = safetensors.torch.load(content)
    return weights


def snapshots_to_bytes(snapshots: Mapping[int, Mapping[str, Tensor]]) -> bytes:
    """Serialise weights by epoch; names become ``<epoch>/<parameter>``."""
    return to_bytes(
        {f"{epoch}/{name}": tensor for epoch, weights in snapshots.items() for name, tensor in weights.items()}
    )


def snapshots_from_bytes(content: bytes) -> dict[int, dict[str, Tensor]]:
    """Weights by epoch, in order of the epochs."""
    result: dict[int, dict[str, Tensor]] = {}
    for key, tensor in from_bytes(content).items():
        epoch, _, name = key.partition("/")
        result.setdefault(int(epoch), {})[name] = tensor
    return dict(sorted(result.items()))
