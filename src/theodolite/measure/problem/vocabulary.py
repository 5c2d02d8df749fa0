"""Logits over a large vocabulary that nobody holds: cross entropy takes them in chunks of rows, and frees each.

Inside :func:`unheld_logits` a linear layer to many classes gives :class:`Logits`, which know their inputs and weights.
PyTorch's cross entropy of them is one operation, :func:`cross_entropy_of_rows`. Whatever else is done with them has
them computed, so that the numbers are those of the model in any case.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear
from torch.overrides import TorchFunctionMode

from theodolite.measure.problem.batches import Batch, tensors
from theodolite.measure.problem.chunked import Target, cross_entropy_of_rows

LARGE = 4096  # classes: below, logits are no larger than the layers before them
PRECISE = (torch.float32, torch.float64)  # PyTorch's own of lower precision adds up in float32
LOGITS_SHARE = 1 / 64  # of the memory: logits over a large vocabulary that take more are not held

KNOWN = {  # what is asked of a tensor without its numbers
    torch.Tensor.size, torch.Tensor.dim, torch.Tensor.numel, torch.Tensor.is_floating_point, torch.Tensor.__len__,
    *(getattr(torch.Tensor, name).__get__ for name in ("shape", "dtype", "device", "ndim", "layout", "is_nested")),
}  # fmt: skip
VIEWS = {torch.Tensor.view, torch.Tensor.reshape, torch.reshape, torch.Tensor.flatten, torch.flatten}
SAME = {torch.Tensor.contiguous, torch.Tensor.float}


class Logits(Tensor):
    """z = a Wᵀ + b with rows a ``(..., d)``, computed when something but cross entropy asks for a number."""

    rows: Tensor
    weight: Tensor
    bias: Tensor | None
    held: int  # rows of logits that may be held at once
    dense: Tensor | None

    @staticmethod
    def of(rows: Tensor, weight: Tensor, bias: Tensor | None, held: int) -> "Logits":
        """Without computing them."""
        shape = (*rows.shape[:-1], len(weight))
        found: Logits = Tensor._make_wrapper_subclass(Logits, shape, dtype=rows.dtype, device=rows.device)
        found.rows, found.weight, found.bias, found.held, found.dense = rows, weight, bias, held, None
        return found

    def computed(self) -> Tensor:
        """The logits, held from here on."""
        if self.dense is None:
            self.dense = linear(self.rows, self.weight, self.bias)
        return self.dense

    def with_rows(self, rows: Tensor) -> "Logits":
        """Those of other rows."""
        return Logits.of(rows, self.weight, self.bias, self.held)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Keep them apart where the use is known; else compute them."""
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            if function in KNOWN:
                return function(*args, **kwargs)
            first = args[0] if args else kwargs.get("input")
            found = _apart(function, first, args[1:], kwargs) if isinstance(first, Logits) else None
        if found is not None:
            return found
        return function(*_computed(args), **_computed(kwargs))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Compute them where C++ asks."""
        return function(*_computed(args), **_computed(kwargs or {}))


def unheld_logits(most: float | None) -> AbstractContextManager[Any]:
    """Inside, logits over a large vocabulary of more than so many bytes are not held; None: all are."""
    return nullcontext() if most is None else _Unheld(most)


def largest_vocabulary(model: nn.Module) -> int:
    """The most rows that a matrix among the parameters has, if it is large; else 0."""
    rows = max((len(p) for p in model.parameters() if p.ndim == 2), default=0)
    return rows if rows >= LARGE else 0


def logit_bytes(model: nn.Module, batch: Batch) -> float:
    """The most that logits over a large vocabulary may take, were there a row for each number among the inputs."""
    rows = largest_vocabulary(model)
    size = next(model.parameters()).element_size() if rows else 0
    return float(max((t.numel() for t in tensors(batch[0])), default=0) * rows * size)


class _Unheld(TorchFunctionMode):
    def __init__(self, most: float) -> None:
        super().__init__()
        self._most = most

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is linear and len(args) >= 2 and not any(isinstance(each, Logits) for each in args):
            rows, weight, *bias = args
            row = len(weight) * weight.element_size()
            wide = weight.ndim == 2 and len(weight) >= LARGE and rows.dtype == weight.dtype in PRECISE
            if wide and rows.numel() // rows.shape[-1] * row > self._most:
                bias = bias[0] if bias else kwargs.get("bias")
                return Logits.of(rows, weight, bias, max(1, int(self._most / row)))
        return function(*args, **kwargs)


def _apart(function: Any, z: Logits, args: Any, kwargs: Any) -> Any:
    """What a function gives of logits that are not computed; None where its use is not known."""
    if z.dense is not None:
        return None
    if (
        function in SAME
        and not args
        and not kwargs
        and (function is not torch.Tensor.float or z.dtype == torch.float32)
    ):
        return z
    if function in VIEWS and not kwargs:
        return _viewed(function, z, args)
    if function is torch.Tensor.__getitem__:
        return _taken(z, args[0])
    return _cross_entropy(z, *args, **kwargs) if function is cross_entropy else None


def _viewed(function: Any, z: Logits, args: Any) -> Logits | None:
    try:
        shape = function(torch.empty(z.shape, device="meta"), *args).shape
    except (RuntimeError, TypeError):
        return None
    return z.with_rows(z.rows.reshape(*shape[:-1], z.rows.shape[-1])) if shape and shape[-1] == z.shape[-1] else None


def _taken(z: Logits, index: Any) -> Logits | None:
    """Slices of what is before the classes."""
    index = index if isinstance(index, tuple) else (index,)
    if not all(isinstance(each, slice) or each is Ellipsis for each in index):
        return None
    slices = [each for each in index if each is not Ellipsis]
    of_classes = len(slices) == z.ndim or (Ellipsis in index and index[-1] is not Ellipsis)
    if of_classes and slices[-1] != slice(None):
        return None
    return z.with_rows(z.rows[index])


def _cross_entropy(
    z: Logits, target: Tensor, weight: Tensor | None = None, size_average: Any = None, ignore_index: int = -100,
    reduce: Any = None, reduction: str = "mean", label_smoothing: float = 0.0,
) -> Tensor | None:  # fmt: skip
    if z.ndim != 2 or target.dtype != torch.int64 or target.shape != z.shape[:1]:
        return None
    if size_average is not None or reduce is not None or reduction not in ("mean", "sum"):
        return None
    if weight is not None and weight.requires_grad:
        return None
    kept = target != ignore_index
    if bool(((target < 0) | (target >= z.shape[1]))[kept].any()):
        return None  # PyTorch says what is wrong
    return cross_entropy_of_rows(
        z.rows, z.weight, z.bias, Target(target, weight, ignore_index, reduction == "mean", label_smoothing, z.held)
    )


def _computed(tree: Any) -> Any:
    if isinstance(tree, Logits):
        return tree.computed()
    if isinstance(tree, (tuple, list)):
        return type(tree)(_computed(each) for each in tree)
    return {key: _computed(each) for key, each in tree.items()} if isinstance(tree, dict) else tree
