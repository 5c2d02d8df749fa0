r"""A loss over shards of the data, each held by an actor on a Ray cluster: what is asked of all is summed.

.. math:: H v = \sum_s \frac{N_s}{N} H_s v, \qquad
          H_s = \sum_{b \in s} \frac{n_b}{N_s} \nabla^2_\theta\, \mathrm{loss}_b

A shard is a set of whole batches, so that the sum is that of one process for every loss, also one that divides by
something else than the number of samples; it is made in the order of the shards, so that it is the same each time. What
differs from one process is the order of additions. Batches are cut where they are too few or too unequal for the
shards, and the loss is seen to add up over pieces (:mod:`~theodolite.measure.problem.microbatches`).

Model, loss and each batch are sent once. A product sends its vectors to each shard and gets as many back: 2 P numbers a
vector and shard, of which the way there is once a node. Each shard keeps its own graphs, and checks its own products.
What a shard holds and is asked stands beside what asks it: :mod:`~theodolite.measure.curvature.operator`,
:mod:`~theodolite.measure.hessian_spectrum`, :mod:`~theodolite.measure.gradient_norm`.
"""

import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from theodolite.errors import UnknownName
from theodolite.execute import ENGINES
from theodolite.measure.problem.batches import Batch, count
from theodolite.measure.problem.isolation import preserve_rng
from theodolite.measure.problem.memory import Memory, room
from theodolite.measure.problem.microbatches import in_microbatches
from theodolite.measure.problem.objective import Loss, Objective

EVEN = 1.1  # largest shard over the mean: beyond it batches are cut, if they can be
FINER = (1, 8)  # pieces a shard, where they are


# What a shard holds, of the model and the loss on its device, its batches, and the bytes it may take.
Make = Callable[[nn.Module, Loss, list[Batch], int], Any]


@dataclass(frozen=True, slots=True)
class Task:
    """What every shard is made of, beside its batches."""

    make: Make
    model: nn.Module  # on the CPU
    loss: Loss
    memory: Memory  # on each machine, for all shards there
    shards: int
    device: str
    dtype: torch.dtype  # PyTorch's default, which a loss may make constants in


class Shards:
    """The loss over shards of the data, each held by an actor; ``close`` ends them."""

    def __init__(
        self,
        whole: Objective,
        make: Make,
        *,
        memory: Memory = None,
        workers: int | None = None,
        address: str | None = None,
    ) -> None:
        from theodolite.execute.actors import crew  # Ray is an extra

        device = whole.vector.device
        with ExitStack() as stack, preserve_rng():
            self._crew = stack.enter_context(crew(workers=workers, device=device.type, address=address))
            whole, sizes = shared_out(whole, self._crew.size)
            if device.type != "cpu":
                loss = deepcopy(whole.loss).cpu() if isinstance(whole.loss, nn.Module) else whole.loss
                whole = replace(whole, model=deepcopy(whole.model).cpu(), loss=loss)
            self.shares = shares_of(whole, len(sizes))
            work = torch.get_default_dtype()
            task = Task(make, whole.model, whole.loss, memory, len(sizes), device.type, work)
            modules = {type(module).__module__ for module in whole.model.modules()} | {_home(whole.loss)}
            shared = self._crew.put("a model and a loss", task, modules=modules)
            parts: list[list[Any]] = [[] for _ in sizes]
            for number, (batch, _) in zip(_places(_sizes(whole), len(sizes)), whole.batches(), strict=True):
                parts[number].append(self._crew.put("data", batch))
            self._crew.start(_held, shared, parts)
            self._end = weakref.finalize(self, stack.pop_all().close)  # at the latest when it is forgotten

    def ask(self, question: Callable[..., Any], *arguments: Any) -> Iterator[tuple[float, Any]]:
        """Each shard's share of the samples, and what the function gives of what it holds."""
        yield from zip(self.shares, self._crew.ask(question, *arguments), strict=True)

    def sum(self, question: Callable[..., Any], *arguments: Any) -> list[np.ndarray]:
        """The sum over shards of the arrays that each answers times its share, in the order of the shards."""
        totals: list[np.ndarray] = []
        for share, answer in self.ask(question, *arguments):
            totals = totals or [np.zeros_like(part) for part in answer]
            for total, part in zip(totals, answer, strict=True):
                total += share * part
        return totals

    def backend(self, backends: Iterable[str]) -> str:
        """How all that was computed, of how each shard did."""
        count = len(self.shares)
        return f"{' and '.join(dict.fromkeys(backends))}, in {count} shard{'s' * (count > 1)}"

    def close(self) -> None:
        """End the actors, and the cluster if it was started for them."""
        with preserve_rng():
            self._end()


def _held(task: Task, batches: list[Batch]) -> Any:
    """What a shard holds, made in its actor's process."""
    torch.set_default_dtype(task.dtype)
    loss = task.loss.to(task.device) if isinstance(task.loss, nn.Module) else task.loss
    beside = min(task.shards, os.cpu_count() or 1) if task.device == "cpu" else 1  # that share the memory
    memory = int(room(task.memory, torch.device(task.device)) / beside)
    return task.make(task.model.to(task.device), loss, batches, memory)


def is_sharded(engine: str) -> bool:
    """Whether an engine measures in shards.

    Raises:
        UnknownName: there is no such engine.
    """
    if engine not in ENGINES:
        raise UnknownName("engine", engine, ENGINES)
    return engine == "ray"


def shared_out(whole: Objective, shards: int) -> tuple[Objective, list[int]]:
    """The loss over batches that go evenly into so many shards, if it can be; and the samples of each shard.

    There are fewer shards than asked for where there are fewer batches.
    """
    even, loads = whole, _loads(whole, shards)
    for finer in FINER:
        if max(loads) * shards <= EVEN * sum(loads):
            break
        with suppress(Exception), torch.enable_grad(), whole.twice_differentiable():  # what cannot be cut stays whole
            even = in_microbatches(whole, whole.vector, -(-sum(loads) // (finer * shards)), samples_independent=False)
        loads = _loads(even, shards)
    return even, loads


def _loads(whole: Objective, shards: int) -> list[int]:
    """Samples of each shard that gets a batch."""
    loads: dict[int, int] = {}
    sizes = list(_sizes(whole))
    for number, size in zip(_places(sizes, shards), sizes, strict=True):
        loads[number] = loads.get(number, 0) + size
    return list(loads.values())


def shares_of(whole: Objective, shards: int) -> list[float]:
    """What the loss over each shard counts for, of the whole."""
    if whole.reduction == "sum":
        return [1.0] * shards
    weights = [0.0] * shards
    for number, (batch, _) in zip(_places(_sizes(whole), shards), whole.batches(), strict=True):
        weights[number] += whole.weight(batch)
    return [weight / whole.total for weight in weights]


def _sizes(whole: Objective) -> Iterator[int]:
    for batch, _ in whole.batches():  # those that count
        yield count(batch)


def _places(sizes: Iterable[int], shards: int) -> Iterator[int]:
    """For each batch the shard it goes to: the one with the fewest samples so far, of equals the first."""
    loads = [0] * shards
    for size in sizes:
        number = loads.index(min(loads))
        loads[number] += size
        yield number


def _home(loss: Loss) -> str:
    return getattr(loss, "__module__", None) or type(loss).__module__
