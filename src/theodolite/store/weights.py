"""Weights as safetensors: opening a file never runs code."""

import json
from collections.abc import Mapping

import safetensors.torch
from torch import Tensor

ORDER = "order"  # names in the order of the model, which safetensors itself does not keep: which layer is the first?


def to_bytes(weights: Mapping[str, Tensor]) -> bytes:
    """Serialise named tensors."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in weights.items()}
    content: bytes = safetensors.torch.save(tensors, metadata={ORDER: json.dumps(list(tensors))})
    return content


def from_bytes(content: bytes) -> dict[str, Tensor]:
    """Read them back, in the order in which they were given (a file of another writer: in its own)."""
    weights: dict[str, Tensor] = safetensors.torch.load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    order = header.get("__metadata__", {}).get(ORDER)
    return {name: weights[name] for name in json.loads(order)} if order else weights


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
