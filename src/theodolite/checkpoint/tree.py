"""What training scripts save: dicts in dicts, lists, whole modules. Its tensors by their paths, and a part of it."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from theodolite.checkpoint.opened import attributes
from theodolite.errors import StoreError, UnknownName

# Keys beneath which tensors are no weights: moments of an optimizer, states of random generators.
BESIDE = re.compile(
    r"(^|_)(?i:opt|optim|optimi[sz]ers?|sched|schedulers?|scaler|rng|random)(_|[A-Z0-9]|$)"
    r"|^(callbacks|loops|hyper_parameters)$"
)
DEEPEST = 100  # beyond any checkpoint; a file may hold what contains itself


def tensors(content: Any) -> tuple[dict[str, Tensor], frozenset[str]]:
    """All tensors that may be weights, by their paths, and the paths at which names begin.

    Example:
        >>> import torch
        >>> found, roots = tensors({"epoch": 3, "net": {"0.weight": torch.ones(1)}, "optimizer": {"m": torch.ones(1)}})
        >>> list(found), sorted(roots)
        (['net.0.weight'], ['net.'])
    """
    found: dict[str, Tensor] = {}
    roots: set[str] = set()
    for root, name, tensor in _walk(content, "", None, 0):
        found[root + name] = tensor
        roots.add(root)
    return found, frozenset(roots)


def at(content: Any, key: str | None, path: Path) -> Any:
    """The part of a file's content under a key, "a.b" for b in a.

    Raises:
        UnknownName: it has no such key; the message gives the closest.
        StoreError: it has no keys at all.
    """
    if key is None:
        return content
    parts = {name: part for name, part in _parts(content).items() if not isinstance(part, Tensor)}
    if not parts:
        raise StoreError(f"expected '{key}' in {path}, got tensors without keys above. Leave --weights-key out.")
    for name in sorted((n for n in parts if key == n or key.startswith(f"{n}.")), key=len, reverse=True):
        return at(parts[name], key.removeprefix(name).removeprefix(".") or None, path)
    raise UnknownName(f"key in {path}", key, parts)


def _walk(part: Any, root: str, module: str | None, depth: int) -> Iterator[tuple[str, str, Tensor]]:
    """Tensors as (where their names begin, name, tensor); within a whole module, names go on through its children."""
    if depth > DEEPEST:
        return
    inside = _of_module(part)
    for name, value in (_parts(part) if inside is None else inside).items():
        if isinstance(value, Tensor):
            yield root, (module or "") + name, value
        elif module is not None or inside is not None:
            if _of_module(value) is not None:
                yield from _walk(value, root, f"{module or ''}{name}.", depth + 1)
        elif not BESIDE.search(name):
            yield from _walk(value, f"{root}{name}.", None, depth + 1)


def _parts(part: Any) -> dict[str, Any]:
    """What a dict, a list or an object holds, by name."""
    if isinstance(part, Mapping):
        return {key: value for key, value in part.items() if isinstance(key, str)}
    if isinstance(part, (list, tuple)):
        return {str(place): value for place, value in enumerate(part)}
    return attributes(part)


def _of_module(part: Any) -> dict[str, Any] | None:
    """Parameters, lasting buffers and children of a module that was saved whole; None of anything else."""
    known = attributes(part)
    lists = [known.get(kind) for kind in ("_parameters", "_buffers", "_modules")]
    if not all(isinstance(entries, dict) for entries in lists):
        return None
    passing = known.get("_non_persistent_buffers_set")
    held = {n: value for entries in lists if entries for n, value in entries.items() if isinstance(n, str)}
    return {n: value for n, value in held.items() if not (isinstance(passing, set) and n in passing)}
