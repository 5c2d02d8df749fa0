"""A survey's trainings by Theodolite and by the script people write: benchmarks/survey.py [--preset quick] [STUDY…].

    script   nn.Module, DataLoader, Adam, one network after another, float32; images through a Dataset that makes a
             picture, a tensor and a normalised tensor of each as it is asked for, as torchvision's with its transforms
    tensors  the same with everything in a TensorDataset, which takes a reader who knows that transforms are dear
    ours     the stack or the loop that a worker of the survey trains them in

Of every stack (equal architecture, data and training) a few epochs and one evaluation of the whole training and test
set are timed on each side, one thread, one process; the rest of its epochs, evaluations and runs is multiplied out, up
to the last epoch that the settings allow on all sides. Processor time counts, so other work on the machine disturbs
little. What is measured after training is left out. --ours leaves the other sides out: what a preset's trainings take.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data import Dataset as Samples

from theodolite import data, machine, survey, train
from theodolite.data import Dataset
from theodolite.jobs import LARGE, STACK
from theodolite.models import MLP, build
from theodolite.study import RunSpec
from theodolite.train import Replica, TrainingData

SECONDS = 0.3  # of a side's epochs are timed at least
SIDES = ("script", "tensors", "ours")
Cost = tuple[float, float]  # processor seconds of one network's epoch, and of its evaluation


@dataclass(frozen=True)
class Pictures(Samples[tuple[Tensor, int]]):
    """Bytes, each image turned into a normalised tensor when it is asked for."""

    pixels: np.ndarray  # (N, channels, height, width) uint8
    labels: np.ndarray  # (N,)
    mean: np.ndarray  # (channels,) of pixel / 255
    deviation: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = self.pixels[index]
        picture = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        array = np.array(picture, copy=True).reshape(*pixels.shape[1:], -1)
        image = torch.from_numpy(array).permute(2, 0, 1).contiguous().float().div(255).clone()
        mean, deviation = torch.as_tensor(self.mean), torch.as_tensor(self.deviation)
        if (deviation == 0).any():
            raise ValueError("a deviation is zero")
        return image.sub_(mean.view(-1, 1, 1)).div_(deviation.view(-1, 1, 1)), int(self.labels[index])


def sets_of(side: str, dataset: Dataset, sets: TrainingData) -> tuple[Samples, Samples]:
    """Training and test set as the side reads them."""
    if side == "tensors" or dataset.offset is None or dataset.factor is None:
        return TensorDataset(sets.train.inputs, sets.train.targets), TensorDataset(sets.test.inputs, sets.test.targets)
    mean, deviation = dataset.offset / 255, 1 / (255 * dataset.factor)
    return (
        Pictures(dataset.train_inputs, dataset.train_targets, mean, deviation),
        Pictures(dataset.test_inputs, dataset.test_targets, mean, deviation),
    )


def by_script(spec: RunSpec, parts: tuple[Samples, Samples]) -> Cost:
    """One network, as the usual script trains and evaluates it."""
    own = build(spec.model, seed=spec.seeds.weights)
    model = nn.Sequential(nn.Flatten(), own) if isinstance(spec.model, MLP) else own
    loss = nn.MSELoss() if spec.training.loss == "mse" else nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=spec.training.learning_rate)
    loader = DataLoader(parts[0], batch_size=spec.training.batch_size or len(parts[0]), shuffle=True)

    def epoch() -> None:
        model.train()
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss(model(inputs), targets).backward()
            optimizer.step()

    @torch.no_grad()
    def evaluation() -> None:
        model.eval()
        for part in parts:
            total, right = 0.0, 0
            for inputs, targets in DataLoader(part, batch_size=loader.batch_size):
                outputs = model(inputs)
                total += loss(outputs, targets).item() * len(inputs)
                right += (outputs.argmax(1) == targets).sum().item() if targets.ndim == 1 else 0

    return each(epoch), each(evaluation)


def by_us(specs: list[RunSpec], sets: TrainingData) -> Cost:
    """The same networks, as a worker of the survey trains them: the epochs after the first, and the last evaluation."""
    first = specs[0]
    epochs = 2
    while True:
        training = first.training.model_copy(
            update={"epochs": epochs, "evaluate_every": epochs, "convergence": None, "snapshot_every": None}
        )
        marks: list[float] = []

        def told(epoch: int, samples: int, marks: list[float] = marks) -> None:
            marks.append(time.process_time())

        if isinstance(first.model, MLP) and not training.augment:
            members = [Replica(s.seeds.weights, s.seeds.order, s.training.learning_rate) for s in specs]
            train.train_replicas(first.model, sets, training, members, on_epoch=told)
        else:
            flatten, module = isinstance(first.model, MLP), build(first.model, seed=first.seeds.weights)
            train.train(module, sets, training, order_seed=first.seeds.order, flatten=flatten, on_epoch=told)
        parts = len(marks) // epochs  # stacks that fit the cache, one after another; about equal
        evaluation = parts * (time.process_time() - marks[-1])
        spent = sum(marks[(n + 1) * epochs - 1] - marks[n * epochs] for n in range(parts))
        if spent >= SECONDS:
            return spent / (epochs - 1) / len(specs), evaluation / len(specs)
        epochs = 1 + int((epochs - 1) * max(2, 1.2 * SECONDS / max(spent, 1e-3)))


def each(work: Callable[[], None]) -> float:
    """Processor seconds of one time."""
    times, started = 0, time.process_time()
    while time.process_time() - started < SECONDS or not times:
        work()
        times += 1
    return (time.process_time() - started) / times


def hours(specs: list[RunSpec], sides: tuple[str, ...]) -> list[float]:
    """What all runs of a stack take on each side."""
    training, dataset = specs[0].training, data.load(specs[0].data)
    sets = train.tensors(dataset)
    size = STACK if isinstance(specs[0].model, MLP) and specs[0].model.parameters <= LARGE else 1
    evaluations = training.epochs // training.evaluate_every + 1
    costs = (
        by_us(specs[:size], sets) if side == "ours" else by_script(specs[0], sets_of(side, dataset, sets))
        for side in sides
    )
    return [len(specs) * (training.epochs * epoch + evaluations * scores) / 3600 for epoch, scores in costs]


def stacks(specs: tuple[RunSpec, ...]) -> Iterator[list[RunSpec]]:
    found: dict[str, list[RunSpec]] = {}
    for spec in specs:
        found.setdefault(spec.stack_key(), []).append(spec)
    yield from found.values()


def row(name: str, runs: int, spent: np.ndarray) -> None:
    ratios = "".join(f"{one / spent[-1]:9.1f}" for one in spent[:-1])
    print(f"{name:24}{runs:>6}" + "".join(f"{one:9.3f}" for one in spent) + ratios, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", help="all of them unless named")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--ours", action="store_true", help="leave the other sides out")
    given = parser.parse_args()
    torch.set_num_threads(1)
    sides = SIDES[-1:] if given.ours else SIDES
    if given.ours:  # as a worker does; in one process with the other sides it would help them too
        machine.keep_memory()
    print(f"PyTorch {torch.__version__}, one thread a side, preset {given.preset}; processor hours of all trainings")
    heads = [*sides, *(("ratio", "ratio") if len(sides) > 1 else ())]
    print(f"{'study':24}{'runs':>6}" + "".join(f"{head:>9}" for head in heads))
    total, runs = np.zeros(len(sides)), 0
    for item in survey.prepare(given.studies, given.preset):
        spent = np.sum([hours(specs, sides) for specs in stacks(item.runs)], axis=0) if item.runs else 0 * total
        total, runs = total + spent, runs + len(item.runs)
        row(item.study.name, len(item.runs), spent)
    row("all", runs, total)


if __name__ == "__main__":
    main()
