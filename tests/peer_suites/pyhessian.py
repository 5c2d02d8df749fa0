"""PyHessian has no tests but an example and a tutorial: residual networks for images, with and without their parts."""

from functools import partial

import torch
from torch import nn

from peer_suites.models import classes, evaluated, resnet
from peer_suites.row import Row

row = partial(Row, "PyHessian")


def images(*sizes: int):
    return [(torch.rand(n, 3, 6, 6), classes(3, n)) for n in sizes]


def network(norm: bool = True, residual: bool = True) -> nn.Module:
    return evaluated(resnet(norm, residual), 3, 6, 6)


ROWS = [
    row("ResNet in evaluation mode", lambda: (network(), nn.CrossEntropyLoss(), images(4)[0]), "one pair"),
    row("ResNet in evaluation mode", lambda: (network(), nn.CrossEntropyLoss(), images(2, 2)), "a list of batches"),
    row(
        "ResNet in evaluation mode",
        lambda: (network(residual=False), nn.CrossEntropyLoss(), images(4)),
        "without skip connections",
    ),
    row(
        "ResNet in evaluation mode",
        lambda: (network(norm=False), nn.CrossEntropyLoss(), images(4)),
        "without batch norm",
    ),
    row(
        "ResNet in evaluation mode",
        lambda: (nn.DataParallel(network()), nn.CrossEntropyLoss(), images(4)),
        "in DataParallel",
    ),
]
