r"""Subspaces of a perceptron's weights with tied or dead hidden units: what gradients never leave.

Swapping two hidden units of a layer leaves the loss as it is; so does flipping one unit's sign where
:math:`\varphi(-z) = -\varphi(z)`. At weights that such a swap leaves where they are (two units with equal weights) the
gradient is unchanged by it too, so it lies in the subspace of such weights: a critical point of the loss restricted to
the subspace is one of the full network. Units whose weights in and out are all zero stay so if :math:`\varphi(0) = 0`.

Source: Palais 1979, "The principle of symmetric criticality"; Fukumizu and Amari 2000, "Local minima and plateaus in
hierarchical structures of multilayer perceptrons".
"""

from itertools import pairwise

import torch
from torch import Tensor

from theodolite.errors import BadModel
from theodolite.measure.critical.mlp_hessian import Perceptron
from theodolite.measure.curvature.activations import Activation

DEAD = -1  # in place of a group


def symmetric_subspaces(net: Perceptron | None, number: int, generator: torch.Generator) -> Tensor:
    """Orthogonal projections ``(number, P, P)`` onto subspaces with tied or dead units, drawn at random.

    Each hidden layer is split into groups of tied units, one of them possibly dead, uniformly over the number of
    groups; at least one layer has fewer live groups than units.

    Raises:
        BadModel: the model is no chain of linear layers with pointwise activations, or none has two hidden units.
    """
    if net is None or not any(_patterns(units, a) for units, a in zip(net.widths[1:-1], net.activations, strict=True)):
        raise BadModel(
            "expected linear layers with smooth pointwise activations between them and a hidden layer that can be "
            "narrowed, to tie its units; this model has none. Leave symmetric=0."
        )
    return torch.stack([_projection(net, _draw(net, generator)) for _ in range(number)])


def _patterns(units: int, activation: Activation | None) -> int:
    return units - 1 + _zero_at_zero(activation)


def _draw(net: Perceptron, generator: torch.Generator) -> list[Tensor]:
    """A group for each unit of each hidden layer."""
    while True:
        groups, whole = [], True
        for units, activation in zip(net.widths[1:-1], net.activations, strict=True):
            may_die = _zero_at_zero(activation)
            live = int(torch.randint(1 - may_die, units + 1, (), generator=generator))
            dead = int(torch.randint(units - live + 1, (), generator=generator)) if may_die else 0
            dead = units if live == 0 else dead
            extra = torch.randint(max(live, 1), (units - live - dead,), generator=generator)
            groups.append(torch.cat([torch.arange(live), extra, torch.full((dead,), DEAD)]))
            whole &= live == units
        if not whole:
            return groups


def _projection(net: Perceptron, hidden: list[Tensor]) -> Tensor:
    """Onto the weights that are equal within groups and zero at dead units."""
    groups = [torch.arange(net.widths[0]), *hidden, torch.arange(net.widths[-1])]
    labels, base = [], 0
    for below, above in pairwise(groups):
        size = max(int(below.max()), 0) + 1, max(int(above.max()), 0) + 1
        own = above[:, None] * size[0] + below
        parts = [torch.where((above[:, None] == DEAD) | (below == DEAD), DEAD, own + base).flatten()]
        base += size[0] * size[1]
        if net.bias:
            parts.append(torch.where(above == DEAD, DEAD, above + base))
            base += size[1]
        labels += parts
    label = torch.cat(labels)
    same = ((label[:, None] == label) & (label != DEAD)).double()
    return same / same.sum(1, keepdim=True).clamp_min(1)


def _zero_at_zero(activation: Activation | None) -> bool:
    return activation is None or float(activation(torch.zeros(1, dtype=torch.float64))) == 0
