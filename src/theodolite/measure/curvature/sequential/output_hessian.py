"""The Hessian of one batch's loss by the model's outputs, as what one multiplies tangents of the outputs by."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from theodolite.measure.curvature.autograd import pull_back, varying
from theodolite.measure.curvature.losses import Curve, written
from theodolite.streams import named_seed

BLOCK_OUTPUTS = 16  # at most, for which each sample's block is kept
FEW_DIRECTIONS = 2  # for which samples side by side take less than half of what a small matrix product each does

Multiply = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class LossHessian:
    """Second derivatives of the loss of n samples by their outputs z."""

    delta: Tensor  # ∂L/∂z, in the shape of z
    samples_independent: bool  # whether each sample has a block of its own
    rows: Multiply  # tangents (n, k, ...) of z to (n, k, ...)
    column: Multiply  # one tangent of z (n, outputs), with samples side by side: (outputs, n) to (outputs, n)
    bytes: int  # kept


def loss_hessian(loss: Callable[[Any, Any], Tensor], z: Tensor, targets: Any) -> LossHessian:
    """In closed form for the two common losses; else sample by sample where these are independent, or by the graph."""
    closed_form = written(loss, z.mT.contiguous()[None], targets) if z.ndim == 2 else None
    if closed_form is not None:
        curve = closed_form.curve
        return LossHessian(
            closed_form.delta[0].mT.to(z.dtype).contiguous(), True, lambda tangent: _across(curve, tangent),
            lambda tangent: curve(tangent[None, :, None])[0, :, 0], 3 * z.nbytes,
        )  # fmt: skip
    free = z.flatten().requires_grad_()
    value = varying(loss(free.view(z.shape), targets))
    (slope,) = torch.autograd.grad(value, free, create_graph=True, materialize_grads=True)
    independent, delta = _independent(slope, free, z.shape), slope.detach().view(z.shape)
    blocks = _blocks(slope, free, z.shape) if independent and z.ndim == 2 and z.shape[1] <= BLOCK_OUTPUTS else None
    if blocks is not None:
        columns = blocks.permute(1, 2, 0).contiguous()
        return LossHessian(
            delta, independent, lambda tangent: _by_blocks(blocks, columns, tangent),
            lambda tangent: (columns * tangent[:, None]).sum(0), 4 * z.nbytes + 2 * blocks.nbytes,
        )  # fmt: skip

    def rows(tangent: Tensor) -> Tensor:
        flat = tangent.transpose(0, 1).flatten(1)
        bent = pull_back(slope, free, flat if len(flat) > 1 else flat[0])
        return bent.view(-1, *z.shape).transpose(0, 1)

    return LossHessian(delta, independent, rows, lambda tangent: rows(tangent.mT[:, None])[:, 0].mT, 4 * z.nbytes)


def score_squares(delta: Tensor, scale: float) -> LossHessian:
    """In its place the squares of the samples' own slopes, ``scale`` δ_n δ_nᵀ."""
    flat = delta.flatten(1)

    def rows(tangent: Tensor) -> Tensor:
        along = torch.einsum("nko,no->nk", tangent.flatten(2), flat)
        return (scale * along[:, :, None] * flat[:, None]).view(tangent.shape)

    def column(tangent: Tensor) -> Tensor:
        return scale * flat.mT * (flat.mT * tangent).sum(0)

    return LossHessian(delta, True, rows, column, 2 * delta.nbytes)


def _across(curve: Curve, tangent: Tensor) -> Tensor:
    return curve(tangent.permute(2, 1, 0)[None])[0].permute(2, 1, 0)


def _by_blocks(blocks: Tensor, columns: Tensor, tangent: Tensor) -> Tensor:
    """Blocks ``(n, outputs, outputs)``, and these with samples side by side, times tangents ``(n, k, outputs)``."""
    if tangent.shape[1] > FEW_DIRECTIONS:
        return tangent @ blocks
    across = tangent.permute(1, 2, 0).contiguous()[:, :, None]
    return (columns * across).sum(1).permute(2, 0, 1)


def _independent(slope: Tensor, outputs: Tensor, shape: torch.Size) -> bool:
    """Whether the Hessian leaves all samples alone but those that a tangent is of."""
    random = torch.Generator().manual_seed(named_seed(0, "independence of samples"))
    order = torch.randperm(shape[0], generator=random).to(outputs.device)
    moved = order < (shape[0] + 1) // 2  # never all: where none is left alone, nothing is tested
    tangent = torch.randn(shape, generator=random).to(outputs)
    tangent[~moved] = 0
    return not pull_back(slope, outputs, tangent.flatten()).view(shape)[~moved].any()


def _blocks(slope: Tensor, outputs: Tensor, shape: torch.Size) -> Tensor | None:
    """Column by column for all samples together: a product with them is then a small matrix product."""
    columns = torch.eye(shape[1]).to(outputs)[:, None].expand(-1, *shape).flatten(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # PyTorch warns where it has no batched form and loops, slowly
            return pull_back(slope, outputs, columns).view(-1, *shape).transpose(0, 1).contiguous()
    except (RuntimeError, UserWarning):
        return None
