"""Results written: to a safetensors file each, whose header says in JSON how numbers and tensors make up the result.

Or as plain JSON, for other programs. Both go by the fields of the frozen dataclasses; a file names kinds, not classes.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from theodolite.errors import StoreError
from theodolite.measure.problem.typed import in_words, is_instance
from theodolite.measure.results import kinds
from theodolite.store import files

FORMAT = 2  # 1 named the module of a class where 2 names its kind
MARK = "theodolite"  # the header's entry
_NAME = "Choose such a name: theodolite.measure.load reads it back."
_TABLE = "For a table: result.to_frame().to_csv(...), or another way of pandas."
_PICTURE = "For a picture: result.plot().save(...)."
OTHERS = {  # endings that promise another format -> what to do
    **dict.fromkeys((".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".npy", ".npz", ".h5", ".hdf5"), _NAME),
    **dict.fromkeys((".csv", ".json", ".md", ".parquet", ".tsv", ".txt", ".xlsx"), _TABLE),
    **dict.fromkeys((".html", ".jpg", ".pdf", ".png", ".svg"), _PICTURE),
}
LISTED = 10_000  # numbers of an array that JSON for other programs holds at most


def save(result: Any, path: Path | str) -> None:
    """Write a result whole, with a checksum; :func:`~theodolite.measure.results.reader.load` gives it back exactly.

    Raises:
        StoreError: it cannot be written there, could not be read back, or the name is that of another format.
    """
    ending = Path(path).suffix.lower()
    if ending in OTHERS:
        raise StoreError(
            f"expected a name that ends in .safetensors, as which results are saved, got {Path(path).name}. "
            f"{OTHERS[ending]}"
        )
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_encode(result, tensors, "result"), allow_nan=False)
    # One entry: safetensors writes several in an order that changes from process to process.
    about = json.dumps({"format": FORMAT, "sha256": digest(tree, tensors), "result": tree})
    files.write(Path(path), safetensors.torch.save(tensors, metadata={MARK: about}))


def plain(result: Any) -> Any:
    """A result as JSON for other programs takes it: lists, numbers, text; NaN and infinity as null.

    An array of more than 10,000 numbers is given by shape and type alone; a saved file holds it whole.
    """
    return _plain(result)


def digest(tree: str, tensors: Mapping[str, Tensor]) -> str:
    """The checksum of a result in two parts: its JSON, and the tensors that this names."""
    digest = hashlib.sha256(tree.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _encode(value: Any, tensors: dict[str, Tensor], place: str) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, np.generic):
        return _encode(value.item(), tensors, place)
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, Tensor):
        tensors[place] = value.detach().cpu().clone(memory_format=torch.contiguous_format)  # views share memory
        return {"tensor": place}
    if isinstance(value, np.ndarray):
        tensors[place] = torch.from_numpy(np.array(value, order="C"))
        return {"array": place}
    if isinstance(value, nn.Module):
        return {"module": _encode(value.state_dict(), tensors, place)}
    if is_dataclass(value):
        return _encode_result(value, tensors, place)
    if isinstance(value, Mapping):
        wrong = next((type(key).__name__ for key in value if not isinstance(key, str | int | float)), None)
        if wrong:
            raise StoreError(f"expected text or numbers as keys of {place}, got {wrong}. Name the entries.")
        return {"mapping": [[key, _encode(entry, tensors, f"{place}.{key}")] for key, entry in value.items()]}
    if isinstance(value, tuple | list):
        entries = [_encode(entry, tensors, f"{place}.{n}") for n, entry in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": entries}
    raise StoreError(
        f"expected numbers, text, tensors and dataclasses in a result, got {type(value).__name__}. Save its parts."
    )


def _encode_result(result: Any, tensors: dict[str, Tensor], place: str) -> Any:
    kind = kinds.of(type(result))
    if kind is None:
        name = type(result).__name__
        raise StoreError(
            f"expected a result with a kind to save, got {name} without. Give it one: "
            f'class {name}(Result, kind="{name.lower()}").'
        )
    return {"result": kind, "fields": _encode_fields(result, tensors, place)}


def _encode_fields(made: Any, tensors: dict[str, Tensor], place: str) -> Any:
    """The fields of a dataclass; what could not be read back is refused here, while it is still there."""
    own = {}
    hints = kinds.hints(type(made))
    for name in (f.name for f in fields(made) if f.init):
        value, hint, inside = getattr(made, name), hints[name], f"{place}.{name}"
        value = value.item() if isinstance(value, np.generic) else value
        if is_dataclass(value) and kinds.of(type(value)) is None and kinds.part(hint) is type(value):
            own[name] = {"part": _encode_fields(value, tensors, inside)}
        else:
            own[name] = _encode(value, tensors, inside)
        if not is_instance(value, hint):
            raise StoreError(
                f"expected '{name}' of {type(made).__name__} as {in_words(hint)}, as it is annotated, got "
                f"{type(value).__name__}. Convert it, or annotate what it is."
            )
    return own


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if isinstance(value, np.ndarray):
        if value.size > LISTED:
            return {"shape": list(value.shape), "dtype": str(value.dtype)}
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, nn.Module):
        return {name: list(tensor.shape) for name, tensor in value.state_dict().items()}
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, tuple | list) else value
