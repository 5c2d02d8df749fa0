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

It is taken for ``nn.Sequential`` models of the layers in :mod:`~theodolite.measure.curvature.sequential.layers`, and
:mod:`~theodolite.measure.curvature.backend` compares it with the kept graph on the model's own data before it relies on
it.

Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian".
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from theodolite.errors import BadData
from theodolite.measure.curvature.autograd import Curvature
from theodolite.measure.curvature.sequential.layers import Change, Link, known, link, pooled
from theodolite.measure.curvature.sequential.one_vector import Single, single
from theodolite.measure.curvature.sequential.output_hessian import LossHessian, loss_hessian
from theodolite.measure.problem.batches import Batch
from theodolite.measure.problem.objective import Objective
from theodolite.measure.problem.sequential import chain


@dataclass(frozen=True, slots=True)
class Chain:
    """The product with the curvature of one batch."""

    links: list[Link]
    single: Single | None  # the same for one direction, where there is a faster way
    loss: LossHessian  # by the outputs
    objective: Objective
    exact: bool  # the Hessian; else Gauss-Newton
    inputs: Tensor
    version: int  # of the inputs: autograd counts writes

    def __call__(self, vectors: Tensor) -> Tensor:
        """``(P,)`` to ``(P,)``, or ``(k, P)`` to ``(k, P)``."""
        if self.inputs._version != self.version:
            raise BadData(
                "expected inputs that stay as they were when the operator was made, but they were written to since. "
                "Pass a copy of them."
            )
        with torch.no_grad():
            if vectors.ndim == 1 and self.single is not None:
                found = vectors.new_empty(vectors.shape)
                change, product = self.objective.unflatten(vectors), self.objective.unflatten(found)
                self.single(change, product, self.loss.column)
                return found
            block = vectors if vectors.ndim == 2 else vectors[None]
            found = block.new_empty(block.shape)
            self._multiply(self._shaped(block), self._shaped(found))
        return found if vectors.ndim == 2 else found[0]

    def _shaped(self, block: Tensor) -> Change:
        """Views of rows ``(k, P)`` by parameter."""
        shapes, k = self.objective.shapes, len(block)
        parts = block.split([shape.numel() for shape in shapes], 1)
        return {n: part.view(k, *s) for n, part, s in zip(self.objective.names, parts, shapes, strict=True)}

    def _multiply(self, change: Change, product: Change) -> None:
        rates: list[Any] = [None]
        for each in self.links:
            rates.append(each.push(rates[-1], change))
        out = self.loss.rows(rates.pop())
        for each, rate in zip(self.links[::-1], rates[::-1], strict=True):
            each.weigh(rate, out, product, exact=self.exact)
            if rate is None:
                break  # nothing measured comes before
            out = each.pull(rate, out, change, exact=self.exact)

    @property
    def bytes(self) -> int:
        """What it keeps of its samples."""
        n = len(self.loss.delta)
        kept = {id(t): t.nbytes for each in self.links for t in _tensors(each) if len(t) == n}
        return sum(kept.values()) + self.loss.bytes + (self.single.bytes if self.single is not None else 0)


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
    objective: Objective, links: list[tuple[str, nn.Module]], kind: Curvature, point: Tensor, batch: Batch
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
    ends = loss_hessian(objective.loss, z, targets)
    delta = ends.delta
    with torch.no_grad():
        for at in range(len(found) - 1, -1, -1):
            each, a = found[at]
            each.settle(delta)
            if at:  # what the data get is asked for by nobody
                delta = each.pull(a[:, None], delta[:, None], {}, exact=False)[:, 0]
    alone = [each for each, _ in found]
    exact = kind == "hessian"
    return Chain(alone, single(alone, exact=exact), ends, objective, exact, inputs, inputs._version)
