"""The loss of many networks by their outputs, and its first two derivatives: what every pass backwards starts from."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.functional import cross_entropy, log_softmax, mse_loss

from theodolite.measure.problem.isolation import loops_allowed

Curve = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the loss of S networks says about their K outputs on N samples."""

    loss: Tensor  # (S,)
    delta: Tensor  # (S, K, N), by the outputs
    curve: Curve  # the second derivative times directions (S, K, R, N); samples do not reach each other


def last_layer(loss: Any, z: Tensor, targets: Any) -> Outputs:
    """The loss at outputs ``(S, K, N)``: the two common ones written out, a millisecond a call faster."""
    return written(loss, z, targets) or _differentiated(loss, z, targets)


def written(loss: Any, z: Tensor, targets: Any) -> Outputs | None:
    """The same, if the loss is one of the two that are written out."""
    kind = _kind(loss) if isinstance(targets, Tensor) else None
    if kind is mse_loss and targets.shape == z.shape[:0:-1]:
        return _squared(z, targets)
    if kind is cross_entropy and targets.shape == z.shape[2:] and _classes(targets):
        return _cross_entropy(z, targets)
    return None


def _classes(targets: Tensor) -> bool:
    """Whether targets are classes, and none is left out by ``ignore_index``."""
    return targets.dtype == torch.int64 and bool((targets >= 0).all())


def _kind(loss: Any) -> Any:
    """``mse_loss`` or ``cross_entropy`` with their defaults, if the loss is one of them, as function or module."""
    if type(loss) is nn.MSELoss and loss.reduction == "mean":
        return mse_loss
    if type(loss) is nn.CrossEntropyLoss and loss.weight is None and loss.ignore_index < 0:
        return cross_entropy if loss.reduction == "mean" and loss.label_smoothing == 0 else loss
    return loss


def _squared(z: Tensor, targets: Tensor) -> Outputs:
    error = z - targets.mT
    scale = 2 / targets.numel()
    return Outputs((error * error).mean((1, 2)), scale * error, lambda J: scale * J)


def _cross_entropy(z: Tensor, targets: Tensor) -> Outputs:
    N = len(targets)
    logs = log_softmax(z, 1)
    shares = logs.exp()
    at = targets.expand(len(z), 1, -1)
    delta = shares.scatter_add(1, at, z.new_full((), -1.0).expand(at.shape)) / N

    def curve(J: Tensor) -> Tensor:
        p = shares[:, :, None]
        return (J - (p * J).sum(1, keepdim=True)).mul_(p / N)

    return Outputs(-logs.gather(1, at).mean((1, 2)), delta, curve)


def _differentiated(loss: Any, z: Tensor, targets: Any) -> Outputs:
    with loops_allowed(), torch.enable_grad():
        z = z.mT.detach().requires_grad_()
        value = vmap(lambda outputs: loss(outputs, targets))(z)
        (delta,) = torch.autograd.grad(value.sum(), z, create_graph=True)
        D = z.new_zeros(z.shape[0], z.shape[2], *z.mT.shape[1:])
        if delta.requires_grad:
            for k in range(z.shape[2]):
                (row,) = torch.autograd.grad(delta[..., k].sum(), z, retain_graph=True, materialize_grads=True)
                D[:, k] = row.mT
    return Outputs(value.detach(), delta.detach().mT, partial(_rows, D))


def _rows(D: Tensor, J: Tensor) -> Tensor:
    """Σ_c D_kcn J_crn for second derivatives ``(S, K, K, N)``."""
    total = D[:, :, 0, None] * J[:, None, 0]
    for c in range(1, D.shape[2]):
        total.addcmul_(D[:, :, c, None], J[:, None, c])
    return total
