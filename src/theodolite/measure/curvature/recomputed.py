"""Graphs that keep what blocks of a network get, and compute what is within them again on the way back.

A block is the innermost module with modules of its own in an ``nn.Sequential`` or ``nn.ModuleList``: a layer of a
transformer, a residual unit. Its derivative is an operation of its own, and the derivative of that another, so that one
block's graph at a time is held also where a gradient is differentiated again. Checkpointing as training does it would
not give that: its first backward pass leaves all it computed to the second.

Source: Chen et al. 2016, "Training deep nets with sublinear memory cost"; Griewank and Walther 2008, "Evaluating
Derivatives", chapter 12.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten
from torch.utils.checkpoint import get_device_states, set_device_states

from theodolite.measure.curvature.autograd import Product, counted, is_real
from theodolite.measure.curvature.kinds import PRODUCTS, Curvature
from theodolite.measure.problem.batches import Batch
from theodolite.measure.problem.objective import Objective

REAL = object()  # stands where a real tensor is
Place = tuple[dict[str, Any], str, Tensor]  # of a module, under this name, what was there when the block was called


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The blocks of a network, each once.

    Example:
        >>> def unit():
        ...     return nn.Sequential(nn.Linear(2, 2), nn.Tanh())
        >>> len(blocks_of(nn.Sequential(nn.Linear(2, 2), nn.Sequential(unit(), unit(), unit()))))
        3
    """
    lists = (module for module in model.modules() if isinstance(module, (nn.Sequential, nn.ModuleList)))
    compound = {id(child): child for each in lists for child in each if any(True for _ in child.children())}
    return [block for block in compound.values() if not any(id(m) in compound for m in [*block.modules()][1:])]


class Recomputed:
    """Products with the curvature of a loss whose blocks are computed again."""

    def __init__(self, objective: Objective) -> None:
        self.objective, self.blocks = objective, blocks_of(objective.model)
        self._ours = torch.empty(0)  # the parameters, which are no part of what a graph takes
        self.largest = 0  # bytes of one block's graph, of those so far

    def product(self, kind: Curvature, point: Tensor, batch: Batch) -> Product:
        """The product with the curvature of one batch."""
        self._ours = point
        with self._in_place():
            found = PRODUCTS[kind](self.objective, point, batch)

        def product(v: Tensor) -> Tensor:
            with self._in_place():  # a model that is checkpointed calls its blocks once more
                return found(v)

        return product

    @contextmanager
    def again(self) -> Iterator[None]:
        """Around what is computed again: as it was around the model, and with what this graph keeps counted apart."""
        own = self.objective
        with own.surroundings(), own.twice_differentiable(), counted(self._ours) as taken:
            yield
            self.largest = max(self.largest, sum(taken()))

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        with ExitStack() as stack:
            for block in self.blocks:
                own, before = vars(block), vars(block).get("forward")
                stack.callback(_put_back, own, before)
                own["forward"] = self._around(block, block.forward)
            yield

    def _around(self, block: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        def around(*args: Any, **keywords: Any) -> Any:
            if not torch.is_grad_enabled():
                return forward(*args, **keywords)
            call = _Call(self, block, forward, args, keywords)
            found = _Forwards.apply(call, *call.tensors)  # type: ignore[no-untyped-call]
            return call.whole(list(found))

        return around


def _put_back(own: dict[str, Any], forward: Any) -> None:
    if forward is None:
        own.pop("forward", None)
    else:
        own["forward"] = forward


class _Call:
    """One call of a block, as a function of the tensors that it gets and of its parameters."""

    def __init__(
        self,
        owner: Recomputed,
        block: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> None:
        self.owner, self._forward = owner, forward
        self._leaves, self._structure = tree_flatten((args, keywords))
        self._places = [at for at, leaf in enumerate(self._leaves) if is_real(leaf)]
        given = [self._leaves[at] for at in self._places]
        self._weights = [place for m in block.modules() for place in _places(m._parameters)]
        self._buffers = [place for m in block.modules() for place in _places(m._buffers)]
        weights = {id(tensor): tensor for _, _, tensor in self._weights}  # tied ones once
        self._order = {key: len(given) + at for at, key in enumerate(weights)}
        self.tensors = [*given, *weights.values()]
        self._leaves = [REAL if is_real(leaf) else leaf for leaf in self._leaves]  # autograd keeps those
        # What a call writes to, as the vector of a spectral norm, and what it draws, are the same again.
        self._before = [tensor.clone() for _, _, tensor in self._buffers]
        self._random = torch.get_rng_state(), get_device_states(*self.tensors)
        self._outputs: tuple[list[Any], TreeSpec]

    def first(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """What the block gives: its real tensors, one after the other."""
        given = list(self._leaves)
        for at, tensor in zip(self._places, tensors, strict=False):
            given[at] = tensor
        args, keywords = tree_unflatten(given, self._structure)
        outputs, structure = tree_flatten(self._forward(*args, **keywords))
        self._outputs = [REAL if is_real(leaf) else leaf for leaf in outputs], structure
        return [leaf for leaf in outputs if is_real(leaf)]

    def whole(self, found: list[Tensor]) -> Any:
        """Them in the structure that the block gives."""
        leaves, structure = self._outputs
        real = iter(found)
        return tree_unflatten([next(real) if leaf is REAL else leaf for leaf in leaves], structure)

    def again(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The same once more, at other tensors."""
        state, (devices, states) = self._random
        swapped = [(store, name, tensors[self._order[id(own)]]) for store, name, own in self._weights]
        swapped += [(s, n, t.clone()) for (s, n, _), t in zip(self._buffers, self._before, strict=True)]
        now = [(store, name, store[name]) for store, name, _ in swapped]
        with torch.random.fork_rng(devices=devices):
            torch.set_rng_state(state)
            set_device_states(devices, states)
            try:
                _put(swapped)
                return self.first(tensors)
            finally:
                _put(now)


def _places(store: dict[str, Any]) -> list[Place]:
    return [(store, name, tensor) for name, tensor in store.items() if tensor is not None]


def _put(places: list[Place]) -> None:
    for store, name, tensor in places:
        store[name] = tensor


class _Forwards(torch.autograd.Function):
    """z = f(a), which keeps a alone."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *a: Tensor) -> tuple[Tensor, ...]:
        ctx.call = call
        ctx.save_for_backward(*a)
        return tuple(z.clone() if any(z is each for each in a) else z for z in call.first(a))

    @staticmethod
    def backward(ctx: Any, *deltas: Tensor) -> tuple[Tensor | None, ...]:
        found = _Backwards.apply(ctx.call, len(deltas), *deltas, *ctx.saved_tensors)  # type: ignore[no-untyped-call]
        return None, *found


class _Backwards(torch.autograd.Function):
    """Jᵀδ with J = ∂f/∂a, which keeps δ and a alone."""

    @staticmethod
    def forward(ctx: Any, call: _Call, outputs: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.call, ctx.outputs = call, outputs
        ctx.save_for_backward(*tensors)
        return _pulled(call, *_free(tensors, outputs))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *directions: Tensor) -> tuple[Tensor | None, ...]:
        deltas, a = _free(ctx.saved_tensors, ctx.outputs)
        with torch.enable_grad(), ctx.call.owner.again():
            found = _pulled(ctx.call, deltas, a, create_graph=True)
            pairs = [(one, v) for one, v in zip(found, directions, strict=True) if one.requires_grad]
            ends, along = zip(*pairs, strict=True)
            return None, None, *torch.autograd.grad(ends, [*deltas, *a], along, materialize_grads=True)


def _free(tensors: Sequence[Tensor], outputs: int) -> tuple[list[Tensor], list[Tensor]]:
    free = [tensor.detach().requires_grad_() for tensor in tensors]
    return free[:outputs], free[outputs:]


def _pulled(call: _Call, deltas: list[Tensor], a: list[Tensor], *, create_graph: bool = False) -> tuple[Tensor, ...]:
    with torch.enable_grad(), call.owner.again():
        z = call.again(a)
        pairs = [(one, delta) for one, delta in zip(z, deltas, strict=True) if one.requires_grad]
        ends, along = zip(*pairs, strict=True)
        return torch.autograd.grad(ends, a, along, create_graph=create_graph, materialize_grads=True)
