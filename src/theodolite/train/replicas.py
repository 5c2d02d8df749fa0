"""Many networks of one architecture, trained together as one stack.

Replicas differ in initial weights, data order, learning rate and, if wanted, training targets or data. Each ends as it
would alone: bit for bit whatever the stack, and as :func:`theodolite.train.train` says up to rounding.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import groupby

import torch
from torch import nn

from theodolite.errors import SettingError
from theodolite.measure.problem.isolation import without_subnormals
from theodolite.models import build
from theodolite.models.description import MLP, Architecture
from theodolite.recipes.optimizers import is_elementwise
from theodolite.specs import Training
from theodolite.store.states import State
from theodolite.train.arithmetic import one_arithmetic
from theodolite.train.data import TrainingData
from theodolite.train.networks import Networks, NetworkStack
from theodolite.train.outcome import DTYPES, OnRows, Outcome, Record, Row, evaluates, snaps
from theodolite.train.perceptrons import Perceptrons
from theodolite.train.replica import Replica
from theodolite.train.resume import Keeper
from theodolite.train.stack import Stack

OnEpoch = Callable[[int, int], None]


def train_replicas(
    architecture: Architecture,
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
    Of perceptrons as many go together as the cache, or a GPU's free memory, holds.

    Perceptrons are trained by batched matrix products (:mod:`theodolite.train.passes`), and other networks by one call
    for all of them (:mod:`theodolite.train.networks`), where
    :func:`theodolite.train.stackable.reason` has none against it.

    Args:
        architecture: of all of them.
        data: what those are trained on and judged by that have no data of their own; a perceptron takes inputs
            ``(N, ...)`` flat.
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
        SettingError: data, loss and architecture do not fit together, or the networks can be no stack; or states are
            to be kept, and the optimizer has a part that cannot be.

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
    if not is_elementwise(training.optimizer):
        raise SettingError(
            "expected an optimizer that updates each number alone, since it sees the replicas of a stack as one; got "
            f"{training.optimizer}. Train such networks one by one with `train`."
        )
    data = data.to(device, DTYPES[training.dtype])
    samples = len(data.train)
    kind = (
        Perceptrons(architecture, data, training, replicas)
        if isinstance(architecture, MLP)
        else Networks(architecture, data, training, replicas)
    )
    states = {n: state for n, keeper in enumerate(keepers) if (state := keeper.read())}
    outcomes = {n: _ended(architecture, training, state, samples) for n, state in states.items() if "ended" in state}
    with one_arithmetic(onednn=kind.onednn), without_subnormals():
        for members in _stacks(replicas, states, outcomes.keys(), kind.most):

            def told(epochs: int, before: int = len(outcomes) * training.epochs) -> None:
                if on_epoch:
                    on_epoch((before + epochs) // len(replicas), (before + epochs) * samples)

            def seen(rows: Mapping[int, Sequence[Row]], members: Sequence[int] = members) -> None:
                if on_rows:
                    on_rows({members[number]: part for number, part in rows.items()})

            own = [replicas[number] for number in members]
            going = [states[number] for number in members if number in states]
            keep = [keepers[number] for number in members] if keepers else []
            stack, template = kind.stack(own, going), _template(architecture, training)
            done = _train_stack(stack, training, template, len(own), samples, told, seen, going, keep)
            outcomes |= zip(members, done, strict=True)
    return [outcomes[number] for number in range(len(replicas))]


def _train_stack(
    stack: Stack | NetworkStack,
    training: Training,
    template: nn.Module,
    replicas: int,
    samples: int,
    told: Callable[[int], None],
    seen: OnRows,
    states: Sequence[State],
    keepers: Sequence[Keeper],
) -> list[Outcome]:
    """Train one stack: the loop's steps, for all that are still here."""
    records = [Record.going_on(training, state["record"]) for state in states]
    records = records or [Record(training) for _ in range(replicas)]
    outcomes: dict[int, Outcome] = {}
    here = list(range(replicas))  # in the order of the stack

    for epoch in range(states[0]["epoch"] + 1 if states else 0, training.epochs + 1):
        if epoch > 0:
            stack.epoch(epoch)
            told(epoch * len(here) + training.epochs * (replicas - len(here)))
        if evaluates(training, epoch):
            for replica, (on_train, on_test) in zip(here, stack.evaluate(), strict=True):
                records[replica].add(epoch, stack.optimizer.steps, on_train, on_test)
            seen({replica: records[replica].rows for replica in here})
        if snaps(training, epoch):
            for row, replica in enumerate(here):
                records[replica].snapshots[epoch] = stack.read(row)
        leaving = [row for row, replica in enumerate(here) if records[replica].ended or epoch == training.epochs]
        for row in leaving:
            outcomes[here[row]] = records[here[row]].outcome(stack.read(row), epoch * samples, template)
            if keepers and keepers[here[row]].every and epoch < training.epochs:
                record = records[here[row]].state()
                keepers[here[row]].write({"epoch": epoch, "record": record, "ended": stack.read(row)})
        staying = [row for row in range(len(here)) if row not in leaving]
        if not staying:
            break
        if leaving:
            stack, here = stack.select(staying), [here[row] for row in staying]
        _keep(epoch, stack, [records[replica] for replica in here], [keepers[replica] for replica in here if keepers])
    return [outcomes[number] for number in range(replicas)]


def _keep(epoch: int, stack: Stack | NetworkStack, records: Sequence[Record], keepers: Sequence[Keeper]) -> None:
    """The state of each replica that is still here, after those epochs after which it is asked for."""
    due = [keeper.due(epoch) for keeper in keepers]
    if any(due) or (epoch == 1 and any(keeper.every for keeper in keepers)):
        stack.optimizer.check()  # at once, and not when hours are lost
    for row, (record, keeper) in enumerate(zip(records, keepers, strict=True) if any(due) else ()):
        keeper.write({"epoch": epoch, "record": record.state(), "stack": stack.state(row)})


def _ended(architecture: Architecture, training: Training, state: State, samples: int) -> Outcome:
    """Of a replica that had left its stack before the training was interrupted."""
    record = Record.going_on(training, state["record"])
    return record.outcome(state["ended"], state["epoch"] * samples, _template(architecture, training))


def _template(architecture: Architecture, training: Training) -> nn.Module:
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
