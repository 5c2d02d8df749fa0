"""Results read back from their files, which :mod:`~theodolite.measure.results.writer` wrote.

Opening one runs no code: there is no pickle, and only results whose kind is known here are made from it.
"""

import json
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from theodolite.errors import BadModel, RecordCorrupt, StoreError, VersionMismatch
from theodolite.measure.catalogue import OF_KIND
from theodolite.measure.problem.typed import is_instance
from theodolite.measure.problem.validation import checked
from theodolite.measure.results import kinds
from theodolite.measure.results.base import Result
from theodolite.measure.results.writer import FORMAT, MARK, digest

FORMATS = (1, FORMAT)
RENAMED = {"path": "backend", "check": "check_error"}  # a field as older files name it -> its name, where it has one


@checked
def load(path: Path | str, *, model: nn.Module | None = None) -> Result:
    """Read a result that was saved: the same class, the same numbers bit for bit, tensors on the CPU.

    A result of a class of one's own is read where the file that defines the class was imported.

    Args:
        path: of the file.
        model: for an :class:`~theodolite.measure.align.Alignment` alone, which holds a network: any of its
            architecture. A file holds weights and no code; a copy of this model gets them.

    Raises:
        StoreError: there is no such file, it holds something else, or a result of a kind that is not known here.
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
    if about.get("format") not in FORMATS:
        raise VersionMismatch(
            f"expected a result of format {FORMAT} or older, but {where} says {about.get('format')!s:.20}. "
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


@dataclass(frozen=True, slots=True)
class _Part:
    """A dataclass within a result, before the annotation of its field says which."""

    fields: Mapping[str, Any]


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
    if kind == "part":
        return _Part({name: _decode(entry, tensors, model) for name, entry in content.items()})
    if kind in ("result", "class") and isinstance(content, str):
        own = {name: _decode(entry, tensors, model) for name, entry in tree["fields"].items()}
        content = content if kind == "result" else _kind_of_class(content)
        return _Part(own) if content is None else _made(kinds.named(content), own)
    raise ValueError(f"'{kind!s:.20}' is no kind of value")


def _made(cls: type, own: Mapping[str, Any]) -> Any:
    """The result; a field that is not in the file is at its default, so that one may be added later."""
    wanted = {f.name: f for f in fields(cls) if f.init}
    needed = {name for name, f in wanted.items() if f.default is MISSING and f.default_factory is MISSING}
    own = {name if name in wanted else RENAMED.get(name, name): value for name, value in own.items()}
    if not needed <= set(own) <= set(wanted):
        raise ValueError(f"{cls.__name__} has the fields {', '.join(wanted)}, not {', '.join(own)}")
    hints = kinds.hints(cls)
    own = {name: _whole(value, hints[name]) for name, value in own.items()}
    wrong = [name for name, value in own.items() if not is_instance(value, hints[name])]
    if wrong:
        raise ValueError(f"'{wrong[0]}' of {cls.__name__} is {type(own[wrong[0]]).__name__}")
    return cls(**own)


def _whole(value: Any, hint: Any) -> Any:
    """A part as the dataclass that the annotation of its field names; anything else as it is."""
    cls = kinds.part(hint) if isinstance(value, _Part) else None
    return value if cls is None else _made(cls, value.fields)


def _kind_of_class(name: str) -> str | None:
    """The kind of a class as files of format 1 name it, ``connect.Curve``: its own name in small letters. Or None.

    Example:
        >>> _kind_of_class("gradient_norm.GradientNorm")
        'gradient_norm'
    """
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.rpartition(".")[2]).lower()
    return kind if kind in OF_KIND else None


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
