"""Layers of a plain chain, each with how tangents pass through it forwards and backwards.

:mod:`~theodolite.measure.curvature.sequential.product` has the equations.
"""
# ruff: noqa: D102 - the base class says what each method does

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vjp

ByParameter = dict[str, Tensor]  # name of a parameter -> (k, ...): k directions, or k products


class LayerRule:
    """Pearlmutter's operator on one layer at one point: z = f(a; θ), with δ = ∂L/∂z.

    A tangent is the rate of change of a quantity along each of k directions, ``(n, k, ...)``; None stands for zero, as
    before the first weight that is measured.
    """

    __slots__ = ()

    def jvp(self, tangent: Tensor | None, direction: ByParameter) -> Tensor | None:
        """The tangent of z, from that of a."""
        raise NotImplementedError

    def vjp_tangent(self, tangent: Tensor, delta_tangent: Tensor, direction: ByParameter, *, exact: bool) -> Tensor:
        """The tangent of ∂L/∂a, from those of a and of δ. Not exact: without the terms in δ."""
        raise NotImplementedError

    def weight_tangent(
        self, tangent: Tensor | None, delta_tangent: Tensor, product: ByParameter, *, exact: bool
    ) -> None:
        """Write the tangents of ∂L/∂θ, which are the products, into their places; from the same, if there is a θ."""

    def keep_delta(self, delta: Tensor) -> None:
        """Keep what of δ ``(n, ...)`` the others need."""

    @property
    def is_identity(self) -> bool:
        """Whether z is a."""
        return False

    def output_directions(self) -> int:
        """How many :meth:`output_tangent` takes: 0 without weights that are measured."""
        return 0

    def output_tangent(self, signs: Tensor) -> Tensor:
        """Tangents ``(n, k, ...)`` of z for ``(n or 1, k, output_directions)``.

        With A the derivative of z by θ, sample by sample, the sum over all unit vectors of the tangents' outer
        products, and their mean over random signs, is A Aᵀ.
        """
        raise NotImplementedError

    def second_derivative(self, tangent: Tensor) -> Tensor | float:
        """What the layer's own second derivative adds to the loss's along a tangent of a, for each of k."""
        return 0.0


@dataclass(slots=True)
class Linear(LayerRule):
    """z = W a + b."""

    names: tuple[str | None, ...]  # of weight and bias, None where not measured
    weight: Tensor
    input: Tensor
    delta: Tensor = field(init=False)

    def jvp(self, tangent: Tensor | None, direction: ByParameter) -> Tensor | None:
        W, b = _chosen(self.names, direction)
        if W is not None:
            across = W.flatten(0, 1).mT  # all directions are one product, whose input has none
            total = self.input @ across if b is None else torch.addmm(b.reshape(-1), self.input, across)
            if tangent is not None:
                total.view(-1, W.shape[1]).addmm_(tangent.flatten(0, 1), self.weight.mT)
            return total.view(-1, *W.shape[:2])
        if tangent is not None:
            moved: Tensor = (tangent.flatten(0, 1) @ self.weight.mT).unflatten(0, tangent.shape[:2])
            return moved if b is None else moved.add_(b)
        return None if b is None else b.expand(len(self.input), *b.shape)

    def vjp_tangent(self, tangent: Tensor, delta_tangent: Tensor, direction: ByParameter, *, exact: bool) -> Tensor:
        below = (delta_tangent.flatten(0, 1) @ self.weight).view(tangent.shape)
        if exact and self.names[0]:
            below.flatten(1).addmm_(self.delta, direction[self.names[0]].transpose(0, 1).flatten(1, 2))
        return below

    def weight_tangent(
        self, tangent: Tensor | None, delta_tangent: Tensor, product: ByParameter, *, exact: bool
    ) -> None:
        (weight, bias), k = self.names, delta_tangent.shape[1]
        if weight:
            own = (delta_tangent.flatten(1, 2).mT @ self.input).unflatten(0, (k, -1))
            if tangent is not None and exact:
                own = own + (self.delta.mT @ tangent.flatten(1, 2)).unflatten(1, (k, -1)).transpose(0, 1)
            product[weight].copy_(own)
        if bias:
            torch.sum(delta_tangent, 0, out=product[bias])

    def keep_delta(self, delta: Tensor) -> None:
        self.delta = delta

    def output_directions(self) -> int:  # A Aᵀ is a multiple of the identity
        return len(self.weight) if any(self.names) else 0

    def output_tangent(self, signs: Tensor) -> Tensor:
        weight, bias = (name is not None for name in self.names)
        square = self.input.square().sum(1) * weight + float(bias)
        return signs * square.sqrt()[:, None, None]


@dataclass(slots=True)
class Convolution(LayerRule):
    """z = W * a + b."""

    names: tuple[str | None, ...]
    weight: Tensor
    input: Tensor
    options: tuple[Any, ...]  # stride, padding, dilation, transposed, output padding, groups
    delta: Tensor = field(init=False)

    def jvp(self, tangent: Tensor | None, direction: ByParameter) -> Tensor | None:
        W, b = _chosen(self.names, direction)
        total = None
        if W is not None:
            total = self._apply(self.input, W.flatten(0, 1)).unflatten(1, W.shape[:2])
        if tangent is not None:
            own = self._apply(tangent.flatten(0, 1), self.weight).unflatten(0, tangent.shape[:2])
            total = own if total is None else total.add_(own)
        if b is not None:
            everywhere = b.view(1, *b.shape, *[1] * (self.delta.ndim - 2))
            if total is None:
                return everywhere.expand(len(self.input), -1, *self.delta.shape[1:])
            total.add_(everywhere)
        return total

    def vjp_tangent(self, tangent: Tensor, delta_tangent: Tensor, direction: ByParameter, *, exact: bool) -> Tensor:
        below = self._back(delta_tangent.flatten(0, 1), self.weight, tangent.flatten(0, 1)).view(tangent.shape)
        if exact and self.names[0]:
            W = direction[self.names[0]].transpose(0, 1).flatten(1, 2)
            below += self._back(self.delta, W, tangent.flatten(1, 2)).view(tangent.shape)
        return below

    def weight_tangent(
        self, tangent: Tensor | None, delta_tangent: Tensor, product: ByParameter, *, exact: bool
    ) -> None:
        (weight, bias), k = self.names, delta_tangent.shape[1]
        if weight:
            own = self._outer(delta_tangent.flatten(1, 2), self.input).unflatten(0, (k, -1))
            if tangent is not None and exact:
                own = own + self._outer(self.delta, tangent.flatten(1, 2)).unflatten(1, (k, -1)).transpose(0, 1)
            product[weight].copy_(own)
        if bias:
            torch.sum(delta_tangent, (0, *range(3, delta_tangent.ndim)), out=product[bias])

    def keep_delta(self, delta: Tensor) -> None:
        self.delta = delta

    def output_directions(self) -> int:
        weight, bias = (name is not None for name in self.names)
        return self.weight.numel() * weight + len(self.weight) * bias

    def output_tangent(self, signs: Tensor) -> Tensor:
        n, k = len(self.input), signs.shape[1]
        units, places = self.delta.shape[1], self.delta.shape[2:]
        weight, bias = self.names
        total = self.delta.new_zeros(1)
        if weight:
            each = signs[..., : self.weight.numel()].expand(n, -1, -1).reshape(-1, *self.weight.shape[1:])
            alone = self.input.reshape(1, -1, *self.input.shape[2:])
            options = (*self.options[:-1], n)  # as many groups: each sample with weights of its own
            total = torch.ops.aten.convolution(alone, each, None, *options).view(n, k, units, *places)
        if bias:
            total = total + signs[..., -units:].view(-1, k, units, *[1] * len(places))
        return total.expand(n, k, units, *places)

    def _apply(self, a: Tensor, weight: Tensor) -> Tensor:
        z: Tensor = torch.ops.aten.convolution(a, weight, None, *self.options)
        return z

    def _back(self, delta: Tensor, weight: Tensor, a: Tensor) -> Tensor:
        """Wᵀ δ, of the shape of a."""
        return _convolution_backward(delta, a, weight, self.options, 0)

    def _outer(self, delta: Tensor, a: Tensor) -> Tensor:
        """Σ δ aᵀ over samples and places: what a weight ``(units of δ, features of a, ...)`` gets."""
        like = self.weight.new_empty(delta.shape[1], a.shape[1], *self.weight.shape[2:])
        return _convolution_backward(delta, a, like, self.options, 1)


def _convolution_backward(delta: Tensor, a: Tensor, weight: Tensor, options: tuple[Any, ...], which: int) -> Tensor:
    found = torch.ops.aten.convolution_backward(delta, a, weight, None, *options, [which == i for i in range(3)])
    gradient: Tensor = found[which]
    return gradient


@dataclass(slots=True)
class BatchNorm(LayerRule):
    """Batch normalisation by running statistics: z = γ â + β with â = (a - μ) r."""

    names: tuple[str | None, ...]
    gamma: Tensor  # (c, 1, ...)
    r: Tensor  # (c, 1, ...)
    scaled: Tensor  # â
    delta: Tensor = field(init=False)

    def jvp(self, tangent: Tensor | None, direction: ByParameter) -> Tensor | None:
        gamma, beta = (
            None if own is None else own.view(1, -1, *self.gamma.shape) for own in _chosen(self.names, direction)
        )
        total = None if tangent is None else tangent * (self.gamma * self.r)
        if gamma is not None:
            here = self.scaled[:, None]
            total = gamma * here if total is None else total.addcmul_(gamma, here)
        if beta is not None:
            total = beta.expand(len(self.scaled), -1, *self.scaled.shape[1:]) if total is None else total.add_(beta)
        return total

    def vjp_tangent(self, tangent: Tensor, delta_tangent: Tensor, direction: ByParameter, *, exact: bool) -> Tensor:
        below = delta_tangent * (self.gamma * self.r)
        if exact and self.names[0]:
            gamma = direction[self.names[0]].view(1, -1, *self.gamma.shape)
            below.addcmul_(gamma * self.r, self.delta[:, None])
        return below

    def weight_tangent(
        self, tangent: Tensor | None, delta_tangent: Tensor, product: ByParameter, *, exact: bool
    ) -> None:
        gamma, beta = self.names
        places = (0, *range(3, delta_tangent.ndim))
        if gamma:
            torch.sum(delta_tangent * self.scaled[:, None], places, out=product[gamma])
            if tangent is not None and exact:
                product[gamma] += (tangent * (self.r * self.delta[:, None])).sum(places)
        if beta:
            torch.sum(delta_tangent, places, out=product[beta])

    def keep_delta(self, delta: Tensor) -> None:
        self.delta = delta

    def output_directions(self) -> int:
        return len(self.gamma) * sum(name is not None for name in self.names)

    def output_tangent(self, signs: Tensor) -> Tensor:
        total = self.delta.new_zeros(1)
        shaped = [part.unflatten(2, self.gamma.shape) for part in signs.split(len(self.gamma), 2)]
        if self.names[0]:
            total = shaped[0] * self.scaled[:, None]
        if self.names[1]:
            total = total + shaped[-1]
        return total.expand(len(self.scaled), -1, *self.scaled.shape[1:])


@dataclass(slots=True)
class Pointwise(LayerRule):
    """z = φ(a)."""

    slope: Tensor  # φ'(a)
    bend: Tensor | None  # φ''(a), then φ''(a) δ; None where it is zero

    def jvp(self, tangent: Tensor | None, direction: ByParameter) -> Tensor | None:
        return None if tangent is None else tangent * self.slope[:, None]

    def vjp_tangent(self, tangent: Tensor, delta_tangent: Tensor, direction: ByParameter, *, exact: bool) -> Tensor:
        below = delta_tangent * self.slope[:, None]
        return below if self.bend is None or not exact else below.addcmul_(self.bend[:, None], tangent)

    def keep_delta(self, delta: Tensor) -> None:
        if self.bend is not None:
            self.bend = self.bend * delta

    def second_derivative(self, tangent: Tensor) -> Tensor | float:
        if self.bend is None:
            return 0.0
        return (self.bend[:, None] * tangent.square()).transpose(0, 1).flatten(1).sum(1)


@dataclass(slots=True)
class MaxPool(LayerRule):
    """Pooling by the maximum: of each window, the place where the largest is."""

    places: Tensor  # (n, c, ...) index into the places of the input, flat
    shape: torch.Size  # of the input's places

    def choose(self, values: Tensor) -> Tensor:
        """Of ``(n, ..., c, places)`` one in each window."""
        extra = values.ndim - 2 - len(self.shape)
        places = self.places.flatten(2).view(len(values), *[1] * extra, values.shape[1 + extra], -1)
        found = values.flatten(-len(self.shape)).gather(-1, places.expand(*values.shape[: 2 + extra], -1))
        chosen: Tensor = found.unflatten(-1, self.places.shape[2:])
        return chosen

    def jvp(self, tangent: Tensor | None, direction: ByParameter) -> Tensor | None:
        return None if tangent is None else self.choose(tangent)

    def vjp_tangent(self, tangent: Tensor, delta_tangent: Tensor, direction: ByParameter, *, exact: bool) -> Tensor:
        places = self.places.flatten(2)[:, None].expand(*delta_tangent.shape[:3], -1)
        below = torch.zeros_like(tangent).flatten(3)
        return below.scatter_add_(3, places, delta_tangent.flatten(3)).view(tangent.shape)


@dataclass(slots=True)
class Reshaping(LayerRule):
    """A layer that is linear in its input and has no weights."""

    module: nn.Module

    @property
    def is_identity(self) -> bool:
        return isinstance(self.module, (nn.Identity, nn.Dropout, nn.Dropout2d))

    def jvp(self, tangent: Tensor | None, direction: ByParameter) -> Tensor | None:
        return None if tangent is None else self.module(tangent.flatten(0, 1)).unflatten(0, tangent.shape[:2])

    def vjp_tangent(self, tangent: Tensor, delta_tangent: Tensor, direction: ByParameter, *, exact: bool) -> Tensor:
        if delta_tangent.numel() == tangent.numel():
            return delta_tangent.reshape(tangent.shape)
        below: Tensor = vjp(self.module, tangent.flatten(0, 1))[1](delta_tangent.flatten(0, 1))[0]
        return below.view(tangent.shape)


def _chosen(names: tuple[str | None, ...], direction: ByParameter) -> list[Tensor | None]:
    """The direction's parts for these parameters, None where it has none."""
    return [direction.get(name) if name else None for name in names]
