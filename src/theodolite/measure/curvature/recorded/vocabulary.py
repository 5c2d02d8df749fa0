"""Cross entropy of a linear layer's outputs that nobody holds, as one operation of its inputs and weights."""
# ruff: noqa: D102 - the base class says what each method does

import torch
from torch import Tensor

from theodolite.measure.curvature.recorded.operations import Operation, Tangents
from theodolite.measure.problem.chunked import Parts, Target, derivative, second_derivative


class CrossEntropyOfRows(Operation):
    """A loss of rows a, weights W and biases b, in chunks of rows (:mod:`~theodolite.measure.problem.chunked`)."""

    def __init__(self, slots: list[int | None], a: Tensor, weight: Tensor, bias: Tensor | None, target: Target) -> None:
        self.reached = [slot is not None for slot in slots]
        self.inputs = tuple(slot for slot in slots if slot is not None)
        self.a, self.weight, self.bias, self.target = a, weight, bias, target

    def _of_reached(self, parts: Parts) -> list[Tensor]:
        return [part for part, reached in zip(parts, self.reached, strict=True) if reached]

    def jvp(self, tangents: Tangents) -> Tensor:
        slopes = self.vjp(self.a.new_ones(()))
        pairs = zip(slopes, tangents, strict=True)
        return torch.stack([(a * t).sum() for a, t in pairs if a is not None and t is not None]).sum()

    def vjp(self, delta: Tensor) -> list[Tensor | None]:
        parts = self._of_reached(derivative(self.a, self.weight, self.bias, self.target))
        return [part.mul_(delta) for part in parts]

    def bend(self, tangents: Tangents, own: Tensor | None, below: list[Tensor | None]) -> None:
        for at, part in enumerate(self.curvature(tangents, gauss_newton=False)):
            part.mul_(self.delta)
            sofar = below[at]
            below[at] = part if sofar is None else sofar.add_(part)

    def keep(self, delta: Tensor) -> None:
        self.delta = delta

    def curvature(self, tangents: Tangents, *, gauss_newton: bool) -> list[Tensor]:
        """The second derivative times tangents, for each input; or that by the logits alone, taken back to them."""
        given = iter(tangents)
        a, w, b = (next(given) if reached else None for reached in self.reached)
        parts = second_derivative(self.a, self.weight, self.bias, self.target, (a, w, b), gauss_newton=gauss_newton)
        return self._of_reached(parts)
