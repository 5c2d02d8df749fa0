"""A survey's trainings by Theodolite and by the plain script: benchmarks/survey.py [--preset quick] [STUDY…].

Every stack of a study (equal architecture, data and training) is trained by both sides for a few of its epochs, one
thread each, with the evaluation of the whole training and test set that belongs to them, in turn and in one process;
what is left of its epochs and runs is multiplied out. The script is what people write: nn.Module, DataLoader, Adam, one
network after another, loss and accuracy of both sets after each evaluated epoch, float32. What is measured after
training is left out on both sides.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from theodolite import data, survey
from theodolite.models import MLP, build
from theodolite.runs import LARGE, STACK
from theodolite.study import RunSpec
from theodolite.train import Replica, TrainingData, tensors, train, train_replicas

SECONDS = 0.5  # a side trains a stack for at least so long


@dataclass(frozen=True)
class Sides:
    """Seconds that all runs of a stack would take."""

    script: float
    ours: float


def script(spec: RunSpec, sets: TrainingData, epochs: int) -> None:
    """One network, as the usual script trains and evaluates it."""
    model = build(spec.model, seed=0)
    loss = nn.MSELoss() if spec.training.loss == "mse" else nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=spec.training.learning_rate)
    parts = [TensorDataset(part.inputs, part.targets) for part in (sets.train, sets.test)]
    batch = spec.training.batch_size or len(sets.train)
    loader = DataLoader(parts[0], batch_size=batch, shuffle=True)
    for epoch in range(1, epochs + 1):
        model.train()
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss(model(inputs), targets).backward()
            optimizer.step()
        if epoch % spec.training.evaluate_every == 0:
            evaluate(model, loss, parts)


@torch.no_grad()
def evaluate(model: nn.Module, loss: nn.Module, parts: list[TensorDataset]) -> None:
    model.eval()
    for part in parts:
        total, right = 0.0, 0
        for inputs, targets in DataLoader(part, batch_size=1000):
            outputs = model(inputs)
            total += loss(outputs, targets).item() * len(inputs)
            right += (outputs.argmax(1) == targets).sum().item() if targets.ndim == 1 else 0


def ours(specs: list[RunSpec], sets: TrainingData, epochs: int) -> None:
    """The same networks, as a worker of the survey trains them."""
    first = specs[0]
    training = first.training.model_copy(update={"epochs": epochs, "convergence": None, "snapshot_every": None})
    if isinstance(first.model, MLP) and not training.autocast:
        replicas = [Replica(s.seeds.weights, s.seeds.order, s.training.learning_rate) for s in specs]
        train_replicas(first.model, sets, training, replicas)
        return
    for spec in specs:
        train(build(spec.model, seed=spec.seeds.weights), sets, training, order_seed=spec.seeds.order)


def seconds(run: Callable[[int], None], epochs: int, step: int) -> float:
    """Time of all epochs, from as many of them (a multiple of ``step``) as fill SECONDS, after a warm-up."""
    run(step)
    trial = step
    while True:
        started = time.perf_counter()
        run(trial)
        spent = time.perf_counter() - started
        if spent >= SECONDS or trial >= epochs:
            return spent * epochs / trial
        trial = min(
            max(step, epochs // step * step), max(2 * trial, int(trial * SECONDS / max(spent, 1e-3)) // step * step)
        )


def compare(specs: list[RunSpec]) -> Sides:
    first = specs[0]
    sets = tensors(data.load(first.data))
    if isinstance(first.model, MLP):
        flat = [part.inputs.flatten(1) for part in (sets.train, sets.test)]
        sets = TrainingData(type(sets.train)(flat[0], sets.train.targets), type(sets.test)(flat[1], sets.test.targets))
    step = min(first.training.evaluate_every, first.training.epochs)
    size = STACK if isinstance(first.model, MLP) and first.model.parameters <= LARGE else 1
    stack = specs[:size]
    return Sides(
        script=seconds(lambda epochs: script(first, sets, epochs), first.training.epochs, step) * len(specs),
        ours=seconds(lambda epochs: ours(stack, sets, epochs), first.training.epochs, step) * len(specs) / len(stack),
    )


def main() -> None:
    torch.set_num_threads(1)
    arguments = sys.argv[1:]
    preset = arguments[arguments.index("--preset") + 1] if "--preset" in arguments else "quick"
    names = [name for name in arguments if not name.startswith("--") and name != preset]
    print(f"PyTorch {torch.__version__}, one thread a side, preset {preset}; hours of all trainings")
    print(f"{'study':24}{'runs':>6}{'script':>10}{'ours':>10}{'ratio':>8}")
    total = Sides(0.0, 0.0)
    for item in survey.prepare(names, preset):
        stacks: dict[str, list[RunSpec]] = {}
        for spec in item.runs:
            stacks.setdefault(spec.stack_key(), []).append(spec)
        found = [compare(specs) for specs in stacks.values()]
        both = Sides(sum(s.script for s in found), sum(s.ours for s in found))
        total = Sides(total.script + both.script, total.ours + both.ours)
        row(item.study.name, len(item.runs), both)
    row("all", 0, total)


def row(name: str, runs: int, both: Sides) -> None:
    print(
        f"{name:24}{runs or '':>6}{both.script / 3600:10.3f}{both.ours / 3600:10.3f}{both.script / both.ours:8.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
