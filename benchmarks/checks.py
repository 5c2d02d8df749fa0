"""What a measurement's checks of itself cost, in gradients: `python benchmarks/checks.py`.

The model called plainly beside its bound tensors, on some samples, is what every instrument pays. An operator pays
finite differences of such gradients besides, and one product over all data, against which later ones are held, and
which an eigensolver uses again. Each is timed where an operator is made; a gradient is that of a script, over all data.
Processor time, the least of several calls, in turns.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from theodolite import measure
from theodolite.measure.curvature import operator
from theodolite.measure.problem import join

REPEATS = 5


class Transformer(nn.Module):
    """Two layers of an encoder over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(64, 48)
        self.blocks = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(48, 4, 192, 0.0, batch_first=True), 2, enable_nested_tensor=False
        )
        self.out = nn.Linear(48, 64)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of each position."""
        return self.out(self.blocks(self.embed(tokens))).mT


def problems() -> dict[str, tuple[nn.Module, tuple[Tensor, Tensor]]]:
    def classes(*shape: int) -> Tensor:
        return torch.randint(0, 10, shape)

    mlp = nn.Sequential(nn.Linear(784, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10))
    layers = nn.Conv2d(1, 16, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.Tanh()
    cnn = nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 49, 10))
    tokens, transformer = torch.randint(0, 64, (512, 64)), Transformer().eval()
    return {
        "small MLP, 43 parameters, 40 samples": (
            nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)),
            (torch.randn(40, 4), torch.randint(0, 3, (40,))),
        ),
        "MLP, 26,506 parameters, 1,000 samples": (mlp, (torch.randn(1000, 784), classes(1000))),
        "the same MLP, 10,000 samples": (mlp, (torch.randn(10_000, 784), classes(10_000))),
        "CNN, 20,490 parameters, 200 images": (cnn, (torch.randn(200, 1, 28, 28), classes(200))),
        "transformer, 62,464 parameters, 64 x 64 tokens": (transformer, (tokens[:64], tokens[:64].roll(-1, 1))),
        "the same transformer, 512 x 64 tokens": (transformer, (tokens, tokens.roll(-1, 1))),
    }


@contextmanager
def timed(room: Any, name: str, spent: list[float]) -> Iterator[None]:
    """Inside, the time of each call of a function that a room has imported is added up."""
    function: Callable[..., Any] = getattr(room, name)

    def stopped(*args: Any, **options: Any) -> Any:
        start = time.process_time()
        try:
            return function(*args, **options)
        finally:
            spent[-1] += time.process_time() - start

    setattr(room, name, stopped)
    try:
        yield
    finally:
        setattr(room, name, function)


def gradient(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    start = time.process_time()
    torch.autograd.grad(cross_entropy(model(data[0]), data[1]), list(model.parameters()))
    return time.process_time() - start


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print(f"PyTorch {torch.__version__}, one thread of {os.cpu_count()}, least of {REPEATS}\n")
    print("| model and data | a gradient | called plainly | finite differences | product | all, in gradients |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, (model, data) in problems().items():
        gradients, plain, verified, products = [], [], [], []
        for _ in range(REPEATS):
            gradients.append(gradient(model, data))
            for spent in (plain, verified, products):
                spent.append(0.0)
            with (
                timed(join, "inspected", plain),
                timed(operator, "verify", verified),
                timed(measure.HessianOperator, "rows", products),
            ):
                measure.HessianOperator(model, nn.CrossEntropyLoss(), data)
        one, first, product = min(gradients), min(plain), min(products)
        second = min(whole - part for whole, part in zip(verified, products, strict=True))
        print(
            f"| {name} | {1e3 * one:.2f} ms | {1e3 * first:.2f} ms | {1e3 * second:.2f} ms | "
            f"{1e3 * product:.2f} ms | {(first + second + product) / one:.1f} |"
        )


if __name__ == "__main__":
    main()
