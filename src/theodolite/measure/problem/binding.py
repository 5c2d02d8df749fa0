"""Tensors in place of a model's parameters and buffers, wherever they are reached from.

A loss may hold the model, or call it again; recomputation (gradient checkpointing) runs the model once more during a
backward pass; a function may have caught a parameter by itself. So tensors are swapped on the modules, of model and
loss, for as long as loss and backward pass run, and parameters that were caught are replaced in every call of PyTorch.
"""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map


class Binding:
    """Inside, tensors stand for the parameters and buffers whose ids they are given by; may be entered again."""

    def __init__(self, roots: Iterable[object], tensors: Mapping[int, Tensor], *, caught: bool = False) -> None:
        """Find the places.

        Args:
            roots: modules; what is none is left out.
            tensors: by the id of the parameter or buffer that each stands for.
            caught: also replace parameters that functions hold by themselves, at a cost for each call of PyTorch.
        """
        modules = {id(m): m for root in roots if isinstance(root, nn.Module) for m in root.modules()}
        stores: list[dict[str, Any]] = [s for m in modules.values() for s in (m._parameters, m._buffers)]
        self._places = [
            (store, name, tensors[id(own)])
            for store in stores
            for name, own in store.items()
            if own is not None and id(own) in tensors
        ]
        self._caught = _Caught(tensors) if caught else None
        self._stack = ExitStack()
        self._before: list[list[Tensor]] = []  # what was in the places at each entry: others may have put theirs there

    def __enter__(self) -> None:
        self._before.append([store[name] for store, name, _ in self._places])
        for store, name, tensor in self._places:
            store[name] = tensor
        if self._caught is not None:
            self._stack.enter_context(self._caught)

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        for (store, name, _tensor), before in zip(self._places, self._before.pop(), strict=True):
            store[name] = before


class _Caught(TorchFunctionMode):
    """Replaces tensors among the arguments of every call."""

    def __init__(self, tensors: Mapping[int, Tensor]) -> None:
        super().__init__()
        self._tensors = tensors

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(self._replaced, (args, kwargs or {}))
        return function(*args, **kwargs)

    def _replaced(self, leaf: Any) -> Any:
        return self._tensors.get(id(leaf), leaf) if isinstance(leaf, Tensor) else leaf
