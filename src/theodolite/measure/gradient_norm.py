"""Norm of the gradient of the whole-data loss."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Unpack

import numpy as np
import torch
from torch import Tensor, nn

from theodolite.measure.problem.batches import Batch, Data
from theodolite.measure.problem.distributed import Shards, is_sharded
from theodolite.measure.problem.isolation import preserve_rng
from theodolite.measure.problem.join import objective
from theodolite.measure.problem.memory import room_beside
from theodolite.measure.problem.not_finite import where
from theodolite.measure.problem.objective import Loss, Objective, check_finite, check_reached
from theodolite.measure.problem.options import PartOptions, ShardOptions, select_options, with_options
from theodolite.measure.problem.validation import checked
from theodolite.measure.problem.vocabulary import LOGITS_SHARE, largest_vocabulary
from theodolite.measure.results.base import Result


@dataclass(frozen=True, slots=True)
class GradientNorm(Result, kind="gradient_norm"):
    """How steep the loss is at the model's parameters."""

    value: float  # Frobenius norm over all parameters, loss per unit of weight
    loss: float  # mean over samples
    norms: Mapping[str, float]  # of each parameter tensor's own gradient; their squares sum to value squared
    samples: int


@checked
@with_options(ShardOptions)
def gradient_norm(
    model: nn.Module,
    loss: Loss,
    data: Data,
    **options: Unpack[ShardOptions],
) -> GradientNorm:
    r"""Measure the norm of the gradient of the loss over all data, not of one mini-batch.

    .. math:: \lVert \nabla_\theta L \rVert_F = \Big( \sum_i (\partial L / \partial \theta_i)^2 \Big)^{1/2}

    A mini-batch's gradient is this one plus sampling noise, which soon is the larger part: pass a single batch as
    ``data`` to see it.

    Args:
        model: any module, measured in the mode it is in; frozen parameters are left out.
        loss: maps (outputs, targets) to a scalar mean over samples.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches; inputs a tensor, tuple or dict.

    Raises:
        MeasurementError: model, loss or data cannot be measured; see
        :func:`~theodolite.measure.problem.join.objective`.

    Example:
        >>> model = nn.Linear(2, 1, bias=False).double()
        >>> with torch.no_grad(): _ = model.weight.copy_(torch.tensor([[3.0, 4.0]]))
        >>> data = torch.eye(2).double(), torch.zeros(2, 1).double()
        >>> gradient_norm(model, nn.MSELoss(), data).value  # L = (9 + 16) / 2, whose gradient is (3, 4)
        5.0
    """
    own = select_options(options, PartOptions)
    whole = objective(model, loss, data, **own)
    if is_sharded(options.get("engine", "local")):
        value, gradient = _over_shards(whole, own, options.get("workers"), options.get("address"))
    else:
        value, gradient = loss_and_gradient(whole)
    check_finite("the loss", value, whole)
    for name, part in gradient.items():
        check_finite(f"the gradient of '{name}'", part, whole, partial(where, whole, 1))
    norms = {name: float(g.double().norm()) for name, g in gradient.items()}
    return GradientNorm(sum(n * n for n in norms.values()) ** 0.5, value, norms, whole.samples)


def loss_and_gradient(whole: Objective, at: Mapping[str, Tensor] | None = None) -> tuple[float, dict[str, Tensor]]:
    """The loss over all data, a float64 mean over samples, and its gradient by parameter name.

    ``at`` gives other values than the model's own to the parameters measured (and to buffers, if it names any).
    Gradients are summed over batches in float32 at least. Logits over a large vocabulary go through cross entropy in
    chunks where they would take more than a 64th of half of what is free.
    """
    if whole.logit_bytes is None and largest_vocabulary(whole.model):
        whole = replace(whole, logit_bytes=LOGITS_SHARE * room_beside(whole.model, None))
    own = dict(whole.model.named_parameters())
    fixed = dict(at) if at is not None else own
    point = {name: fixed[name].detach().requires_grad_() for name in whole.names}
    rest = {name: tensor for name, tensor in fixed.items() if name not in point} if at is not None else {}
    total = 0.0
    sums = {n: torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32)) for n, p in point.items()}
    with preserve_rng(), torch.enable_grad():
        for batch, share in whole.batches():
            with whole.at({**rest, **point}):
                value = whole.loss_of(batch)
                check_reached(value)
                parts = torch.autograd.grad(value, list(point.values()), allow_unused=True)
            total += share * float(value.detach().double())
            for name, part in zip(point, parts, strict=True):
                if part is not None:
                    sums[name] += share * part
    return total, {name: g.detach() for name, g in sums.items()}


def _over_shards(
    whole: Objective, options: PartOptions, workers: int | None, address: str | None
) -> tuple[float, dict[str, Tensor]]:
    shards = Shards(whole, partial(_of_shard, options), workers=workers, address=address)
    try:
        value, *parts = shards.sum(_arrays)
    finally:
        shards.close()
    return float(value), {name: torch.from_numpy(part) for name, part in zip(whole.names, parts, strict=True)}


def _of_shard(options: PartOptions, model: nn.Module, loss: Loss, batches: list[Batch], memory: int) -> Objective:
    """What a shard holds; of its memory a gradient takes no more than a training."""
    return objective(model, loss, batches, **options)


def _arrays(own: Objective) -> tuple[np.ndarray, ...]:
    """A shard's loss, then its gradient, a parameter tensor each."""
    value, gradient = loss_and_gradient(own)
    return (np.asarray(value), *(part.cpu().numpy() for part in gradient.values()))
