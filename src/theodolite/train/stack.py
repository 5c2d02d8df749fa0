"""The replicas that are still training, with all the memory they train in."""

from collections.abc import Sequence

import torch
from torch import Tensor

from theodolite.models.description import MLP
from theodolite.specs import Training
from theodolite.store.states import State
from theodolite.train.losses import gradient
from theodolite.train.optimizers import DescribedOptimizer, StackOptimizer
from theodolite.train.outcome import Score, Weights, computed_in
from theodolite.train.passes import Passes
from theodolite.train.schedule import factor
from theodolite.train.stacked import Batches, StackedSplit, evaluate


class Stack:
    """R replicas in lockstep: weights and optimizer, data orders, batches and passes."""

    def __init__(
        self,
        architecture: MLP,
        training: Training,
        optimizer: StackOptimizer | DescribedOptimizer,
        orders: Sequence[torch.Generator],
        train: StackedSplit,
        test: StackedSplit,
    ) -> None:
        self.architecture, self.training, self.optimizer = architecture, training, optimizer
        self.orders, self.train, self.test = list(orders), train, test
        self.batches = Batches(train, training.batch_size, training.loss, architecture.outputs, self.orders)
        # What passes read and write: the optimizer's own memory, or rounded copies of it.
        dtype = computed_in(training)
        self.rounded, self.gradient = optimizer.weights.to(dtype), optimizer.gradient.to(dtype)
        self.gradients = self.gradient.matrices
        self.passes = self._passes(self.batches.padded, backward=True)
        self.judges = [self._passes(split.chunk, backward=False) for split in (train, test)]

    def epoch(self, epoch: int) -> None:
        """Train on every sample once."""
        for step, batch in enumerate(self.batches.epoch()):
            self.step(*batch, factor(self.training, epoch, step, self.batches.steps))

    def step(self, inputs: Tensor, targets: Tensor, counts: Tensor, share: float) -> None:
        """Train on one batch of :class:`~theodolite.train.stacked.Batches`, with this share of every learning rate."""
        outputs = self.passes.forward(inputs)
        gradient(self.training.loss, outputs, targets, counts, self.passes.output_gradient)
        self.passes.backward(inputs, self.gradients)
        self.optimizer.gradient.take(self.gradient)
        self.optimizer.step(share)
        self.rounded.take(self.optimizer.weights)

    def evaluate(self) -> list[tuple[Score, Score]]:
        """Each replica's scores on the whole training and test set."""
        splits = (self.train, self.test)
        scores = [evaluate(split, judge, self.training.loss) for split, judge in zip(splits, self.judges, strict=True)]
        return list(zip(*scores, strict=True))

    def read(self, replica: int) -> Weights:
        """A copy of one replica's weights, on the CPU."""
        return self.optimizer.weights.read(replica)

    def state(self, replica: int) -> State:
        """What one replica goes on from."""
        return {
            "weights": self.optimizer.weights.rows(replica),
            "optimizer": self.optimizer.state(replica),
            "order": self.orders[replica].get_state(),
        }

    def select(self, keep: Sequence[int]) -> "Stack":
        """A stack in which these replicas go on."""
        orders = [self.orders[replica] for replica in keep]
        train, test = self.train.select(keep), self.test.select(keep)
        return Stack(self.architecture, self.training, self.optimizer.select(keep), orders, train, test)

    def _passes(self, batch: int, *, backward: bool) -> Passes:
        return Passes(self.rounded, self.architecture.activation, batch, backward=backward)
