"""Weights as safetensors: opening a file never runs code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from theodolite.errors import RecordCorrupt

ORDER = "order"  # names in the order of the model, which safetensors itself does not keep: which layer is the first?


def to_bytes(weights: Mapping[str, Tensor]) -> bytes:
    """Serialise named tensors."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in weights.items()}
    content: bytes = safetensors.torch.save(tensors, metadata={ORDER: json.dumps(list(tensors))})
    return content


def from_bytes(content: bytes, path: Path | str = "the file") -> dict[str, Tensor]:
    """Read them back, in the order in which they were given (a file of another writer: in its own).

    Raises:
        RecordCorrupt: it is no such file; the message names it as ``path``.
    """
    try:
        weights: dict[str, Tensor] = safetensors.torch.load(content)
        return {name: weights[name] for name in _order(content)} or weights
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise RecordCorrupt(
            f"expected weights in the safetensors format, but {path} cannot be read ({reason}). Write it again."
        ) from None


def _order(content: bytes) -> list[str]:
    """Names in the order of the model; none where the writer left it out."""
    header: Any = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    order: list[str] = json.loads((header.get("__metadata__") or {}).get(ORDER, "[]"))
    return order


def snapshots_to_bytes(snapshots: Mapping[int, Mapping[str, Tensor]]) -> bytes:
    """Serialise weights by epoch; names become ``<epoch>/<parameter>``."""
    return to_bytes(
        {f"{epoch}/{name}": tensor for epoch, weights in snapshots.items() for name, tensor in weights.items()}
    )


def snapshots_from_bytes(content: bytes, path: Path | str = "the file") -> dict[int, dict[str, Tensor]]:
    """Weights by epoch, in order of the epochs; raises as :func:`from_bytes` does."""
    result: dict[int, dict[str, Tensor]] = {}
    for key, tensor in from_bytes(content, path).items():
        epoch, _, name = key.partition("/")
        if not (epoch.isascii() and epoch.isdigit()):
            raise RecordCorrupt(f"expected weights named EPOCH/PARAMETER, but {path} holds '{key}'. Write it again.")
        result.setdefault(int(epoch), {})[name] = tensor
    return dict(sorted(result.items()))
