"""Stacks of multilayer perceptrons: their passes are written out over memory in which no replica sees another."""

from collections.abc import Sequence

import torch

from theodolite.errors import SettingError
from theodolite.measure.problem.memory import free
from theodolite.models import build
from theodolite.models.description import MLP
from theodolite.specs import Training
from theodolite.store.states import State
from theodolite.streams import named_seed
from theodolite.train.aligned import AlignedStack, layers
from theodolite.train.data import TrainingData
from theodolite.train.fit import check
from theodolite.train.memory import SHARE, replicas_that_fit, stack_bytes
from theodolite.train.optimizers import stack_optimizer
from theodolite.train.outcome import DTYPES, computed_in
from theodolite.train.passes import working_set
from theodolite.train.replica import Replica
from theodolite.train.stack import Stack
from theodolite.train.stacked import StackedSplit

CACHE_BYTES = 4 << 20  # a stack may touch in a step: beyond it a CPU waits for memory (benchmarks/replicas.py)


class Perceptrons:
    """Perceptrons of one description, and the data that those are trained on which have none of their own."""

    def __init__(self, architecture: MLP, data: TrainingData, training: Training, replicas: Sequence[Replica]) -> None:
        """Of data on the device and in the type of the training; refused where something does not fit together."""
        _check(architecture, data, training, replicas)
        self.architecture, self.training = architecture, training
        # oneDNN would take over some kernels (GELU) only where memory is contiguous, which it is for a single replica
        # and not for several; but it alone multiplies in bfloat16.
        self.computed = computed_in(training)
        self.onednn = self.computed == torch.bfloat16
        self.shape = layers(architecture, self.computed)
        self.train, self.test = (
            StackedSplit.of(split, self.shape[0], self.computed) for split in (data.train, data.test)
        )
        self.most = self._most(replicas)

    def stack(self, replicas: Sequence[Replica], states: Sequence[State]) -> Stack:
        """Before the first step, or going on from the state of each replica."""
        dtype, device, training = DTYPES[self.training.dtype], self.train.inputs.device, self.training
        own = [state["stack"] for state in states]
        if own:
            weights = AlignedStack.of_rows(self.shape, [state["weights"] for state in own], device)
        else:
            weights = AlignedStack.zeros(self.shape, len(replicas), dtype, device)
            for number, replica in enumerate(replicas):
                weights.write(number, build(self.architecture, seed=replica.weights_seed, dtype=dtype).state_dict())
        rates = [replica.learning_rate for replica in replicas]
        optimizer = stack_optimizer(training, weights, rates, [state["optimizer"] for state in own])
        orders = [torch.Generator().manual_seed(named_seed(replica.order_seed, "order")) for replica in replicas]
        for order, state in zip(orders, own, strict=False):
            order.set_state(state["order"])
        train, test = self.train, self.test
        if any(replica.data is not None for replica in replicas):
            first = weights.layers[0]
            sets = [
                (train, test)
                if given is None
                else [StackedSplit.of(split, first, self.computed) for split in (given.train, given.test)]
                for given in (replica.data and replica.data.to(device, dtype) for replica in replicas)
            ]
            train, test = (StackedSplit.stacked(splits) for splits in zip(*sets, strict=True))
        targeted = train.with_targets([replica.train_targets for replica in replicas])
        return Stack(self.architecture, training, optimizer, orders, targeted, test)

    def _most(self, replicas: Sequence[Replica]) -> int:
        """Replicas of a stack: what the cache holds, or, now that the data are there, a GPU's memory."""
        if self.train.inputs.is_cpu:
            samples = self.train.samples
            batch, dtype = min(self.training.batch_size or samples, samples), DTYPES[self.training.dtype]
            return CACHE_BYTES // working_set(self.shape, batch, dtype, self.computed)
        labels, sets = (
            any(getattr(replica, own) is not None for replica in replicas) for own in ("train_targets", "data")
        )
        one, two = (
            stack_bytes(
                self.architecture, self.training, self.train, self.test, count, own_targets=labels, own_data=sets
            )
            for count in (1, 2)
        )
        return replicas_that_fit(one, two, SHARE * free(self.train.inputs.device))


def _check(architecture: MLP, data: TrainingData, training: Training, replicas: Sequence[Replica]) -> None:
    """Whether data, loss and architecture fit together."""
    if training.augment:
        raise SettingError(
            "expected a training on the data as they are, got augment. Train such networks one by one with `train`."
        )
    own = [replica.train_targets for replica in replicas if replica.train_targets is not None]
    for given in (data, *(replica.data for replica in replicas if replica.data is not None)):
        for name, split, like, several in (
            ("training", given.train, data.train, own),
            ("test", given.test, data.test, []),
        ):
            check(name, split, training.loss, architecture.outputs, several)
            width = split.inputs[0].numel()
            if width != architecture.inputs:
                raise SettingError(
                    f"expected {name} inputs of {architecture.inputs} numbers, as the network takes, got {width}. "
                    f"Pass an MLP with inputs={width}."
                )
            if len(split) != len(like):
                raise SettingError(
                    f"expected as many {name} samples for all replicas of a stack, got {len(like)} and {len(split)}. "
                    "Train them as two stacks."
                )
