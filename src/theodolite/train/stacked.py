"""A set in the layout of a stack, its batches, and its evaluation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from theodolite.recipes import Loss
from theodolite.train.aligned import Layer, padded
from theodolite.train.data import Split
from theodolite.train.losses import at_least_float32, gradient_weights, takes_classes, targets_by_feature, values
from theodolite.train.outcome import Score
from theodolite.train.passes import Passes

EVAL_SAMPLES = 1024  # evaluated at once, at most: memory stays bounded, and they are in the cache for each layer


@dataclass(frozen=True, slots=True)
class StackedSplit:
    """One set, shared by all replicas or each replica's own; of a shared one the targets may be their own."""

    inputs: Tensor  # (1 or R, rows, columns of the first layer): flat inputs, a one for the bias, zeros; zero rows last
    targets: Tensor  # (1 or R, 1 or outputs, rows): classes or numbers, by feature
    samples: int  # N, the rows that are true
    chunk: int  # rows evaluated at once; divides the rows

    @classmethod
    def of(cls, split: Split, first: Layer, dtype: torch.dtype) -> Self:
        """Lay out a set for a network with this first layer, its inputs in the type that passes are computed in."""
        chunks = -(-len(split) // EVAL_SAMPLES)
        chunk = padded(-(-len(split) // chunks), dtype)
        inputs = split.inputs.new_zeros(chunks * chunk, first.columns, dtype=dtype)
        inputs[: len(split), : first.inputs] = split.inputs.flatten(1)
        if first.bias:
            inputs[: len(split), first.inputs] = 1
        result = cls(inputs[None], split.targets.new_zeros(0), len(split), chunk)
        return replace(result, targets=result._laid_out(split.targets)[None])

    @classmethod
    def stacked(cls, splits: Sequence[Self]) -> Self:
        """Sets of as many samples, one a replica, as one."""
        inputs, targets = (torch.cat([getattr(split, name) for split in splits]) for name in ("inputs", "targets"))
        return replace(splits[0], inputs=inputs, targets=targets)

    def with_targets(self, own: Sequence[Tensor | None]) -> Self:
        """The same with targets for each replica, where any has its own."""
        if all(targets is None for targets in own):
            return self
        given = self.targets.expand(len(own), -1, -1)
        laid = [rows if targets is None else self._laid_out(targets) for rows, targets in zip(given, own, strict=True)]
        return replace(self, targets=torch.stack(laid))

    def select(self, keep: Sequence[int]) -> Self:
        """The same for these replicas only."""

        def chosen(rows: Tensor) -> Tensor:
            return rows if len(rows) == 1 else rows[list(keep)]

        return replace(self, inputs=chosen(self.inputs), targets=chosen(self.targets))

    def _laid_out(self, targets: Tensor) -> Tensor:
        by_feature = targets_by_feature(targets, self.targets.dtype).to(self.inputs.device)
        result = by_feature.new_zeros(len(by_feature), self.inputs.shape[1])
        result[:, : self.samples] = by_feature
        return result


class Batches:
    """The batches of a stack's training: each replica's own samples in its own order, gathered on the device.

    A batch is ``inputs (R, batch, columns)``, ``targets (R, 1 or outputs, batch)`` and what the gradient of each sample
    counts ``(batch,)``; beyond the true samples it is padded with some sample that counts nothing.
    """

    def __init__(
        self, split: StackedSplit, size: int | None, loss: str | Loss, outputs: int, orders: list[torch.Generator]
    ):
        self.split, self.orders = split, orders
        self.whole = size is None or size >= split.samples
        self.size = split.samples if size is None else min(size, split.samples)
        self.padded = split.inputs.shape[1] if self.whole else padded(self.size, split.inputs.dtype)
        self.steps = -(-split.samples // self.size)
        like = at_least_float32(split.inputs.new_zeros(self.padded))
        last = split.samples - (self.steps - 1) * self.size
        self.weights = [gradient_weights(loss, outputs, count, like) for count in (self.size, last)]
        replicas, columns, features = len(orders), split.inputs.shape[2], split.targets.shape[1]
        self.all_targets = split.targets.expand(replicas, -1, -1)
        if not self.whole:
            self.inputs = split.inputs.new_zeros(replicas * self.padded, columns)
            self.targets = split.targets.new_zeros(replicas, features, self.padded)

    def epoch(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """One epoch's batches; each is overwritten by the next."""
        replicas = len(self.orders)
        if self.whole:
            yield self.split.inputs.expand(replicas, -1, -1), self.all_targets, self.weights[0]
            return
        order = self._order()
        sets, rows, _ = self.split.inputs.shape
        places = order if sets == 1 else order + rows * torch.arange(sets, device=order.device)[:, None]
        wanted = order[:, :, None].expand(-1, -1, self.targets.shape[1], -1)
        all_inputs, inputs = self.split.inputs.flatten(0, 1), self.inputs.view(replicas, self.padded, -1)
        for step, (index, place) in enumerate(zip(wanted, places.flatten(1), strict=True)):
            torch.index_select(all_inputs, 0, place, out=self.inputs)
            torch.gather(self.all_targets, 2, index, out=self.targets)
            yield inputs, self.targets, self.weights[step == self.steps - 1]

    def _order(self) -> Tensor:
        """Indices ``(steps, R, batch)`` of an epoch: what ``randperm`` and ``split`` give, sample 0 as padding."""
        samples, index = self.split.samples, torch.zeros(self.steps, len(self.orders), self.padded, dtype=torch.int64)
        row = torch.zeros(self.steps * self.size, dtype=torch.int64)
        for replica, order in enumerate(self.orders):
            torch.randperm(samples, generator=order, out=row[:samples])
            index[:, replica, : self.size] = row.view(self.steps, self.size)
        return index.to(self.split.inputs.device)


def evaluate(split: StackedSplit, passes: Passes, loss: str | Loss) -> list[Score]:
    """Mean loss and accuracy of each replica over a whole set; losses are added up in float64."""
    replicas, classes = passes.replicas, takes_classes(loss)
    total = torch.zeros(replicas, dtype=torch.float64, device=split.inputs.device)
    right = torch.zeros_like(total)
    for start in range(0, split.samples, split.chunk):
        count = min(split.chunk, split.samples - start)
        inputs = split.inputs[:, start : start + split.chunk].expand(replicas, -1, -1)
        targets = split.targets[:, :, start : start + split.chunk].expand(replicas, -1, -1)
        outputs = at_least_float32(passes.forward(inputs))
        total += values(loss, outputs, targets).to(torch.float64)[:, :count].sum(1)
        if classes:
            right += (outputs.argmax(1) == targets[:, 0])[:, :count].sum(1)
    accuracy = right / split.samples if classes else torch.full_like(total, torch.nan)
    means = (total / split.samples).tolist()
    return [Score(mean, share) for mean, share in zip(means, accuracy.tolist(), strict=True)]
