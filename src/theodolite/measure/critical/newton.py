r"""Newton's step along eigenvectors, with a trust radius and no merit function, for many starts at once.

With gradient g, Hessian :math:`H = V \Lambda V^T` and :math:`c = V^T g` the step is, along eigenvector i,

.. math:: d_i = \frac{-s_i\, c_i}{\max(|\lambda_i|, 10^{-10} \lambda_{\max}) + \nu}

where :math:`\nu \ge 0` is the least shift that keeps :math:`\lVert d \rVert \le R`. Plain: :math:`s_i` is the sign of
:math:`\lambda_i`, Newton's own step, to any critical point near. Index k: -1 along the k lowest eigenvectors and +1
along the others, which goes up in k directions and down in the rest and so rests only at saddles of index k.

The norm of the gradient decides nothing on the way: minimising it ends where the gradient lies in the kernel of the
Hessian (Frye et al. 2021), and paths to saddles must climb it. What the radius follows is how well the gradient's
linear model holds, :math:`e = \lVert g(\theta + d) - g - H d \rVert / \max(\lVert g \rVert, \lVert g + H d \rVert)`.

Source: Yin, Zhang and Zhang 2019, "High-index optimization-based shrinking dimer method for finding high-index saddle
points", for the index; the shift is that of Moré and Sorensen 1983, "Computing a trust region step".
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from theodolite.measure.critical.landscape import Landscape

PLAIN = -1  # in place of an index
CAP, LEAST = 1.0, 1e-3  # of the radius
# Errors of the linear model: halve R above POOR, widen it below GOOD, step back above WRONG. Where no merit function
# must fall, a bad model costs little: 10 to 45 % more points a step than with 0.6, 0.25 and 1.5 on three tasks.
POOR, GOOD, WRONG = 1.3, 0.9, 2.0
WIDEN, NARROW, BACK = 1.6, 0.5, 0.25
FLOOR = 1e-10  # least |λ| / λ_max that divides
ARRIVED = 1e-10  # gradient norm from which one more step goes to rounding
FAR = 5.0  # times √P + the start's norm: a walk that gets so far from the origin has run away


@dataclass(frozen=True, slots=True)
class Inside:
    """Subspaces that gradients keep to, in which an index counts: some of S walks have one."""

    place: Tensor  # (S,) of a walk's own among the subspaces, or -1
    subspaces: Tensor  # (·, P, P) orthogonal projections

    def of(self, walks: Tensor | slice) -> "Inside":
        """Those of some of the walks."""
        return Inside(self.place[walks], self.subspaces)

    def confine(self, g: Tensor, H: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients ``(S, P)`` and Hessians ``(S, P, P)`` within: directions out get eigenvalues above all others."""
        rows = (self.place >= 0).nonzero()[:, 0]
        projection, own = self.subspaces[self.place[rows]], H[rows]
        out = torch.eye(H.shape[1], dtype=H.dtype, device=H.device) - projection
        highest = own.abs().sum(2).amax(1)[:, None, None]
        g, H = g.clone(), H.clone()
        H[rows] = projection @ own @ projection + 2 * highest * out
        g[rows] = (projection @ g[rows, :, None])[..., 0]
        return g, H


@dataclass(frozen=True, slots=True)
class Walk:
    """Where S walks ended."""

    vectors: Tensor  # (S, P)
    steps: Tensor  # (S,) taken
    arrived: Tensor  # (S,) whether the gradient was small at the end


def walk(
    landscape: Landscape,
    vectors: Tensor,
    index: Tensor,
    iterations: Tensor,
    *,
    inside: Inside | None = None,
) -> Walk:
    """Walk from each of S starts towards a critical point.

    Args:
        landscape: loss, gradient and Hessian.
        vectors: starts ``(S, P)``.
        index: ``(S,)`` directions to go up in, or ``PLAIN``.
        iterations: ``(S,)`` the most steps of each walk.
        inside: subspaces that some of the walks keep to.
    """
    x = vectors.clone()
    end, steps = x.clone(), torch.zeros(len(x), dtype=torch.int64, device=x.device)
    arrived = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    radius, limit = x.new_full((len(x),), CAP), far(x)
    _, g, H = landscape(x)
    active = (_finite(g, H) & (iterations > 0)).nonzero()[:, 0]
    x, g, H, radius, limit = x[active], g[active], H[active], radius[active], limit[active]
    while len(active):
        norm = g.norm(dim=1)
        near = norm <= ARRIVED
        d, predicted = step(g, H, radius, index[active], None if inside is None else inside.of(active))
        ahead = x + d
        _, g_ahead, H_ahead = landscape(ahead)
        scale = torch.maximum(norm, predicted.norm(dim=1)).clamp_min(torch.finfo(x.dtype).tiny)
        error = (g_ahead - predicted).norm(dim=1) / scale
        back = ((error > WRONG) & ~near).nonzero()[:, 0]  # at rounding the error says nothing
        if len(back):
            ahead[back] = x[back] + BACK * d[back]
            _, g_ahead[back], H_ahead[back] = landscape(ahead[back])
        radius = torch.where(error > POOR, NARROW * radius, torch.where(error < GOOD, WIDEN * radius, radius))
        radius = radius.clamp(LEAST, CAP)
        finite = _finite(g_ahead, H_ahead)
        move = finite & (~near | (g_ahead.norm(dim=1) < norm))
        end[active[move]] = ahead[move]
        steps[active] += 1
        arrived[active[near]] = True
        on = finite & ~near & (ahead.norm(dim=1) < limit) & (steps[active] < iterations[active])
        if on.all():
            x, g, H = ahead, g_ahead, H_ahead
        else:  # what has ended costs nothing from here on
            active, x, g, H, radius, limit = active[on], ahead[on], g_ahead[on], H_ahead[on], radius[on], limit[on]
    return Walk(end, steps, arrived)


def _finite(g: Tensor, H: Tensor) -> Tensor:
    return torch.isfinite(g.sum(1) + H.sum((1, 2)))  # NaN and infinity stay what they are in a sum


def far(starts: Tensor) -> Tensor:
    """The distance from the origin ``(S,)`` at which walks from ``(S, P)`` are given up."""
    limit: Tensor = FAR * (starts.shape[1] ** 0.5 + starts.norm(dim=1))
    return limit


def step(g: Tensor, H: Tensor, radius: Tensor, index: Tensor, inside: Inside | None = None) -> tuple[Tensor, Tensor]:
    """Steps ``(S, P)``, no longer than the radii ``(S,)``, and the gradients ``g + H d`` expected after them."""
    if inside is not None:
        g, H = inside.confine(g, H)
    eigenvalues, V = torch.linalg.eigh(H)
    c = (V.mT @ g[..., None])[..., 0]
    up = torch.arange(c.shape[1], device=c.device) < index[:, None]
    sign = torch.where((index == PLAIN)[:, None], eigenvalues.sign(), torch.where(up, -1.0, 1.0).to(c))
    size = eigenvalues.abs()
    size = torch.maximum(size, FLOOR * size.amax(1, keepdim=True)).clamp_min(torch.finfo(c.dtype).tiny)
    t = -sign * c / (size + shift(c, size, radius)[:, None])
    d = (V @ t[..., None])[..., 0]
    return d, g + (V @ (eigenvalues * t)[..., None])[..., 0]


def shift(c: Tensor, size: Tensor, radius: Tensor, iterations: int = 12) -> Tensor:
    r"""The least :math:`\nu \ge 0` with :math:`\lVert c_i / (size_i + \nu) \rVert \le R`, to 1 %, for each of S.

    Newton's method on 1 / length, which is nearly linear in ν and approached from below.
    """
    nu = torch.zeros_like(radius)
    for _ in range(iterations):
        shifted = size + nu[:, None]
        t = c / shifted
        length = t.norm(dim=1)
        long = length > 1.01 * radius
        if not long.any():
            break
        slope = (t * t / shifted).sum(1)
        nu = torch.where(long, nu + (length - radius) / radius * length.square() / slope, nu)
    return nu
