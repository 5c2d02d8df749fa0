"""How many replicas a device's memory holds: measured on PyTorch's meta device, where nothing is allocated."""

import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from theodolite.models.description import MLP
from theodolite.specs import Training
from theodolite.train.aligned import AlignedStack, layers
from theodolite.train.optimizers import stack_optimizer
from theodolite.train.outcome import DTYPES
from theodolite.train.stack import Stack
from theodolite.train.stacked import StackedSplit

SHARE = 0.8  # of what is free: the rest is for the workspaces of matrix products, and for gaps between blocks


def replicas_that_fit(one: int, two: int, space: float) -> int:
    """The largest stack for which there is room, at least one replica: it may fit after all, and if not the job fails.

    Args:
        one: bytes that a stack of one replica takes.
        two: the same of a stack of two; the rest grows in proportion.
        space: bytes there are.

    Example:
        >>> replicas_that_fit(one=300, two=500, space=1000)  # 100 + 200 R
        4
    """
    each = two - one
    return max(1, int((space - (one - each)) / each))


def stack_bytes(
    architecture: MLP,
    training: Training,
    train: StackedSplit,
    test: StackedSplit,
    replicas: int,
    *,
    own_targets: bool,
    own_data: bool = False,
) -> int:
    """Bytes that a stack takes at most, beside the data that its replicas share.

    A stack is made, takes a step, is evaluated, and goes on as a copy, as it does when a replica leaves: for all this
    PyTorch runs shapes and types, and no numbers.
    """
    shape, dtype = layers(architecture, train.inputs.dtype), DTYPES[training.dtype]
    with _Held() as held:
        train, test = (
            replace(split, inputs=split.inputs.to("meta"), targets=split.targets.to("meta")) for split in (train, test)
        )
        shared = held.now
        if own_data:
            train, test = (StackedSplit.stacked([split] * replicas) for split in (train, test))
        elif own_targets:
            train = replace(train, targets=train.targets.new_zeros(replicas, *train.targets.shape[1:]))
        optimizer = stack_optimizer(training, AlignedStack.zeros(shape, replicas, dtype, "meta"), [1.0] * replicas)
        orders = [torch.Generator() for _ in range(replicas)]
        stack = Stack(architecture, training, optimizer, orders, train, test)
        stack.step(*next(stack.batches.epoch()), 1.0)
        with suppress(NotImplementedError):  # at its end, where scores are read
            stack.evaluate()
        stack.select(range(replicas))
    most: int = held.most - shared
    return most


class _Held(TorchDispatchMode):
    """Counts the bytes of storages on the meta device that are alive, each once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._known: dict[int, Any] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if function.name().startswith("aten::_fused_"):  # optimizers' kernels: in place, and not all know this device
            return None
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.is_meta:
                storage = leaf.untyped_storage()
                if storage._cdata not in self._known:
                    key, size = storage._cdata, storage.nbytes()
                    self._known[key] = weakref.finalize(storage, self._forget, key, size)
                    self.now += size
                    self.most = max(self.most, self.now)
        return result

    def _forget(self, key: int, size: int) -> None:
        del self._known[key]
        self.now -= size
