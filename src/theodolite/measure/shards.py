r"""Curvature and gradients summed over shards of the data, on a Ray cluster.

.. math:: H v = \sum_s \frac{N_s}{N} H_s v, \qquad
          H_s = \sum_{b \in s} \frac{n_b}{N_s} \nabla^2_\theta\, \mathrm{loss}_b

A shard is a set of whole batches, so that the sum is that of one process for every loss, also one that divides by
something else than the number of samples; it is made in the order of the shards, so that it is the same each time. What
differs from one process is the order of additions. Batches are cut where they are too few or too unequal for the
shards, and the loss is seen to add up over pieces (:mod:`~theodolite.measure.pieces`).

Model, loss and each batch are sent once. A product sends its vectors to each shard and gets as many back: 2 P numbers a
vector and shard, of which the way there is once a node. Each shard keeps its own graphs, and checks its own products.
"""

import os
import weakref
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from theodolite.errors import UnknownName
from theodolite.execute import ENGINES
from theodolite.measure.dense import DenseHessians
from theodolite.measure.graph import Kind
from theodolite.measure.memory import Memory, room
from theodolite.measure.objective import Batch, Loss, Objective, objective, samples, untouched
from theodolite.measure.pieces import in_pieces

EVEN = 1.1  # largest shard over the mean: beyond it batches are cut, if they can be
FINER = (1, 8)  # pieces a shard, where they are


@dataclass(frozen=True, slots=True)
class Task:
    """What every shard measures."""

    model: nn.Module  # on the CPU
    loss: Loss
    operator: Kind
    parameters: str | None
    memory: Memory  # on each machine, for all shards there
    shards: int
    device: str
    dtype: torch.dtype  # PyTorch's default, which a loss may make constants in


class Shards:
    """The loss over shards of the data, each held by an actor; ``close`` ends them."""

    def __init__(
        self,
        whole: Objective,
        *,
        operator: Kind = "hessian",
        parameters: str | None = None,
        memory: Memory = None,
        workers: int | None = None,
        address: str | None = None,
    ) -> None:
        from theodolite.execute.actors import crew  # Ray is an extra

        device = whole.vector.device
        with ExitStack() as stack, untouched():
            self._crew = stack.enter_context(crew(workers=workers, device=device.type, address=address))
            whole, sizes = shared_out(whole, self._crew.size)
            if device.type != "cpu":
                loss = deepcopy(whole.loss).cpu() if isinstance(whole.loss, nn.Module) else whole.loss
                whole = replace(whole, model=deepcopy(whole.model).cpu(), loss=loss)
            self.shares = [size / whole.samples for size in sizes]
            work = torch.get_default_dtype()
            task = Task(whole.model, whole.loss, operator, parameters, memory, len(sizes), device.type, work)
            modules = {type(module).__module__ for module in whole.model.modules()} | {_home(whole.loss)}
            shared = self._crew.put("a model and a loss", task, modules=modules)
            parts: list[list[Any]] = [[] for _ in sizes]
            for number, (batch, _) in zip(_places(_sizes(whole), len(sizes)), whole.batches(), strict=True):
                parts[number].append(self._crew.put("data", batch))
            self._crew.start(Shard, shared, parts)
            self._end = weakref.finalize(self, stack.pop_all().close)  # at the latest when it is forgotten

    def path_and_check(self) -> tuple[str, float]:
        """How products are computed, and the largest difference that a shard found when it checked them."""
        found = list(self._crew.ask("path_and_check"))
        paths = list(dict.fromkeys(path for path, _ in found))
        return _in_words(paths, len(found)), max(check for _, check in found)

    def rows(self, vectors: Tensor) -> Tensor:
        """The products with rows ``(k, P)``."""
        (product,) = self.sum("rows", vectors.detach().cpu().numpy())
        return torch.from_numpy(product).to(vectors.device)

    def dense(self, memory: Memory) -> DenseHessians:
        """The exact Hessian; how far it was from symmetric is at most the sum of how far the shards' were."""
        totals: list[Tensor] = []
        paths: dict[str, None] = {}
        for share, part in zip(self.shares, self._crew.ask("dense", memory), strict=True):
            scaled = [share * each for each in (part.loss, part.gradient, part.hessian, part.asymmetry)]
            totals = [a.add_(b) for a, b in zip(totals, scaled, strict=True)] if totals else scaled
            paths[part.path] = None
        loss, gradient, hessian, asymmetry = totals
        return DenseHessians(loss, gradient, hessian, asymmetry, _in_words(list(paths), len(self.shares)))

    def sum(self, question: str, *arguments: Any) -> list[np.ndarray]:
        """The sum over shards of what each answers times its share, in the order of the shards."""
        totals: list[np.ndarray] = []
        for share, answer in zip(self.shares, self._crew.ask(question, *arguments), strict=True):
            totals = totals or [np.zeros_like(part) for part in answer]
            for total, part in zip(totals, answer, strict=True):
                total += share * part
        return totals

    def close(self) -> None:
        """End the actors, and the cluster if it was started for them."""
        with untouched():
            self._end()


class Shard:
    """A shard in its actor's process: made there from what was sent."""

    def __init__(self, task: Task, batches: list[Batch]) -> None:
        torch.set_default_dtype(task.dtype)
        loss = task.loss.to(task.device) if isinstance(task.loss, nn.Module) else task.loss
        self._task, self._data = task, (task.model.to(task.device), loss, batches)
        self._operator: Any = None

    @property
    def operator(self) -> Any:
        """The shard's own :class:`~theodolite.measure.operator.HessianOperator`, made when first asked for."""
        if self._operator is None:
            from theodolite.measure.operator import HessianOperator

            task = self._task
            beside = min(task.shards, os.cpu_count() or 1) if task.device == "cpu" else 1  # that share the memory
            memory = int(room(task.memory, torch.device(task.device)) / beside)
            options: Any = {"operator": task.operator, "parameters": task.parameters}
            self._operator = HessianOperator(*self._data, **options, memory=memory)
        return self._operator

    def path_and_check(self) -> tuple[str, float]:
        """How its products are computed, and how far the one it checked was off."""
        return self.operator.path, self.operator.check

    def rows(self, vectors: np.ndarray) -> tuple[np.ndarray]:
        """Its products with rows."""
        own = self.operator
        return (own.rows(torch.tensor(vectors, device=own.device)).cpu().numpy(),)

    def dense(self, memory: Memory) -> DenseHessians:
        """Its exact Hessian."""
        from theodolite.measure.hessian_spectrum import exact

        return exact(self.operator.objective, memory)

    def loss_and_gradient(self) -> tuple[np.ndarray, ...]:
        """Its loss, then its gradient, a parameter tensor each."""
        from theodolite.measure.gradient_norm import loss_and_gradient

        value, gradient = loss_and_gradient(objective(*self._data, parameters=self._task.parameters))
        return (np.asarray(value), *(part.cpu().numpy() for part in gradient.values()))


def loss_and_gradient(
    whole: Objective, *, parameters: str | None, workers: int | None, address: str | None
) -> tuple[float, dict[str, Tensor]]:
    """What :func:`theodolite.measure.gradient_norm.loss_and_gradient` gives, summed over shards."""
    shards = Shards(whole, parameters=parameters, workers=workers, address=address)
    try:
        value, *parts = shards.sum("loss_and_gradient")
    finally:
        shards.close()
    return float(value), {name: torch.from_numpy(part) for name, part in zip(whole.names, parts, strict=True)}


def is_sharded(engine: str) -> bool:
    """Whether an engine measures in shards.

    Raises:
        UnknownName: there is no such engine.
    """
    if engine not in ENGINES:
        raise UnknownName("engine", engine, ENGINES)
    return engine == "ray"


def shared_out(whole: Objective, count: int) -> tuple[Objective, list[int]]:
    """The loss over batches that go evenly into so many shards, if it can be; and the samples of each shard.

    There are fewer shards than asked for where there are fewer batches.
    """
    even, loads = whole, _loads(whole, count)
    for finer in FINER:
        if max(loads) * count <= EVEN * whole.samples:
            break
        with suppress(Exception), torch.enable_grad(), whole.twice_differentiable():  # what cannot be cut stays whole
            even = in_pieces(whole, whole.vector, -(-whole.samples // (finer * count)), apart=False)
        loads = _loads(even, count)
    return even, loads


def _loads(whole: Objective, count: int) -> list[int]:
    """Samples of each shard that gets a batch."""
    loads: dict[int, int] = {}
    sizes = list(_sizes(whole))
    for number, size in zip(_places(sizes, count), sizes, strict=True):
        loads[number] = loads.get(number, 0) + size
    return list(loads.values())


def _sizes(whole: Objective) -> Iterator[int]:
    for batch in whole.data:
        yield samples(batch)


def _places(sizes: Iterable[int], count: int) -> Iterator[int]:
    """For each batch the shard it goes to: the one with the fewest samples so far, of equals the first."""
    loads = [0] * count
    for size in sizes:
        number = loads.index(min(loads))
        loads[number] += size
        yield number


def _in_words(paths: list[str], shards: int) -> str:
    return f"{' and '.join(paths)}, in {shards} shard{'s' * (shards > 1)}"


def _home(loss: Loss) -> str:
    return getattr(loss, "__module__", None) or type(loss).__module__
