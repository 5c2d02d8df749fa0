"""Layers of a plain chain, each with how rates of change pass through it forwards and backwards.

:mod:`~theodolite.measure.curvature.sequential.product` has the equations.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vjp
from torch.nn import functional

from theodolite.measure.curvature.activations import POINTWISE, value_and_derivatives

CONVOLUTIONS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
POOLS: dict[type[nn.Module], tuple[Callable[..., tuple[Tensor, Tensor]], int]] = {
    nn.MaxPool1d: (functional.max_pool1d_with_indices, 1),
    nn.MaxPool2d: (functional.max_pool2d_with_indices, 2),
}
RESHAPING: tuple[type[nn.Module], ...] = (  # linear, without weights
    *(nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout2d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
)
MODULES = (nn.Linear, *CONVOLUTIONS, *NORMS, *POINTWISE, *POOLS, *RESHAPING)

Change = dict[str, Tensor]  # name of a parameter -> (k, ...): k directions, or k products


class Link:
    """One layer at one point. Rates are ``(n, k, ...)``; None stands for zero, as before the first weight."""

    __slots__ = ()

    def push(self, rate: Tensor | None, change: Change) -> Tensor | None:
        """The rate of the output, from the input's."""
        raise NotImplementedError

    def pull(self, rate: Tensor, out: Tensor, change: Change, *, exact: bool) -> Tensor:
        """The rate of ∂L/∂a, from a's and from that of ∂L/∂z. Not exact: without the terms in δ."""
        raise NotImplementedError

    def weigh(self, rate: Tensor | None, out: Tensor, product: Change, *, exact: bool) -> None:
        """Write the products of the layer's own weights into their places, if it has any."""

    @property
    def idle(self) -> bool:
        """Whether what comes out is what comes in."""
        return False

    def settle(self, delta: Tensor) -> None:
        """Keep what of δ = ∂L/∂z the others need."""

    def axes(self) -> int:
        """How many directions :meth:`spread` takes: 0 without weights that are measured."""
        return 0

    def spread(self, signs: Tensor) -> Tensor:
        """Rates ``(n, k, ...)`` of the output for ``(n or 1, k, axes)``.

        With A the output's derivative by the layer's weights, sample by sample, the sum over all axes of the rates'
        outer products, and their mean over random signs, is A Aᵀ.
        """
        raise NotImplementedError

    def curved(self, rate: Tensor) -> Tensor | float:
        """What the layer's own second derivative adds to the loss's along a rate of its input, for each of k."""
        return 0.0


@dataclass(slots=True)
class _Affine(Link):
    """A linear layer or a convolution, z = W a + b."""

    names: tuple[str | None, ...]  # of weight and bias, None where not measured
    weight: Tensor
    input: Tensor
    options: tuple[Any, ...]  # of a convolution; empty for a linear layer
    delta: Tensor = field(init=False)

    def push(self, rate: Tensor | None, change: Change) -> Tensor | None:
        W, b = (change.get(name) if name else None for name in self.names)
        total = None
        if W is not None and b is not None and not self.options:
            total = torch.addmm(b.reshape(-1), self.input, W.flatten(0, 1).mT).view(-1, *W.shape[:2])
        elif W is not None:
            total = self._apply(self.input, W.flatten(0, 1)).unflatten(1, W.shape[:2])
        if rate is not None:
            if total is not None and not self.options:
                total.view(-1, total.shape[2]).addmm_(rate.flatten(0, 1), self.weight.mT)
            else:
                own = self._apply(rate.flatten(0, 1), self.weight).unflatten(0, rate.shape[:2])
                total = own if total is None else total.add_(own)
        if b is not None and (self.options or W is None):
            spread = b.view(1, *b.shape, *[1] * (self.delta.ndim - 2))
            total = spread.expand(len(self.input), -1, *self.delta.shape[1:]) if total is None else total.add_(spread)
        return total

    def pull(self, rate: Tensor, out: Tensor, change: Change, *, exact: bool) -> Tensor:
        below = self._back(out.flatten(0, 1), self.weight, rate.flatten(0, 1)).view(rate.shape)
        if exact and change and self.names[0]:
            W = change[self.names[0]].transpose(0, 1).flatten(1, 2)
            if not self.options:
                below.flatten(1).addmm_(self.delta, W)
            else:
                below += self._back(self.delta, W, rate.flatten(1, 2)).view(rate.shape)
        return below

    def weigh(self, rate: Tensor | None, out: Tensor, product: Change, *, exact: bool) -> None:
        weight, bias = self.names
        k = out.shape[1]
        if weight:
            own = self._outer(out.flatten(1, 2), self.input).unflatten(0, (k, -1))
            if rate is not None and exact:
                own = own + self._outer(self.delta, rate.flatten(1, 2)).unflatten(1, (k, -1)).transpose(0, 1)
            product[weight].copy_(own)
        if bias:
            torch.sum(out, (0, *range(3, out.ndim)), out=product[bias])

    def settle(self, delta: Tensor) -> None:
        self.delta = delta

    def axes(self) -> int:
        weight, bias = (name is not None for name in self.names)
        if not self.options:  # A Aᵀ is a multiple of the identity
            return len(self.weight) * (weight or bias)
        return self.weight.numel() * weight + len(self.weight) * bias

    def spread(self, signs: Tensor) -> Tensor:
        weight, bias = (name is not None for name in self.names)
        n, k = len(self.input), signs.shape[1]
        if not self.options:
            square = self.input.square().sum(1) * weight + float(bias)
            return signs * square.sqrt()[:, None, None]
        units, places = self.delta.shape[1], self.delta.shape[2:]
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
        if not self.options:
            return a @ weight.mT
        z: Tensor = torch.ops.aten.convolution(a, weight, None, *self.options)
        return z

    def _back(self, out: Tensor, weight: Tensor, a: Tensor) -> Tensor:
        """Wᵀ out, of the shape of a."""
        return out @ weight if not self.options else _convolution_backward(out, a, weight, self.options, 0)

    def _outer(self, out: Tensor, a: Tensor) -> Tensor:
        """Σ out aᵀ over samples and places: what a weight ``(units of out, features of a, ...)`` gets."""
        if not self.options:
            return out.mT @ a
        like = self.weight.new_empty(out.shape[1], a.shape[1], *self.weight.shape[2:])
        return _convolution_backward(out, a, like, self.options, 1)


def _convolution_backward(out: Tensor, a: Tensor, weight: Tensor, options: tuple[Any, ...], which: int) -> Tensor:
    found = torch.ops.aten.convolution_backward(out, a, weight, None, *options, [which == i for i in range(3)])
    gradient: Tensor = found[which]
    return gradient


@dataclass(slots=True)
class _Norm(Link):
    """Batch normalisation by running statistics: z = γ â + β with â = (a - μ) r."""

    names: tuple[str | None, ...]
    gamma: Tensor  # (c, 1, ...)
    r: Tensor  # (c, 1, ...)
    scaled: Tensor  # â
    delta: Tensor = field(init=False)

    def push(self, rate: Tensor | None, change: Change) -> Tensor | None:
        gamma, beta = (change[n].view(1, -1, *self.gamma.shape) if n in change else None for n in self.names)
        total = None if rate is None else rate * (self.gamma * self.r)
        if gamma is not None:
            here = self.scaled[:, None]
            total = gamma * here if total is None else total.addcmul_(gamma, here)
        if beta is not None:
            total = beta.expand(len(self.scaled), -1, *self.scaled.shape[1:]) if total is None else total.add_(beta)
        return total

    def pull(self, rate: Tensor, out: Tensor, change: Change, *, exact: bool) -> Tensor:
        below = out * (self.gamma * self.r)
        if exact and self.names[0]:
            gamma = change[self.names[0]].view(1, -1, *self.gamma.shape)
            below.addcmul_(gamma * self.r, self.delta[:, None])
        return below

    def weigh(self, rate: Tensor | None, out: Tensor, product: Change, *, exact: bool) -> None:
        places = (0, *range(3, out.ndim))
        if self.names[0]:
            torch.sum(out * self.scaled[:, None], places, out=product[self.names[0]])
            if rate is not None and exact:
                product[self.names[0]] += (rate * (self.r * self.delta[:, None])).sum(places)
        if self.names[1]:
            torch.sum(out, places, out=product[self.names[1]])

    def settle(self, delta: Tensor) -> None:
        self.delta = delta

    def axes(self) -> int:
        return len(self.gamma) * sum(name is not None for name in self.names)

    def spread(self, signs: Tensor) -> Tensor:
        total = self.delta.new_zeros(1)
        shaped = [part.unflatten(2, self.gamma.shape) for part in signs.split(len(self.gamma), 2)]
        if self.names[0]:
            total = shaped[0] * self.scaled[:, None]
        if self.names[1]:
            total = total + shaped[-1]
        return total.expand(len(self.scaled), -1, *self.scaled.shape[1:])


@dataclass(slots=True)
class _Pointwise(Link):
    """a = φ(z)."""

    slope: Tensor  # φ'(z)
    bend: Tensor | None  # φ''(z), then φ''(z) ∂L/∂a; None where it is zero

    def push(self, rate: Tensor | None, change: Change) -> Tensor | None:
        return None if rate is None else rate * self.slope[:, None]

    def pull(self, rate: Tensor, out: Tensor, change: Change, *, exact: bool) -> Tensor:
        below = out * self.slope[:, None]
        return below if self.bend is None or not exact else below.addcmul_(self.bend[:, None], rate)

    def settle(self, delta: Tensor) -> None:
        if self.bend is not None:
            self.bend = self.bend * delta

    def curved(self, rate: Tensor) -> Tensor | float:
        return 0.0 if self.bend is None else (self.bend[:, None] * rate.square()).transpose(0, 1).flatten(1).sum(1)


@dataclass(slots=True)
class _Choice(Link):
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

    def push(self, rate: Tensor | None, change: Change) -> Tensor | None:
        return None if rate is None else self.choose(rate)

    def pull(self, rate: Tensor, out: Tensor, change: Change, *, exact: bool) -> Tensor:
        places = self.places.flatten(2)[:, None].expand(*out.shape[:3], -1)
        spread = torch.zeros_like(rate).flatten(3)
        return spread.scatter_add_(3, places, out.flatten(3)).view(rate.shape)


@dataclass(slots=True)
class _Reshaping(Link):
    """A layer that is linear in its input and has no weights."""

    module: nn.Module

    @property
    def idle(self) -> bool:
        return isinstance(self.module, (nn.Identity, nn.Dropout, nn.Dropout2d))

    def push(self, rate: Tensor | None, change: Change) -> Tensor | None:
        return None if rate is None else self.module(rate.flatten(0, 1)).unflatten(0, rate.shape[:2])

    def pull(self, rate: Tensor, out: Tensor, change: Change, *, exact: bool) -> Tensor:
        if out.numel() == rate.numel():
            return out.reshape(rate.shape)
        below: Tensor = vjp(self.module, rate.flatten(0, 1))[1](out.flatten(0, 1))[0]
        return below.view(rate.shape)


Affine, Pointwise = (
    _Affine,
    _Pointwise,
)  # what :mod:`~theodolite.measure.curvature.sequential.one_vector` has a way of its own for


def known(module: Any) -> bool:
    """Whether a layer has its passes here."""
    if type(module) in NORMS:
        return not (module.training or module.running_mean is None)
    if type(module) in CONVOLUTIONS:
        return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    if type(module) in (nn.Dropout, nn.Dropout2d):
        return not module.training
    if type(module) in POOLS:
        return not module.return_indices
    return type(module) in MODULES and not any(hasattr(p, "parametrizations") for p in module.modules())


def link(name: str, module: Any, a: Tensor, own: Mapping[str, Any], measured: frozenset[str]) -> tuple[Tensor, Link]:
    """A layer's output and the layer as a link.

    Args:
        name: of the layer in the model.
        module: the layer.
        a: its input.
        own: parameters and buffers of the model by name.
        measured: names of those whose curvature is asked for.

    Raises:
        RuntimeError: it gets an input of a shape that is not known here.
    """
    title = f"{name}." if name else ""
    names = tuple(each if each in measured else None for each in (f"{title}weight", f"{title}bias"))
    weight: Any = own.get(f"{title}weight")
    bias: Any = own.get(f"{title}bias")
    if type(module) is nn.Linear and a.ndim == 2:
        return functional.linear(a, weight, bias), _Affine(names, weight, a, ())
    if type(module) in CONVOLUTIONS and a.ndim == 2 + len(module.kernel_size):
        options = (module.stride, module.padding, module.dilation, False, [0] * len(module.stride), 1)
        return torch.ops.aten.convolution(a, weight, bias, *options), _Affine(names, weight, a, options)
    if type(module) in NORMS:
        shape = (-1, *[1] * (a.ndim - 2))
        r = torch.rsqrt(own[f"{title}running_var"] + module.eps).view(shape)
        scaled = (a - own[f"{title}running_mean"].view(shape)) * r
        gamma, beta = (t.view(shape) if t is not None else None for t in (weight, bias))
        gamma = torch.ones_like(r) if gamma is None else gamma
        z = scaled * gamma
        return z if beta is None else z + beta, _Norm(names, gamma, r, scaled)
    if type(module) in POOLS and a.ndim == 2 + POOLS[type(module)][1]:
        pooling = (module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode)
        z, places = POOLS[type(module)][0](a, *pooling)
        return z, _Choice(places, a.shape[2:])
    if type(module) in POINTWISE:
        z, slope, bend = value_and_derivatives(module, a)
        return z, _Pointwise(slope, bend if bend.any() else None)
    if type(module) in RESHAPING:
        return module(a), _Reshaping(module)
    raise RuntimeError(f"{type(module).__name__} with inputs {tuple(a.shape)} is no link of a chain")


def pooled(before: Link, choice: Link) -> list[Link] | None:
    """Pooling by the maximum after a pointwise layer, the other way round: φ at the places chosen is all that counts.

    A quarter of the numbers then pass through φ. None if these are two other links.
    """
    if not isinstance(before, _Pointwise) or not isinstance(choice, _Choice):
        return None
    bend = None if before.bend is None else choice.choose(before.bend)
    return [choice, _Pointwise(choice.choose(before.slope), bend)]
