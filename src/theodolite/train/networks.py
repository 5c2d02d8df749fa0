"""Stacks of networks that are no perceptrons: the loop's steps, taken by all of them at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from theodolite.errors import SettingError
from theodolite.models import build
from theodolite.models.description import Architecture
from theodolite.specs import Training
from theodolite.store.states import State
from theodolite.streams import named_seed
from theodolite.train import stackable
from theodolite.train.aligned import AlignedStack, padded
from theodolite.train.augment import augmented
from theodolite.train.data import Split, TrainingData
from theodolite.train.evaluation import evaluate
from theodolite.train.loop import check_augment, check_fit
from theodolite.train.optimizers import DescribedOptimizer, StackOptimizer, stack_optimizer
from theodolite.train.outcome import DTYPES, Score, Weights, weights_of
from theodolite.train.replica import Replica
from theodolite.train.schedule import factor
from theodolite.train.together import Together, laid_out, views

MOST = 16  # of a stack: beyond it a network hardly gets cheaper, and memory grows (benchmarks/replicas.py)
STREAMS = ("order", "augmentation")


@dataclass(frozen=True, slots=True)
class Own:
    """What one network of a stack has for itself while it trains."""

    data: TrainingData
    streams: dict[str, torch.Generator]  # as the loop has them


class NetworkStack:
    """R networks in lockstep: weights and optimizer, data and their order, and the module that all of them are."""

    def __init__(
        self,
        module: nn.Module,
        together: Together,
        training: Training,
        optimizer: StackOptimizer | DescribedOptimizer,
        own: Sequence[Own],
    ) -> None:
        self.module, self.together, self.training, self.optimizer, self.own = module, together, training, optimizer, own
        self.weights, self.gradients = (views(whole, module) for whole in (optimizer.weights, optimizer.gradient))

    def epoch(self, epoch: int) -> None:
        """Train on every sample once."""
        samples = len(self.own[0].data.train)
        size = min(self.training.batch_size or samples, samples)
        steps = -(-samples // size)
        for step, index in enumerate(self._order(samples, size)):
            inputs, targets, shares = self._batch(index, min(size, samples - step * size))
            found = self.together.gradients(self.weights, inputs, targets, self.training.loss, shares)
            with torch.no_grad():
                torch._foreach_copy_(list(self.gradients.values()), list(found))
            self.optimizer.step(factor(self.training, epoch, step, steps))

    def evaluate(self) -> list[tuple[Score, Score]]:
        """Each network's scores on the whole training and test set, as the loop takes them."""
        scores = []
        for row, own in enumerate(self.own):
            module = self._loaded(row)
            train, test = (evaluate(module, split, self.training) for split in (own.data.train, own.data.test))
            scores.append((train, test))
        return scores

    def read(self, row: int) -> Weights:
        """A copy of one network's weights, on the CPU."""
        return weights_of(self._loaded(row))

    def state(self, row: int) -> State:
        """What one network goes on from."""
        return {
            "weights": self.optimizer.weights.rows(row),
            "optimizer": self.optimizer.state(row),
            "streams": {name: stream.get_state() for name, stream in self.own[row].streams.items()},
        }

    def select(self, keep: Sequence[int]) -> "NetworkStack":
        """A stack in which these networks go on."""
        own = [self.own[row] for row in keep]
        return NetworkStack(self.module, self.together.select(keep), self.training, self.optimizer.select(keep), own)

    def _order(self, samples: int, size: int) -> Iterator[Tensor]:
        """Indices ``(R, batch)`` of an epoch's batches: the loop's; batches are filled up with sample 0."""
        filled = padded(size, self.optimizer.weights.buffer.dtype)
        orders = [
            torch.randperm(samples, generator=own.streams["order"]) if size < samples else torch.arange(samples)
            for own in self.own
        ]
        for batch in torch.stack(orders).split(size, dim=1):
            yield nn.functional.pad(batch, (0, filled - batch.shape[1])).to(self.optimizer.weights.buffer.device)

    def _batch(self, index: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs, targets and what each sample counts: those behind the first ``count`` nothing."""
        shares = self.optimizer.weights.buffer.new_zeros(index.shape[1])
        shares[:count] = 1 / count
        sets = [own.data.train for own in self.own]
        inputs = torch.stack([split.inputs[rows] for split, rows in zip(sets, index, strict=True)])
        targets = torch.stack([split.targets[rows] for split, rows in zip(sets, index, strict=True)])
        if self.training.augment:
            for images, own in zip(inputs, self.own, strict=True):
                images[:count] = augmented(images[:count], own.streams["augmentation"])
        return inputs, targets, shares

    @torch.no_grad()
    def _loaded(self, row: int) -> nn.Module:
        """The module with one network's numbers."""
        mine = {**self.weights, **self.together.constants}
        for name, tensor in (*self.module.named_parameters(), *self.module.named_buffers()):
            tensor.copy_(mine[name][row])
        return self.module


class Networks:
    """Networks of one description, and the data that those are trained on which have none of their own."""

    onednn = True  # has the convolutions
    most = MOST

    def __init__(
        self, architecture: Architecture, data: TrainingData, training: Training, replicas: Sequence[Replica]
    ) -> None:
        """Of data on the device and in the type of the training; refused where they can be no stack."""
        self.architecture, self.data, self.training = architecture, data, training
        for given in (data, *(self._data(replica) for replica in replicas)):
            check_augment(given, training)
            check_fit(self._built(0), given, training, flatten=False)
            for split, like in ((given.train, data.train), (given.test, data.test)):
                if len(split) != len(like):
                    raise SettingError(
                        f"expected as many samples for all replicas of a stack, got {len(like)} and {len(split)}. "
                        "Train them as two stacks."
                    )
        if reason := stackable.reason(architecture, data, training):
            raise SettingError(
                f"expected networks that can be one stack, but {reason}. Train such networks one by one with `train`."
            )

    def stack(self, replicas: Sequence[Replica], states: Sequence[State]) -> NetworkStack:
        """Before the first step, or going on from the state of each replica."""
        kept = [state["stack"] for state in states]
        modules = [self._built(replica.weights_seed) for replica in replicas]
        weights = laid_out(modules)
        if kept:
            rows = [state["weights"] for state in kept]
            weights = AlignedStack.of_rows(weights.layers, rows, weights.buffer.device)
        rates = [replica.learning_rate for replica in replicas]
        optimizer = stack_optimizer(self.training, weights, rates, [state["optimizer"] for state in kept])
        owns = [Own(self._data(replica), _streams(replica.order_seed)) for replica in replicas]
        for own, state in zip(owns, kept, strict=False):
            for name, stream in own.streams.items():
                stream.set_state(state["streams"][name])
        return NetworkStack(modules[0], Together.of(modules), self.training, optimizer, owns)

    def _built(self, seed: int) -> nn.Module:
        return build(self.architecture, seed=seed, dtype=DTYPES[self.training.dtype]).to(self.data.train.inputs.device)

    def _data(self, replica: Replica) -> TrainingData:
        device, dtype = self.data.train.inputs.device, DTYPES[self.training.dtype]
        data = self.data if replica.data is None else replica.data.to(device, dtype)
        if replica.train_targets is None:
            return data
        targets = Split(data.train.inputs, replica.train_targets).to(device, dtype).targets
        return replace(data, train=replace(data.train, targets=targets))


def _streams(seed: int) -> dict[str, torch.Generator]:
    return {name: torch.Generator().manual_seed(named_seed(seed, name)) for name in STREAMS}
