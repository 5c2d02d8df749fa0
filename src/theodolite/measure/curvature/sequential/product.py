r"""Products with the curvature of a plain chain of layers, by Pearlmutter's operator written out layer by layer.

Along a direction v in weight space every quantity q of a forward and backward pass has a tangent
:math:`\dot q = \frac{d}{dt} q(\theta + t v)`. For layers :math:`z = f(a; \theta)` with :math:`\delta = \partial L /
\partial z`, tangents run forwards and then backwards,

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
from theodolite.measure.curvature.kinds import PER_SAMPLE, Curvature, per_sample_scale
from theodolite.measure.curvature.likelihood import is_natural
from theodolite.measure.curvature.sequential.layers import ByParameter, LayerRule
from theodolite.measure.curvature.sequential.one_vector import OneVectorProduct, one_vector_product
from theodolite.measure.curvature.sequential.output_hessian import LossHessian, loss_hessian, score_squares
from theodolite.measure.curvature.sequential.rules import has_rule, layer_rule, pool_first
from theodolite.measure.problem.batches import Batch
from theodolite.measure.problem.objective import Objective
from theodolite.measure.problem.sequential import chain


@dataclass(frozen=True, slots=True)
class Chain:
    """The product with the curvature of one batch."""

    layers: list[LayerRule]
    one_vector: OneVectorProduct | None  # the same for one direction, where there is a faster way
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
            if vectors.ndim == 1 and self.one_vector is not None:
                found = vectors.new_empty(vectors.shape)
                direction, product = self.objective.views(vectors), self.objective.views(found)
                self.one_vector(direction, product, self.loss.column)
                return found
            block = vectors if vectors.ndim == 2 else vectors[None]
            found = block.new_empty(block.shape)
            self._multiply(self._by_parameter(block), self._by_parameter(found))
        return found if vectors.ndim == 2 else found[0]

    def _by_parameter(self, block: Tensor) -> ByParameter:
        """Views of rows ``(k, P)`` by parameter."""
        shapes, k = self.objective.shapes, len(block)
        parts = block.split([shape.numel() for shape in shapes], 1)
        return {n: part.view(k, *s) for n, part, s in zip(self.objective.names, parts, shapes, strict=True)}

    def _multiply(self, direction: ByParameter, product: ByParameter) -> None:
        tangents: list[Any] = [None]  # of what each layer gets
        for layer in self.layers:
            tangents.append(layer.jvp(tangents[-1], direction))
        delta_tangent = self.loss.rows(tangents.pop())
        for layer, tangent in zip(self.layers[::-1], tangents[::-1], strict=True):
            layer.weight_tangent(tangent, delta_tangent, product, exact=self.exact)
            if tangent is None:
                break  # nothing measured comes before
            delta_tangent = layer.vjp_tangent(tangent, delta_tangent, direction, exact=self.exact)

    @property
    def bytes(self) -> int:
        """What it keeps of its samples."""
        n = len(self.loss.delta)
        kept = {id(t): t.nbytes for layer in self.layers for t in _tensors(layer) if len(t) == n}
        return sum(kept.values()) + self.loss.bytes + (self.one_vector.bytes if self.one_vector is not None else 0)


def _tensors(layer: LayerRule) -> list[Tensor]:
    values = [getattr(layer, field.name) for field in fields(layer)]  # type: ignore[arg-type]
    return [value for value in values if isinstance(value, Tensor)]


def chained(objective: Objective) -> list[tuple[str, nn.Module]] | None:
    """The model's layers if it is a plain chain of those that have a rule, or None."""
    modules = chain(objective.model)
    if modules is None or not all(has_rule(module) for _, module in modules):
        return None
    parameters = [id(p) for _, module in modules for p in module.parameters()]
    return modules if len(set(parameters)) == len(parameters) else None  # tied weights, or a layer used twice


def chain_product(
    objective: Objective, modules: list[tuple[str, nn.Module]], kind: Curvature, point: Tensor, batch: Batch
) -> Chain:
    """Run the chain forwards and backwards once, and keep what products need.

    Raises:
        RuntimeError: a layer gets a shape that its rule does not know.
    """
    inputs, targets = batch
    own: dict[str, Tensor] = dict(objective.model.named_parameters()) | dict(objective.model.named_buffers())
    cast = objective.dtype or point.dtype
    own = {name: t.detach().to(cast, copy=True) if t.is_floating_point() else t for name, t in own.items()}
    own |= objective.unflatten(point)
    layers, received, z = _forward(modules, inputs, own, frozenset(objective.names))
    if kind == "fisher" and not is_natural(objective.loss, targets):
        raise RuntimeError("its Fisher matrix by the outputs is not the loss's Hessian")
    loss = loss_hessian(objective.loss_alone, z, targets)
    if kind in PER_SAMPLE:
        loss = score_squares(loss.delta, per_sample_scale(objective, batch))
    _backward(layers, received, loss.delta)
    exact = kind == "hessian"
    one_vector = one_vector_product(layers, exact=exact)
    return Chain(layers, one_vector, loss, objective, exact, inputs, inputs._version)


@torch.no_grad()
def _forward(
    modules: list[tuple[str, nn.Module]], inputs: Tensor, own: dict[str, Tensor], measured: frozenset[str]
) -> tuple[list[LayerRule], list[Tensor], Tensor]:
    """The layers, what each gets, and the outputs."""
    layers: list[LayerRule] = []
    received: list[Tensor] = []
    z = inputs
    for name, module in modules:
        a = z
        z, layer = layer_rule(name, module, a, own, measured)
        swapped = pool_first(layers[-1], layer) if layers else None
        if swapped is None:
            layers.append(layer)
            received.append(a)
        else:
            layers[-1:], received[-1:] = swapped, [a, z]  # whose shapes are those that the two now get
    return layers, received, z


@torch.no_grad()
def _backward(layers: list[LayerRule], received: list[Tensor], delta: Tensor) -> None:
    """Have each layer keep δ, from that of the outputs."""
    for at in range(len(layers) - 1, -1, -1):
        layers[at].keep_delta(delta)
        if at:  # what the data get is asked for by nobody
            below = layers[at].vjp_tangent(received[at][:, None], delta[:, None], {}, exact=False)
            delta = below[:, 0]
