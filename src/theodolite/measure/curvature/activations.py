"""Pointwise activations, and their first two derivatives."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

POINTWISE: tuple[type[nn.Module], ...] = (
    *(nn.Tanh, nn.Sigmoid, nn.Softplus, nn.GELU, nn.SiLU, nn.Mish, nn.LogSigmoid, nn.Tanhshrink, nn.Softsign),
    *(nn.ReLU, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU),
)

Activation = Callable[[Tensor], Tensor]


def value_and_derivatives(activation: Activation | None, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """φ(z), φ'(z), φ''(z)."""
    if activation is None:
        return z, torch.ones_like(z), torch.zeros_like(z)
    if type(activation) is nn.Tanh:
        a = z.tanh()
        slope = 1 - a * a
        return a, slope, -2 * a * slope
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        a = activation(z.clone())  # which may write in place
        (slope,) = torch.autograd.grad(a.sum(), z, create_graph=True)
        bend = torch.zeros_like(z)
        if slope.requires_grad:
            (bend,) = torch.autograd.grad(slope.sum(), z, materialize_grads=True)
    return a.detach(), slope.detach(), bend
