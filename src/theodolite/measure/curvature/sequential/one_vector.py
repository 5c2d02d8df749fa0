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

from theodolite.measure.curvature.sequential.layers import Affine, Change, Link, Pointwise


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
class Single:
    """The product of one direction with the curvature of one batch."""

    layers: list[_Layer]  # from the first that is measured on
    exact: bool  # the Hessian; else Gauss-Newton

    def __call__(self, change: Change, product: Change, bend: Callable[[Tensor], Tensor]) -> None:
        """Write a product.

        Args:
            change: the direction, by parameter, in its own shape.
            product: places for what comes out, alike.
            bend: the loss's Hessian by the outputs, of their rate ``(outputs, n)``; what it gives is written to.
        """
        rates: list[Tensor | None] = [None]  # of what each layer gets
        for each in self.layers:
            rates.append(_push(each, rates[-1], change))
        last = rates.pop()
        assert last is not None  # noqa: S101 - something is measured
        out = bend(last)
        for each, rate in zip(self.layers[::-1], rates[::-1], strict=True):
            if isinstance(each, _Linear):
                self._weigh(each, rate, out, product)
            if rate is None:
                break  # nothing measured comes before
            out = self._pull(each, rate, out, change)

    def _weigh(self, each: _Linear, rate: Tensor | None, out: Tensor, product: Change) -> None:
        weight, bias = each.names
        if weight:
            own = torch.mm(out, each.input.mT, out=product[weight])
            if self.exact and rate is not None:
                own.addmm_(each.delta, rate.mT)
        if bias:
            torch.sum(out, 1, out=product[bias])

    def _pull(self, each: _Layer, rate: Tensor, out: Tensor, change: Change) -> Tensor:
        if isinstance(each, _Slopes):
            below = out.mul_(each.slope)
            return below.addcmul_(each.bend, rate) if self.exact and each.bend is not None else below
        below = each.weight.mT @ out
        name = each.names[0]
        return below.addmm_(change[name].mT, each.delta) if self.exact and name else below

    @property
    def bytes(self) -> int:
        """What it keeps that the links do not."""
        first = self.layers[0].input if isinstance(self.layers[0], _Linear) else None
        return sum(t.nbytes for each in self.layers for t in _kept(each) if t is not first)


def _push(each: _Layer, rate: Tensor | None, change: Change) -> Tensor | None:
    if isinstance(each, _Slopes):
        if rate is None:
            return None
        return rate * each.slope if each.bend is not None else rate.mul_(each.slope)  # a bend asks for it again
    W, b = (change[name] if name else None for name in each.names)
    total = None
    if W is not None:
        total = W @ each.input if b is None else torch.addmm(b[:, None], W, each.input)
    elif b is not None:
        total = b[:, None].repeat(1, each.input.shape[1])
    if rate is None:
        return total
    return each.weight @ rate if total is None else total.addmm_(each.weight, rate)


def single(links: Sequence[Link], *, exact: bool) -> Single | None:
    """What takes one direction through the links, if all that do anything are linear or pointwise layers."""
    layers: list[_Layer] = []
    for each in dropwhile(lambda each: each.axes() == 0, links):
        if isinstance(each, Affine) and not each.options:
            features = each.input.mT.contiguous() if layers else each.input.mT  # the data are not copied
            layers.append(_Linear(each.names, each.weight, features, each.delta.mT.contiguous()))
        elif isinstance(each, Pointwise):
            bend = each.bend.mT.contiguous() if each.bend is not None else None
            layers.append(_Slopes(each.slope.mT.contiguous(), bend))
        elif not each.idle:
            return None
    return Single(layers, exact) if layers else None


def _kept(each: _Layer) -> list[Tensor]:
    if isinstance(each, _Linear):
        return [each.input, each.delta]
    return [each.slope] if each.bend is None else [each.slope, each.bend]
