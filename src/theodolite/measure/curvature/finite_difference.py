r"""Derivatives by central differences, and whether a product with a second derivative agrees with one.

:math:`(g(\theta + hv) - g(\theta - hv)) / 2h` uses first derivatives only. Its two errors are rounding,
:math:`\epsilon |g| / h`, and what the gradient does between the two points: curvature of higher order,
:math:`O(h^2)`, and the jumps at kinks (ReLU, max pooling), of which the step crosses a number proportional to h. In
float64 a relative step of 1e-8 makes both small: rounding about 1e-8, and less than one of ten million units crosses
its kink. So the difference is taken in float64 even for float32 models, whose weights are float64 numbers too; 5 % of
error then stand out by four orders of magnitude. Larger steps follow only if the first disagrees (near zero loss the
gradient is all rounding), and two steps that disagree with each other by as much as with the product decide nothing.
"""

from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor

STEPS = {torch.float64: (1e-8, 1e-6, 1e-4), torch.float32: (1e-3, 1e-2, 1e-4)}  # relative to the point's own length
AGREE = {torch.float64: 1e-3, torch.float32: 4e-3}  # far above the errors of these steps, far below a wrong layer's
Field = Callable[[Tensor], Tensor]


def differs(slope: Field, product: Field, point: Tensor, v: Tensor, w: Tensor) -> bool:
    """Whether product and finite difference are apart by more than kinks and rounding explain.

    A product is linear, so that what P(v + w) and P(v) + P(w) differ by is its own rounding: near zero loss, where
    probabilities cancel to nothing, that is all there is.
    """
    exact = product(v)
    error, spread, scale = compare(slope, point, v, exact)
    if error <= max(AGREE[point.dtype] * scale, 3 * spread):
        return False
    return error > 10 * float((product(v + w) - exact - product(w)).norm())


def compare(slope: Field, point: Tensor, v: Tensor, exact: Tensor) -> tuple[float, float, float]:
    """How far a product is from the closest central difference, how far two of those are apart, and their length."""
    length = float(point.norm()) or 1.0
    found: list[Tensor] = []
    best, scale = torch.inf, 0.0
    for relative in STEPS[point.dtype]:
        h = relative * length
        found.append((slope(point + h * v) - slope(point - h * v)).detach() / (2 * h))
        error = float((exact - found[-1]).norm())
        if error < best:
            best, scale = error, float(found[-1].norm())
        if best <= 0.01 * AGREE[point.dtype] * scale:
            return best, 0.0, scale
    return best, min(float((a - b).norm()) for a, b in combinations(found, 2)), scale
