"""A 51 x 51 error surface: Theodolite against the plain way, which loads every point's weights and runs the model.

Prints milliseconds a point for both, measured in turns in one process with one thread, on trained-size networks and
made data (speed does not depend on what they hold), and the largest relative difference of the losses.
Run: OMP_NUM_THREADS=1 python benchmarks/surface.py
"""

import copy
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from theodolite import measure, models

ROUNDS = 3
CASES = {
    "MLP 784-32-32-10, 2,000 samples": (lambda: models.mlp(inputs=784, hidden=(32, 32), outputs=10), (2000, 784), 51),
    "MLP 784-32-32-10, 500 samples": (lambda: models.mlp(inputs=784, hidden=(32, 32), outputs=10), (500, 784), 51),
    "MLP 3072-200-100-55-10, 1,000 samples": (
        lambda: models.mlp(inputs=3072, hidden=(200, 100, 55), outputs=10),
        (1000, 3072),
        15,
    ),
    "MLP 1-15-19-16-1, 512 samples": (lambda: models.mlp(inputs=1, hidden=(15, 19, 16), outputs=1), (512, 1), 51),
    "CNN 12-64-96 | 100-84, 200 images": (
        lambda: models.cnn(image=(3, 32, 32), channels=(12, 64, 96), hidden=(100, 84), outputs=10),
        (200, 3, 32, 32),
        7,
    ),
}


def plain(model: nn.Module, loss: nn.Module, data: tuple[Tensor, Tensor], grid: int, u: Tensor, v: Tensor) -> Tensor:
    """What the scripts of papers do: set the weights, run the model on the data, next point."""
    start, probe = nn.utils.parameters_to_vector(model.parameters()).detach(), copy.deepcopy(model)
    axis = torch.linspace(-1, 1, grid).tolist()
    values = torch.zeros(grid, grid, dtype=torch.float64)
    with torch.no_grad():
        for i, y in enumerate(axis):
            for j, x in enumerate(axis):
                nn.utils.vector_to_parameters(start + x * u + y * v, probe.parameters())
                outputs = probe(data[0])
                values[i, j] = loss(outputs, data[1])
                if data[1].ndim == 1:
                    (outputs.argmax(1) == data[1]).double().mean().item()
    return values


def timed(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Seconds, and the result."""
    begin = time.perf_counter()
    values = work()
    return time.perf_counter() - begin, values


def main() -> None:
    torch.set_num_threads(1)
    table = Table(
        title=f"Error surface, one thread, torch {torch.__version__}, median of {ROUNDS}", title_justify="left"
    )
    for heading in (
        "network and data",
        "grid",
        "plain ms/point",
        "theodolite ms/point",
        "ratio",
        "whole grid s",
        "difference",
    ):
        table.add_column(heading, justify="left" if heading.startswith("network") else "right")
    for name, (make, shape, grid) in CASES.items():
        torch.manual_seed(0)
        model = make()
        outputs = model(torch.zeros(1, *shape[1:])).shape[1]
        targets = torch.randint(outputs, shape[:1]) if outputs > 1 else torch.randn(shape[0], 1)
        loss = nn.CrossEntropyLoss() if outputs > 1 else nn.MSELoss()
        data = torch.randn(shape), targets
        u, v = (nn.utils.parameters_to_vector(d.values()) for d in measure.random_plane(model).directions)
        axis = torch.linspace(-1, 1, grid)
        ways = {
            "plain": lambda: plain(model, loss, data, grid, u, v),  # noqa: B023 - used in this turn only
            "ours": lambda: measure.surface(model, loss, data, x=axis, y=axis).loss,  # noqa: B023
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        values: dict[str, Tensor] = {}
        for _ in range(ROUNDS):
            for way, work in ways.items():
                spent, values[way] = timed(work)
                seconds[way].append(spent)
        before, now = (statistics.median(seconds[way]) for way in ways)
        apart = float(((values["ours"] - values["plain"]) / values["plain"]).abs().max())
        points = grid * grid
        row = (
            f"{1e3 * before / points:.3f}",
            f"{1e3 * now / points:.3f}",
            f"{before / now:.1f}",
            f"{now:.2f}",
            f"{apart:.1e}",
        )
        table.add_row(name, f"{grid} x {grid}", *row)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
