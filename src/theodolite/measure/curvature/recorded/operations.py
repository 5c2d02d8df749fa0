r"""Operations of PyTorch, each with how tangents pass through it forwards and backwards.

For :math:`z = f(a_1, a_2, …)` with :math:`\delta = \partial L / \partial z`, along a direction in weight space,

.. math:: \dot z = \sum_i J_i \dot a_i, \qquad
          \frac{d}{dt} \frac{\partial L}{\partial a_i} = J_i^\top \dot\delta + \dot J_i^\top \delta .

A tangent has the shape of what it is a tangent of; None stands for zero.
"""
# ruff: noqa: D102 - the base class says what each method does

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

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

    def settle(self, tangents: Tangents) -> Tensor | None:
        """What comes with the change of J and is smaller than the tangent it comes with: for the second input.

        It is there on the way forwards, so that the tangent need not wait for the way back.
        """
        return None

    def bend(self, tangents: Tangents, own: Tensor | None, below: list[Tensor | None]) -> None:
        """Add to the tangents of ∂L/∂a what else comes with the change of J; ``own`` is the tangent of z."""

    def waits_for(self) -> tuple[int, ...]:
        """Numbers of the tangents that ``bend`` asks for."""
        return () if not self.curved else (*self.inputs, self.output) if self.uses_own else self.inputs

    def keep(self, delta: Tensor) -> None:
        """Keep what of δ the second derivative asks for."""

    def tensors(self) -> list[Tensor]:
        """What it keeps."""
        return [value for value in vars(self).values() if isinstance(value, Tensor)]


def only(tangents: Tangents) -> Tensor:
    """The tangent of an operation's one input."""
    (tangent,) = tangents
    assert tangent is not None  # noqa: S101 - an operation is asked where there is one
    return tangent


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
        return only(tangents) * self.slope

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
        return self.forwards(only(tangents))

    def vjp(self, delta: Tensor) -> list[Tensor | None]:
        return [self.back(delta)]


class Narrow(Operation):
    """A part of one input along one dimension; parts passed back are gathered in one tensor."""

    curved = False

    def __init__(self, a: int, shape: torch.Size, dim: int, start: int, length: int) -> None:
        self.inputs = (a,)
        self.shape, self.place = shape, (dim, start, length)

    def jvp(self, tangents: Tangents) -> Tensor:
        return only(tangents).narrow(*self.place)

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
