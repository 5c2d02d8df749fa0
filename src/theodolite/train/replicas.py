"""Many networks of one architecture, trained together as one stack of batched matrix products.

Replicas differ in initial weights, data order, learning rate and, if wanted, training targets or data. Each ends as it
would alone: bit for bit whatever the stack, and as :func:`theodolite.train.train` says up to rounding.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn

from theodolite.errors import SettingError
from theodolite.measure.problem.isolation import without_subnormals
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
from theodolite.train.optimizers import is_elementwise, stack_optimizer
from theodolite.train.outcome import DTYPES, OnRows, Outcome, Record, Row, computed_in, evaluates, snaps
from theodolite.train.passes import working_set
from theodolite.train.resume import Keeper
from theodolite.train.stack import Stack
from theodolite.train.stacked import StackedSplit

OnEpoch = Callable[[int, int], None]
CACHE_BYTES = 4 << 20  # a stack may touch in a step: beyond it a CPU waits for memory (benchmarks/replicas.py)


@dataclass(frozen=True, slots=True, eq=False)
class Replica:
    """What one network of a stack has for itself."""

    weights_seed: int  # of its initial weights
    order_seed: int  # of the order of its samples
    learning_rate: float
    train_targets: Tensor | None = None  # (N,) or (N, outputs), like the data's own; None: the data's own
    data: TrainingData | None = None  # of its own, as many samples as the stack's; None: the stack's


def train_replicas(
    architecture: MLP,
    data: TrainingData,
    training: Training,
    replicas: Sequence[Replica],
    *,
    device: torch.device | str = "cpu",
    on_epoch: OnEpoch | None = None,
    on_rows: OnRows | None = None,
    keepers: Sequence[Keeper] = (),
) -> list[Outcome]:
    """Train networks of one architecture together.

    A replica that has converged (if the training stops there) or diverged leaves its stack; the others do not notice.
    On a CPU one thread works: the fastest way to use a core for small networks, and it keeps every sum in one order.
    On a GPU as many go together as its free memory holds.

    Args:
        architecture: of all of them.
        data: what those are trained on and judged by that have no data of their own; inputs ``(N, ...)`` are flattened.
        training: how; its learning rate gives way to each replica's own.
        replicas: what each has for itself.
        device: where to train.
        on_epoch: told ``(epochs done, a replica on average; samples trained on so far, all replicas together)``.
        on_rows: told the rows of the metrics so far after each evaluation, by the replica's number.
        keepers: one a replica, or none: has the state to go on from, if there is one, and keeps it between epochs.
            Replicas that go on from different epochs train in different stacks.

    Returns:
        An outcome each, in the order of ``replicas``.

    Raises:
        SettingError: data, loss and architecture do not fit together; or states are to be kept, and the optimizer has
            a part that cannot be.

    Example:
        >>> from theodolite.train import Split
        >>> x = torch.linspace(-1, 1, 64)[:, None]
        >>> data = TrainingData(Split(x, x**2), Split(2 * x, 4 * x**2))
        >>> parabola = Training(loss="mse", batch_size=16, epochs=100)
        >>> seeds = [Replica(weights_seed=seed, order_seed=seed, learning_rate=1e-2) for seed in range(3)]
        >>> outcomes = train_replicas(MLP(inputs=1, hidden=(8,), outputs=1), data, parabola, seeds)
        >>> all(outcome.metrics.train_loss.iloc[-1] < 0.01 for outcome in outcomes)
        True
    """
    dtype, computed = DTYPES[training.dtype], computed_in(training)
    data = data.to(device, dtype)
    _check(architecture, data, training, replicas)
    first, *_ = shape = layers(architecture, computed)
    train, test = (StackedSplit.of(split, first, computed) for split in (data.train, data.test))
    if train.inputs.is_cpu:
        batch = min(training.batch_size or train.samples, train.samples)
        most = CACHE_BYTES // working_set(shape, batch, dtype, computed)
    else:
        most = _most(architecture, training, replicas, train, test)
    states = {n: state for n, keeper in enumerate(keepers) if (state := keeper.read())}
    outcomes = {
        n: _ended(architecture, training, state, train.samples) for n, state in states.items() if "ended" in state
    }
    with _one_arithmetic(computed), without_subnormals():
        for members in _stacks(replicas, states, outcomes.keys(), most):

            def told(epochs: int, before: int = len(outcomes) * training.epochs) -> None:
                if on_epoch:
                    on_epoch((before + epochs) // len(replicas), (before + epochs) * train.samples)

            def seen(rows: Mapping[int, Sequence[Row]], members: Sequence[int] = members) -> None:
                if on_rows:
                    on_rows({members[number]: part for number, part in rows.items()})

            own = [replicas[number] for number in members]
            going = [states[number] for number in members if number in states]
            keep = [keepers[number] for number in members] if keepers else []
            done = _train_stack(architecture, training, own, train, test, told, seen, going, keep)
            outcomes |= zip(members, done, strict=True)
    return [outcomes[number] for number in range(len(replicas))]


def _train_stack(
    architecture: MLP,
    training: Training,
    replicas: Sequence[Replica],
    train: StackedSplit,
    test: StackedSplit,
    told: Callable[[int], None],
    seen: OnRows,
    states: Sequence[State],
    keepers: Sequence[Keeper],
) -> list[Outcome]:
    """Train replicas whose working set fits the cache: the loop's steps, for all that are still here."""
    stack = _new_stack(architecture, training, replicas, train, test, states)
    template = _template(architecture, training)
    records = [Record.going_on(training, state["record"]) for state in states] or [Record(training) for _ in replicas]
    outcomes: dict[int, Outcome] = {}
    here = list(range(len(replicas)))  # in the order of the stack

    for epoch in range(states[0]["epoch"] + 1 if states else 0, training.epochs + 1):
        if epoch > 0:
            stack.epoch(epoch)
            told(epoch * len(here) + training.epochs * (len(replicas) - len(here)))
        if evaluates(training, epoch):
            for replica, (on_train, on_test) in zip(here, stack.evaluate(), strict=True):
                records[replica].add(epoch, stack.optimizer.steps, on_train, on_test)
            seen({replica: records[replica].rows for replica in here})
        if snaps(training, epoch):
            for row, replica in enumerate(here):
                records[replica].snapshots[epoch] = stack.read(row)
        leaving = [row for row, replica in enumerate(here) if records[replica].ended or epoch == training.epochs]
        for row in leaving:
            outcomes[here[row]] = records[here[row]].outcome(stack.read(row), epoch * train.samples, template)
            if keepers and keepers[here[row]].every and epoch < training.epochs:
                record = records[here[row]].state()
                keepers[here[row]].write({"epoch": epoch, "record": record, "ended": stack.read(row)})
        staying = [row for row in range(len(here)) if row not in leaving]
        if not staying:
            break
        if leaving:
            stack, here = stack.select(staying), [here[row] for row in staying]
        _keep(epoch, stack, [records[replica] for replica in here], [keepers[replica] for replica in here if keepers])
    return [outcomes[number] for number in range(len(replicas))]


def _keep(epoch: int, stack: Stack, records: Sequence[Record], keepers: Sequence[Keeper]) -> None:
    """The state of each replica that is still here, after those epochs after which it is asked for."""
    due = [keeper.due(epoch) for keeper in keepers]
    if any(due) or (epoch == 1 and any(keeper.every for keeper in keepers)):
        stack.optimizer.check()  # at once, and not when hours are lost
    for row, (record, keeper) in enumerate(zip(records, keepers, strict=True) if any(due) else ()):
        keeper.write({"epoch": epoch, "record": record.state(), "stack": stack.state(row)})


def _ended(architecture: MLP, training: Training, state: State, samples: int) -> Outcome:
    """Of a replica that had left its stack before the training was interrupted."""
    record = Record.going_on(training, state["record"])
    return record.outcome(state["ended"], state["epoch"] * samples, _template(architecture, training))


def _template(architecture: MLP, training: Training) -> nn.Module:
    return build(architecture, seed=0, dtype=DTYPES[training.dtype])


def _stacks(
    replicas: Sequence[Replica], states: Mapping[int, State], ended: Collection[int], most: int
) -> Iterator[list[int]]:
    """The numbers of those that train together: from the same epoch on, and at most so many."""

    def start(number: int) -> int:
        return int(states[number]["epoch"]) if number in states else 0

    left = [number for number in range(len(replicas)) if number not in ended]
    # Neighbours of equal learning rate share the optimizer's kernel.
    order = sorted(left, key=lambda number: (start(number), replicas[number].learning_rate))
    for _, group in groupby(order, start):
        alike = list(group)
        width = _width(len(alike), most)
        yield from (alike[first : first + width] for first in range(0, len(alike), max(1, width)))


def _width(replicas: int, most: int) -> int:
    """Replicas a stack: at most so many, in stacks of about equal size."""
    stacks = -(-replicas // max(1, most))
    return -(-replicas // max(1, stacks))


def _most(
    architecture: MLP, training: Training, replicas: Sequence[Replica], train: StackedSplit, test: StackedSplit
) -> int:
    """Replicas that the device's memory holds, now that the data are there."""
    labels, sets = (any(getattr(replica, own) is not None for replica in replicas) for own in ("train_targets", "data"))
    one, two = (
        stack_bytes(architecture, training, train, test, count, own_targets=labels, own_data=sets) for count in (1, 2)
    )
    return replicas_that_fit(one, two, SHARE * free(train.inputs.device))


def _new_stack(
    architecture: MLP,
    training: Training,
    replicas: Sequence[Replica],
    train: StackedSplit,
    test: StackedSplit,
    states: Sequence[State],
) -> Stack:
    """Before the first step, or going on from the state of each replica."""
    dtype, device = DTYPES[training.dtype], train.inputs.device
    shape, own = layers(architecture, train.inputs.dtype), [state["stack"] for state in states]
    if own:
        weights = AlignedStack.of_rows(shape, [state["weights"] for state in own], device)
    else:
        weights = AlignedStack.zeros(shape, len(replicas), dtype, device)
        for number, replica in enumerate(replicas):
            weights.write(number, build(architecture, seed=replica.weights_seed, dtype=dtype).state_dict())
    rates = [replica.learning_rate for replica in replicas]
    optimizer = stack_optimizer(training, weights, rates, [state["optimizer"] for state in own])
    orders = [torch.Generator().manual_seed(named_seed(replica.order_seed, "order")) for replica in replicas]
    for order, state in zip(orders, own, strict=False):
        order.set_state(state["order"])
    if any(replica.data is not None for replica in replicas):
        shared, first = (train, test), weights.layers[0]
        sets = [
            shared
            if given is None
            else [StackedSplit.of(split, first, train.inputs.dtype) for split in (given.train, given.test)]
            for given in (replica.data and replica.data.to(device, dtype) for replica in replicas)
        ]
        train, test = (StackedSplit.stacked(splits) for splits in zip(*sets, strict=True))
    targeted = train.with_targets([replica.train_targets for replica in replicas])
    return Stack(architecture, training, optimizer, orders, targeted, test)


@contextmanager
def _one_arithmetic(computed: torch.dtype) -> Iterator[None]:
    """Keep PyTorch on one way to each number; the caller's settings come back.

    More threads would cut elementwise loops where no replica ends. oneDNN would take over some kernels (GELU) only
    where memory is contiguous, which it is for a single replica and not for several; but it alone multiplies in
    bfloat16.
    """
    threads, onednn = torch.get_num_threads(), torch.backends.mkldnn.enabled
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = computed == torch.bfloat16  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.mkldnn.enabled = onednn


def _check(architecture: MLP, data: TrainingData, training: Training, replicas: Sequence[Replica]) -> None:
    """Whether data, loss and architecture fit together."""
    if training.augment:
        raise SettingError(
            "expected a training on the data as they are, got augment. Train such networks one by one with `train`."
        )
    if not is_elementwise(training.optimizer):
        raise SettingError(
            "expected an optimizer that updates each number alone, since it sees the replicas of a stack as one; got "
            f"{training.optimizer}. Train such networks one by one with `train`."
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
