"""Files of weights, opened without running what they may hold: safetensors, PyTorch's files, sets of shards."""

import json
import pickle  # noqa: TID251 - for its error alone
import shlex
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from theodolite.errors import StoreError

TORCH = (".pt", ".pth", ".bin", ".ckpt", ".tar")
ENDINGS = (".safetensors", *TORCH)
INDEX = ".index.json"  # of Hugging Face: which tensor lies in which shard
# Keeps dicts and tensors, and of whatever has a state dict that; all else is dropped.
CONVERT = (
    "import sys, torch; f = lambda o: o if isinstance(o, torch.Tensor) else f(o.state_dict()) if hasattr(o, "
    "'state_dict') else {str(k): f(v) for k, v in o.items()} if isinstance(o, dict) else None; "
    "torch.save(f(torch.load(sys.argv[1], map_location='cpu', weights_only=False)), 'weights.pt')"
)
# Pickled by functions or with a state that is no dict; classes of people's own mostly have one, or are dicts.
NO_DICTS = ("numpy.", "functools.", "datetime.", "pathlib.", "builtins.")


class Inert:
    """What stands where a file holds an object of some class: keeps what was written about it, and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __new__(cls, *_: Any, **__: Any) -> "Inert":
        """Take and drop whatever arguments the object was made with."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Keep the attributes."""
        if isinstance(state, dict):
            self.__dict__.update({name: value for name, value in state.items() if isinstance(name, str)})


class Emptied:
    """The same for objects that were dicts: the reader fills in what they held."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        """Give a dict, which the reader fills; its attributes go beside, as those of :class:`Inert`."""
        return OrderedDict()


def content(path: Path) -> Any:
    """What a file holds: dicts, lists and tensors, on the CPU; objects of other classes as :class:`Inert`.

    Raises:
        StoreError: it is not there, cut, of another kind, or can only be opened by running code.
    """
    if not path.is_file():
        raise StoreError(f"expected weights in {path}, got no such file. Check the path.")
    if path.name.endswith(INDEX):
        return _shards(path)
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if path.suffix not in TORCH:
        raise StoreError(
            f"expected weights as {', '.join(ENDINGS)}, got {path.name}. Save them from where they were made: "
            "torch.save(model.state_dict(), 'weights.pt')."
        )
    return _torch(path)


def shard_files(index: Path) -> dict[str, list[str]]:
    """The shards that an index names, each with its tensors.

    Raises:
        StoreError: it is no index, or names something outside its own folder.
    """
    try:
        places: Mapping[str, str] = json.loads(index.read_bytes())["weight_map"]
        shards: dict[str, list[str]] = {}
        for name, file in places.items():
            shards.setdefault(file, []).append(name)
        inside = all(Path(file).name == file and Path(file).suffix in ENDINGS for file in shards)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        inside, shards = False, {}
    if not inside or not shards:
        raise StoreError(
            f"expected an index of shards in {index}, with a weight_map of files beside it, got something else. "
            "Save the weights again."
        )
    return shards


def attributes(thing: Any) -> dict[str, Any]:
    """What a file says of an object: its attributes; none of what is no object."""
    return vars(thing) if isinstance(thing, (Inert, OrderedDict)) else {}


def _shards(index: Path) -> dict[str, Tensor]:
    whole: dict[str, Tensor] = {}
    for file, names in shard_files(index).items():
        part = content(index.parent / file)
        held = part if isinstance(part, Mapping) else {}
        missing = [name for name in names if not isinstance(held.get(name), Tensor)]
        if missing:
            raise StoreError(
                f"expected '{missing[0]}' in {index.parent / file}, where {index.name} has it, but it is not there. "
                "Save the weights again."
            )
        whole |= {name: held[name] for name in names}
    return whole


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return cast("dict[str, Tensor]", safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise StoreError(f"expected a safetensors file in {path}, but: {error}. Save the weights again.") from error


def _torch(path: Path) -> Any:
    """By PyTorch's weights-only reader, with something inert for every class that it does not know.

    The reader makes an object by calling its class, so none that a file names is ever called. It fills dicts only, and
    a file does not say which classes are dicts: where a first attempt fails, those of people's own are taken as such.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols: what cannot be read is told below
            unknown = _unknown(path)
            try:
                return _read(path, dict.fromkeys(unknown, Inert))
            except pickle.UnpicklingError as error:
                try:
                    return _read(path, {n: Inert if n.startswith(NO_DICTS) else Emptied for n in unknown})
                except Exception:
                    raise error from None
    except pickle.UnpicklingError as error:
        raise StoreError(
            f"expected {path} to hold tensors, but opening it whole could run code, so it was not opened. "
            + _advice(path)
        ) from error
    except Exception as error:  # the reader raises whatever a damaged file makes of it
        if "TorchScript" in str(error):
            raise StoreError(f"expected weights in {path}, got a program (TorchScript). {_advice(path)}") from error
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise StoreError(f"expected a file of torch.save in {path}, but: {reason}. Save the weights again.") from error


def _unknown(path: Path) -> list[str]:
    """Classes and functions that a file names and the reader does not know; none where it is no zip file."""
    try:
        return get_unsafe_globals_in_checkpoint(str(path))
    except (ValueError, RuntimeError):
        return []


def _read(path: Path, known: Mapping[str, type]) -> Any:
    with safe_globals([(kind, name) for name, kind in known.items()]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _advice(path: Path) -> str:
    return (
        "If you trust whoever made it, convert it once, from a folder where its code can be imported: "
        f'python -c "{CONVERT}" {shlex.quote(str(path.resolve()))}'
    )
