"""Weights out of files, without running what a file may hold, and into a model, with what does not match named."""

import pickle  # noqa: TID251 - for its error alone
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from theodolite.errors import BadModel, CodeFailed, StoreError

TORCH = (".pt", ".pth", ".bin", ".ckpt")
ENDINGS = (".safetensors", *TORCH)
NESTED = ("state_dict", "model_state_dict", "model", "weights")  # where training scripts keep them
SHOWN = 5  # names listed

State = Mapping[str, Tensor]
CONVERT = (
    "If you trust whoever made it, convert it once: python -c \"import torch; w = torch.load('{name}', "
    "weights_only=False); w = getattr(w, 'state_dict', lambda: w)(); torch.save(w, 'weights.pt')\""
)


def found(paths: Sequence[Path]) -> list[Path]:
    """Each file, and all weights of each folder in the order of the numbers in their names.

    Raises:
        StoreError: one is not there, or is a folder without weights.
    """
    files: list[Path] = []
    for path in paths:
        inside = [p for p in path.iterdir() if p.suffix in ENDINGS] if path.is_dir() else [path]
        if not inside or not path.exists():
            what = f"a folder with none ({', '.join(ENDINGS)})" if path.is_dir() else "no such file"
            raise StoreError(f"expected weights in {path}, got {what}. Check the path.")
        files += sorted(inside, key=_natural)
    return files


def read(path: Path) -> dict[str, Tensor]:
    """Tensors by name, on the CPU: from safetensors, or from PyTorch's own files by its weights-only reader.

    Raises:
        StoreError: it is not there, cut, of another kind, or could run code; then it is not opened.
    """
    if not path.is_file():
        raise StoreError(f"expected weights in {path}, got no such file. Check the path.")
    if path.suffix == ".safetensors":
        try:
            state: dict[str, Tensor] = safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise StoreError(f"expected a safetensors file in {path}, but: {error}. Save the weights again.") from error
        return state
    if path.suffix not in TORCH:
        raise StoreError(
            f"expected weights as {', '.join(ENDINGS)}, got {path.name}. Save them from where they were made: "
            "torch.save(model.state_dict(), 'weights.pt')."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise StoreError(
            f"expected {path} to hold tensors alone, but opening it whole could run code, so it was not opened. "
            + CONVERT.format(name=path)
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StoreError(f"expected a file of torch.save in {path}, but: {reason}. Save the weights again.") from error
    return _tensors(content, path)


def put(model: nn.Module, state: State, path: Path) -> None:
    """Load weights into a model; what wrappers put before every name (``module.``, ``_orig_mod.``) is left out.

    Raises:
        BadModel: names or shapes do not match; the message gives those missing and those nobody asked for.
    """
    wanted = model.state_dict()
    state = _unwrapped(state, wanted)
    tied = {n for n, t in wanted.items() if any(t.data_ptr() == wanted[o].data_ptr() for o in state if o in wanted)}
    missing = [n for n in wanted if n not in state and not (n in tied and wanted[n].numel())]
    more = [n for n in state if n not in wanted]
    if missing or more:
        parts = [f"{what} {_some(names)}" for what, names in (("missing:", missing), ("unexpected:", more)) if names]
        raise BadModel(
            f"expected the weights of this model in {path}, but names do not match: {'; '.join(parts)}. "
            "Let --model make the model that was trained."
        )
    apart = [f"{n} {_shape(state[n])} for {_shape(wanted[n])}" for n in state if state[n].shape != wanted[n].shape]
    if apart:
        raise BadModel(
            f"expected the weights of this model in {path}, but shapes do not match: {_some(apart)}. "
            "Let --model make the model that was trained."
        )
    model.load_state_dict(state, strict=False)


def model_from(made: Any, what: str) -> nn.Module:
    """What a function of the user's gave, if it is a model.

    Raises:
        CodeFailed: it is something else.
    """
    if not isinstance(made, nn.Module):
        raise CodeFailed(f"expected {what} to give a torch.nn.Module, got {type(made).__name__}. Return the model.")
    return made


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    for name in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    own = {n: t for n, t in content.items() if isinstance(t, Tensor)} if isinstance(content, Mapping) else {}
    if not own or not all(isinstance(n, str) for n in own):
        kind = type(content).__name__
        kind += f" with {_some(list(map(str, content)))}" if isinstance(content, Mapping) else ""
        raise StoreError(
            f"expected a state dict in {path}, got {kind}. Save one: torch.save(model.state_dict(), 'weights.pt')."
        )
    return own


def _unwrapped(state: State, wanted: State) -> State:
    prefix = next(iter(state)).partition(".")[0] + "."
    if all(n.startswith(prefix) for n in state) and not any(n in wanted for n in state):
        bare = {n.removeprefix(prefix): t for n, t in state.items()}
        return bare if any(n in wanted for n in bare) else state
    return state


def _natural(path: Path) -> list[tuple[int, str]]:
    """Order in which epoch-2 comes before epoch-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"
