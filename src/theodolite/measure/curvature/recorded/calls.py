"""What PyTorch is asked to do while a model runs, call by call.

It is what really happened on these data, whatever Python decided on the way: below the modules, with matrix products,
sums and views as they are. Calls that write in place are told as ones that do not, so that every tensor in the list
stands for one value.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_map, tree_unflatten

aten = torch.ops.aten


class NotRecordable(Exception):
    """Something in a call that is not followed here."""


@dataclass(slots=True)
class Call:
    """One operation, what it got and what it gave."""

    function: Any
    leaves: list[Any]  # of the arguments
    structure: TreeSpec
    found: Any
    differentiated: bool  # whether a gradient passes, but for ``detach``
    versions: dict[int, int]  # how often each tensor, by its id, had been written to
    in_place: bool = False  # as it was asked for

    @property
    def name(self) -> str:
        """Of the operation, without overloads."""
        return str(self.function._schema.name).removeprefix("aten::")

    @property
    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional ones, and by name."""
        args, kwargs = tree_unflatten(self.leaves, self.structure)
        return args, kwargs

    @property
    def tensors(self) -> list[Tensor]:
        """Among the arguments."""
        return [leaf for leaf in self.leaves if isinstance(leaf, Tensor)]

    @property
    def outputs(self) -> list[Tensor]:
        """All tensors that it gave."""
        return [leaf for leaf in tree_leaves(self.found) if isinstance(leaf, Tensor)]

    def again(self, places: list[int], free: list[Tensor]) -> Any:
        """Call it with other tensors at some places among the arguments."""
        given = list(self.leaves)
        for place, tensor in zip(places, free, strict=True):
            given[place] = tensor
        args, kwargs = tree_unflatten(given, self.structure)
        return self.function(*args, **kwargs)


class Calls(TorchDispatchMode):
    """Inside, all calls are listed; their tensors stay alive, so that each keeps its id."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = function._schema.name.removeprefix("aten::")
        if name.endswith("_") and not name.endswith("__"):
            return self._write(function, name[:-1], args, kwargs)
        found = function(*args, **kwargs)
        if function is aten.detach.default:
            found = found.clone()  # as a view it would be what it was before
        self._list(function, args, kwargs, found)
        return found

    def _write(self, function: Any, name: str, args: Any, kwargs: Any) -> Any:
        target, before = args[0], args[0].clone()
        for call in self.calls:
            call.leaves = [before if leaf is target else leaf for leaf in call.leaves]
            call.found = tree_map(lambda leaf: before if leaf is target else leaf, call.found)
        found = function(*args, **kwargs)
        packet = getattr(aten, name, None)
        forms = (function._overloadname, "int", "dim")  # the latter two of transpose_ and squeeze_
        functional = next((getattr(packet, form) for form in forms if hasattr(packet, form)), function)
        self._list(functional, (before, *args[1:]), kwargs, found)
        self.calls[-1].in_place = True
        return found

    def _list(self, function: Any, args: Any, kwargs: Any, found: Any) -> None:
        leaves, structure = tree_flatten((args, kwargs))
        tensors = [leaf for leaf in (*leaves, *tree_leaves(found)) if isinstance(leaf, Tensor)]
        versions = {id(t): t._version for t in tensors}
        self.calls.append(Call(function, leaves, structure, found, torch.is_grad_enabled(), versions))
