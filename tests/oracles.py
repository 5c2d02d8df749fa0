"""Truth for curvature, written apart from the code under test: dense, row by row, in float64.

``hessian`` differentiates the gradient's kept graph once for each entry of the gradient, parameter tensor by parameter
tensor, on the model's own ``.parameters()``; ``differences`` takes central differences of gradients; ``gauss_newton``
multiplies whole Jacobians. None of them goes through ``torch.func``.
"""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import cases


def total_loss(model: nn.Module, loss, batches) -> Tensor:
    whole = sum(divisor(loss, targets) for _, targets in batches)
    with sdpa_kernel(SDPBackend.MATH):
        parts = [(divisor(loss, targets), loss(model(inputs), targets)) for inputs, targets in batches]
        return sum(size / whole * value for size, value in parts if size)


def divisor(loss, targets: Tensor) -> float:
    """What the mean over a batch divides by: samples, or in cross entropy the weights of those not ignored."""
    if not isinstance(loss, nn.CrossEntropyLoss):
        return len(targets)
    kept = [int(t) for t in targets if int(t) != loss.ignore_index]
    return float(len(kept) if loss.weight is None else sum(loss.weight[t] for t in kept))


def trainable(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def gradient(model: nn.Module, loss, batches) -> Tensor:
    parts = torch.autograd.grad(total_loss(model, loss, batches), trainable(model), allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(trainable(model), parts, strict=True)]
    )


def hessian(model: nn.Module, loss, batches) -> Tensor:
    parameters = trainable(model)
    slopes = torch.autograd.grad(
        total_loss(model, loss, batches), parameters, create_graph=True, materialize_grads=True
    )
    return torch.stack([_row(entry, parameters) for slope in slopes for entry in slope.reshape(-1)])


def _row(value: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    if not value.requires_grad:
        return torch.cat([torch.zeros_like(p).flatten() for p in parameters])
    parts = torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in parts])


def gauss_newton(model: nn.Module, loss, batches) -> Tensor:
    parameters = trainable(model)
    samples = sum(divisor(loss, targets) for _, targets in batches)
    total = 0.0
    for inputs, targets in batches:
        with sdpa_kernel(SDPBackend.MATH):
            outputs = model(inputs)
        J = torch.stack([_row(entry, parameters) for entry in outputs.reshape(-1)])
        free = outputs.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(free, targets), free, create_graph=True)
        B = torch.stack([
            torch.autograd.grad(entry, free, retain_graph=True)[0].flatten()
            if entry.requires_grad else torch.zeros(free.numel(), dtype=free.dtype)
            for entry in slope.reshape(-1)
        ])  # fmt: skip
        total = total + divisor(loss, targets) / samples * J.T @ B @ J
    return total


def own_gradients(model: nn.Module, loss, batches) -> Tensor:
    """The gradient of each sample's loss by itself, a row each ``(N, P)``."""
    alone = [(x[i : i + 1], y[i : i + 1]) for x, y in batches for i in range(len(y))]
    return torch.stack([gradient(model, loss, [one]) for one in alone])


def jacobian(model: nn.Module, batches) -> Tensor:
    """All outputs' derivatives, entry by entry ``(N C, P)``."""
    with sdpa_kernel(SDPBackend.MATH):
        outputs = [model(inputs) for inputs, _ in batches]
    return torch.stack([_row(entry, trainable(model)) for z in outputs for entry in z.reshape(-1)])


def differences(model: nn.Module, loss, batches, v: Tensor, step: float = 1e-6) -> Tensor:
    """(g(θ + h v) - g(θ - h v)) / 2h, with the model's own weights moved and put back."""
    parameters = trainable(model)
    start = [p.detach().clone() for p in parameters]
    found = []
    for sign in (1, -1):
        for p, s, part in zip(parameters, start, v.split([p.numel() for p in parameters]), strict=True):
            p.data.copy_(s + sign * step * part.view_as(s))
        found.append(gradient(model, loss, batches))
    for p, s in zip(parameters, start, strict=True):
        p.data.copy_(s)
    return (found[0] - found[1]) / (2 * step)


def rise(model: nn.Module, loss, batches, length: float) -> float:
    """How much the loss rises over a step of this length along its gradient; the weights are put back."""
    parameters = trainable(model)
    slope = gradient(model, loss, batches)
    start = [p.detach().clone() for p in parameters]
    before = float(total_loss(model, loss, batches).detach())
    step = length * slope / slope.norm()
    with torch.no_grad():
        for p, part in zip(parameters, step.split([p.numel() for p in parameters]), strict=True):
            p.add_(part.view_as(p))
        after = float(total_loss(model, loss, batches))
        for p, s in zip(parameters, start, strict=True):
            p.copy_(s)
    return after - before


@cache
def of_case(layer: str, loss: str, operator: str = "hessian") -> Tensor:
    """The dense matrix of a row of the table, once for all tests of a process."""
    case = cases.make(layer, loss)
    return (hessian if operator == "hessian" else gauss_newton)(case.model, case.loss, case.batches)
