"""BackPACK: every layer it has rules for, in one to three dimensions; recurrent layers, branches, what it converts."""

from functools import partial

import torch
from torch import Tensor, nn

from peer_suites.models import binary, classes, classifier, evaluated, numbers, parallel, perceptron, resnet, then
from peer_suites.row import Refusal, Row
from theodolite.errors import BadLoss

row = partial(Row, "BackPACK")
CONVOLUTIONS = {
    "plain": {},
    "stride 2, padding 1, dilation 2": {"stride": 2, "padding": 1, "dilation": 2},
    "stride 2, padding 1": {"stride": 2, "padding": 1},
    "stride 4, padding 2, dilation 3": {"stride": 4, "padding": 2, "dilation": 3},
    "stride 4, padding 2, no bias": {"stride": 4, "padding": 2, "bias": False},
    "two groups": {"groups": 2},
}
LAYERS = {  # and the inputs' size: transposed convolutions widen
    nn.Conv1d: (2, 7), nn.ConvTranspose1d: (2, 5), nn.Conv2d: (2, 4, 4), nn.ConvTranspose2d: (2, 3, 3),
    nn.Conv3d: (2, 3, 3, 3), nn.ConvTranspose3d: (2, 2, 2, 2),
}  # fmt: skip


def one_batch(model, loss, inputs: Tensor, targets: Tensor):
    return model, loss, [(inputs, targets)]


def convolved(layer: type[nn.Module], options: dict[str, int]):
    size = LAYERS[layer]
    model = classifier(layer(2, 2, 2, **options), nn.Sigmoid(), size=size, outputs=2)
    return one_batch(model, nn.CrossEntropyLoss(reduction="sum"), torch.rand(3, *size), classes(2, 3))


def pooled(layer: nn.Module, dimensions: int):
    size = {1: (2, 9), 2: (2, 6, 6), 3: (2, 4, 4, 4)}[dimensions]
    convolution = [nn.Conv1d, nn.Conv2d, nn.Conv3d][dimensions - 1](2, 2, 2)
    model = classifier(convolution, nn.ReLU(), layer, size=size, outputs=2)
    return one_batch(model, nn.CrossEntropyLoss(reduction="sum"), torch.rand(3, *size), classes(2, 3))


CONVOLVED = [
    row(layer.__name__, lambda layer=layer, options=options: convolved(layer, options), variant, sums=True)
    for layer in LAYERS
    for variant, options in CONVOLUTIONS.items()
]

POOLED = [
    row(case, lambda make=make, d=d: pooled(make(), d), variant, sums=True)
    for case, variant, d, make in (
        ("MaxPool1d", "", 1, lambda: nn.MaxPool1d(2)),
        ("MaxPool2d", "padded", 2, lambda: nn.MaxPool2d(2, 2, 1)),
        ("MaxPool2d", "rounded up", 2, lambda: nn.MaxPool2d(2, ceil_mode=True)),
        ("MaxPool2d", "two strides, dilation 2", 2, lambda: nn.MaxPool2d(2, (2, 1), dilation=2)),
        ("MaxPool3d", "", 3, lambda: nn.MaxPool3d(2)),
        ("AvgPool1d", "", 1, lambda: nn.AvgPool1d(3, 2, 1)),
        ("AvgPool2d", "", 2, lambda: nn.AvgPool2d(3, (2, 1), 1)),
        ("AvgPool3d", "", 3, lambda: nn.AvgPool3d(3, (2, 1, 1), 1)),
        ("AdaptiveAvgPool", "1d", 1, lambda: nn.AdaptiveAvgPool1d(4)),
        ("AdaptiveAvgPool", "2d", 2, lambda: nn.AdaptiveAvgPool2d((3, 2))),
        ("AdaptiveAvgPool", "3d", 3, lambda: nn.AdaptiveAvgPool3d((3, 1, 2))),
        ("ZeroPad2d", "", 2, lambda: nn.ZeroPad2d(1)),
    )
]

ACTIVATIONS = [
    row(
        "an activation between a convolution and a linear layer",
        lambda make=make: one_batch(
            classifier(nn.Conv2d(2, 2, 2), make(), size=(2, 4, 4)), nn.CrossEntropyLoss(), torch.rand(3, 2, 4, 4),
            classes(3, 3),
        ),
        variant,
    )
    for variant, make in (
        ("ReLU", nn.ReLU), ("in-place ReLU", lambda: nn.ReLU(inplace=True)), ("Sigmoid", nn.Sigmoid), ("Tanh", nn.Tanh),
        ("LeakyReLU", lambda: nn.LeakyReLU(0.1)), ("LogSigmoid", nn.LogSigmoid), ("ELU", lambda: nn.ELU(0.3)),
        ("SELU", nn.SELU),
    )
]  # fmt: skip

LINEAR = [
    row(case, lambda make=make: one_batch(*make()), variant, sums=sums)
    for case, variant, sums, make in (
        ("one linear layer", "cross entropy, sum", True, lambda: (
            nn.Linear(10, 5), nn.CrossEntropyLoss(reduction="sum"), torch.rand(3, 10), classes(5, 3))),
        ("two linear layers", "cross entropy", False, lambda: (
            nn.Sequential(nn.Linear(10, 4), nn.Linear(4, 5)), nn.CrossEntropyLoss(), torch.rand(3, 10), classes(5, 3))),
        ("perceptron", "ReLU, cross entropy, sum", True, lambda: (
            perceptron(10, 5), nn.CrossEntropyLoss(reduction="sum"), torch.rand(3, 10), classes(5, 3))),
        ("perceptron", "Sigmoid, squared error", False, lambda: (
            perceptron(10, 5, nn.Sigmoid), nn.MSELoss(), torch.rand(3, 10), numbers(3, 5))),
        ("perceptron", "BCE", False, lambda: (
            perceptron(10, 5), nn.BCEWithLogitsLoss(), torch.rand(3, 10), binary(3, 5))),
        ("perceptron", "BCE, sum", True, lambda: (
            perceptron(10, 5), nn.BCEWithLogitsLoss(reduction="sum"), torch.rand(3, 10), binary(3, 5))),
        ("further dimensions", "one, squared error", False, lambda: (
            perceptron(5, 2, nn.Identity, 3), nn.MSELoss(), torch.rand(3, 4, 5), numbers(3, 4, 2))),
        ("further dimensions", "two, squared error", False, lambda: (
            perceptron(5, 2, nn.Sigmoid, 3), nn.MSELoss(), torch.rand(3, 4, 2, 5), numbers(3, 4, 2, 2))),
        ("further dimensions", "three, squared error, sum", True, lambda: (
            perceptron(5, 2, nn.Identity, 3), nn.MSELoss(reduction="sum"), torch.rand(3, 4, 2, 3, 5),
            numbers(3, 4, 2, 3, 2))),
        ("further dimensions, flattened", "one", False, lambda: (
            nn.Sequential(perceptron(5, 2, nn.Identity, 3), nn.Flatten()), nn.CrossEntropyLoss(), torch.rand(3, 4, 5),
            classes(8, 3))),
        ("further dimensions, flattened", "two", False, lambda: (
            nn.Sequential(perceptron(5, 2, nn.Sigmoid, 3), nn.Flatten()), nn.CrossEntropyLoss(),
            torch.rand(3, 4, 2, 5), classes(16, 3))),
        ("further dimensions, flattened", "three, sum", True, lambda: (
            nn.Sequential(perceptron(5, 2, nn.ReLU, 3), nn.Flatten()), nn.CrossEntropyLoss(reduction="sum"),
            torch.rand(3, 4, 2, 3, 5), classes(48, 3))),
        ("classes a place", "one dimension", False, lambda: (
            nn.Conv1d(2, 4, 1), nn.CrossEntropyLoss(), torch.rand(2, 2, 3), classes(4, 2, 3))),
        ("classes a place", "two dimensions", False, lambda: (
            nn.Conv2d(2, 4, 1), nn.CrossEntropyLoss(), torch.rand(3, 2, 3, 2), classes(4, 3, 3, 2))),
    )
]  # fmt: skip

NORMS = [
    row(
        "batch norm in evaluation mode",
        lambda make=make, size=size, places=places: one_batch(
            evaluated(make(), *size), nn.CrossEntropyLoss(), torch.rand(3, *size), classes(size[0], 3, *places)
        ),
        variant,
    )
    for variant, make, size, places in (
        ("alone, 1d", lambda: nn.BatchNorm1d(3), (3, 4), (4,)),
        ("alone, 2d", lambda: nn.BatchNorm2d(2), (2, 4, 3), (4, 3)),
        ("alone, 3d", lambda: nn.BatchNorm3d(3), (3, 4, 1, 2), (4, 1, 2)),
        ("several with a linear layer", lambda: nn.Sequential(
            nn.BatchNorm3d(3), nn.Linear(2, 3), nn.BatchNorm3d(3), nn.ReLU(), nn.BatchNorm3d(3)), (3, 4, 1, 2),
         (4, 1, 3)),
    )
] + [
    row(
        "batch norm in training mode, one batch",
        lambda: one_batch(
            nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 2)), nn.MSELoss(),
            torch.rand(6, 4), numbers(6, 2),
        ),
    ),
]  # fmt: skip


def swapped(x: Tensor) -> Tensor:
    return x.transpose(1, 2)


def first(outputs: tuple[Tensor, ...]) -> Tensor:
    return outputs[0]


RECURRENT = [
    row(case, lambda make=make: one_batch(*make()))
    for case, make in (
        ("RNN, steps first, squared error", lambda: (
            nn.Sequential(then(lambda x: x.permute(1, 0, 2)), nn.RNN(6, 3), then(first),
                          then(lambda x: x.permute(1, 2, 0)), nn.Flatten()),
            nn.MSELoss(), torch.rand(8, 5, 6), numbers(8, 15))),
        ("RNN, a class a step", lambda: (
            nn.Sequential(nn.RNN(6, 3, batch_first=True), then(first), nn.Linear(3, 3), then(swapped)),
            nn.CrossEntropyLoss(), torch.rand(8, 5, 6), classes(3, 8, 5))),
        ("LSTM, cross entropy", lambda: (
            nn.Sequential(nn.LSTM(5, 3, batch_first=True), then(first), nn.Flatten()), nn.CrossEntropyLoss(),
            torch.rand(4, 3, 5), classes(9, 4))),
        ("embedding and a linear layer", lambda: (
            nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 4)), nn.CrossEntropyLoss(), torch.randint(0, 5, (6,)),
            classes(4, 6))),
        ("embedding of three indices a sample", lambda: (
            nn.Sequential(nn.Embedding(3, 2), nn.Flatten()), nn.CrossEntropyLoss(), torch.randint(0, 3, (3, 2, 2)),
            classes(8, 3))),
    )
]  # fmt: skip


def convolutions(outer: int, inner: int, *more: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(outer, inner, 3, 1, 1), nn.Sigmoid(), nn.Conv2d(inner, outer, 3, 1, 1), *more)


BRANCHES = [
    row(case, lambda make=make: one_batch(*make()))
    for case, make in (
        ("a skip connection past a linear layer", lambda: (
            nn.Sequential(nn.Linear(10, 5), nn.ReLU(), parallel(nn.Identity(), nn.Linear(5, 5)), nn.Sigmoid(),
                          nn.Linear(5, 4)),
            nn.CrossEntropyLoss(), torch.rand(3, 10), classes(4, 3))),
        ("a skip connection past convolutions", lambda: (
            classifier(nn.Conv2d(2, 2, 3, 1, 1), nn.ReLU(), parallel(nn.Identity(), convolutions(2, 2)),
                       nn.MaxPool2d(3, 2), size=(2, 6, 6)),
            nn.CrossEntropyLoss(), torch.rand(4, 2, 6, 6), classes(3, 4))),
        ("a skip connection within another", lambda: (
            classifier(nn.Conv2d(2, 1, 3, 1, 1), nn.ReLU(), parallel(nn.Identity(), convolutions(
                1, 2, parallel(nn.Identity(), convolutions(1, 2)))), nn.MaxPool2d(3, 2), size=(2, 6, 6)),
            nn.CrossEntropyLoss(), torch.rand(4, 2, 6, 6), classes(3, 4))),
        ("one Euler step", lambda: (
            then(lambda x, net: x + 0.1 * net(x), net=perceptron(2, 2, nn.Tanh)), nn.MSELoss(),
            torch.tensor([[1.0, 2.0]]), torch.ones(1, 2))),
        ("a small ResNet in evaluation mode", lambda: (
            evaluated(resnet(), 3, 6, 6), nn.MSELoss(), torch.rand(2, 3, 6, 6), numbers(2, 3))),
    )
]  # fmt: skip


class Characters(nn.Module):
    """Two recurrent layers over characters, with dropout, and frozen biases in the LSTM."""

    def __init__(self, layer: type[nn.RNNBase]) -> None:
        super().__init__()
        self.embedding, self.dropout, self.dense = nn.Embedding(5, 3), nn.Dropout(0.2), nn.Linear(3, 5)
        self.layers = layer(3, 3, 2, dropout=0.36, batch_first=True)
        for name in ("bias_ih_l0", "bias_ih_l1"):
            getattr(self.layers, name).data.zero_()
            getattr(self.layers, name).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.dropout(self.layers(self.dropout(self.embedding(x)))[0])).transpose(1, 2)


def written(x: Tensor, function, **shapes: tuple[int, int]):
    layers = {name: nn.Linear(*shape) for name, shape in shapes.items()}
    model = then(function, **layers)
    return model, nn.MSELoss(), x, torch.rand_like(model(x).detach())


CONVERTED = [
    row("written with functions and methods", lambda make=make: one_batch(*make()), variant)
    for variant, make in (
        ("one activation in several places", lambda: written(
            torch.rand(3, 3), lambda x, a, b: b(a(x.relu()).relu()).relu(), a=(3, 2), b=(2, 2))),
        ("flatten", lambda: written(
            torch.rand(3, 2, 2, 4), lambda x, a, b: b(torch.flatten(a(x), 2)).flatten(1), a=(4, 3), b=(6, 3))),
        ("multiply", lambda: written(torch.rand(2, 4), lambda x, a: (0.5 * a(x * 2.5)).multiply(3.1415), a=(4, 3))),
        ("add", lambda: written(
            torch.rand(3, 3), lambda x, a, b, c: (b(a(x)) + c(a(x))).relu().add(c(a(x))), a=(3, 3), b=(3, 2),
            c=(3, 2))),
        ("permute", lambda: written(
            torch.rand(3, 5, 3), lambda x, a, b: torch.permute(b(a(x).permute(0, 2, 1)), (0, 2, 1)), a=(3, 2),
            b=(5, 2))),
        ("slices", lambda: written(torch.rand(3, 6), lambda x, a, b: b(a(x)[:, 1:4]).tanh(), a=(6, 5), b=(3, 2))),
    )
] + [
    row(f"characters through two layers of {layer.__name__}, frozen biases", lambda layer=layer: one_batch(
        Characters(layer).eval(), nn.CrossEntropyLoss(), torch.randint(0, 5, (4, 5)), classes(5, 4, 5)))
    for layer in (nn.LSTM, nn.RNN)
]  # fmt: skip

LOSSES = [
    row(
        "a linear loss over a strided convolution that leaves a column out",
        lambda: one_batch(nn.Conv2d(2, 2, 3, 3, 2), lambda outputs, _: outputs.mean(), torch.rand(4, 2, 6, 6),
                          torch.zeros(4)),
        note="its curvature is zero",
    ),
    row("a loss without a reduction, one number", lambda: one_batch(
        nn.Linear(3, 1), nn.MSELoss(reduction="none"), torch.rand(1, 3), numbers(1, 1))),
    *(row(
        "a loss without a reduction, several numbers",
        lambda loss=loss, targets=targets: one_batch(
            nn.Linear(3, 2), loss(reduction="none"), torch.rand(5, 3), targets()),
        variant, refused=Refusal(BadLoss, "Use reduction='mean', or the sum over samples"),
    ) for variant, loss, targets in (
        ("cross entropy", nn.CrossEntropyLoss, lambda: classes(2, 5)), ("squared error", nn.MSELoss,
                                                                        lambda: numbers(5, 2)))),
]  # fmt: skip

ROWS = [
    *LINEAR, *CONVOLVED, *POOLED, *ACTIVATIONS, *NORMS, *RECURRENT, *BRANCHES, *CONVERTED, *LOSSES,
]  # fmt: skip
