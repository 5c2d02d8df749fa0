"""Losses of a stack of outputs ``(R, outputs, batch)``: values a sample, and the gradient written out by hand."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from theodolite.recipes import Loss


def targets_by_feature(targets: Tensor, dtype: torch.dtype) -> Tensor:
    """Targets ``(N,)`` or ``(N, outputs)`` in the layout of the outputs: ``(1 or outputs, N)``."""
    if targets.is_floating_point():
        return targets.to(dtype).reshape(len(targets), -1).T.contiguous()
    return targets[None].contiguous()


def at_least_float32(numbers: Tensor) -> Tensor:
    """In float32 where they are narrower: losses are never rounded to bfloat16."""
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


def takes_classes(loss: str | Loss) -> bool:
    """Whether targets are classes, so that right answers can be counted."""
    return loss == "cross_entropy" if isinstance(loss, str) else loss.targets == "classes"


def values(loss: str | Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    """Loss of each sample ``(R, batch)``; ``targets`` is ``(R, 1, batch)`` classes or ``(R, outputs, batch)``."""
    if isinstance(loss, Loss):
        replicas, features, batch = outputs.shape
        rows = outputs.movedim(1, 2).reshape(-1, features)  # a sample a row, as a loss takes them
        wanted = (
            targets[:, 0].reshape(-1) if takes_classes(loss) else targets.movedim(1, 2).reshape(-1, targets.shape[1])
        )
        return loss.per_sample(rows, wanted).view(replicas, batch)
    if loss == "cross_entropy":
        return cross_entropy(outputs, targets[:, 0], reduction="none")
    return mse_loss(outputs, targets, reduction="none").mean(1)


def gradient(loss: str | Loss, outputs: Tensor, targets: Tensor, weights: Tensor, out: Tensor) -> None:
    """Write the derivative of the mean loss by the outputs, with ``weights`` of :func:`gradient_weights`.

    Cross entropy: softmax(z) minus one at the class, / n. Mean squared error: 2 (z - t) / outputs / n. Of any other
    PyTorch finds it. It is computed in the type of the weights, and rounded to that of ``out`` once.
    """
    if isinstance(loss, Loss):
        with torch.enable_grad():
            leaf = outputs.detach().to(weights.dtype).requires_grad_()
            (found,) = torch.autograd.grad((values(loss, leaf, targets) * weights).sum(), leaf)
        out.copy_(found)
        return
    exact = out if out.dtype == weights.dtype else torch.empty_like(out, dtype=weights.dtype)
    if loss == "cross_entropy":
        torch.softmax(outputs, 1, dtype=exact.dtype, out=exact)
        exact.scatter_add_(1, targets, exact.new_full((), -1.0).expand(targets.shape))
    else:
        torch.sub(outputs, targets, out=exact)
    exact.mul_(weights)
    if exact is not out:
        out.copy_(exact)


def gradient_weights(loss: str | Loss, outputs: int, samples: int, like: Tensor) -> Tensor:
    """What :func:`gradient` multiplies by, ``(batch,)``: the mean over the first ``samples``, zero for padding."""
    weights = torch.zeros_like(like)
    weights[:samples] = (2 / outputs if loss == "mse" else 1) / samples
    return weights
