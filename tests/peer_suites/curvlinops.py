"""curvlinops: losses with both reductions, shared weights, dict-like inputs, data that change, functional models."""

from collections import UserDict
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from peer_suites.models import binary, classes, numbers, perceptron, then
from peer_suites.row import Refusal, Row
from theodolite.errors import BadModel, NotDeterministic

row = partial(Row, "curvlinops")
REDUCTIONS = ("mean", "sum")
LOSSES = {"cross entropy": nn.CrossEntropyLoss, "BCE": nn.BCEWithLogitsLoss, "squared error": nn.MSELoss}
SHARED = (4, 2)  # dimensions that share weights


def batches(shape, targets, sizes=(3, 4)) -> list[tuple[Tensor, Tensor]]:
    return [(torch.rand(n, *shape), targets(n)) for n in sizes]


def targets_of(loss: str, *shape: int, count: int = 3):
    """A function of n; classes stand for a dimension of the outputs, numbers for an entry each."""
    if loss == "cross entropy":
        return lambda n: classes(count, n, *shape)
    return lambda n: (binary if loss == "BCE" else numbers)(n, *shape, count)


def each_reduction(case: str, loss: str, model, shape, targets, sizes=(3, 4)) -> list[Row]:
    return [
        row(
            case,
            lambda reduction=reduction: (model(), LOSSES[loss](reduction=reduction), batches(shape, targets, sizes)),
            f"{loss}, {reduction}",
            sums=reduction == "sum",
        )
        for reduction in REDUCTIONS
    ]


def channels_first(x: Tensor) -> Tensor:
    return x.movedim(-1, 1)


def channels_last(x: Tensor) -> Tensor:
    return x.movedim(1, -1)


def unet(last) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 2, 3, 2, 1), nn.Conv2d(2, 2, 3, padding=1), nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Conv2d(2, 3, 3, padding=1), last,
    )  # fmt: skip


def patches(last) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 2, 3, padding=2), *last)


PERCEPTRONS = [
    *each_reduction("perceptron", "cross entropy", lambda: perceptron(10, 3), (10,), targets_of("cross entropy")),
    *each_reduction("perceptron with one output", "BCE", lambda: perceptron(10, 1), (10,), targets_of("BCE", count=1)),
    *each_reduction("perceptron", "BCE", lambda: perceptron(10, 2), (10,), targets_of("BCE", count=2)),
    *each_reduction("perceptron", "squared error", lambda: perceptron(8, 3), (8,), targets_of("squared error"), (2, 6)),
]

LINEAR = [
    made
    for case, model, sizes in (
        ("one linear layer, one output", lambda: nn.Linear(6, 1), (5, 5)),
        ("one linear layer", lambda: nn.Linear(6, 3), (7, 7)),
        ("deep linear network, one output", lambda: nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 1)), (2, 5)),
        ("deep linear network", lambda: nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3)), (1, 7)),
    )
    for made in each_reduction(
        case, "squared error", model, (6,),
        targets_of("squared error", count=1 if "one output" in case else 3), sizes,
    )
] + [
    made
    for loss in ("cross entropy", "BCE")
    for made in each_reduction(
        "deep linear network, one sample", loss, lambda: nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)), (5,),
        targets_of(loss), (1,),
    )
]  # fmt: skip

SHARING = [
    *each_reduction(
        "a further dimension of inputs and outputs", "cross entropy",
        lambda: nn.Sequential(perceptron(6, 3), then(channels_first)), (5, 6), targets_of("cross entropy", 5),
    ),
    *each_reduction(
        "a further dimension of inputs and outputs", "BCE", lambda: perceptron(6, 2), (5, 6),
        targets_of("BCE", 5, count=2),
    ),
    *each_reduction(
        "a further dimension of inputs and outputs", "squared error", lambda: perceptron(6, 3), (5, 6),
        targets_of("squared error", 5), (2, 6),
    ),
    *each_reduction(
        "linear layers shared over two dimensions", "squared error",
        lambda: nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)), (*SHARED, 5), targets_of("squared error", *SHARED),
    ),
    *each_reduction(
        "linear layers shared over two dimensions, then flattened", "squared error",
        lambda: nn.Sequential(nn.Linear(5, 3), nn.Flatten()), (*SHARED, 5), targets_of("squared error", count=24),
    ),
    *each_reduction(
        "linear layers shared over two dimensions, then averaged", "squared error",
        lambda: nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3), then(lambda x: x.mean((1, 2)))), (*SHARED, 5),
        targets_of("squared error"),
    ),
    *each_reduction(
        "images with an output a pixel", "squared error", lambda: patches([then(channels_last)]), (3, 4, 4),
        targets_of("squared error", 6, 6, count=2),
    ),
    *each_reduction(
        "images averaged over pixels", "squared error", lambda: patches([nn.AdaptiveAvgPool2d(1), nn.Flatten()]),
        (3, 4, 4), targets_of("squared error", count=2),
    ),
    *(
        made for loss in LOSSES for made in each_reduction(
            "a U-net, labels a pixel", loss,
            lambda loss=loss: unet(nn.Identity() if loss == "cross entropy" else then(channels_last)), (3, 4, 4),
            targets_of(loss, 4, 4), (2, 4),
        )
    ),
    *each_reduction(
        "a U-net, pixels among the samples", "cross entropy",
        lambda: unet(then(lambda x: channels_last(x).flatten(0, 2))), (3, 4, 4), lambda n: classes(3, n * 16), (2, 4),
    ),
    *each_reduction(
        "tokens among the samples", "cross entropy",
        lambda: nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3), nn.Flatten(0, -2)), (*SHARED, 5),
        lambda n: classes(3, n * 8),
    ),
]  # fmt: skip

NETWORKS = [
    row(
        "an activation in place, one sample",
        lambda: (
            nn.Sequential(nn.Linear(6, 3), nn.ReLU(inplace=True), nn.Linear(3, 2)), nn.MSELoss(),
            batches((6,), lambda n: numbers(n, 2), (1,)),
        ),
    ),
    row(
        "convolutions, pooling and a linear layer",
        lambda: (
            nn.Sequential(
                nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 3, 2), nn.ReLU(), nn.MaxPool2d(2),
                nn.Flatten(), nn.Linear(3, 4),
            ),
            nn.CrossEntropyLoss(), batches((1, 10, 10), lambda n: classes(4, n), (5, 5)),
        ),
    ),
    row(
        "convolution with stride, then a linear layer",
        lambda: (
            nn.Sequential(
                nn.Conv2d(3, 2, 3, 1, 1), nn.ReLU(), nn.Conv2d(2, 3, 3, 2, 1), nn.ReLU(), nn.Flatten(),
                nn.Linear(12, 4),
            ),
            nn.CrossEntropyLoss(), batches((3, 4, 4), lambda n: classes(4, n), (4, 6)),
        ),
    ),
    row(
        "a layer's features less their mean over the batch",
        lambda: (
            nn.Sequential(nn.Linear(4, 3), then(lambda x: x - x.mean(0)), nn.Tanh(), nn.Linear(3, 2)),
            nn.MSELoss(), batches((4,), lambda n: numbers(n, 2)),
        ),
        note="with the batches as given",
    ),
]  # fmt: skip


class TakesMapping(nn.Module):
    """A model whose one argument is the batch's mapping."""

    def __init__(self, outputs: int, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.net = perceptron(10, outputs, activation)

    def forward(self, data: Any) -> Tensor:
        return self.net(data["x"])


def mappings(targets) -> list[tuple[Any, Tensor]]:
    return [(UserDict({"x": torch.rand(3, 10)}), targets(3)), ({"x": torch.rand(4, 10)}, targets(4))]


MAPPINGS = [
    row("a dict-like input, whole", lambda loss=loss, make=make, count=count, activation=activation: (
        TakesMapping(count, activation), make(), mappings(targets_of(loss, count=count))), variant)
    for variant, loss, make, count, activation in (
        ("cross entropy", "cross entropy", nn.CrossEntropyLoss, 2, nn.ReLU),
        ("BCE", "BCE", nn.BCEWithLogitsLoss, 1, nn.ReLU),
        ("squared error", "squared error", nn.MSELoss, 2, nn.ReLU),
        ("deep linear", "squared error", nn.MSELoss, 3, nn.Identity),
    )
]  # fmt: skip


class Own(nn.Module):
    """Parameters used by a function of the user's own."""

    def __init__(self, function, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.rand(shape)))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, **dict(self.named_parameters()))


FUNCTIONS = [
    row(
        "weights by functions",
        lambda function=function, shapes=shapes, outputs=outputs: (
            Own(function, **shapes), nn.MSELoss(), batches((3,), lambda n: numbers(n, *outputs), (2, 3)),
        ),
        variant,
    )
    for variant, function, shapes, outputs in (
        ("a matrix product", lambda x, w, b: torch.tanh(x @ w.T + b), {"w": (4, 3), "b": (4,)}, (4,)),
        ("one weight used twice", lambda x, w, b: functional.linear(functional.linear(x, w, b), w),
         {"w": (3, 3), "b": (3,)}, (3,)),
        ("a bias made of the weight", lambda x, w: functional.linear(x, w, w.sum(1)), {"w": (4, 3)}, (4,)),
        ("a bias after a change of shape", lambda x, w, b: functional.linear(x, w).reshape(-1, 2, 2) + b,
         {"w": (4, 3), "b": (2,)}, (2, 2)),
        ("no bias", lambda x, w: functional.linear(x, w), {"w": (4, 3)}, (4,)),
    )
]  # fmt: skip

PARTS = [
    row("a part of the parameters", lambda: PERCEPTRONS[0].make(), "weights alone", parameters="*.weight"),
    row("a part of the parameters", lambda: PERCEPTRONS[0].make(), "biases alone", parameters="*.bias"),
]


def loader(batch_size: int, shuffle: bool, drop_last: bool = False) -> DataLoader:
    return DataLoader(TensorDataset(torch.rand(12, 10), classes(2, 12)), batch_size, shuffle, drop_last=drop_last)


class Permuted:
    """Batches whose samples come in another order at every reading."""

    def __init__(self, given: list[tuple[Tensor, Tensor]]) -> None:
        self.given = given

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in self.given:
            order = torch.randperm(len(y))
            yield x[order], y[order]


ORDER = "each reading has the order of the first"
CHANGING = [
    row(
        "dropout in training mode",
        lambda: (
            nn.Sequential(nn.Linear(10, 5), nn.Dropout(), nn.ReLU(), nn.Linear(5, 2)), nn.CrossEntropyLoss(),
            loader(3, False),
        ),
        refused=Refusal(NotDeterministic, "one loss from two passes over the same batch, got two. Call model.eval()"),
    ),
    row(
        "batch norm in training mode, a shuffled loader",
        lambda: (
            nn.Sequential(nn.Linear(10, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)), nn.CrossEntropyLoss(),
            loader(3, True),
        ),
        note=ORDER,
    ),
    row(
        "a shuffled loader that drops the last batch",
        lambda: (perceptron(10, 2), nn.CrossEntropyLoss(), loader(5, True, True)), note=ORDER,
    ),
    row(
        "samples permuted within batches",
        lambda: (perceptron(10, 3), nn.CrossEntropyLoss(), Permuted(batches((10,), lambda n: classes(3, n)))),
        note=ORDER,
    ),
]  # fmt: skip

REFUSED = [
    row(
        "a function of parameters and inputs in place of a module",
        lambda: (lambda parameters, x: x @ parameters["w"], nn.MSELoss(), batches((2,), lambda n: numbers(n, 1))),
        refused=Refusal(BadModel, "got function. Make it the forward of an nn.Module that holds the parameters"),
    ),
    row(
        "a name in place of a module", lambda: ("not a model", nn.MSELoss(), batches((2,), lambda n: numbers(n, 1))),
        refused=Refusal(BadModel, "a torch.nn.Module, got str. Pass the network itself"),
    ),
]  # fmt: skip

ROWS = [*PERCEPTRONS, *LINEAR, *SHARING, *NETWORKS, *MAPPINGS, *FUNCTIONS, *PARTS, *CHANGING, *REFUSED]
