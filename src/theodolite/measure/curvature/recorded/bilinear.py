"""Operations that are linear in each of two inputs: products of matrices, of numbers, and convolutions."""
# ruff: noqa: D102 - the base class says what each method does

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from theodolite.measure.curvature.recorded.operations import Operation, Tangents, added

aten = torch.ops.aten


class Bilinear(Operation):
    """z = f(a, b), linear in each, plus c; without a tangent where a slot is None."""

    def __init__(self, a: tuple[int | None, Tensor], b: tuple[int | None, Tensor], c: int | None = None) -> None:
        self.reached = (a[0] is not None, b[0] is not None, c is not None)
        self.inputs = tuple(slot for slot in (a[0], b[0], c) if slot is not None)
        self.a, self.b = a[1], b[1]
        self.curved = all(self.reached[:2])
        self.settles = self.curved and self.b.numel() < self.a.numel()

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
        if a is not None and not self.settles:
            below[1] = self.back_to_b(self.delta, a, below[1])

    def settle(self, tangents: Tangents) -> Tensor | None:
        return self.back_to_b(self.delta, tangents[0]) if self.settles and tangents[0] is not None else None

    def waits_for(self) -> tuple[int, ...]:
        return self.inputs[1:2] if self.settles else super().waits_for()

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
