"""The state of a training under way in one safetensors file, beside the record of its run: opening it never runs code.

Numbers, text, tensors, and lists and mappings of them, at any depth; tensors keep their layout in memory. A checksum at
the end tells a whole file from a damaged one.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from theodolite.errors import RecordCorrupt, SettingError
from theodolite.store import files

MARK = "theodolite"  # the header's entry
SUM = 32  # bytes of the checksum

State = dict[str, Any]


def write(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state whole, in place of the last."""
    files.write(path, to_bytes(state))


def read(path: Path) -> State | None:
    """A state as it was written; None where there is none.

    Raises:
        RecordCorrupt: it is damaged; the message names it.
    """
    try:
        return from_bytes(files.read(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise RecordCorrupt(f"{path} cannot be read ({reason}). Its run begins anew.") from None


def to_bytes(state: Mapping[str, Any]) -> bytes:
    """The content of such a file.

    Raises:
        SettingError: something in it is neither number, text nor tensor.
    """
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_encode(state, tensors))
    content: bytes = safetensors.torch.save(tensors, metadata={MARK: tree})
    return content + hashlib.sha256(content).digest()


def from_bytes(content: bytes) -> State:
    """What such a content holds, on the CPU; any error of another kind is one of the content.

    Example:
        >>> from_bytes(to_bytes({"epoch": 3, "rows": [(1, float("inf"))], "by": {2: torch.ones(2)}}))
        {'epoch': 3, 'rows': [(1, inf)], 'by': {2: tensor([1., 1.])}}
    """
    body, total = content[:-SUM], content[-SUM:]
    if hashlib.sha256(body).digest() != total:
        raise ValueError("its checksum differs")
    tensors = safetensors.torch.load(body)
    header = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])
    state: State = _decode(json.loads(header["__metadata__"][MARK]), tensors)
    return state


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        name, plain = str(len(tensors)), value.detach().cpu()
        strides = plain.stride()
        # Outermost first, as they lie: channels_last stays so, on which kernels depend.
        dims = sorted(range(plain.ndim), key=lambda dim: -strides[dim])
        tensors[name] = plain.permute(dims).clone(memory_format=torch.contiguous_format)
        return {"tensor": name, "dims": dims}
    if isinstance(value, Mapping):
        return {"mapping": [[_encode(key, tensors), _encode(part, tensors)] for key, part in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_encode(part, tensors) for part in value]}
    raise SettingError(
        f"expected numbers, text and tensors in the state of a training, got {type(value).__name__}. Leave "
        "--resume-every out."
    )


def _decode(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(tree, dict):
        return tree
    kind, content = next(iter(tree.items()))
    if kind == "tensor":
        dims = tree["dims"]
        return tensors[content].permute([dims.index(dim) for dim in range(len(dims))])
    if kind == "mapping":
        return {_decode(key, tensors): _decode(part, tensors) for key, part in content}
    parts = [_decode(part, tensors) for part in content]
    return tuple(parts) if kind == "tuple" else parts
