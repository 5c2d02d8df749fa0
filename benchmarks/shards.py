"""A product of the Hessian over shards of the data, beside one process: benchmarks/shards.py [--shards 2].

    1 thread, N threads   one process
    N shards              as many actors on a cluster of this machine, a processor each

The sides take turns in one process, on the same vector; the least time of each counts. What it takes to start the
actors is the seconds of a first operator on a cluster that runs.
"""

import argparse
import time
from itertools import pairwise

import ray
import torch
from torch import nn

from theodolite.measure import HessianOperator

TURNS = 7


def networks() -> dict[str, tuple[nn.Module, int, tuple[int, ...]]]:
    """Models with how many samples of which shape a product goes over."""
    convolutions = [
        layer
        for a, b in pairwise((1, 30, 12, 15))
        for layer in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    ]
    encoder = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
    return {
        "MLP": (nn.Sequential(nn.Linear(784, 200), nn.Tanh(), nn.Linear(200, 100), nn.Tanh(), nn.Linear(100, 10)),
                20_000, (784,)),
        "CNN": (nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(135, 512), nn.ReLU(), nn.Linear(512, 10)),
                1_000, (1, 28, 28)),
        "transformer": (nn.Sequential(encoder, nn.Flatten(), nn.Linear(32 * 64, 10)), 400, (32, 64)),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=2)
    shards = parser.parse_args().shards
    ray.init(address="local", num_cpus=shards, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    names = ["1 thread", f"{shards} threads", f"{shards} shards"]
    print("| model | parameters | samples | " + " | ".join(names) + " | speed-up | difference | actors start |")
    print("| --- " + "| ---: " * 8 + "|")
    for title, (model, count, shape) in networks().items():
        torch.manual_seed(0)
        data = [(torch.randn(count // 10, *shape), torch.randint(10, (count // 10,))) for _ in range(10)]
        own = HessianOperator(model, nn.CrossEntropyLoss(), data)
        started = time.perf_counter()
        with HessianOperator(model, nn.CrossEntropyLoss(), data, engine="ray") as theirs:
            begun = time.perf_counter() - started
            v = torch.randn(own.shape[0])
            least = dict.fromkeys(names, torch.inf)
            for sides in ((0, 2), (1,)):  # a pool of threads holds the cores for a while after each product
                for _ in range(TURNS):
                    for number in sides:
                        torch.set_num_threads((1, shards, 1)[number])
                        at = time.perf_counter()
                        product = (own, own, theirs)[number] @ v
                        least[names[number]] = min(least[names[number]], time.perf_counter() - at)
            difference = float((theirs @ v - product).norm() / product.norm())
        cells = [title, f"{own.shape[0]:,}", f"{count:,}", *(f"{seconds:.2f} s" for seconds in least.values())]
        cells += [f"{least[names[0]] / least[names[2]]:.2f}", f"{difference:.0e}", f"{begun:.1f} s"]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
