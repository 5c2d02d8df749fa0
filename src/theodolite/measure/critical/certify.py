r"""What makes a point a critical point: how small the gradient is against the curvature, and how far the true one lies.

Newton and Kantorovich: if the Hessian changes by at most K per unit of distance and the least :math:`|\lambda|` is
:math:`\lambda_{\min}`, then

.. math:: h = \frac{K \lVert g \rVert}{\lambda_{\min}^2} < \tfrac12

proves that a critical point lies within :math:`2 \lVert g \rVert / \lambda_{\min}`, and is the only one near. K is
measured, as the largest Frobenius norm of a change of the Hessian along the eigenvectors of lowest :math:`|\lambda|`,
along Newton's step and along random directions: over a short way, and within the very radius that is claimed, where a
bend that is narrower than any way fixed beforehand shows. That is an estimate, no proof, so what it promises is put to
the test: Newton's steps from the point must take the gradient to its rounding without leaving that radius. The gradient
is taken with its rounding, and both roundings are measured (:mod:`~theodolite.measure.critical.rounding`).

Where eigenvalues are zero within their error, the point may lie on a manifold of critical points. Then the same holds
across the manifold, on the other eigenvectors, and the manifold itself is put to the test: from the point a step goes
along every flat direction, back across onto the manifold, and there the gradient must again be zero, the loss the same,
and the number of flat directions too. If the rank of the Hessian is constant, the set of critical points is a manifold
whose dimension is that number (the constant rank theorem). A degenerate point, such as that of x⁴, fails.

Source: Kantorovich's theorem as in Ortega and Rheinboldt 1970, "Iterative Solution of Nonlinear Equations in Several
Variables", 12.6.2; Frye et al. 2021, "Critical Point-Finding Methods Reveal Gradient-Flat Regions of Deep Network
Losses", for what is mistaken for critical points.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from theodolite.measure.critical.landscape import Landscape
from theodolite.measure.critical.rounding import rounding
from theodolite.streams import named_seed

GRADIENT, RELATIVE = 1e-9, 1e-8  # the most ‖g‖, and ‖g‖ / λ_max
KANTOROVICH = 0.5  # the most h
LOSS_CHANGE = 1e-12  # the most by a further Newton step, per unit of loss where it is above 1
LOWEST, RANDOM = 3, 6  # directions in which K is measured
SHORT = 1e-3  # their length; and, along the lowest and Newton's step, both ways, these shares of the radius claimed:
SHARES = 1.0, 0.5
FURTHER = 3  # Newton's steps to rounding, by the Hessian of the point: each leaves the share h of the gradient
ROUNDED = 10.0  # times its rounding: the most gradient that is left then
ALONG = 1e-2  # length of a step along a flat direction: x⁶ would change its curvature by 3e-7 there
MOST_FLAT = 16  # flat directions that are tried one by one; with more, as many random mixtures
KERNEL, KERNEL_SHARE = 1e-5, 0.9  # |λ| / λ_max of the near-kernel, and the share of g in it that makes it gradient-flat


@dataclass(frozen=True, slots=True)
class Certificates:
    """What was found at S points."""

    loss: Tensor  # (S,)
    gradient_norm: Tensor  # (S,)
    eigenvalues: Tensor  # (S, P) ascending
    tolerance: Tensor  # (S,) |λ| at or below this counts as zero
    kantorovich: Tensor  # (S,) h; infinite where it was not measured
    radius: Tensor  # (S,) a critical point lies within this distance, if K is right
    index: Tensor  # (S,) eigenvalues below -tolerance
    flat: Tensor  # (S,) eigenvalues within the tolerance
    inertia: Tensor  # (S, 3) negative, zero, positive, by LDLᵀ
    reason: list[str]  # why it is no critical point; "" if it is certified


def certify(landscape: Landscape, vectors: Tensor, *, seed: int = 0) -> Certificates:
    """Certify each of S points ``(S, P)``, or say why not."""
    loss, g, H = landscape(vectors)
    finite = torch.isfinite(loss) & torch.isfinite(g).all(1) & torch.isfinite(H).flatten(1).all(1)
    H = torch.where(finite[:, None, None], H, 0)
    g = torch.where(finite[:, None], g, torch.nan)
    eigenvalues, V = torch.linalg.eigh(H)
    norm, largest = g.norm(dim=1), eigenvalues.abs().amax(1)
    small = (norm < GRADIENT) & (norm <= RELATIVE * largest)
    tolerance = _rounding(eigenvalues)
    h, radius = torch.full_like(loss, torch.inf), torch.full_like(loss, torch.inf)
    reason = [
        "" if s else "not finite" if not f else "gradient-flat" if k > KERNEL_SHARE else "not converged"
        for s, f, k in zip(small.tolist(), finite.tolist(), _kernel_share(g, eigenvalues, V).tolist(), strict=True)
    ]
    if small.any():
        here = small.nonzero()[:, 0]
        x, own, U = vectors[here], eigenvalues[here], V[here]
        c = (U.mT @ g[here, :, None])[..., 0]
        of_gradient, of_hessian = rounding(landscape, x, g[here], H[here], seed=seed)
        tolerance[here] += of_hessian
        level = _gradient_rounding(x, own) + of_gradient
        error, least = norm[here] + level, _least(own, tolerance[here])
        flat = own.abs() <= tolerance[here, None]
        newton = (U @ torch.where(flat, 0, c / own)[..., None])[..., 0]
        K = _lipschitz(landscape, x, H[here], own, U, newton, 2 * error / least, seed)
        h[here], radius[here] = K * error / least.square(), 2 * error / least
        tolerance[here] += K * radius[here]
        flat = own.abs() <= tolerance[here, None]
        change, rounded = _further(landscape, x, loss[here], own, U, flat, radius[here], ROUNDED * level)
        passed = (h[here] < KANTOROVICH) & (change < LOSS_CHANGE * loss[here].abs().clamp_min(1.0)) & ~flat.all(1)
        passed &= rounded
        for place in (~passed).nonzero()[:, 0].tolist():
            reason[here[place]] = "degenerate"
        for place in (passed & flat.any(1)).nonzero()[:, 0].tolist():
            if not _is_manifold(landscape, x[place], U[place][:, flat[place]], loss[here[place]], seed):
                reason[here[place]] = "degenerate"
    index = (eigenvalues < -tolerance[:, None]).sum(1)
    flat_count = (eigenvalues.abs() <= tolerance[:, None]).sum(1)
    counted = _inertia(H, tolerance)
    for i, agrees in enumerate(((counted[:, 0] == index) & (counted[:, 1] == flat_count)).tolist()):
        if not agrees and not reason[i]:
            reason[i] = "degenerate"  # an eigenvalue lies where the two counts differ
    return Certificates(loss, norm, eigenvalues, tolerance, h, radius, index, flat_count, counted, reason)


def _is_manifold(landscape: Landscape, x: Tensor, Z: Tensor, loss: Tensor, seed: int) -> bool:
    """Whether critical points of the same loss and rank continue from x along its flat directions ``(P, m)``."""
    m = Z.shape[1]
    mixtures = torch.eye(m, dtype=x.dtype, device=x.device)
    if m > MOST_FLAT:
        noise = torch.Generator().manual_seed(named_seed(seed, "directions along"))
        mixtures = torch.randn(m, MOST_FLAT, generator=noise, dtype=x.dtype).to(x.device)
        mixtures /= mixtures.norm(dim=0)
    along = (Z @ mixtures).mT
    points = x + ALONG * torch.cat([along, -along])
    for _ in range(6):  # back across, by Newton steps on the eigenvectors that are not flat
        _, g, H = landscape(points)
        eigenvalues, V = torch.linalg.eigh(H)
        c = (V.mT @ g[..., None])[..., 0]
        kept = eigenvalues.abs() >= eigenvalues.abs().topk(len(x) - m, dim=1).values[:, -1:]
        points = points - (V @ torch.where(kept, c / eigenvalues, 0)[..., None])[..., 0]
    there, g, H = landscape(points)
    eigenvalues = torch.linalg.eigvalsh(H)
    error = 10 * _gradient_rounding(points, eigenvalues)
    moved = (points - x).norm(dim=1)
    same = (there - loss).abs() <= LOSS_CHANGE * max(1.0, abs(float(loss)))
    zero = g.norm(dim=1) <= torch.maximum(error, torch.full_like(error, 1e-3 * GRADIENT))
    rank = (eigenvalues.abs() <= 10 * _rounding(eigenvalues)[:, None]).sum(1) == m
    return bool((same & zero & rank & (moved > ALONG / 2) & (moved < 2 * ALONG)).all())


def _further(
    landscape: Landscape,
    x: Tensor,
    loss: Tensor,
    eigenvalues: Tensor,
    V: Tensor,
    flat: Tensor,
    radius: Tensor,
    level: Tensor,
) -> tuple[Tensor, Tensor]:
    """By how much the first of Newton's steps changes the loss ``(S,)``, and whether all take the gradient to rounding.

    Steps are across the flat directions, and what they end at must lie within the radius.
    """
    point, (_, g, _) = x, landscape(x)
    for number in range(FURTHER):
        c = (V.mT @ g[..., None])[..., 0]
        point = point - (V @ torch.where(flat, 0, c / eigenvalues)[..., None])[..., 0]
        there, g, _ = landscape(point)
        if number == 0:
            change = (there - loss).abs()
    return change, (g.norm(dim=1) <= level) & ((point - x).norm(dim=1) <= radius)


def _lipschitz(
    landscape: Landscape,
    x: Tensor,
    H: Tensor,
    eigenvalues: Tensor,
    V: Tensor,
    newton: Tensor,
    radius: Tensor,
    seed: int,
) -> Tensor:
    """K ``(S,)``: the largest change of the Hessian per unit of distance, of those measured."""
    lowest = eigenvalues.abs().argsort(dim=1)[:, : min(LOWEST, x.shape[1])]
    near = list(V.gather(2, lowest[:, None, :].expand(-1, x.shape[1], -1)).unbind(2))
    noise = torch.Generator().manual_seed(named_seed(seed, "directions of change"))
    far = [torch.randn(x.shape, generator=noise, dtype=x.dtype).to(x.device) for _ in range(RANDOM)]
    steps = [(way, torch.full_like(radius, SHORT)) for way in (*near, *far)]
    steps += [(sign * way, share * radius) for way in (*near, newton) for share in SHARES for sign in (1, -1)]
    K = torch.zeros_like(radius)
    for way, length in steps:
        step = way * (length / way.norm(dim=1).clamp_min(torch.finfo(x.dtype).tiny))[:, None]
        moved = torch.linalg.matrix_norm(landscape(x + step)[2] - H) / length
        K = torch.maximum(K, torch.where(step.any(1), moved, 0))  # Newton's step may be none
    return K


def _rounding(eigenvalues: Tensor) -> Tensor:
    """Error of eigenvalues ``(S,)`` from sums and factorisations in this precision: 10 P ε λ_max."""
    rounding: Tensor = 10 * eigenvalues.shape[-1] * torch.finfo(eigenvalues.dtype).eps * eigenvalues.abs().amax(-1)
    return rounding


def _gradient_rounding(x: Tensor, eigenvalues: Tensor) -> Tensor:
    """What the rounding of the parameters themselves does to the gradient: ε λ_max (1 + ‖θ‖)."""
    rounding: Tensor = torch.finfo(x.dtype).eps * eigenvalues.abs().amax(1) * (1 + x.norm(dim=1))
    return rounding


def _least(eigenvalues: Tensor, tolerance: Tensor) -> Tensor:
    """The least |λ| ``(S,)`` that is not zero within the tolerance."""
    size = eigenvalues.abs()
    return torch.where(size <= tolerance[:, None], torch.inf, size).amin(1)


def _kernel_share(g: Tensor, eigenvalues: Tensor, V: Tensor) -> Tensor:
    """The share ``(S,)`` of the gradient's norm that lies in the near-kernel of the Hessian."""
    c = (V.mT @ g[..., None])[..., 0]
    kernel = eigenvalues.abs() <= KERNEL * eigenvalues.abs().amax(1, keepdim=True)
    share: Tensor = torch.where(kernel, c, 0).norm(dim=1) / g.norm(dim=1)
    return share


def _inertia(H: Tensor, tolerance: Tensor) -> Tensor:
    """Eigenvalues ``(S, 3)`` below -tolerance, within it, and above, by Sylvester's law: no eigenvalue is computed."""
    shift = torch.eye(H.shape[1], dtype=H.dtype, device=H.device) * tolerance[:, None, None]
    below, upto = _negative(H + shift), _negative(H - shift)
    return torch.stack([below, upto - below, H.shape[1] - upto], 1)


def _negative(H: Tensor) -> Tensor:
    """Negative eigenvalues ``(S,)``, as many as in the block diagonal D of H = L D Lᵀ."""
    D, pivots, _ = torch.linalg.ldl_factor_ex(H)  # a zero on the diagonal of D is no fault here
    a, b = D.diagonal(dim1=1, dim2=2), D.diagonal(-1, 1, 2)
    paired = pivots < 0  # of the two rows of a block of two
    first = (paired & (paired.cumsum(1) % 2 == 1))[:, :-1]
    determinant = a[:, :-1] * a[:, 1:] - b * b
    of_two = torch.where(determinant < 0, 1, 2 * (a[:, :-1] < 0))
    count: Tensor = (~paired & (a < 0)).sum(1) + torch.where(first, of_two, 0).sum(1)
    return count
