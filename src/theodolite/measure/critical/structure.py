"""Which hidden units of a perceptron do something of their own: live, dead or tied."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from theodolite.measure.perceptron import Activation, Perceptron

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


def structure(net: Perceptron, vector: Tensor) -> Structure:
    """Tell live, dead and tied units of a perceptron with the flat parameters ``(P,)``.

    A unit is dead if the next layer does not read it, or if it reads nothing. Two units are tied if they compute the
    same, or for odd activations its negative; the weights that leave them may differ (Fukumizu and Amari 2000).
    """
    layers = net.layers(vector[None])
    small = SAME * float(vector.abs().max())
    live, dead, tied = [], [], []
    for number, activation in enumerate(net.activations):
        weight, bias = layers[number]
        incoming = weight[0] if bias is None else torch.cat([weight[0], bias[0].mT], 1)
        outgoing = layers[number + 1][0][0]
        idle = (outgoing.abs().amax(0) <= small) | (weight[0].abs().amax(1) <= small)
        groups: list[list[Tensor]] = []
        for unit in incoming[~idle]:
            twin = next((g for g in groups if _same(unit, g[0], small, is_odd(activation))), None)
            if twin is None:
                groups.append([unit])
            else:
                twin.append(unit)
        live.append(len(groups))
        dead.append(int(idle.sum()))
        tied.append(tuple(sorted((len(g) for g in groups if len(g) > 1), reverse=True)))
    return Structure(tuple(live), tuple(dead), tuple(tied))


def is_odd(activation: Activation | None) -> bool:
    """Whether φ(-z) = -φ(z), so that a unit's sign is a symmetry."""
    return activation is None or isinstance(activation, (nn.Tanh, nn.Softsign, nn.Tanhshrink))


def _same(a: Tensor, b: Tensor, tolerance: float, odd: bool) -> bool:
    near = float((a - b).abs().max()) <= tolerance
    return near or (odd and float((a + b).abs().max()) <= tolerance)
