"""Epochs of an image classifier: the script a course hands out against the loop of Theodolite, one thread each.

    python benchmarks/images.py                    the script against the loop, on CIFAR-10's size
    python benchmarks/images.py --parts            what layout, precision and chunk size bring, one by one

Both sides train an epoch and then evaluate the training and the test set, on the same images and networks: the script's
as everyone writes them, activation before pool. Each side has a process of its own, ours set up as a survey's workers
are. Processor seconds are compared, and the repeats of both sides alternate, so that other work on the machine disturbs
little. The images are noise: time does not depend on what is in them.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product
from multiprocessing import get_context

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from theodolite import machine
from theodolite.models import MLP, build
from theodolite.studies.image_classification.study import MODELS
from theodolite.study import Training
from theodolite.train import Replica, Split, TrainingData, evaluation, train, train_replicas

MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
TRAIN, TEST = 50_000, 10_000  # what the table is about; a share of it is timed
AIMS, QUARTER = {"cnn": 3, "dnn": 5}, 0.25  # how many times the script, and the share of evaluation at most


class Images(Dataset):
    """Images as bytes, each turned into a normalised tensor when it is asked for.

    Step by step what torchvision's ``CIFAR10`` with ``ToTensor`` and ``Normalize`` does to a sample: a picture made and
    read again, channels first, divided, then copied and normalised by tensors made and checked anew.
    """

    def __init__(self, pixels: np.ndarray, labels: np.ndarray) -> None:
        self.pixels, self.labels = pixels, labels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = np.array(Image.fromarray(self.pixels[index]), copy=True)
        image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float().div(255).clone()
        mean, deviation = torch.as_tensor(MEAN), torch.as_tensor(DEVIATION)
        if (deviation == 0).any():
            raise ValueError("a deviation is zero")
        return image.sub_(mean.view(-1, 1, 1)).div_(deviation.view(-1, 1, 1)), int(self.labels[index])


def as_written(name: str) -> nn.Sequential:
    """The network as everyone writes it: activation, then pool."""
    model = build(MODELS[name], seed=0)
    if isinstance(MODELS[name], MLP):
        return nn.Sequential(nn.Flatten(), *model)
    layers = list(model)
    for place in [place for place, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]:
        layers[place : place + 2] = [layers[place + 1], nn.MaxPool2d(2)]
    return nn.Sequential(*layers)


def script(name: str, samples: int, batch: int) -> tuple[float, float]:
    """Seconds of an epoch of training, and of the evaluation of both sets, as a script does them."""
    model, (training, test) = as_written(name), sets(samples)
    optimizer, loss = torch.optim.Adam(model.parameters(), lr=1e-3), nn.CrossEntropyLoss()

    def epoch() -> None:
        model.train()
        for inputs, targets in DataLoader(training, batch_size=batch, shuffle=True):
            optimizer.zero_grad()
            loss(model(inputs), targets).backward()
            optimizer.step()

    def evaluation() -> None:
        model.eval()
        with torch.no_grad():
            for images in (training, test):
                total, right = 0.0, 0
                for inputs, targets in DataLoader(images, batch_size=batch):
                    outputs = model(inputs)
                    total += loss(outputs, targets).item() * len(targets)
                    right += (outputs.argmax(1) == targets).sum().item()

    epoch()
    return seconds(epoch), seconds(evaluation)


def theodolite(name: str, samples: int, batch: int) -> tuple[float, float]:
    """The same as a survey's worker does it, in the second epoch."""
    model, training = MODELS[name], settings(batch, precision(), epochs=2)
    data = TrainingData(*(split(images) for images in sets(samples)))
    alone = [Replica(weights_seed=0, order_seed=0, learning_rate=1e-3)]
    ends: list[float] = []  # of the training of each epoch, before its evaluation
    told = lambda *_: ends.append(time.process_time())  # noqa: E731
    if isinstance(model, MLP):
        train_replicas(model, data, training, alone, on_epoch=told)
    else:
        train(build(model, seed=0), data, training, order_seed=0, on_epoch=told)
    evaluation = time.process_time() - ends[1]
    return ends[1] - ends[0] - evaluation, evaluation


def precision() -> str:
    return "bfloat16" if machine.has_bfloat16() else "float32"


def products(name: str) -> tuple[int, int]:
    """Multiplications of an epoch, both passes of each layer but no gradient by the images, and of its evaluation."""
    model = MODELS[name]
    if isinstance(model, MLP):
        first = model.inputs * model.hidden[0]
    else:
        channels, height, width = model.image
        first = 9 * channels * model.channels[0] * height * width
    return TRAIN * (3 * model.multiplications - first), (TRAIN + TEST) * model.multiplications


def fastest_product() -> float:
    """Multiplications a second of one large matrix product in float32."""
    matrix = torch.randn(2048, 2048)
    return 2048**3 / min(seconds(lambda: matrix @ matrix) for _ in range(5))


def settings(batch: int, precision: str, epochs: int) -> Training:
    return Training(loss="cross_entropy", batch_size=batch, epochs=epochs, autocast=precision == "bfloat16")


def seconds(work: Callable[[], object]) -> float:
    """Of this process's processor time."""
    started = time.process_time()
    work()
    return time.process_time() - started


@cache
def sets(samples: int) -> tuple[Images, Images]:
    """Training and test set."""
    return Images(*made(samples, 0)), Images(*made(samples // 5, 1))


def made(samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, (samples, 32, 32, 3), dtype=np.uint8), draw.integers(0, 10, samples)


def split(images: Images) -> Split:
    pixels = torch.from_numpy(images.pixels).permute(0, 3, 1, 2).float().div(255)
    mean, deviation = (torch.tensor(v).view(-1, 1, 1) for v in (MEAN, DEVIATION))
    return Split((pixels - mean) / deviation, torch.from_numpy(images.labels))


def compare(names: list[str], samples: int, batch: int, repeats: int) -> None:
    """The script against the loop."""
    print(f"Processor seconds an epoch of {TRAIN:,} images and their evaluation with {TRAIN // 5:,} more.")
    print(f"Batches of {batch}, one thread, least of {repeats} repeats on {samples:,} images; ours in {precision()}.")
    rate = fastest_product()
    print("Share: of Theodolite's time that is evaluation. Products alone: what the network's own multiplications take")
    print(f"at the rate of one large float32 product ({2 * rate / 1e9:.0f} GFLOP/s), and evaluation's share of them.")
    print(f"Aims: {AIMS['cnn']} times the script for a CNN, {AIMS['dnn']} for a DNN, and a share of {QUARTER:.0%}.\n")
    print(f"{'':6}{'script':>9}{'':9}{'theodolite':>12}{'':20}{'products alone':>17}{'':9}{'aims met':>9}")
    columns = f"{'train':>9}{'evaluate':>9}" * 2 + f"{'ratio':>7}{'share':>7}{'seconds':>9}{'ratio':>7}{'share':>7}"
    print(f"{'':6}{columns}{'ratio':>8}{'share':>7}")
    with process(torch.set_num_threads, 1) as scripts, process(as_worker) as workers:
        for name in names:
            sides = ((scripts, script), (workers, theodolite))
            rows = [
                [took for pool, side in sides for took in pool.submit(side, name, samples, batch).result()]
                for _ in range(repeats)
            ]
            times = np.min(rows, axis=0) * TRAIN / samples
            script_whole, whole, counted = times[0] + times[1], times[2] + times[3], products(name)
            ratio, share, least = script_whole / whole, times[3] / whole, sum(counted) / rate
            line = "".join(f"{t:9.1f}" for t in times) + f"{ratio:7.1f}{share:7.0%}"
            line += f"{least:9.1f}{script_whole / least:7.1f}{counted[1] / sum(counted):7.0%}"
            met = ("yes" if aim else "no" for aim in (ratio >= AIMS[name[:3]], share <= QUARTER))
            print(f"{name:6}{line}{next(met):>8}{next(met):>7}", flush=True)


def process(start: Callable[..., object], *given: int) -> ProcessPoolExecutor:
    """A process of its own that begins with this."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=start, initargs=given)


def as_worker() -> None:
    """What a survey's worker does first."""
    torch.set_num_threads(1)
    machine.keep_memory()


def parts(names: list[str], samples: int, batch: int, repeats: int) -> None:
    """What each part brings to the convolutional networks: images a second."""
    machine.keep_memory()
    images = split(Images(*made(samples, 0)))
    print(f"Images a second of one thread, most of {repeats} repeats on {samples:,} images.\n")
    for name in names:
        trained: dict[str, list[float]] = {}
        evaluated: dict[str, list[float]] = {}
        for _, layout, kind in product(range(repeats), FORMATS, ("float32", "bfloat16")):
            model = build(MODELS[name], seed=0).to(memory_format=FORMATS[layout])
            inputs = images.inputs.to(memory_format=FORMATS[layout])
            trained.setdefault(f"{layout}, {kind}", []).append(
                samples / seconds(lambda m=model, x=inputs, k=kind: one_epoch(m, x, images.targets, batch, k))
            )
        inputs = images.inputs.contiguous(memory_format=torch.channels_last)
        model = build(MODELS[name], seed=0).to(memory_format=torch.channels_last)
        best = settings(batch, precision(), 1)
        for _, chunk in product(range(repeats), CHUNKS):
            evaluation.EVAL_IMAGES = chunk
            took = seconds(lambda m=model, x=inputs, k=best: evaluation.evaluate(m, Split(x, images.targets), k))
            evaluated.setdefault(f"{precision()}, {chunk} at once", []).append(samples / took)
        for work, speeds in (("trains", trained), ("evaluates", evaluated)):
            for part, found in speeds.items():
                print(f"{name} {work:10} {part:40} {max(found):8,.0f}", flush=True)


FORMATS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
CHUNKS = (32, 64, 128, 1024)


def one_epoch(model: nn.Module, inputs: Tensor, targets: Tensor, batch: int, precision: str) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    for index in torch.randperm(len(inputs)).split(batch):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            outputs = model(inputs[index])
        nn.functional.cross_entropy(outputs.float(), targets[index]).backward()
        optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help="of Table 2; all of them unless named")
    parser.add_argument("--parts", action="store_true", help="what each part brings, for the convolutional networks")
    parser.add_argument("--samples", type=int, default=2048, help="training images that are timed")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    names = given.networks or list(MODELS)
    if given.parts:
        parts([name for name in names if name.startswith("cnn")], given.samples, given.batch, given.repeats)
    else:
        compare(names, given.samples, given.batch, given.repeats)


if __name__ == "__main__":
    main()
