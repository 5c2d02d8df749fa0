"""Activations with their derivatives as PyTorch's own kernels, into memory that is already there."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from theodolite.models.description import Activation

aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Kernel:
    """``forward(z, out)`` writes a = f(z); ``backward(gradient, saved, out)`` writes f'(z) * gradient."""

    forward: Callable[[Tensor, Tensor], object]
    backward: Callable[[Tensor, Tensor, Tensor], object]
    saves_output: bool  # the derivative is taken from a, not from z


def _natively(kernel: Callable[..., object], *inputs: Tensor, **out: Tensor) -> None:
    """By PyTorch's own kernel: oneDNN's, which rounds otherwise, knows a single replica's memory and not a stack's."""
    enabled = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    try:
        kernel(*inputs, **out)
    finally:
        torch.backends.mkldnn.enabled = enabled


KERNELS: dict[Activation, Kernel] = {
    "relu": Kernel(
        lambda z, out: torch.clamp_min(z, 0, out=out),
        lambda gradient, a, out: aten.threshold_backward.grad_input(gradient, a, 0, grad_input=out),
        saves_output=True,
    ),
    "tanh": Kernel(
        lambda z, out: torch.tanh(z, out=out),
        lambda gradient, a, out: aten.tanh_backward.grad_input(gradient, a, grad_input=out),
        saves_output=True,
    ),
    "sigmoid": Kernel(
        lambda z, out: torch.sigmoid(z, out=out),
        lambda gradient, a, out: aten.sigmoid_backward.grad_input(gradient, a, grad_input=out),
        saves_output=True,
    ),
    "identity": Kernel(
        lambda z, out: out.copy_(z),
        lambda gradient, a, out: out.copy_(gradient),
        saves_output=True,
    ),
    "gelu": Kernel(
        lambda z, out: _natively(aten.gelu.out, z, out=out),
        lambda gradient, z, out: _natively(aten.gelu_backward.grad_input, gradient, z, grad_input=out),
        saves_output=False,
    ),
    "silu": Kernel(
        lambda z, out: aten.silu.out(z, out=out),
        lambda gradient, z, out: aten.silu_backward.grad_input(gradient, z, grad_input=out),
        saves_output=False,
    ),
    "softplus": Kernel(
        lambda z, out: aten.softplus.out(z, 1, 20, out=out),
        lambda gradient, z, out: aten.softplus_backward.grad_input(gradient, z, 1, 20, grad_input=out),
        saves_output=False,
    ),
}
