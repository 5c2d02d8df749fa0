"""Adam and SGD over a whole stack: PyTorch's own fused kernels on the one buffer that holds all weights."""

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from theodolite.specs import Training
from theodolite.train.aligned import AlignedStack


class StackOptimizer:
    """State of the optimizer of R replicas, which have taken equally many steps.

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
        count = {"adam": 2, "sgd": 1 if training.momentum else 0}[training.optimizer]
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

    def select(self, keep: Sequence[int]) -> "StackOptimizer":
        """The state of these replicas only."""
        return StackOptimizer(
            self.training,
            self.weights.select(keep),
            [self.learning_rates[replica] for replica in keep],
            [moment.select(keep) for moment in self.moments],
            self.steps,
        )


def _part(stack: AlignedStack, first: int, last: int) -> list[Tensor]:
    """Flat views of some replicas: the whole buffer for all of them, else one a layer."""
    if (first, last) == (0, stack.replicas):
        return [stack.buffer]
    return [matrix[first:last].view(-1) for matrix in stack.matrices]
