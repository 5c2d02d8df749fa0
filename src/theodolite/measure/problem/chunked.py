r"""Cross entropy of a linear layer's outputs, with two derivatives, in chunks of rows.

With logits :math:`z_n = W a_n + b`, probabilities p and targets :math:`t_{nc} \ge 0` that hold class weights and label
smoothing, a row that counts adds :math:`\ell_n = -\sum_c t_{nc} \log p_{nc}`, of which, along a direction,

.. math:: \delta_n = T_n p_n - t_n, \qquad \dot\delta_n = T_n\, p_n \odot (\dot z_n - p_n^\top \dot z_n), \qquad
          T_n = \sum_c t_{nc}, \qquad \dot z_n = W \dot a_n + \dot W a_n + \dot b .

Each chunk's logits are computed anew for each of the three, and freed: one matrix product more than with them kept.

Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian"; Wijmans et al. 2025, "Cut your losses in
large-vocabulary language models", on the first derivative.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Parts = tuple[Tensor, Tensor, Tensor]  # by rows a, by weights and by biases


@dataclass(frozen=True, slots=True)
class Target:
    """What cross entropy gets beside the logits, and how many rows of these may be held at once."""

    classes: Tensor  # (N,)
    weight: Tensor | None  # (V,)
    ignore_index: int
    mean: bool  # or the sum
    smoothing: float
    held: int

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Its parts, as an operation of PyTorch takes them."""
        return self.classes, self.weight, self.ignore_index, self.mean, self.smoothing, self.held


def cross_entropy_of_rows(rows: Tensor, weight: Tensor, bias: Tensor | None, target: Target) -> Tensor:
    """The loss of rows ``(N, d)``, a scalar; may be differentiated twice."""
    found: Tensor = _loss(rows, weight, bias, *target.arguments)
    return found


def derivative(rows: Tensor, weight: Tensor, bias: Tensor | None, target: Target) -> Parts:
    """The loss's derivative by rows, weights and biases."""
    parts = _Sums(rows, weight)
    for here, logits in _chunks(rows, weight, bias, target):
        parts.add(here, logits.delta(), rows[here], weight)
    return parts.found


def second_derivative(
    rows: Tensor, weight: Tensor, bias: Tensor | None, target: Target,
    tangents: tuple[Tensor | None, Tensor | None, Tensor | None], *, gauss_newton: bool = False,
) -> Parts:  # fmt: skip
    """The second derivative times a direction; by the logits alone for the generalised Gauss-Newton matrix."""
    parts = _Sums(rows, weight)
    a, w, b = tangents
    for here, logits in _chunks(rows, weight, bias, target):
        along = torch.zeros_like(logits.shares) if b is None else b.expand_as(logits.shares).clone()
        if a is not None:
            along.addmm_(a[here], weight.mT)
        if w is not None:
            along.addmm_(rows[here], w.mT)
        parts.add(here, logits.bend(along), rows[here], weight)
        if not gauss_newton:
            parts.add(here, logits.delta(), None if a is None else a[here], w, biases=False)
    return parts.found


class _Sums:
    """Derivatives by rows, weights and biases, gathered chunk by chunk."""

    def __init__(self, rows: Tensor, weight: Tensor) -> None:
        self.found: Parts = torch.zeros_like(rows), torch.zeros_like(weight), weight.new_zeros(len(weight))

    def add(self, here: slice, delta: Tensor, a: Tensor | None, w: Tensor | None, *, biases: bool = True) -> None:
        rows, weights, bias = self.found
        if w is not None:
            rows[here].addmm_(delta, w)
        if a is not None:
            weights.addmm_(delta.mT, a)
        if biases:
            bias.add_(delta.sum(0))


class _Chunk:
    """The probabilities of some rows, and what targets make of them."""

    def __init__(self, z: Tensor, target: Target, classes: Tensor, counts: Tensor) -> None:
        self._target, self._classes = target, classes.clamp(0, z.shape[1] - 1)[:, None]
        self._log_sum = z.logsumexp(1, keepdim=True)
        even = target.smoothing / z.shape[1]
        own = 1.0 if target.weight is None else target.weight[self._classes]
        self._own = (1 - target.smoothing) * own * counts[:, None]
        self._even = even * counts[:, None]
        every = z.shape[1] if target.weight is None else target.weight.sum()
        self._total = self._own + self._even * every
        self._z = z
        self._shares: Tensor | None = None

    def loss(self) -> Tensor:
        """Of these rows together."""
        found = self._total * self._log_sum - self._own * self._z.gather(1, self._classes)
        if self._target.smoothing:
            weighted = self._z if self._target.weight is None else self._z * self._target.weight
            found = found - self._even * weighted.sum(1, keepdim=True)
        return found.sum()

    @property
    def shares(self) -> Tensor:
        """The probabilities, in the logits' place."""
        if self._shares is None:
            self._shares = self._z.sub_(self._log_sum).exp_()
        return self._shares

    def delta(self) -> Tensor:
        """The loss's derivative by the logits."""
        found = self.shares * self._total
        found.scatter_add_(1, self._classes, -self._own)
        if self._target.smoothing:
            found -= self._even if self._target.weight is None else self._even * self._target.weight
        return found

    def bend(self, along: Tensor) -> Tensor:
        """Its change along a direction of the logits, which is written to."""
        along -= (self.shares * along).sum(1, keepdim=True)
        return along.mul_(self.shares).mul_(self._total)


def _chunks(rows: Tensor, weight: Tensor, bias: Tensor | None, target: Target) -> Iterator[tuple[slice, _Chunk]]:
    kept = target.classes != target.ignore_index
    counts = kept.to(rows.dtype)
    if target.mean:
        own = counts if target.weight is None else counts * target.weight[target.classes.clamp(0, len(weight) - 1)]
        counts = counts / own.sum()
    for start in range(0, len(rows), target.held):
        here = slice(start, start + target.held)
        z = rows[here] @ weight.mT if bias is None else torch.addmm(bias, rows[here], weight.mT)
        yield here, _Chunk(z, target, target.classes[here], counts[here])


@torch.library.custom_op("theodolite::cross_entropy_of_rows", mutates_args=())
def _loss(
    rows: Tensor, weight: Tensor, bias: Tensor | None, classes: Tensor, class_weight: Tensor | None,
    ignore_index: int, mean: bool, smoothing: float, held: int,
) -> Tensor:  # fmt: skip
    target, total = Target(classes, class_weight, ignore_index, mean, smoothing, held), rows.new_zeros(())
    for _, chunk in _chunks(rows, weight, bias, target):
        total += chunk.loss()
    return total


class _Derivative(torch.autograd.Function):
    """The derivative as a function that has one itself."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, target: Target) -> Parts:
        ctx.save_for_backward(rows, weight, bias)
        ctx.target = target
        return derivative(rows, weight, bias, target)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *tangents: Any) -> Any:
        rows, weight, bias = ctx.saved_tensors
        a, w, b = second_derivative(rows, weight, bias, ctx.target, tangents)
        return a, w, None if bias is None else b, None


def _remember(ctx: Any, inputs: Any, output: Any) -> None:
    rows, weight, bias, *rest = inputs
    ctx.save_for_backward(rows, weight, bias)
    ctx.target = Target(*rest)


def _backward(ctx: Any, delta: Tensor) -> Any:
    rows, weight, bias = ctx.saved_tensors
    a, w, b = _Derivative.apply(rows, weight, bias, ctx.target)  # type: ignore[no-untyped-call]
    return delta * a, delta * w, None if bias is None else delta * b, *[None] * 6


_loss.register_autograd(_backward, setup_context=_remember)
