"""Samples trained per second by the script people write, our loop and 16 replicas.

benchmarks/replicas.py [--quick] [PART OF A CASE'S NAME]

One process a side, one thread each, sides alternating within each repeat. Rates count processor time, so that what else
the machine does at the moment matters less; on an idle machine that is the clock's time.

Sides:
  script     nn.Module, TensorDataset, DataLoader(shuffle=True), Adam as it comes, one seed after another
  transform  the same, with a Dataset that scales each image when it is asked for, as torchvision's data sets do
  tensor     the same without DataLoader: the full batch in one tensor (function fit only)
  loop       theodolite.train.train
  replicas   theodolite.train.train_replicas, 16 at once
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from theodolite.data import DataSpec, load
from theodolite.errors import DataUnavailable
from theodolite.models import CNN, MLP, Architecture, build
from theodolite.study import Training
from theodolite.train import Replica, Split, TrainingData, train, train_replicas

REPLICAS = 16
SIDES = ("script", "transform", "tensor", "loop", "replicas")
FIT = MLP(inputs=1, hidden=(15, 19, 16), outputs=1)  # 671 parameters
DIGITS = MLP(inputs=784, hidden=(32, 32), outputs=10)
TARGETS = {"function fit, full batch": 4, "MNIST, batch 32": 20, "MNIST, batch 1024": 3}
CASES: dict[str, tuple[Architecture, int | None]] = {  # name -> network, batch size
    "function fit, full batch": (FIT, None),
    "MNIST, batch 32": (DIGITS, 32),
    "MNIST, batch 128": (DIGITS, 128),
    "MNIST, batch 1024": (DIGITS, 1024),
} | {  # two convolutions with a pool after each, and a linear layer
    f"CNN {colours}x{side}x{side}, {c}-{2 * c}, batch {batch}": (
        CNN(image=(colours, side, side), channels=(c, 2 * c), outputs=10),
        batch,
    )
    for c, colours, side, batch in (
        (2, 1, 8, 32), (4, 1, 8, 32), (8, 1, 8, 32), (4, 1, 8, 128), (4, 1, 28, 32), (8, 1, 28, 32), (8, 3, 32, 32),
    )
}  # fmt: skip


class Scaled(Dataset[tuple[Tensor, Tensor]]):
    """Pixels that are scaled one image at a time."""

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        self.pixels, self.labels = pixels, labels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return ((self.pixels[index].float() / 255 - 0.1307) / 0.3081).view(-1), self.labels[index]


def script(model: nn.Module, data: Dataset, loss: nn.Module, batch: int, seconds: float) -> tuple[int, float]:
    loader = DataLoader(data, batch_size=batch, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    samples, started = 0, time.process_time()
    while True:
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss(model(inputs), targets).backward()
            optimizer.step()
            samples += len(inputs)
            if time.process_time() - started > seconds:
                return samples, time.process_time() - started


def tensor(model: nn.Module, x: Tensor, y: Tensor, seconds: float) -> tuple[int, float]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    samples, started = 0, time.process_time()
    while time.process_time() - started < seconds:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
        samples += len(x)
    return samples, time.process_time() - started


def epochs_only(run: Callable[[Callable[[int, int], None]], object], epochs: int) -> tuple[int, float]:
    """Samples and time of the epochs alone, all but the first of each stack: no set-up, no evaluation."""
    marks: list[tuple[int, float]] = []
    run(lambda _, samples: marks.append((samples, time.process_time())))
    spans = [(a, b) for number, (a, b) in enumerate(pairwise(marks), 1) if number % epochs]
    return sum(b[0] - a[0] for a, b in spans), sum(b[1] - a[1] for a, b in spans)


@cache
def mnist() -> tuple[Tensor, Tensor, str]:
    """Pixels ``(N, 784)`` as bytes, labels, and what they are."""
    try:
        data = load(DataSpec(source="mnist"))
    except DataUnavailable:
        draw = torch.Generator().manual_seed(0)
        pixels = torch.randint(256, (60_000, 784), generator=draw, dtype=torch.uint8)
        return pixels, torch.randint(10, (60_000,), generator=draw), "random bytes in MNIST's shape"
    return torch.tensor(data.train_inputs).view(-1, 784), torch.tensor(data.train_targets), "MNIST"


def ours(side: str, architecture: Architecture, data: TrainingData, batch: int | None, seconds: float, seed: int):
    epochs = max(2, round(seconds * 400)) if batch is None else 5 if isinstance(architecture, CNN) else 2
    loss = "mse" if batch is None else "cross_entropy"
    training = Training(loss=loss, batch_size=batch, epochs=epochs, evaluate_every=epochs)
    if side == "loop":
        model = build(architecture, seed=seed)
        return epochs_only(lambda told: train(model, data, training, order_seed=seed, on_epoch=told), epochs)
    members = [Replica(seed + number, seed + number, 1e-3) for number in range(REPLICAS)]
    return epochs_only(lambda told: train_replicas(architecture, data, training, members, on_epoch=told), epochs)


def serve(side: str) -> None:
    """One side, in its own process: reads a case a line, writes samples, seconds and the data's name a line."""
    torch.set_num_threads(1)
    x = torch.linspace(-1, 1, 1000)[:, None]
    y = torch.cos(5 * x)
    fit = TrainingData(Split(x, y), Split(x[:1], y[:1]))
    for line in sys.stdin:
        case, seconds, seed = json.loads(line)
        network, batch = CASES[case]
        data, name = fit, "a cosine"
        if isinstance(network, CNN):
            images, labels, name = torch.randn(512, *network.image), torch.randint(10, (512,)), "random images"
        elif batch is not None:
            pixels, labels, name = mnist()
            images = (pixels.float() / 255 - 0.1307) / 0.3081
        if batch is not None:
            data = TrainingData(Split(images, labels), Split(images[:1], labels[:1]))
        if side in {"loop", "replicas"}:
            result = ours(side, network, data, batch, seconds, seed)
        elif batch is None:
            model = build(network, seed=seed)
            whole = (script, model, TensorDataset(x, y), nn.MSELoss(), len(x), seconds)
            result = tensor(model, x, y, seconds) if side == "tensor" else whole[0](*whole[1:])
        else:
            shown = (
                Scaled(pixels, labels) if side == "transform" else TensorDataset(data.train.inputs, data.train.targets)
            )
            result = script(build(network, seed=seed), shown, nn.CrossEntropyLoss(), batch, seconds)
        print(json.dumps([*result, name]), flush=True)


def ask(process: subprocess.Popen[str], case: str, seconds: float, seed: int) -> tuple[float, str]:
    """Samples per second of one side, and the data's name."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps([case, seconds, seed]) + "\n")
    process.stdin.flush()
    samples, spent, name = json.loads(process.stdout.readline())
    return samples / spent, name


def matrix_limit() -> float:
    """Multiplications and additions per second of one large float32 product: what no way of training can pass."""
    torch.set_num_threads(1)
    a, b, best = torch.randn(1024, 1024), torch.randn(1024, 1024), 0.0
    for _ in range(10):
        started = time.process_time()
        torch.mm(a, b)
        best = max(best, 2 * 1024**3 / (time.process_time() - started))
    return best


def compare(case: str, processes: dict[str, subprocess.Popen[str]], repeats: int, seconds: float) -> str:
    """Print one case's rows; return the name of its data."""
    network, batch = CASES[case]
    left_out = {"transform"} if batch is None else {"tensor", "transform"} if isinstance(network, CNN) else {"tensor"}
    rates: dict[str, list[float]] = {side: [] for side in processes if side not in left_out}
    for repeat in range(-1, repeats):  # the first warms up
        for side, own in rates.items():
            rate, name = ask(processes[side], case, seconds if repeat >= 0 else 0.1, 100 + repeat)
            own += [rate] if repeat >= 0 else []
    for side, own in rates.items():
        ratios = sorted(fast / slow for fast, slow in zip(rates["replicas"], own, strict=True))
        speed = f"{min(own):12,.0f}{median(own):12,.0f}{max(own):12,.0f}"
        ratio = f"{ratios[0]:12.1f}{median(ratios):12.1f}{ratios[-1]:12.1f}" if side != "replicas" else " " * 36
        target = f"{TARGETS[case]:>10}" if side == "script" and case in TARGETS else ""
        print(f"{case if side == 'script' else '':33}{side:11}{speed}{ratio}{target}", flush=True)
    return name


def main() -> None:
    repeats, seconds = (3, 0.3) if "--quick" in sys.argv else (7, 1.0)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = {
        side: subprocess.Popen(
            [sys.executable, __file__, side], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        for side in SIDES
    }
    limit = matrix_limit()
    print(
        f"PyTorch {torch.__version__} on {platform.machine()}, one thread a side, {repeats} alternating repeats; "
        f"one large matrix product: {limit / 1e9:.0f} GFLOP/s"
    )
    print(
        f"{'case':33}{'side':11}{'samples/s: min, median, max':>36}{'replicas are so much faster':>36}{'to reach':>10}"
    )
    wanted = next((word for word in sys.argv[1:] if word != "--quick"), "")
    for case, (network, batch) in CASES.items():
        if wanted not in case:
            continue
        name = compare(case, processes, repeats, seconds)
        if network is DIGITS and batch:
            # Two operations a weight forth, two for its gradient, two for its inputs' (not the pixels').
            work = 6 * DIGITS.parameters - 2 * 784 * 32
            print(f"{'':33}{'(limit)':11}{'':12}{limit / work:12,.0f}{'':12}  the matrix products alone; data: {name}")
    for process in processes.values():
        process.communicate()


if __name__ == "__main__":
    serve(sys.argv[1]) if sys.argv[1:] and sys.argv[1] in SIDES else main()
