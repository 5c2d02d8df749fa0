r"""Operations of PyTorch, each with how tangents pass through it forwards and backwards.

For :math:`z = f(a_1, a_2, …)` with :math:`\delta = \partial L / \partial z`, along a direction in weight space,

.. math:: \dot z = \sum_i J_i \dot a_i, \qquad
          \frac{d}{dt} \frac{\partial L}{\partial a_i} = J_i^\top \dot\delta + \dot J_i^\top \delta .

A tangent has the shape of what it is a tangent of; None stands for zero.
"""
# ruff: noqa: D102 - the base class says what each method does

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

Tangents = Sequence[Tensor | None]


class Operation:
    """One operation at one point; what it is computed from and gives are numbered by all that share a recording."""

    inputs: tuple[int, ...]  # that parameters reach
    output: int
    curved = True  # whether the derivative depends on the inputs
    uses_own = False  # whether its second derivative asks for the tangent of what it gives
    fresh = True  # whether what it passes back is nobody else's to write to

    def jvp(self, tangents: Tangents) -> Tensor:
        """The tangent of z; not all of ``tangents`` are None."""
        raise NotImplementedError

    def vjp(self, delta: Tensor) -> list[Tensor | None]:
        """For each input the part of ∂L/∂a, or of its tangent, that comes with the one of z."""
        raise NotImplementedError

    def bend(self, tangents: Tangents, own: Tensor | None, below: list[Tensor | None]) -> None:
        """Add to the tangents of ∂L/∂a what comes with the change of J; ``own`` is the tangent of z."""

    def keep(self, delta: Tensor) -> None:
        """Keep what of δ the second derivative asks for."""

    def tensors(self) -> list[Tensor]:
        """What it keeps."""
        return [value for value in vars(self).values() if isinstance(value, Tensor)]


def added(into: Tensor | None, term: Tensor) -> Tensor:
    """A sum, whose first part may be written to."""
    return term if into is None else into.add_(term)


class Pointwise(Operation):
    """z = φ(a), or any number of such one after the other."""

    def __init__(self, a: int, slope: Tensor | float, bend: Tensor | float) -> None:
        self.inputs = (a,)
        self.slope = slope
        self.second = bend if isinstance(bend, Tensor) else None  # φ''(a), then φ''(a) δ
        self.curved = self.second is not None

    def jvp(self, tangents: Tangents) -> Tensor:
        (tangent,) = tangents
        assert tangent is not None  # noqa: S101 - the one that there is
        return tangent * self.slope

    def vjp(self, delta: Tensor) -> list[Tensor | None]:
        return [delta * self.slope]

    def bend(self, tangents: Tangents, own: Tensor | None, below: list[Tensor | None]) -> None:
        (tangent,) = tangents
        if self.second is not None and tangent is not None:
            below[0] = self.second * tangent if below[0] is None else below[0].addcmul_(self.second, tangent)

    def keep(self, delta: Tensor) -> None:
        if self.second is not None:
            self.second = self.second * delta


class Linear(Operation):
    """What is linear in one input, given by it and by its transpose."""

    curved = False

    def __init__(
        self, a: int, forwards: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor], *, fresh: bool = False
    ) -> None:
        self.inputs = (a,)
        self.forwards, self.back, self.fresh = forwards, back, fresh

    def jvp(self, tangents: Tangents) -> Tensor:
        (tangent,) = tangents
        assert tangent is not None  # noqa: S101 - the one that there is
        return self.forwards(tangent)

    def vjp(self, delta: Tensor) -> list[Tensor | None]:
        return [self.back(delta)]


class Narrow(Operation):
    """A part of one input along one dimension; parts passed back are gathered in one tensor."""

    curved = False

    def __init__(self, a: int, shape: torch.Size, dim: int, start: int, length: int) -> None:
        self.inputs = (a,)
        self.shape, self.place = shape, (dim, start, length)

    def jvp(self, tangents: Tangents) -> Tensor:
        (tangent,) = tangents
        assert tangent is not None  # noqa: S101 - the one that there is
        return tangent.narrow(*self.place)

    def vjp(self, delta: Tensor) -> list[Tensor | None]:
        whole = delta.new_zeros(self.shape)
        self.add_into(whole, delta)
        return [whole]

    def add_into(self, whole: Tensor, delta: Tensor) -> None:
        """Add to the place that the part was taken from."""
        whole.narrow(*self.place).add_(delta)


class Sum(Operation):
    """z = Σ c_i a_i, each made as large as the largest."""

    curved = False
    fresh = False

    def __init__(self, terms: list[tuple[int, float, torch.Size]], shape: torch.Size) -> None:
        self.inputs = tuple(slot for slot, _, _ in terms)
        self.factors = [factor for _, factor, _ in terms]
        self.shapes = [size for _, _, size in terms]
        self.shape = shape

    def jvp(self, tangents: Tangents) -> Tensor:
        total = None
        for tangent, factor in zip(tangents, self.factors, strict=True):
            if tangent is not None:
                if total is None:
                    total = tangent if factor == 1 else factor * tangent
                else:
                    total = torch.add(total, tangent, alpha=factor)
        assert total is not None  # noqa: S101 - one of them is a tensor
        return total.expand(self.shape)

    def vjp(self, delta: Tensor) -> list[Tensor | None]:
        return [
            (delta if factor == 1 else factor * delta).sum_to_size(shape)
            for factor, shape in zip(self.factors, self.shapes, strict=True)
        ]


class Join(Operation):
    """Tensors one after the other along a dimension, some of them without a tangent."""

    curved = False
    fresh = False

    def __init__(self, slots: list[int | None], shapes: list[torch.Size], dim: int, like: Tensor) -> None:
        self.inputs = tuple(slot for slot in slots if slot is not None)
        self.reached = [slot is not None for slot in slots]
        self.shapes, self.dim, self.like = shapes, dim, like.new_zeros(())

    def jvp(self, tangents: Tangents) -> Tensor:
        given = iter(tangents)
        parts = [next(given) if reached else None for reached in self.reached]
        return torch.cat(
            [self.like.expand(shape) if part is None else part for part, shape in zip(parts, self.shapes, strict=True)],
            self.dim,
        )

    def vjp(self, delta: Tensor) -> list[Tensor | None]:
        parts = delta.split([shape[self.dim] for shape in self.shapes], self.dim)
        return [part for part, reached in zip(parts, self.reached, strict=True) if reached]


class Bilinear(Operation):
    """z = f(a, b), linear in each, plus c; without a tangent where a slot is None."""

    def __init__(self, a: tuple[int | None, Tensor], b: tuple[int | None, Tensor], c: int | None = None) -> None:
        self.reached = (a[0] is not None, b[0] is not None, c is not None)
        self.inputs = tuple(slot for slot in (a[0], b[0], c) if slot is not None)
        self.a, self.b = a[1], b[1]
        self.curved = all(self.reached[:2])

    def times(self, a: Tensor, b: Tensor, into: Tensor | None = None) -> Tensor:
        """f(a, b), added to ``into`` if that is given, which may be written to."""
        raise NotImplementedError

    def back_to_a(self, delta: Tensor, b: Tensor, into: Tensor | None = None) -> Tensor:
        """The transpose of f(·, b)."""
        raise NotImplementedError

    def back_to_b(self, delta: Tensor, a: Tensor, into: Tensor | None = None) -> Tensor:
        """The transpose of f(a, ·)."""
        raise NotImplementedError

    def constant(self, tangent: Tensor, into: Tensor | None) -> Tensor:
        """The tangent of z that comes with c's, added to ``into``, if there is something to add to."""
        raise NotImplementedError

    def back_to_constant(self, delta: Tensor) -> Tensor:
        """Its transpose."""
        raise NotImplementedError

    def _each(self, given: Sequence[Any]) -> list[Any]:
        left = iter(given)
        return [next(left) if reached else None for reached in self.reached]

    def jvp(self, tangents: Tangents) -> Tensor:
        a, b, c = self._each(tangents)
        total = None
        if a is not None:
            total = self.times(a, self.b)
        if b is not None:
            total = self.times(self.a, b, total)
        if c is not None:
            total = self.constant(c, total)
        assert total is not None  # noqa: S101 - one of them is a tensor
        return total

    def vjp(self, delta: Tensor) -> list[Tensor | None]:
        found: list[Tensor | None] = []
        if self.reached[0]:
            found.append(self.back_to_a(delta, self.b))
        if self.reached[1]:
            found.append(self.back_to_b(delta, self.a))
        if self.reached[2]:
            found.append(self.back_to_constant(delta))
        return found

    def bend(self, tangents: Tangents, own: Tensor | None, below: list[Tensor | None]) -> None:
        if not self.curved:
            return
        a, b, *_ = tangents
        if b is not None:
            below[0] = self.back_to_a(self.delta, b, below[0])
        if a is not None:
            below[1] = self.back_to_b(self.delta, a, below[1])

    def keep(self, delta: Tensor) -> None:
        if self.curved:
            self.delta = delta


class MatrixProduct(Bilinear):
    """z = a b + c, of matrices or of stacks of them."""

    def times(self, a: Tensor, b: Tensor, into: Tensor | None = None) -> Tensor:
        if into is None:
            return a @ b
        return into.addmm_(a, b) if a.ndim == 2 else into.baddbmm_(a, b)

    def back_to_a(self, delta: Tensor, b: Tensor, into: Tensor | None = None) -> Tensor:
        return self.times(delta, b.mT, into)

    def back_to_b(self, delta: Tensor, a: Tensor, into: Tensor | None = None) -> Tensor:
        if self.b.stride(-1) == 1:
            return self.times(a.mT, delta, into)
        return self.times(delta.mT, a, None if into is None else into.mT).mT  # as b lies in memory

    def constant(self, tangent: Tensor, into: Tensor | None) -> Tensor:
        if into is None:
            return tangent.expand(*self.a.shape[:-1], self.b.shape[-1]).clone()
        return into.add_(tangent)

    def back_to_constant(self, delta: Tensor) -> Tensor:
        return delta.sum(0)

    def jvp(self, tangents: Tangents) -> Tensor:
        a, b, c = self._each(tangents)
        if c is None or (a is None and b is None):
            return super().jvp(tangents)
        total = torch.addmm(c, self.a, b) if b is not None else torch.addmm(c, a, self.b)
        return self.times(a, self.b, total) if a is not None and b is not None else total


class Multiplied(Bilinear):
    """z = a b, number by number, each made as large as the other."""

    def times(self, a: Tensor, b: Tensor, into: Tensor | None = None) -> Tensor:
        return a * b if into is None else into.addcmul_(a, b)

    def back_to_a(self, delta: Tensor, b: Tensor, into: Tensor | None = None) -> Tensor:
        return _reduced(delta, b, self.a.shape, into)

    def back_to_b(self, delta: Tensor, a: Tensor, into: Tensor | None = None) -> Tensor:
        return _reduced(delta, a, self.b.shape, into)


def _reduced(delta: Tensor, factor: Tensor, shape: torch.Size, into: Tensor | None) -> Tensor:
    if delta.shape == shape:
        return delta * factor if into is None else into.addcmul_(delta, factor)
    return added(into, (delta * factor).sum_to_size(shape))


class Convolution(Bilinear):
    """z = b * a + c, with weights b."""

    def __init__(
        self, a: tuple[int | None, Tensor], b: tuple[int | None, Tensor], c: int | None, z: Tensor, options: Any
    ) -> None:
        super().__init__(a, b, c)
        self.options, self.shape = options, z.shape

    def times(self, a: Tensor, b: Tensor, into: Tensor | None = None) -> Tensor:
        return added(into, aten.convolution(a, b, None, *self.options))

    def back_to_a(self, delta: Tensor, b: Tensor, into: Tensor | None = None) -> Tensor:
        mask = [True, False, False]
        return added(into, aten.convolution_backward(delta, self.a, b, None, *self.options, mask)[0])

    def back_to_b(self, delta: Tensor, a: Tensor, into: Tensor | None = None) -> Tensor:
        mask = [False, True, False]
        return added(into, aten.convolution_backward(delta, a, self.b, None, *self.options, mask)[1])

    def constant(self, tangent: Tensor, into: Tensor | None) -> Tensor:
        shaped = tangent.view(-1, *[1] * (len(self.shape) - 2))
        return shaped.expand(self.shape).clone() if into is None else into.add_(shaped)

    def back_to_constant(self, delta: Tensor) -> Tensor:
        return delta.sum((0, *range(2, delta.ndim)))


class Affine(Operation):
    """z = γ â + β with â = r (a - μ), and r and μ constant: what follows a normalisation, by channels or features."""

    def __init__(
        self, a: int | None, gamma: tuple[int | None, Tensor], beta: int | None, scaled: Tensor,
        r: Tensor | float, size: torch.Size,
    ) -> None:  # fmt: skip
        self.reached = (a is not None, gamma[0] is not None, beta is not None)
        self.inputs = tuple(slot for slot in (a, gamma[0], beta) if slot is not None)
        self.gamma, self.scaled, self.r, self.size = gamma[1], scaled, r, size
        self.gain = gamma[1] * r
        self.curved = self.reached[0] and self.reached[1]

    def _each(self, given: Sequence[Any]) -> list[Any]:
        left = iter(given)
        return [next(left) if reached else None for reached in self.reached]

    def jvp(self, tangents: Tangents) -> Tensor:
        a, gamma, beta = self._each(tangents)
        total = None
        if gamma is not None:
            gamma = gamma.view(self.gamma.shape)
            total = (
                gamma * self.scaled if beta is None
                else torch.addcmul(beta.view(self.gamma.shape), gamma, self.scaled)
            )  # fmt: skip
        elif beta is not None:
            total = beta.view(self.gamma.shape).expand(self.scaled.shape)
        if a is not None:
            total = a * self.gain if total is None else torch.addcmul(total, a, self.gain)
        assert total is not None  # noqa: S101 - one of them is a tensor
        return total

    def vjp(self, delta: Tensor) -> list[Tensor | None]:
        found: list[Tensor | None] = []
        if self.reached[0]:
            found.append(delta * self.gain)
        if self.reached[1]:
            found.append(self._summed(delta * self.scaled))
        if self.reached[2]:
            found.append(self._summed(delta))
        return found

    def bend(self, tangents: Tangents, own: Tensor | None, below: list[Tensor | None]) -> None:
        if not self.curved:
            return
        a, gamma, *_ = tangents
        if gamma is not None:
            rate = gamma.view(self.gamma.shape) * self.r
            below[0] = self.delta * rate if below[0] is None else below[0].addcmul_(self.delta, rate)
        if a is not None:
            below[1] = added(below[1], self._summed(a * self.delta_r))

    def keep(self, delta: Tensor) -> None:
        if self.curved:
            self.delta = delta
            self.delta_r = delta * self.r if isinstance(self.r, Tensor) else delta

    def _summed(self, values: Tensor) -> Tensor:
        """Over all but the channels or features, of which γ and β have one number each."""
        extra = values.ndim - self.gamma.ndim
        dims = [at for at in range(values.ndim) if at < extra or self.gamma.shape[at - extra] == 1]
        return (values.sum(dims) if dims else values.clone()).reshape(self.size)


class Normalised(Operation):
    r"""z = (a - mean a) r with r = 1 / sqrt(var a + ε), over some dimensions.

    Its derivative is :math:`P u = r\,(u - \overline{u} - z\,\overline{z u})`, which is symmetric.
    """

    uses_own = True

    def __init__(self, a: int, z: Tensor, r: Tensor, dims: list[int]) -> None:
        self.inputs = (a,)
        self.z, self.r, self.dims = z, r, dims

    def _project(self, u: Tensor) -> Tensor:
        shift, along = self._mean(u), self._mean(u * self.z)
        return (u - shift).addcmul_(self.z, along, value=-1).mul_(self.r)

    def _mean(self, u: Tensor) -> Tensor:
        return u.mean(self.dims, keepdim=True)

    def jvp(self, tangents: Tangents) -> Tensor:
        (tangent,) = tangents
        assert tangent is not None  # noqa: S101 - the one that there is
        return self._project(tangent)

    def vjp(self, delta: Tensor) -> list[Tensor | None]:
        return [self._project(delta)]

    def bend(self, tangents: Tangents, own: Tensor | None, below: list[Tensor | None]) -> None:
        (tangent,) = tangents
        if tangent is None or own is None:
            return
        bent = self.projected * (self._mean(self.z * tangent) * -self.r)
        bent.addcmul_(own, self.along, value=-1).addcmul_(self.z, self._mean(own * self.delta_r), value=-1)
        below[0] = added(below[0], bent)

    def keep(self, delta: Tensor) -> None:
        self.delta_r = delta * self.r
        self.projected = self._project(delta)
        self.along = self._mean(self.z * delta) * self.r


class LayerNormalised(Normalised):
    """The same over the last dimensions, for which PyTorch has P in one step."""

    def __init__(self, a: int, z: Tensor, r: Tensor, dims: list[int], value: Tensor, mean: Tensor) -> None:
        super().__init__(a, z, r, dims)
        self.value, self.mean, self.shape = value.contiguous(), mean, value.shape[dims[0] :]

    def _project(self, u: Tensor) -> Tensor:
        given = (u.contiguous(), self.value, self.shape, self.mean, self.r, None, None, [True, False, False])
        projected: Tensor = aten.native_layer_norm_backward(*given)[0]
        return projected


class Softmax(Operation):
    r"""z = softmax(a), whose derivative is :math:`S u = z\,(u - \sum z u)`, along one dimension."""

    uses_own = True

    def __init__(self, a: int, z: Tensor, dim: int) -> None:
        self.inputs = (a,)
        self.z, self.dim = z, dim

    def _project(self, u: Tensor) -> Tensor:
        projected: Tensor = aten._softmax_backward_data(u, self.z, self.dim, self.z.dtype)
        return projected

    def jvp(self, tangents: Tangents) -> Tensor:
        (tangent,) = tangents
        assert tangent is not None  # noqa: S101 - the one that there is
        return self._project(tangent)

    def vjp(self, delta: Tensor) -> list[Tensor | None]:
        return [self._project(delta)]

    def bend(self, tangents: Tangents, own: Tensor | None, below: list[Tensor | None]) -> None:
        if own is None:
            return
        bent = own * self.centred
        bent.addcmul_(self.z, bent.sum(self.dim, keepdim=True), value=-1)
        below[0] = added(below[0], bent)

    def keep(self, delta: Tensor) -> None:
        self.centred = delta - (self.z * delta).sum(self.dim, keepdim=True)


class LogSoftmax(Operation):
    """z = log softmax(a)."""

    def __init__(self, a: int, z: Tensor, dim: int) -> None:
        self.inputs = (a,)
        self.shares, self.dim = z.exp(), dim

    def jvp(self, tangents: Tangents) -> Tensor:
        (tangent,) = tangents
        assert tangent is not None  # noqa: S101 - the one that there is
        return tangent - (self.shares * tangent).sum(self.dim, keepdim=True)

    def vjp(self, delta: Tensor) -> list[Tensor | None]:
        return [torch.addcmul(delta, self.shares, delta.sum(self.dim, keepdim=True), value=-1)]

    def bend(self, tangents: Tangents, own: Tensor | None, below: list[Tensor | None]) -> None:
        (tangent,) = tangents
        if tangent is None:
            return
        bent = aten._softmax_backward_data(tangent, self.shares, self.dim, self.shares.dtype).mul_(self.total)
        below[0] = added(below[0], bent)

    def keep(self, delta: Tensor) -> None:
        self.total = -delta.sum(self.dim, keepdim=True)


class ByAutograd(Operation):
    """Any other operation: one that autograd takes apart, by a graph of it alone."""

    def __init__(self, slots: list[int], tensors: list[Tensor], call: Callable[[list[Tensor]], Tensor]) -> None:
        self.inputs = tuple(slots)
        with torch.enable_grad():
            self.a = [t.detach().requires_grad_() for t in tensors]
            self.z = call(self.a)
        if self.z.requires_grad:
            self._pull_with(torch.zeros_like(self.z))

    def _pull_with(self, delta: Tensor) -> None:
        with torch.enable_grad():
            self.dual = delta.detach().requires_grad_()
            self.pulled = torch.autograd.grad(self.z, self.a, self.dual, create_graph=True, materialize_grads=True)
        directions = [torch.arange(1.0, 1 + t.numel()).cos().view(t.shape).to(t) for t in self.a]  # as good as any
        self.curved = any(bool(term.any()) for term in self._along(directions, self.a))

    def _along(self, tangents: Tangents, wrt: list[Tensor]) -> list[Tensor]:
        pairs = [(p, t) for p, t in zip(self.pulled, tangents, strict=True) if t is not None and p.requires_grad]
        if not pairs:
            return [torch.zeros_like(each) for each in wrt]
        pulled, directions = zip(*pairs, strict=True)
        return list(torch.autograd.grad(pulled, wrt, directions, retain_graph=True, materialize_grads=True))

    def jvp(self, tangents: Tangents) -> Tensor:
        return self._along(tangents, [self.dual])[0]

    def vjp(self, delta: Tensor) -> list[Tensor | None]:
        return list(torch.autograd.grad(self.z, self.a, delta, retain_graph=True, materialize_grads=True))

    def bend(self, tangents: Tangents, own: Tensor | None, below: list[Tensor | None]) -> None:
        for at, term in enumerate(self._along(tangents, self.a)):
            sofar = below[at]
            below[at] = term if sofar is None else sofar + term

    def keep(self, delta: Tensor) -> None:
        self._pull_with(delta)

    def tensors(self) -> list[Tensor]:
        return [*self.a, self.z]
