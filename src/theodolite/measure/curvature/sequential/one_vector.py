r"""One direction through linear and pointwise layers.

:mod:`~theodolite.measure.curvature.sequential.product` has the equations.

:mod:`~theodolite.measure.curvature.sequential.layers` has them for any layer and k directions. On small networks every
operation that gives a tensor another shape counts there. Here all is ``(features, n)``: with samples side by side the
small matrix products take two thirds of the time, and the loss's Hessian a third. Together that is a quarter of a
product of a multilayer perceptron.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import dropwhile

import torch
from torch import Tensor

from theodolite.measure.curvature.sequential.layers import ByParameter, LayerRule, Linear, Pointwise


@dataclass(frozen=True, slots=True)
class _Linear:
    names: tuple[str | None, ...]  # of weight and bias, None where not measured
    weight: Tensor  # (units, features)
    input: Tensor  # (features, n)
    delta: Tensor  # (units, n)


@dataclass(frozen=True, slots=True)
class _Slopes:
    slope: Tensor  # (units, n), φ'(z)
    bend: Tensor | None  # φ''(z) ∂L/∂a; None where it is zero


_Layer = _Linear | _Slopes


@dataclass(frozen=True, slots=True)
class OneVectorProduct:
    """The product of one direction with the curvature of one batch."""

    layers: list[_Layer]  # from the first that is measured on
    exact: bool  # the Hessian; else Gauss-Newton

    def __call__(self, direction: ByParameter, product: ByParameter, loss_hessian: Callable[[Tensor], Tensor]) -> None:
        """Write a product.

        Args:
            direction: by parameter, in its own shape.
            product: places for what comes out, alike.
            loss_hessian: by the outputs, times their tangent ``(outputs, n)``; what it gives is written to.
        """
        tangents: list[Tensor | None] = [None]  # of what each layer gets
        for each in self.layers:
            tangents.append(_jvp(each, tangents[-1], direction))
        last = tangents.pop()
        assert last is not None  # noqa: S101 - something is measured
        delta_tangent = loss_hessian(last)
        for each, tangent in zip(self.layers[::-1], tangents[::-1], strict=True):
            if isinstance(each, _Linear):
                self._weight_tangent(each, tangent, delta_tangent, product)
            if tangent is None:
                break  # nothing measured comes before
            delta_tangent = self._vjp_tangent(each, tangent, delta_tangent, direction)

    def _weight_tangent(
        self, each: _Linear, tangent: Tensor | None, delta_tangent: Tensor, product: ByParameter
    ) -> None:
        weight, bias = each.names
        if weight:
            own = torch.mm(delta_tangent, each.input.mT, out=product[weight])
            if self.exact and tangent is not None:
                own.addmm_(each.delta, tangent.mT)
        if bias:
            torch.sum(delta_tangent, 1, out=product[bias])

    def _vjp_tangent(self, each: _Layer, tangent: Tensor, delta_tangent: Tensor, direction: ByParameter) -> Tensor:
        if isinstance(each, _Slopes):
            below = delta_tangent.mul_(each.slope)
            return below.addcmul_(each.bend, tangent) if self.exact and each.bend is not None else below
        below = each.weight.mT @ delta_tangent
        name = each.names[0]
        return below.addmm_(direction[name].mT, each.delta) if self.exact and name else below

    @property
    def bytes(self) -> int:
        """What it keeps that the layers' rules do not."""
        first = self.layers[0].input if isinstance(self.layers[0], _Linear) else None
        return sum(t.nbytes for each in self.layers for t in _kept(each) if t is not first)


def _jvp(each: _Layer, tangent: Tensor | None, direction: ByParameter) -> Tensor | None:
    if isinstance(each, _Slopes):
        if tangent is None:
            return None
        return tangent * each.slope if each.bend is not None else tangent.mul_(each.slope)  # a bend asks for it again
    W, b = (direction[name] if name else None for name in each.names)
    total = None
    if W is not None:
        total = W @ each.input if b is None else torch.addmm(b[:, None], W, each.input)
    elif b is not None:
        total = b[:, None].repeat(1, each.input.shape[1])
    if tangent is None:
        return total
    return each.weight @ tangent if total is None else total.addmm_(each.weight, tangent)


def one_vector_product(rules: Sequence[LayerRule], *, exact: bool) -> OneVectorProduct | None:
    """What takes one direction through the layers, if all that do anything are linear or pointwise layers."""
    layers: list[_Layer] = []
    for each in dropwhile(lambda each: each.output_directions() == 0, rules):
        if isinstance(each, Linear):
            features = each.input.mT.contiguous() if layers else each.input.mT  # the data are not copied
            layers.append(_Linear(each.names, each.weight, features, each.delta.mT.contiguous()))
        elif isinstance(each, Pointwise):
            bend = each.bend.mT.contiguous() if each.bend is not None else None
            layers.append(_Slopes(each.slope.mT.contiguous(), bend))
        elif not each.is_identity:
            return None
    return OneVectorProduct(layers, exact) if layers else None


def _kept(each: _Layer) -> list[Tensor]:
    if isinstance(each, _Linear):
        return [each.input, each.delta]
    return [each.slope] if each.bend is None else [each.slope, each.bend]
