"""Results read back from their files, which :mod:`~theodolite.measure.results.writer` wrote.

Opening one runs no code: there is no pickle, and only the frozen results of this package are made from it.
"""

import json
import pkgutil
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import safetensors.torch
from torch import Tensor, nn

from theodolite.errors import BadModel, RecordCorrupt, StoreError, VersionMismatch
from theodolite.measure.problem.typed import is_instance
from theodolite.measure.problem.validation import checked
from theodolite.measure.results.base import Result
from theodolite.measure.results.writer import FORMAT, MARK, ROOT, digest

MOVED = {  # a class as files of format 1 name it -> where it lies
    "alignment.Alignment": "align.Alignment",
    "curve.Curve": "connect.Curve",
}
RENAMED = {"path": "backend", "check": "check_error"}  # a field as older files name it -> its name, where it has one


@checked
def load(path: Path | str, *, model: nn.Module | None = None) -> Result:
    """Read a result that was saved: the same class, the same numbers bit for bit, tensors on the CPU.

    Args:
        path: of the file.
        model: for an :class:`~theodolite.measure.align.Alignment` alone, which holds a network: any of its
            architecture. A file holds weights and no code; a copy of this model gets them.

    Raises:
        StoreError: there is no such file, or it holds something else.
        RecordCorrupt: it is cut or altered.
        VersionMismatch: a newer Theodolite wrote it.
        BadModel: the weights do not fit the model.

    Example:
        >>> import tempfile, torch
        >>> from theodolite.measure import gradient_norm
        >>> data = torch.eye(2), torch.zeros(2, 1)
        >>> steep = gradient_norm(nn.Linear(2, 1), nn.MSELoss(), data)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     steep.save(f"{folder}/steep.safetensors")
        ...     load(f"{folder}/steep.safetensors").value == steep.value
        True
    """
    where = Path(path)
    try:
        content = where.read_bytes()
    except OSError as error:
        raise StoreError(f"expected a saved result in {where}, but it cannot be read: {error.strerror}.") from error
    about, tensors = _parts(content, where)
    if about.get("format") != FORMAT:
        raise VersionMismatch(
            f"expected a result of format {FORMAT}, but {where} says {about.get('format')!s:.20}. "
            "Read it with the Theodolite that wrote it, or a newer one."
        )
    tree = str(about.get("result"))
    if about.get("sha256") != digest(tree, tensors):
        raise RecordCorrupt(_corrupt(where, "its checksum does not fit"))
    try:
        found = _decode(json.loads(tree), tensors, model)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RecordCorrupt(_corrupt(where, f"{error}"[:200] or type(error).__name__)) from error
    if not isinstance(found, Result):
        raise RecordCorrupt(_corrupt(where, "it holds no result"))
    return found


def _decode(tree: Any, tensors: Mapping[str, Tensor], model: nn.Module | None) -> Any:
    if not isinstance(tree, dict):
        if isinstance(tree, list):
            raise ValueError("a list stands where a value belongs")
        return tree
    kind: str
    content: Any
    kind, content = next(iter(tree.items()), ("nothing", None))
    if kind == "float":
        return float(content)
    if kind in ("tensor", "array"):
        tensor = tensors[content]
        return tensor if kind == "tensor" else tensor.numpy()
    if kind == "module":
        return _module(_decode(content, tensors, model), model)
    if kind == "mapping":
        return {key: _decode(entry, tensors, model) for key, entry in content}
    if kind in ("tuple", "list"):
        entries = [_decode(entry, tensors, model) for entry in content]
        return tuple(entries) if kind == "tuple" else entries
    if kind == "class":
        own = {name: _decode(entry, tensors, model) for name, entry in tree["fields"].items()}
        return _made(_class(content), own)
    raise ValueError(f"'{kind!s:.20}' is no kind of value")


def _made(kind: type, own: Mapping[str, Any]) -> Any:
    hints = get_type_hints(kind)
    wanted = {f.name: hints[f.name] for f in fields(kind)}
    own = {name if name in wanted else RENAMED.get(name, name): value for name, value in own.items()}
    needed = {f.name for f in fields(kind) if f.default is MISSING}  # a field that came later has a default
    if not needed <= set(own) <= set(wanted):
        raise ValueError(f"{kind.__name__} has the fields {', '.join(wanted)}, not {', '.join(own)}")
    wrong = [name for name, value in own.items() if not is_instance(value, wanted[name])]
    if wrong:
        raise ValueError(f"'{wrong[0]}' of {kind.__name__} is {type(own[wrong[0]]).__name__}")
    return kind(**own)


def _class(name: Any) -> type:
    """A public frozen dataclass of this package, and nothing else."""
    module, _, kind = f"{ROOT}.{MOVED.get(str(name), name)}".rpartition(".")
    found = getattr(import_module(module), kind, None) if module in _modules() and kind.isidentifier() else None
    if not isinstance(found, type) or not is_dataclass(found) or found.__module__ != module or kind.startswith("_"):
        raise ValueError(f"'{name!s:.60}' is no result of Theodolite")
    return found


@cache
def _modules() -> frozenset[str]:
    return frozenset(m.name for m in pkgutil.walk_packages(import_module(ROOT).__path__, f"{ROOT}."))


def _module(state: Mapping[str, Tensor], model: nn.Module | None) -> nn.Module:
    if model is None:
        raise BadModel(
            "expected a model to put saved weights into, since the file holds no code, got none. "
            "Pass model=, any network of that architecture."
        )
    copy = deepcopy(model)
    try:
        copy.load_state_dict(state)
    except RuntimeError as error:
        raise BadModel(f"expected a model of the saved architecture, got another: {error}") from error
    return copy


def _parts(content: bytes, path: Path) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    """What the header says of itself, and the tensors, as far as safetensors vouches for them."""
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        about = json.loads(header.get("__metadata__", {}).get(MARK, "null"))
    except (safetensors.SafetensorError, ValueError, RuntimeError, RecursionError) as error:
        raise RecordCorrupt(_corrupt(path, f"safetensors: {error}"[:200])) from error
    if not isinstance(about, dict):
        raise StoreError(
            f"expected a result of Theodolite in {path}, got a safetensors file of something else. "
            "Pass a file that .save() or --out has written."
        )
    return about, tensors


def _corrupt(path: Path, why: str) -> str:
    return f"expected a whole result in {path}, but {why}. Measure again."
