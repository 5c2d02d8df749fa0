r"""The matrices there are, and how the product with that of one batch is made from a graph that is kept.

All but the Hessian are :math:`J^\top B J`, with J the derivative of the outputs z by the parameters and another B, by
the outputs alone, sample by sample. With the score of sample n,
:math:`s(y) = \partial \ell(z_n, y) / \partial z_n`, it is

- ``"ggn"``: the loss's Hessian by :math:`z_n`;
- ``"fisher"``: :math:`\mathbb{E}\, s(y) s(y)^\top` over targets y as the model expects them;
- ``"empirical_fisher"``: :math:`s(y_n) s(y_n)^\top` at the sample's own target;
- ``"gradient_covariance"``: the same; the operator subtracts the square of the mean gradient over all data.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from theodolite.errors import BadData, BadLoss
from theodolite.measure.curvature.autograd import (
    Linearise,
    Linearised,
    Product,
    ggn_product,
    hessian_product,
    linear_outputs,
    varying,
)
from theodolite.measure.curvature.likelihood import fisher_of_outputs, is_natural
from theodolite.measure.problem.batches import Batch, count
from theodolite.measure.problem.microbatches import microbatches
from theodolite.measure.problem.objective import Objective
from theodolite.measure.problem.own_gradients import mixed
from theodolite.measure.problem.plain import bound_gradient

Curvature = Literal["hessian", "ggn", "fisher", "empirical_fisher", "gradient_covariance"]
Around = Callable[[Objective, Tensor, Batch, Linearise], Product]
Make = Callable[[Objective, Tensor, Batch], Product]

PER_SAMPLE: tuple[Curvature, ...] = ("empirical_fisher", "gradient_covariance")  # made of each sample's own gradient


def fisher_product(objective: Objective, point: Tensor, batch: Batch, linearise: Linearise) -> Product:
    """Of the Fisher matrix; the generalised Gauss-Newton matrix where outputs are natural parameters (Martens 2020)."""
    if is_natural(objective.loss, batch[1]):
        return ggn_product(objective, point, batch, linearise)
    linear = linearise(objective, point, batch[0])
    outputs = linear.rebuild(linear.outputs.detach())
    with linear.bound:
        return linear.around(fisher_of_outputs(objective, outputs, batch[1]))


def empirical_fisher_product(objective: Objective, point: Tensor, batch: Batch, linearise: Linearise) -> Product:
    r"""Of :math:`\frac{1}{n} \sum_n g_n g_n^\top` with g_n the gradient of sample n's own loss."""
    linear = linearise(objective, point, batch[0])
    delta, owner = scores(objective, linear, batch)
    scale, samples = per_sample_scale(objective, batch), count(batch)

    def middle(w: Tensor) -> Tensor:
        along = w.new_zeros(*w.shape[:-1], samples).index_add(-1, owner, delta * w)
        return scale * delta * along[..., owner]

    return linear.around(middle)


def scores(objective: Objective, linear: Linearised, batch: Batch) -> tuple[Tensor, Tensor]:
    """The derivative of a batch's loss by its outputs ``(m,)``, and the sample that each of these belongs to."""
    free = linear.outputs.detach().requires_grad_()
    with linear.bound, torch.enable_grad():
        loss = varying(objective.loss(linear.rebuild(free), batch[1]))
        delta, past = torch.autograd.grad(loss, (free, linear.point), materialize_grads=True)
    if bool(past.any()):
        raise BadLoss(
            "expected a loss of the outputs alone, got one that takes the parameters too, as a penalty does, which is "
            "no sample's own. Leave the penalty out: it adds the same to every sample's gradient, and nothing to their "
            "covariance."
        )
    return delta, owners(linear, count(batch))


def squares_product(objective: Objective, kind: Curvature, point: Tensor, batch: Batch) -> Product:
    """The same from each sample's own gradient, one after the other, made again for each product or block."""
    alone = microbatches(batch, 1)
    if len(alone) < count(batch):
        raise mixed()
    scale = per_sample_scale(objective, batch)

    def product(vectors: Tensor) -> Tensor:
        rows = vectors.reshape(-1, vectors.shape[-1])
        total = torch.zeros_like(rows)
        with objective.twice_differentiable():
            for sample in alone:
                gradient = bound_gradient(objective, point, sample)[1]
                total.addr_(rows @ gradient, gradient, alpha=scale * part_of(objective, sample, batch) ** 2)
        return total.view(vectors.shape)

    return product


def part_of(objective: Objective, sample: Batch, batch: Batch) -> float:
    """By what a sample's own loss is multiplied in its batch's."""
    return 1.0 if objective.reduction == "sum" else objective.weight(sample) / objective.weight(batch)


def owners(linear: Linearised, samples: int) -> Tensor:
    """The sample ``(m,)`` that each number among the outputs belongs to."""
    order = torch.arange(len(linear.outputs), dtype=torch.float64, device=linear.outputs.device)
    found = torch.empty(len(order), dtype=torch.int64, device=order.device)
    for leaf in tree_leaves(linear.rebuild(order)):
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            if not leaf.ndim or len(leaf) != samples:
                raise BadData(
                    f"expected outputs with a row for each of {samples} samples, got shape {tuple(leaf.shape)}. Give "
                    "the model's outputs the samples as their first dimension, or take operator='ggn'."
                )
            found[leaf.flatten().long()] = torch.arange(samples, device=order.device).repeat_interleave(
                leaf.numel() // max(samples, 1)
            )
    return found


def per_sample_scale(objective: Objective, batch: Batch) -> float:
    r"""By what :math:`\sum_n c_n c_n^\top` is multiplied, with c_n sample n's part of the gradient of the batch's loss.

    A sample's own gradient is N times its part of the gradient over all data, w_b / W c_n; the matrix is the mean of
    its squares, and the sum over batches multiplies by w_b / W once more. Of a sum, it is the sum of squares.
    """
    return 1.0 if objective.reduction == "sum" else objective.samples * objective.share(batch)


def _kept(make: Around) -> Make:
    return lambda objective, point, batch: make(objective, point, batch, linear_outputs)


AROUND: dict[Curvature, Around] = {  # Jᵀ B J, however J is made
    "ggn": ggn_product,
    "fisher": fisher_product,
    "empirical_fisher": empirical_fisher_product,
    "gradient_covariance": empirical_fisher_product,
}
PRODUCTS: dict[Curvature, Make] = {
    "hessian": hessian_product,
    **{kind: _kept(make) for kind, make in AROUND.items()},
}
