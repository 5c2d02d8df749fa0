r"""How many copies a point of a perceptron has: by permutation of hidden units, and by their signs where φ is odd.

All copies of a point are critical points too, of the same loss and index. Where every critical point is non-degenerate
and the loss grows without end in every direction (as with weight decay), Morse theory counts them:

.. math:: \sum_{\text{critical points}} (-1)^{\text{index}} = \sum_{\text{orbits}} (-1)^{\text{index}}\,
          \frac{|G|}{|\text{stabiliser}|} = 1, \qquad |G| = \prod_l 2^{n_l}\, n_l! ,

the Euler characteristic of the space of parameters. A search that misses an orbit misses the sum, unless what it misses
cancels.

Source: Milnor 1963, "Morse Theory", §5; Chen, Lu and Hecht-Nielsen 1993, "On the geometry of feedforward neural network
error surfaces", for the group.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import factorial, prod

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from theodolite.measure.critical.mlp_hessian import Perceptron
from theodolite.measure.critical.structure import SAME, is_odd

Matrix = NDArray[np.float64]
Layers = Sequence[tuple[Matrix, Matrix]]  # weights (units, inputs) and biases (units,)


def orbit_size(net: Perceptron, vector: Tensor) -> int:
    """The number of different copies of the flat parameters ``(P,)``: the order of the group over the stabiliser's."""
    layers = [
        (weight[0].numpy(), np.zeros(len(weight[0])) if bias is None else bias[0, 0].numpy())
        for weight, bias in net.layers(vector[None])
    ]
    odd = [is_odd(activation) for activation in net.activations]
    group = prod(factorial(width) * 2 ** (width * sign) for width, sign in zip(net.widths[1:-1], odd, strict=True))
    near = SAME * float(vector.abs().max())
    return group // _onto(layers[0][0], layers, layers, odd, near) if odd else 1


def _onto(first: Matrix, layers: Layers, target: Layers, odd: Sequence[bool], near: float) -> int:
    """Ways to reorder hidden units, layer after layer, that carry a network onto ``target``.

    Args:
        first: the weights of its first layer, whose inputs the layer below has put in another order.
        layers: the network.
        target: what it is to become.
        odd: of each hidden layer, whether signs may change.
        near: differences up to here are rounding.
    """
    if not odd:
        return int(bool(np.abs(first - target[0][0]).max() <= near))
    (_, bias), (outgoing, _) = layers[:2]
    rows = np.column_stack([first, bias])
    wanted = np.column_stack(target[0])
    after = target[1][0]
    if len(odd) > 1:
        idle = (np.abs(rows).max(1) <= near) & (np.abs(outgoing).max(0) <= near)
        aim = (np.abs(wanted).max(1) <= near) & (np.abs(after).max(0) <= near)
        if idle.sum() != aim.sum():
            return 0
        free = factorial(int(idle.sum())) * 2 ** int(idle.sum() * odd[0])  # units of zeros go anywhere
        ways: int = free * sum(
            _onto(outgoing[:, ~idle][:, order] * sign, layers[1:], _without(target[1:], ~aim), odd[1:], near)
            for order, sign in _ways(rows[~idle], wanted[~aim], odd[0], near)
        )
        return ways
    return _matchings(np.column_stack([rows, outgoing.T]), np.column_stack([wanted, after.T]), odd[0], near)


def _without(layers: Layers, kept: NDArray[np.bool_]) -> Layers:
    """The layers, the first of them reading only those inputs that are kept."""
    (weight, bias), *others = layers
    return [(weight[:, kept], bias), *others]


def _ways(rows: Matrix, wanted: Matrix, odd: bool, near: float) -> Iterator[tuple[list[int], Matrix]]:
    """Orders and signs with ``sign * rows[order] = wanted``."""
    signs = (1.0, -1.0) if odd else (1.0,)

    def rest(order: list[int], chosen: list[float]) -> Iterator[tuple[list[int], Matrix]]:
        if len(order) == len(wanted):
            yield order, np.array(chosen)
            return
        for row in set(range(len(rows))) - set(order):
            for sign in signs:
                if np.abs(sign * rows[row] - wanted[len(order)]).max() <= near:
                    yield from rest([*order, row], [*chosen, sign])

    return rest([], [])


def _matchings(rows: Matrix, wanted: Matrix, odd: bool, near: float) -> int:
    """How many such orders and signs there are."""
    signs = (1.0, -1.0) if odd else (1.0,)
    fits = np.array(
        [[sum(bool(np.abs(sign * row - aim).max() <= near) for sign in signs) for row in rows] for aim in wanted]
    )
    return _permanent(tuple(map(tuple, fits.tolist())))


@lru_cache(maxsize=4096)
def _permanent(fits: tuple[tuple[int, ...], ...]) -> int:
    """Σ over orders of the product of fits: ways to give each aim a row of its own."""
    if not fits:
        return 1
    (first, *others) = fits
    return sum(
        number * _permanent(tuple(row[:at] + row[at + 1 :] for row in others))
        for at, number in enumerate(first)
        if number
    )
