r"""Products with the curvature of a plain chain of layers, by Pearlmutter's operator written out layer by layer.

Along a direction v in weight space every quantity q of a forward and backward pass has a rate
:math:`\dot q = \frac{d}{dt} q(\theta + t v)`. For layers :math:`z = f(a; \theta)` with :math:`\delta = \partial L /
\partial z`, rates run forwards and then backwards,

.. math:: \dot z = J_a \dot a + J_\theta v, \qquad
          \dot\delta_a = J_a^\top \dot\delta + \dot J_a^\top \delta, \qquad
          (Hv)_\theta = J_\theta^\top \dot\delta + \dot J_\theta^\top \delta ,

and in between :math:`\dot\delta = (\nabla_z^2 L)\, \dot z` at the outputs, from the loss's own graph. Without the terms
in :math:`\delta` the same passes give the generalised Gauss-Newton matrix. What does not depend on v (inputs, slopes,
deltas) is kept, and nothing else is: no graph. A block of k directions goes together; the
products of a layer whose input is the data are then one large matrix product.

It is taken for ``nn.Sequential`` models of the layers in :mod:`~theodolite.measure.links`, and
:mod:`~theodolite.measure.ways` compares it with the kept graph on the model's own data before it relies on it.

Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian".
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from theodolite.errors import BadData
from theodolite.measure.evaluate import chain
from theodolite.measure.graph import Kind, pull_back, varying
from theodolite.measure.links import Change, Link, known, link, pooled
from theodolite.measure.objective import Batch, Objective


@dataclass(frozen=True, slots=True)
class Chain:
    """The product with the curvature of one batch."""

    links: list[Link]
    slope: Tensor  # ∂L/∂z at the outputs z, flat, with its graph
    outputs: Tensor  # z, flat
    shape: torch.Size  # of z
    objective: Objective
    exact: bool  # the Hessian; else Gauss-Newton
    inputs: Tensor
    version: int  # of the inputs: autograd counts writes

    def __call__(self, vectors: Tensor) -> Tensor:
        """``(P,)`` to ``(P,)``, or ``(k, P)`` to ``(k, P)``."""
        block = vectors if vectors.ndim == 2 else vectors[None]
        if self.inputs._version != self.version:
            raise BadData(
                "expected inputs that stay as they were when the operator was made, but they were written to since. "
                "Pass a copy of them."
            )
        with torch.no_grad():
            sizes = [shape.numel() for shape in self.objective.shapes]
            shaped = zip(self.objective.names, block.split(sizes, 1), self.objective.shapes, strict=True)
            product = self._multiply({name: part.view(len(block), *shape) for name, part, shape in shaped})
            found = torch.cat([product[name].flatten(1) for name in self.objective.names], 1)
        return found if vectors.ndim == 2 else found[0]

    def _multiply(self, change: Change) -> Change:
        rates: list[Any] = [None]
        for each in self.links:
            rates.append(each.push(rates[-1], change))
        out = self.bend(rates.pop())[1].view(-1, *self.shape).transpose(0, 1)
        product: Change = {}
        for each, rate in zip(self.links[::-1], rates[::-1], strict=True):
            each.weigh(rate, out, product, exact=self.exact)
            if rate is None:
                break  # nothing measured comes before
            out = each.pull(rate, out, change, exact=self.exact)
        return product

    def bend(self, rate: Tensor) -> tuple[Tensor, Tensor]:
        """Rates ``(n, k, ...)`` of the outputs as rows ``(k, m)``, and the loss's Hessian by the outputs times them."""
        rows = rate.transpose(0, 1).flatten(1)
        return rows, pull_back(self.slope, self.outputs, rows if len(rows) > 1 else rows[0]).view(rows.shape)

    def treats_samples_apart(self) -> bool:
        """Whether the loss's Hessian by the outputs has a block a sample: what one half gets leaves the other alone."""
        half = torch.randn(self.shape, generator=torch.Generator().manual_seed(0)).to(self.outputs)
        half[::2] = 0
        got = self.bend(half[:, None])[1].view(self.shape)
        return bool(got[::2].abs().max() <= torch.finfo(got.dtype).eps ** 0.5 * got.abs().max())

    @property
    def bytes(self) -> int:
        """What it keeps of its samples."""
        kept = {id(t): t.nbytes for each in self.links for t in _tensors(each) if len(t) == self.shape[0]}
        return sum(kept.values()) + 4 * self.outputs.nbytes


def _tensors(each: Link) -> list[Tensor]:
    values = [getattr(each, field.name) for field in fields(each)]  # type: ignore[arg-type]
    return [value for value in values if isinstance(value, Tensor)]


def chained(objective: Objective) -> list[tuple[str, nn.Module]] | None:
    """The model's layers if it is a plain chain of those that have their passes here, or None."""
    links = chain(objective.model)
    if links is None or not all(known(module) for _, module in links):
        return None
    parameters = [id(p) for _, module in links for p in module.parameters()]
    return links if len(set(parameters)) == len(parameters) else None  # tied weights, or a layer used twice


def chain_product(
    objective: Objective, links: list[tuple[str, nn.Module]], kind: Kind, point: Tensor, batch: Batch
) -> Chain:
    """Run the chain forwards and backwards once, and keep what products need.

    Raises:
        RuntimeError: a layer gets a shape that its passes here do not know.
    """
    inputs, targets = batch
    own: dict[str, Tensor] = dict(objective.model.named_parameters()) | dict(objective.model.named_buffers())
    cast = objective.dtype or point.dtype
    own = {name: t.detach().to(cast, copy=True) if t.is_floating_point() else t for name, t in own.items()}
    own |= objective.unflatten(point)
    found: list[tuple[Link, Tensor]] = []  # and what it gets
    with torch.no_grad():
        z = inputs
        for name, module in links:
            a, (z, each) = z, link(name, module, z, own, frozenset(objective.names))
            both = pooled(found[-1][0], each) if found else None
            found[-1:] = zip(both, (a, z), strict=True) if both else [*found[-1:], (each, a)]
    free = z.flatten().requires_grad_()
    loss = varying(objective.loss(free.view(z.shape), targets))
    (slope,) = torch.autograd.grad(loss, free, create_graph=True, materialize_grads=True)
    with torch.no_grad():
        delta = slope.detach().view(z.shape)
        for each, a in found[::-1]:
            each.settle(delta)
            delta = each.pull(a[:, None], delta[:, None], {}, exact=False)[:, 0]
    return Chain(
        [each for each, _ in found], slope, free, z.shape, objective, kind == "hessian", inputs, inputs._version
    )
