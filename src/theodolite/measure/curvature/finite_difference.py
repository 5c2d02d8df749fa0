r"""Derivatives by central differences, and whether a product with a second derivative agrees with one.

:math:`(g(\theta + hv) - g(\theta - hv)) / 2h` uses first derivatives only. Its two errors are rounding,
:math:`\epsilon |g| / h`, and what the gradient does between the two points: curvature of higher order,
:math:`O(h^2)`, and the jumps at kinks (ReLU, max pooling), of which the step crosses a number proportional to h. In
float64 a relative step of 1e-8 makes both small: rounding about 1e-8, and less than one of ten million units crosses
its kink. So the difference is taken in float64 even for float32 models, whose weights are float64 numbers too; 5 % of
error then stand out by four orders of magnitude. Larger steps follow only if the first disagrees (near zero loss the
gradient is all rounding), and two steps that disagree with each other by as much as with the product decide nothing.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from theodolite.measure.linalg.streamed import lengths

STEPS = {torch.float64: (1e-8, 1e-6, 1e-4), torch.float32: (1e-3, 1e-2, 1e-4)}  # relative to the point's own length
AGREE = {torch.float64: 1e-3, torch.float32: 4e-3}  # far above the errors of these steps, far below a wrong layer's
ENOUGH = 0.01  # of that: smaller differences are not looked at with other steps
Field = Callable[[Tensor], Tensor]
Line = Callable[[float], list[Tensor]]  # t to a field at θ + t v, in parts: as one vector it would be held twice


def along(field: Field, point: Tensor, v: Tensor) -> Line:
    """A field on the line through a point in a direction."""
    return lambda t: [field(point + t * v).detach().flatten()]


def differs(line: Line, product: Field, v: Tensor, w: Tensor, length: float) -> bool:
    """Whether product and finite difference are apart by more than kinks and rounding explain.

    A product is linear, so that what P(v + w) and P(v) + P(w) differ by is its own rounding: near zero loss, where
    probabilities cancel to nothing, that is all there is.
    """
    exact = product(v)
    error, spread, scale = compare(line, exact, length, exact.dtype)
    if error <= max(AGREE[exact.dtype] * scale, 3 * spread):
        return False
    return error > 10 * float((product(v + w) - exact - product(w)).norm())


def compare(line: Line, exact: Tensor, length: float, precision: torch.dtype) -> tuple[float, float, float]:
    """How far a product is from the closest central difference, how far two of those are apart, and their length.

    Args:
        line: the field that the product is the derivative of, along its direction.
        exact: the product ``(P,)``, in any precision.
        length: of the point.
        precision: of the field.
    """
    best, scale, spread = torch.inf, 0.0, torch.inf
    before: list[Tensor] = []
    for relative in STEPS[precision]:
        found = _central(line, relative * (length or 1.0))
        error = _apart(_like(exact, found), found)
        if error < best:
            best, scale = error, _apart(found)
        if best <= ENOUGH * AGREE[precision] * scale:
            return best, 0.0, scale
        if before:
            spread = min(spread, _apart(before, found))
        before = found
    again = _central(line, STEPS[precision][0] * (length or 1.0))  # anew: to keep it would take a vector more
    return best, min(spread, _apart(before, again)), scale


def _central(line: Line, h: float) -> list[Tensor]:
    """The difference in parts, each freed when it has been taken."""
    ahead, behind = line(h), line(-h)
    return [(ahead.pop(0) - behind.pop(0)).div_(2 * h) for _ in range(len(ahead))]


def _like(vector: Tensor, parts: list[Tensor]) -> Iterator[Tensor]:
    return iter(vector.split([part.numel() for part in parts]))


def _apart(parts: Iterator[Tensor] | list[Tensor], others: list[Tensor] | None = None) -> float:
    """The length of a vector in parts, or of the difference of two."""
    if others is None:
        return math.hypot(*(float(lengths(each.flatten())) for each in parts))
    return math.hypot(*(float(lengths(a.flatten() - b.flatten())) for a, b in zip(parts, others, strict=True)))
