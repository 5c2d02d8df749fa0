r"""Whether a Hessian product is right, and which layer is at fault where it is not.

The second, independent way is the central difference of gradients, :math:`(g(\theta + hv) - g(\theta - hv)) / 2h`,
which uses first derivatives only. Its two errors are rounding, :math:`\epsilon |g| / h`, and what the gradient does
between the two points: curvature of higher order, :math:`O(h^2)`, and the jumps at kinks (ReLU, max pooling), of which
the step crosses a number proportional to h. In float64 a relative step of 1e-8 makes both small: rounding about
1e-8, and less than one of ten million units crosses its kink. So the difference is taken in float64 even for float32
models, whose weights are float64 numbers too; 5 % of error then stand out by four orders of magnitude. Larger steps
follow only if the first disagrees (near zero loss the gradient is all rounding), and two steps that disagree with
each other by as much as with the product decide nothing.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from theodolite.errors import CheckFailed, NotDifferentiable
from theodolite.measure.graph import PRODUCTS, Kind, flat
from theodolite.measure.objective import Batch, Objective, check_finite, untouched

if TYPE_CHECKING:
    from theodolite.measure.operator import HessianOperator

STEPS = {torch.float64: (1e-8, 1e-6, 1e-4), torch.float32: (1e-3, 1e-2, 1e-4)}  # relative to the point's own length
AGREE = {torch.float64: 1e-3, torch.float32: 2e-2}  # far above the errors of these steps, far below a wrong layer's
Field = Callable[[Tensor], Tensor]


def verify(operator: "HessianOperator") -> float:
    """Check one product and symmetry; the relative difference of product and finite difference.

    Raises:
        CheckFailed: they disagree by more than rounding and kinks explain.
    """
    random = torch.Generator().manual_seed(0)
    pair = torch.randn(2, operator.shape[0], generator=random, dtype=torch.float64).to(operator.device)
    pair /= pair.norm(dim=1, keepdim=True)
    u, v = pair.to(operator.dtype)
    products = operator.rows(torch.stack([u, v]))
    check_finite("a product of the matrix", products)
    Hu, Hv = products
    gap = float((u.double() @ Hv.double() - v.double() @ Hu.double()).abs())
    with untouched(), torch.enable_grad():
        error = _first_batch(operator, v, u)
    scale = float(Hu.norm() + Hv.norm())
    if gap > 10 * torch.finfo(operator.dtype).eps ** 0.5 * scale:
        noise = float((operator.rows((u + v)[None])[0] - Hu - Hv).norm())
        if gap > 10 * noise:
            raise CheckFailed(
                f"expected a symmetric matrix, but u·(Hv) and v·(Hu) differ by {gap:.1e}, where |Hu| + |Hv| is "
                f"{scale:.1e}: {_culprit(operator.objective)} Correct its backward pass."
            )
    return error


def _first_batch(operator: "HessianOperator", v: Tensor, w: Tensor) -> float:
    """Relative difference of a product and finite differences on the first batch."""
    own = operator.objective
    product = _product(operator.kind, own)
    work = own if own.vector.dtype == torch.float64 or own.vector.device.type == "mps" else own.to(torch.float64)
    try:
        slope, exact = _slope(operator.kind, work), product(v).to(work.vector)
        error, _, scale = compare(slope, work.vector, v.to(work.vector), exact)
    except RuntimeError:  # a model or loss that holds float32 constants
        if work is own:
            raise
        work, slope = own, _slope(operator.kind, own)
        error, _, scale = compare(slope, own.vector, v, product(v))
    if error > AGREE[work.vector.dtype] * scale:  # a wrong layer, or the rounding of float32?
        again = product if work is own else _product(operator.kind, work)
        if differs(slope, again, work.vector, v.to(work.vector), w.to(work.vector)):
            raise CheckFailed(
                f"expected a product to agree with finite differences, got a difference of {error / scale:.1e} of its "
                f"length: {_culprit(own)} Correct its second derivative, or replace it by elementary operations."
            )
    return error / scale if scale else 0.0


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
    return best, min(float((a - b).norm()) for a, b in pairwise(found)), scale


def _product(kind: Kind, whole: Objective) -> Field:
    batch, _ = next(whole.batches())
    with whole.twice_differentiable():
        product = PRODUCTS[kind](whole, whole.vector.requires_grad_(), batch)

    def multiply(v: Tensor) -> Tensor:
        with torch.autocast(v.device.type, enabled=False):
            return product(v)

    return multiply


def _slope(kind: Kind, whole: Objective) -> Field:
    """What the finite difference is taken of: the gradient, or for GGN the same with the outputs made linear."""
    batch, _ = next(whole.batches())

    def gradient(point: Tensor) -> Tensor:
        point = point.detach().requires_grad_()
        with whole.twice_differentiable():
            loss = whole.batch_loss(whole.unflatten(point), batch)
            return torch.autograd.grad(loss, point, materialize_grads=True)[0]

    return gradient if kind == "hessian" else _linearised_slope(whole, batch)


def _linearised_slope(whole: Objective, batch: Batch) -> Field:
    """The field p ↦ Jᵀ ∇loss(z + J (p - θ)), with J (p - θ) the odd part of the outputs: no second derivatives."""
    inputs, targets = batch
    centre = whole.vector

    def outputs(point: Tensor) -> tuple[Tensor, Callable[[Tensor], Any]]:
        with whole.twice_differentiable():
            return flat(whole.outputs(whole.unflatten(point), inputs))

    def slope(point: Tensor) -> Tensor:
        with torch.no_grad():
            ahead, behind = (outputs(centre + sign * (point - centre))[0] for sign in (1, -1))
        here = centre.clone().requires_grad_()
        z, rebuild = outputs(here)
        moved = (z.detach() + (ahead - behind) / 2).requires_grad_()
        (pull,) = torch.autograd.grad(whole.loss(rebuild(moved), targets), moved, materialize_grads=True)
        return torch.autograd.grad(z, here, pull, materialize_grads=True)[0]

    return slope


def explain(whole: Objective, error: RuntimeError) -> None:
    """Raise NotDifferentiable with the layer's name if PyTorch cannot differentiate one of them twice; else return."""
    with untouched(), torch.enable_grad():
        for name, gradient, point in _layers(whole):
            try:
                _twice(gradient, point)
            except RuntimeError as local:
                raise NotDifferentiable(
                    f"expected layers that PyTorch can differentiate twice, but {name} is not ({_first_line(local)}). "
                    "Replace it by an equivalent made of elementary operations, or measure only the layers after it: "
                    "parameters='NAME.*'."
                ) from error


def _culprit(whole: Objective) -> str:
    """A sentence that names the layer whose second derivative is wrong."""
    with untouched(), torch.enable_grad():
        try:
            for name, gradient, point in _layers(whole):
                random = torch.Generator().manual_seed(1)
                v, w = torch.randn(2, len(point), generator=random, dtype=torch.float64).to(point)
                product = partial(_twice, gradient, point)
                if differs(gradient, product, point, v, w):
                    return f"the second derivative of {name} is wrong."
        except RuntimeError:
            pass
    return "no single layer shows it, so it is in how they are joined."


def _twice(gradient: Field, point: Tensor, v: Tensor | None = None) -> Tensor:
    here = point.clone().requires_grad_()
    slope = gradient(here)
    if not slope.requires_grad:
        return torch.zeros_like(here)
    seed = torch.ones_like(here) if v is None else v
    return torch.autograd.grad(slope, here, seed, materialize_grads=True)[0].detach()


def _layers(whole: Objective) -> Iterator[tuple[str, Field, Tensor]]:
    """Each module, children before parents, then the loss: its name, a gradient through it alone, and where."""
    if whole.vector.device.type != "mps":
        whole = whole.to(torch.float64)
    batch, _ = next(whole.batches())
    calls: dict[str, tuple[Any, Any]] = {}
    handles = [
        module.register_forward_pre_hook(
            lambda _, args, kwargs, name=name: calls.setdefault(name, (args, kwargs)) and None, with_kwargs=True
        )
        for name, module in whole.model.named_modules()
    ]
    own = {name: p.detach().to(whole.vector) for name, p in whole.model.named_parameters()}
    try:
        with torch.no_grad(), whole.twice_differentiable():
            outputs = whole.outputs(own, batch[0])
    finally:
        for handle in handles:
            handle.remove()
    for name, module in reversed(list(whole.model.named_modules())):
        if name in calls:
            title = (
                f"layer '{name}' ({type(module).__name__})" if name else f"the model itself ({type(module).__name__})"
            )
            yield title, *_local(whole, module, calls[name])
    point, rebuild = flat(outputs)
    title = getattr(whole.loss, "__name__", type(whole.loss).__name__)
    yield f"the loss ({title})", lambda z: _gradient(whole.loss(rebuild(z), batch[1]), z), point


def _local(whole: Objective, module: nn.Module, call: tuple[Any, Any]) -> tuple[Field, Tensor]:
    """The gradient of a curved function of one module's outputs by its inputs and parameters."""
    work = whole.vector
    state = {n: t.detach().to(work) for n, t in module.named_parameters()}
    buffers = {n: t.to(work) if t.is_floating_point() else t for n, t in module.named_buffers()}
    point, rebuild = flat((call, state))

    def gradient(p: Tensor) -> Tensor:
        p = p if p.requires_grad else p.detach().requires_grad_()
        (args, kwargs), parameters = rebuild(p)
        copies = {n: t.clone() for n, t in buffers.items()}
        with whole.twice_differentiable():
            z, _ = flat(functional_call(module, {**copies, **parameters}, args, kwargs))
        weights = torch.linspace(-1, 1, len(z), dtype=z.dtype, device=z.device)
        return _gradient((weights * z + z**2 / 2).sum(), p)

    return gradient, point


def _gradient(value: Tensor, point: Tensor) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(point)
    return torch.autograd.grad(value, point, create_graph=True, materialize_grads=True)[0]


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")[:120]
