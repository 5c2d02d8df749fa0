r"""How far rounding moves a gradient and a Hessian, measured: the same once more, with every product rounded otherwise.

A bound from the sum alone, :math:`\epsilon \lambda_{\max}`, is too small where what was summed is far larger than the
sum: entries of 1e6 that cancel leave an error of 1e-10 in an eigenvalue of 1e-9, and may turn its sign. The loss times
c, and the derivatives over c, are the same in exact arithmetic for any c; in floating point all that a backward pass
multiplies and adds is rounded anew, whatever model and loss are. Moving the parameters by less than their last digit
does the same to what the forward pass computes.

Source: Vignes 1993, "A stochastic arithmetic for reliable scientific computation" (there the last bit of every
operation is drawn, here operations are scaled and so rounded otherwise).
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from theodolite.measure.critical.landscape import Landscape
from theodolite.streams import named_seed

AGAIN = 8  # evaluations: errors of one unit in the last place, or none, are all alike by chance in 1 of 10,000
SAFETY = 10.0  # times the largest difference seen


class _Times(nn.Module):
    """A loss times a constant; a module, since a loss may be one with parameters."""

    def __init__(self, loss: Any, factor: float) -> None:
        super().__init__()
        self.loss, self.factor = loss, factor

    def forward(self, outputs: Any, targets: Any) -> Tensor:
        value: Tensor = self.factor * self.loss(outputs, targets)
        return value


def rounding(landscape: Landscape, vectors: Tensor, g: Tensor, H: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
    """Errors of gradients ``(S, P)`` and Hessians ``(S, P, P)`` at vectors ``(S, P)``, as norms ``(S,)`` each."""
    chance = torch.Generator().manual_seed(named_seed(seed, "rounding"))
    of_gradient, of_hessian = torch.zeros_like(g[:, 0]), torch.zeros_like(g[:, 0])
    for _ in range(AGAIN):
        factor = 1 + float(torch.rand((), generator=chance, dtype=torch.float64))
        ulp = torch.finfo(vectors.dtype).eps * (torch.rand(vectors.shape, generator=chance, dtype=vectors.dtype) - 0.5)
        _, again, curvature = _scaled(landscape, factor)(vectors * (1 + ulp.to(vectors.device)))
        of_gradient = torch.maximum(of_gradient, (again / factor - g).norm(dim=1))
        of_hessian = torch.maximum(of_hessian, torch.linalg.matrix_norm(curvature / factor - H))
    return SAFETY * of_gradient, SAFETY * of_hessian


def _scaled(landscape: Landscape, factor: float) -> Landscape:
    net = landscape.net
    return replace(
        landscape,
        objective=replace(landscape.objective, loss=_Times(landscape.objective.loss, factor)),
        weight_decay=landscape.weight_decay * factor,
        net=None if net is None else replace(net, loss=_Times(net.loss, factor)),
    )
