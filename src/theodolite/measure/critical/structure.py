"""Which hidden units of a perceptron do something of their own: live, dead or tied."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from theodolite.measure.critical.mlp_hessian import Perceptron
from theodolite.measure.curvature.activations import Activation

SAME = 1e-6  # of the largest parameter: differences below are rounding


@dataclass(frozen=True, slots=True)
class Structure:
    """The hidden units of one point, a number or tuple for each hidden layer."""

    live: tuple[int, ...]  # different units that pass on something of their input: the width the network really has
    dead: tuple[int, ...]  # units that pass on nothing that depends on the input
    tied: tuple[
        tuple[int, ...], ...
    ]  # sizes of the groups of two or more units with the same input weights, up to sign

    @property
    def free(self) -> bool:
        """Whether all units are live and none is tied."""
        return not any(self.dead) and not any(self.tied)

    def __str__(self) -> str:
        words = [f"live {'-'.join(map(str, self.live))}"] if self.live else []
        words += [f"dead {'-'.join(map(str, self.dead))}"] if any(self.dead) else []
        words += [f"tied {'-'.join('+'.join(map(str, g)) or '0' for g in self.tied)}"] if any(self.tied) else []
        return ", ".join(words)


def structures(net: Perceptron, vectors: Tensor) -> list[Structure]:
    """Tell live, dead and tied units of a perceptron at each of the flat parameters ``(S, P)``.

    A unit is dead if the next layer does not read it, or if it reads nothing. Two units are tied if they compute the
    same, or for odd activations its negative; the weights that leave them may differ (Fukumizu and Amari 2000).
    """
    layers = net.layers(vectors)
    small = SAME * vectors.abs().amax(1)[:, None]
    groups: list[list[tuple[int, list[int]]]] = [[] for _ in vectors]
    for number, activation in enumerate(net.activations):
        weight, bias = layers[number]
        incoming = weight if bias is None else torch.cat([weight, bias.mT], 2)
        outgoing = layers[number + 1][0]
        idle = (outgoing.abs().amax(1) <= small) | (weight.abs().amax(2) <= small)
        same = _same(incoming, small[..., None], is_odd(activation))
        for found, dead, twins in zip(groups, idle.tolist(), same.tolist(), strict=True):
            found.append((sum(dead), _tied(dead, twins)))
    return [
        Structure(
            tuple(len(sizes) for _, sizes in found),
            tuple(dead for dead, _ in found),
            tuple(tuple(size for size in sizes if size > 1) for _, sizes in found),
        )
        for found in groups
    ]


def _tied(idle: list[bool], same: list[list[bool]]) -> list[int]:
    """Sizes of the groups of units that are not idle, each of those that are the same as its first; largest first."""
    sizes: dict[int, int] = {}
    for unit, dead in enumerate(idle):
        if not dead:
            first = next((other for other in sizes if same[unit][other]), unit)
            sizes[first] = sizes.get(first, 0) + 1
    return sorted(sizes.values(), reverse=True)


def is_odd(activation: Activation | None) -> bool:
    """Whether φ(-z) = -φ(z), so that a unit's sign is a symmetry."""
    return activation is None or isinstance(activation, (nn.Tanh, nn.Softsign, nn.Tanhshrink))


def _same(incoming: Tensor, tolerance: Tensor, odd: bool) -> Tensor:
    """Whether units ``(S, U, U)`` read the same, ``(S, U, features)``, or for odd activations its negative."""
    one, other = incoming[:, :, None], incoming[:, None]
    near = (one - other).abs().amax(3) <= tolerance
    return near | ((one + other).abs().amax(3) <= tolerance) if odd else near
