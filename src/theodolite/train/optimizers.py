"""Optimizers over a whole stack.

Adam and SGD are PyTorch's own fused kernels on the one buffer that holds all weights; any other optimizer that updates
each number alone is itself, with the matrices of all replicas as its parameters.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from theodolite.recipes import Optimizer
from theodolite.specs import Training
from theodolite.store.states import State
from theodolite.train import hidden
from theodolite.train.aligned import AlignedStack


def stack_optimizer(
    training: Training, weights: AlignedStack, learning_rates: Sequence[float], states: Sequence[State] = ()
) -> "StackOptimizer | DescribedOptimizer":
    """The optimizer of R replicas, before their first step; or going on from what each one's ``state`` was."""
    if isinstance(training.optimizer, Optimizer):
        made = DescribedOptimizer(training, training.optimizer, weights, learning_rates)
        if states:
            made.put(states)
        return made
    moments = [
        AlignedStack.of_rows(weights.layers, rows, weights.buffer.device)
        for rows in zip(*(state["moments"] for state in states), strict=True)
    ]
    return StackOptimizer(
        training, weights, learning_rates, moments if states else None, states[0]["steps"] if states else 0
    )


class StackOptimizer:
    """State of Adam or SGD of R replicas, which have taken equally many steps.

    A fused kernel takes one learning rate, so neighbours of equal rate go together: one call where all are equal.
    """

    def __init__(
        self,
        training: Training,
        weights: AlignedStack,
        learning_rates: Sequence[float],
        moments: Sequence[AlignedStack] | None = None,
        steps: int = 0,
    ) -> None:
        count = 2 if training.optimizer == "adam" else 1 if training.momentum else 0
        self.training, self.weights, self.learning_rates = training, weights, list(learning_rates)
        self.gradient = weights.zeros_like()
        self.moments = [weights.zeros_like() for _ in range(count)] if moments is None else list(moments)
        self.steps = steps
        self._groups = []
        first = 0
        for learning_rate, members in groupby(self.learning_rates):
            last = first + len(list(members))
            parts = [_part(stack, first, last) for stack in (weights, self.gradient, *self.moments)]
            counters = [torch.tensor(float(steps), device=weights.buffer.device) for _ in parts[0]]
            self._groups.append((learning_rate, parts, counters))
            first = last

    def step(self, factor: float) -> None:
        """Update the weights by the gradient, every learning rate multiplied by ``factor``."""
        self.steps += 1
        decay = self.training.weight_decay
        for learning_rate, (weights, gradients, *moments), counters in self._groups:
            if self.training.optimizer == "adam":
                first, second = moments
                adam(
                    weights, gradients, first, second, [], counters, fused=True, amsgrad=False, beta1=0.9, beta2=0.999,
                    lr=learning_rate * factor, weight_decay=decay, eps=1e-8, maximize=False,
                )  # fmt: skip
            else:
                momentum: list[Tensor | None] = [*moments[0]] if moments else [None for _ in weights]
                sgd(
                    weights, gradients, momentum, fused=True, weight_decay=decay, momentum=self.training.momentum,
                    lr=learning_rate * factor, dampening=0.0, nesterov=False, maximize=False,
                )  # fmt: skip

    def check(self) -> None:
        """Its states hold all that it is."""

    def state(self, replica: int) -> State:
        """What one replica goes on from."""
        return {"steps": self.steps, "moments": [moment.rows(replica) for moment in self.moments]}

    def select(self, keep: Sequence[int]) -> "StackOptimizer":
        """The state of these replicas only."""
        return StackOptimizer(
            self.training,
            self.weights.select(keep),
            [self.learning_rates[replica] for replica in keep],
            [moment.select(keep) for moment in self.moments],
            self.steps,
        )


class DescribedOptimizer:
    """State of an elementwise optimizer of R replicas, one optimizer for neighbours of equal learning rate."""

    def __init__(
        self, training: Training, described: Optimizer, weights: AlignedStack, learning_rates: Sequence[float]
    ) -> None:
        self.training, self.described = training, described
        self.weights, self.learning_rates, self.steps = weights, list(learning_rates), 0
        self.gradient = weights.zeros_like()
        self._groups: list[tuple[list[float], torch.optim.Optimizer]] = []
        first = 0
        for learning_rate, members in groupby(self.learning_rates):
            last = first + len(list(members))
            parts = [matrix[first:last] for matrix in weights.matrices]
            for part, gradient in zip(parts, self.gradient.matrices, strict=True):
                part.grad = gradient[first:last]
            made = self._made(learning_rate, parts)
            self._groups.append(([group["lr"] for group in made.param_groups], made))
            first = last

    def step(self, factor: float) -> None:
        """Update the weights by the gradient, every learning rate multiplied by ``factor``."""
        self.steps += 1
        for rates, optimizer in self._groups:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            optimizer.step()

    def select(self, keep: Sequence[int]) -> "DescribedOptimizer":
        """The state of these replicas only."""
        rates = [self.learning_rates[replica] for replica in keep]
        result = DescribedOptimizer(self.training, self.described, self.weights.select(keep), rates)
        result.steps = self.steps
        result._take(self._layers(), keep, self.weights.replicas)
        return result

    def check(self) -> None:
        """Refuse what could not be resumed; raises as :func:`theodolite.train.hidden.check_optimizer`."""
        rates = [rate for rate, _ in groupby(self.learning_rates)]
        for rate, (_, optimizer) in zip(rates, self._groups, strict=True):
            hidden.check_optimizer(optimizer, partial(self._made, rate))

    def state(self, replica: int) -> State:
        """What one replica goes on from."""
        row = torch.tensor([replica], device=self.weights.buffer.device)
        return {"steps": self.steps, "layers": [_chosen(whole, row, self.weights.replicas) for whole in self._layers()]}

    def put(self, states: Sequence[State]) -> None:
        """Go on from what each replica's state was."""
        self.steps, ones = states[0]["steps"], [1] * len(states)
        layers = [_joined(layer, ones) for layer in zip(*(state["layers"] for state in states), strict=True)]
        self._take([self._placed(layer) for layer in layers], range(len(states)), len(states))

    def _made(self, rate: float, parameters: list[Tensor]) -> torch.optim.Optimizer:
        return self.described.make(parameters, learning_rate=rate, weight_decay=self.training.weight_decay)

    def _placed(self, layer: dict[str, Any]) -> dict[str, Any]:
        """Out of a file to where the optimizer has it: counts of steps stay on the CPU, unless a kernel reads them."""
        device, groups = self.weights.buffer.device, [g for _, o in self._groups for g in o.param_groups]
        counts = any(group.get("fused") or group.get("capturable") for group in groups)
        return {
            name: part.to(device) if isinstance(part, Tensor) and (part.ndim or counts) else part
            for name, part in layer.items()
        }

    def _take(self, layers: Sequence[dict[str, Any]], keep: Sequence[int], replicas: int) -> None:
        """Have the state of these of so many replicas, given by layer."""
        rows = torch.tensor(keep, device=self.weights.buffer.device)
        for layer, whole in enumerate(layers):
            first = 0
            for _, optimizer in self._groups:
                parameter = _parameters(optimizer)[layer]
                chosen = rows[first : first + len(parameter)]
                optimizer.state[parameter].update(_chosen(whole, chosen, replicas))
                first += len(parameter)

    def _layers(self) -> list[dict[str, Any]]:
        """By layer: the state of all replicas."""
        return [_joined([state for state, _ in states], [count for _, count in states]) for states in self._states()]

    def _states(self) -> Iterator[list[tuple[dict[str, Any], int]]]:
        """By layer: the state of each group, and its replicas."""
        optimizers = [optimizer for _, optimizer in self._groups]
        for parameters in zip(*map(_parameters, optimizers), strict=True):
            yield [(o.state[p], len(p)) for o, p in zip(optimizers, parameters, strict=True)]


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _joined(states: Sequence[dict[str, Any]], replicas: Sequence[int]) -> dict[str, Any]:
    """One state of all replicas: a row each of what has rows, and one number of what all share, such as steps."""

    def joined(parts: list[Any]) -> Any:
        rows = all(isinstance(p, Tensor) and p.ndim and len(p) == r for p, r in zip(parts, replicas, strict=True))
        return torch.cat(parts) if rows else parts[0]

    return {name: joined([state[name] for state in states]) for name in states[0]}


def _chosen(state: dict[str, Any], rows: Tensor, replicas: int) -> dict[str, Any]:
    def chosen(part: Any) -> Any:
        if isinstance(part, Tensor):
            return part[rows] if part.ndim and len(part) == replicas else part.clone()
        return part

    return {name: chosen(part) for name, part in state.items()}


def _part(stack: AlignedStack, first: int, last: int) -> list[Tensor]:
    """Flat views of some replicas: the whole buffer for all of them, else one a layer."""
    if (first, last) == (0, stack.replicas):
        return [stack.buffer]
    return [matrix[first:last].view(-1) for matrix in stack.matrices]
