"""One network, trained: the reference that everyone can read. :mod:`theodolite.train.replicas` must agree with it."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from theodolite.errors import SettingError
from theodolite.measure.problem.isolation import without_subnormals
from theodolite.recipes import Optimizer
from theodolite.specs import Training
from theodolite.streams import named_seed
from theodolite.train.augment import augmented
from theodolite.train.chance import seeded
from theodolite.train.data import Split, TrainingData
from theodolite.train.evaluation import evaluate, mean_of, outputs_of
from theodolite.train.fit import check
from theodolite.train.outcome import DTYPES, OnRows, Outcome, Record, computed_in, evaluates, snaps, weights_of
from theodolite.train.resume import Keeper, Network
from theodolite.train.schedule import factor

OnEpoch = Callable[[int, int], None]  # (epoch, samples trained on so far)


@without_subnormals()
@seeded
def train(
    model: nn.Module,
    data: TrainingData,
    training: Training,
    *,
    order_seed: int,
    flatten: bool = False,
    device: torch.device | str = "cpu",
    on_epoch: OnEpoch | None = None,
    on_rows: OnRows | None = None,
    keeper: Keeper | None = None,
) -> Outcome:
    """Train a network and evaluate it on the whole training and test set as it goes.

    Images are laid out with the channels of a pixel side by side (``channels_last``), which convolutions work on
    twice as fast (benchmarks/images.py).

    Args:
        model: any module, trained in place; it is moved to ``device`` and to the training's dtype.
        data: what it is trained on and judged by.
        training: how.
        order_seed: draws the order of the samples anew for each epoch, and in streams apart what augmentation does and
            what modules draw themselves, as Dropout does.
        flatten: give the model each sample as one row of numbers, as a perceptron takes an image.
        device: where to train.
        on_epoch: told ``(epoch, samples trained on so far)`` after each epoch.
        on_rows: told ``{0: rows of the metrics so far}`` after each evaluation.
        keeper: has the state to go on from, if there is one, and keeps the state between epochs.

    Raises:
        SettingError: augmentation of what is no image; data, loss and network do not fit together; or the state is to
            be kept, and the optimizer or the network has a part that cannot be.

    Example:
        >>> from theodolite.models import mlp
        >>> x = torch.linspace(-1, 1, 64)[:, None]
        >>> data = TrainingData(Split(x, 3 * x + 1), Split(2 * x, 6 * x + 1))
        >>> line = Training(loss="mse", learning_rate=0.1, batch_size=16, epochs=60, convergence=1e-3)
        >>> train(mlp(inputs=1, outputs=1, seed=0), data, line, order_seed=0).converged_epoch < 60
        True
    """
    check_augment(data, training)
    dtype = DTYPES[training.dtype]
    model.to(device, dtype)
    data = data.to(device, dtype)
    layout = torch.channels_last if data.train.inputs.ndim == 4 and not flatten else torch.preserve_format
    model.to(memory_format=layout)  # type: ignore[call-overload]  # missing in PyTorch's annotations
    # Autocast would round the same inputs to the same numbers, batch by batch.
    if data.train.inputs.is_floating_point():
        data = _each(data, lambda inputs: inputs.to(computed_in(training), memory_format=layout))
    check_fit(model, data, training, flatten)
    loss = mean_of(training.loss)
    optimizer = _optimizer(list(model.parameters()), training)
    rates = [group["lr"] for group in optimizer.param_groups]  # an optimizer may have several
    order = torch.Generator().manual_seed(named_seed(order_seed, "order"))
    draw = torch.Generator().manual_seed(named_seed(order_seed, "augmentation"))
    steps = -(-len(data.train) // (training.batch_size or len(data.train)))
    record, step, start = Record(training), 0, 0
    network = Network(model, optimizer, partial(_optimizer, training=training), {"order": order, "draw": draw})
    if keeper and (state := keeper.read()):
        record, step, start = Record.going_on(training, state["record"]), state["step"], state["epoch"] + 1
        network.put(state["network"])

    asked = 0

    @torch.enable_grad()  # an optimizer's step may be without
    def gradient(inputs: Tensor, targets: Tensor) -> Any:
        """Leave the gradient in the parameters; an optimizer may ask for it at several places."""
        nonlocal asked
        asked += 1
        optimizer.zero_grad()
        value = loss(outputs_of(model, inputs, training, flatten=flatten), targets)
        value.backward()
        return value

    for epoch in range(start, training.epochs + 1):
        if epoch > 0:
            model.train()
            for batch in batches(len(data.train), training.batch_size, order):
                inputs, targets = data.train.inputs[batch], data.train.targets[batch]
                if training.augment:
                    inputs = augmented(inputs, draw)
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * factor(training, epoch, step % steps, steps)
                before = asked
                optimizer.step(partial(gradient, inputs, targets))
                if asked == before:
                    raise SettingError(
                        f"expected the step of {type(optimizer).__name__} to call the closure that it is given, "
                        "which computes the gradient; it did not, and trains nothing. Begin it with: loss = closure()."
                    )
                step += 1
            if on_epoch:
                on_epoch(epoch, epoch * len(data.train))
        if evaluates(training, epoch):
            scores = [evaluate(model, split, training, flatten=flatten) for split in (data.train, data.test)]
            record.add(epoch, step, *scores)
            if on_rows:
                on_rows({0: record.rows})
        if snaps(training, epoch):
            record.snapshots[epoch] = weights_of(model)
        if record.ended:
            break
        if keeper and keeper.every and epoch == 1:
            network.check()  # at once, and not when hours are lost
        if keeper and keeper.due(epoch) and epoch < training.epochs:
            keeper.write({"epoch": epoch, "step": step, "record": record.state(), "network": network.state()})
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return record.outcome(weights_of(model), epoch * len(data.train), model)


def batches(samples: int, size: int | None, order: torch.Generator) -> Iterator[slice | Tensor]:
    """Indices of an epoch's batches: a new order each epoch, the last batch smaller; all at once as they lie."""
    if size is None or size >= samples:
        yield slice(None)
    else:
        yield from torch.randperm(samples, generator=order).split(size)


def _each(data: TrainingData, change: Callable[[Tensor], Tensor]) -> TrainingData:
    """The same data, the inputs of both sets changed."""
    return TrainingData(*(Split(change(split.inputs), split.targets) for split in (data.train, data.test)))


def check_augment(data: TrainingData, training: Training) -> None:
    """Raise where there is nothing to crop."""
    if training.augment and data.train.inputs.ndim != 4:
        raise SettingError(
            "expected images (N, channels, height, width) to crop and mirror, got inputs of shape "
            f"{tuple(data.train.inputs.shape)}. Leave augment off for this data."
        )


@torch.inference_mode()
def check_fit(model: nn.Module, data: TrainingData, training: Training, flatten: bool) -> None:
    """Any module may come here: how many outputs it has, its answer to the first sample tells."""
    given = data.train.inputs[:1]
    positions, outputs = [], 0
    if len(given):
        _, *positions, outputs = outputs_of(model.eval(), given, training, flatten=flatten).shape
    for name, split in (("training", data.train), ("test", data.test)):
        check(name, split, training.loss, outputs, positions=positions)


def _optimizer(parameters: list[nn.Parameter], training: Training) -> torch.optim.Optimizer:
    """As described; PyTorch's own Adam and SGD fused into one kernel (620 against 950 µs a step at 671 parameters)."""
    if isinstance(training.optimizer, Optimizer):
        return training.optimizer.make(
            parameters, learning_rate=training.learning_rate, weight_decay=training.weight_decay
        )
    if training.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=training.learning_rate, weight_decay=training.weight_decay, fused=True)
    return torch.optim.SGD(
        parameters,
        lr=training.learning_rate,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        fused=True,
    )
