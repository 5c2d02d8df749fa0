r"""Whether a Hessian product is right.

The second, independent way is :mod:`~theodolite.measure.curvature.finite_difference`: central differences of gradients,
which use first derivatives only, of the model called plainly with its own parameters moved in place
(:mod:`~theodolite.measure.problem.plain`). A fault's layer is found by :mod:`~theodolite.measure.curvature.diagnosis`.

To PyTorch some entries are constants, though the loss depends on them: the rows of an embedding's ``padding_idx``,
whatever is detached. Gradient and product are zero there, the matrix is that of the loss with them held, and so the
difference is taken again with them held where it disagrees.

The price is a product over all data; another and the two gradients of the difference on some samples of the first
batch. Every layer and parameter takes part in those as in all. Where a batch can't be cut, or what is left of it shows
no curvature or a difference, the whole first batch decides. Symmetry is seen on the products that are asked for later,
which are held against the one over all data; where there is no memory to keep that, on one more product at once.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from theodolite.errors import BadLoss, CheckFailed
from theodolite.measure.curvature.autograd import Product, flat
from theodolite.measure.curvature.backend import Backend
from theodolite.measure.curvature.diagnosis import locate_wrong_layer
from theodolite.measure.curvature.finite_difference import AGREE, ENOUGH, STEPS, Field, Line, compare, differs
from theodolite.measure.curvature.kinds import PER_SAMPLE, PRODUCTS, Curvature, part_of, per_sample_scale
from theodolite.measure.curvature.likelihood import fisher_of_outputs, is_natural
from theodolite.measure.linalg.streamed import dots, fill_normal, joined, lengths
from theodolite.measure.problem.batches import Batch, count
from theodolite.measure.problem.isolation import autocast_off, preserve_rng
from theodolite.measure.problem.microbatches import first_samples, microbatches
from theodolite.measure.problem.not_finite import where
from theodolite.measure.problem.objective import Objective, check_finite
from theodolite.measure.problem.own_gradients import MIXED, mixed
from theodolite.measure.problem.plain import in_place, plain_gradient, plain_gradients
from theodolite.streams import named_seed

UNSURE = 0.1  # of a product: a number with fewer digits than one is none
CANCELLED = 100  # units in the last place of what a product is the sum of, which cancelling may leave
CHECKED = 16  # samples
CHECK_BYTES = 2**22  # of the graph that the check takes: of so many samples, 4 to 16, whatever the batch

UNDECIDED = (
    "the check of a product with the Hessian cannot decide: finite differences are {:.1e} of its length from it, and "
    "as far from each other with other steps. So it is where kinks lie at the weights themselves, as those of ReLU do "
    "where biases and inputs are zero: measure after the first steps of training; or where the loss is zero to "
    "rounding: measure an earlier checkpoint. The number is that of PyTorch's own second derivative."
)

HELD = 8  # calls whose products are held against the check's own: each costs two dot products a vector
CHECK_VECTORS = {torch.float32: 11, torch.float64: 7}  # of P numbers that the check holds at most, the point among them

Rows = Callable[[Tensor], Tensor]


@dataclass(slots=True)
class Symmetry:
    """xᵀ(Hv) = vᵀ(Hx) over all data, with the check's own direction v and the first products that are asked for."""

    whole: Objective
    first: Batch
    v: Tensor  # (P,) of length one
    product: Tensor  # (P,)
    left: int = HELD

    def check(self, rows: Rows, x: Tensor, products: Tensor) -> None:
        """Compare products with vectors ``(k, P)``.

        Raises:
            CheckFailed: they show that the matrix is not symmetric.
        """
        if not self.left:
            return
        self.left -= 1
        limits, own = torch.finfo(x.dtype), lengths(self.product)
        long = lengths(x)
        gaps = (dots(products, self.v) - dots(x, self.product)).abs()
        scales = lengths(products) + long * own
        apart = (gaps > 10 * limits.eps**0.5 * scales) & (long > limits.tiny**0.5)  # below, squares are zero
        if bool(apart.any()):
            at = int(apart.nonzero()[0])
            length = float(long[at])
            self._explain(rows, x[at] / length, products[at] / length, float(gaps[at]) / length)

    def _explain(self, rows: Rows, x: Tensor, product: Tensor, gap: float) -> None:
        """Raise CheckFailed where a gap is more than rounding, by which a product of a sum is not the sum."""
        self.left = 0
        if gap <= 10 * float((rows((x + self.v)[None])[0] - product - self.product).norm()):
            return
        _check_not_cancelled(self.whole.vector.dtype, gap, _rounding(self.whole, self.first, x + self.v))
        raise CheckFailed(
            f"expected a symmetric matrix, but u·(Hv) and v·(Hu) differ by {gap:.1e}, where |Hu| + |Hv| is "
            f"{float(product.norm() + self.product.norm()):.1e}: {locate_wrong_layer(self.whole, self.first)} Correct "
            "its backward pass."
        )


def verify(
    whole: Objective, backend: Backend, rows: Rows, first: Batch, seed: int = 0, *, keep: bool = True
) -> tuple[float, Symmetry | None]:
    """Check one product.

    Args:
        whole: the loss.
        backend: that computes products with the matrix.
        first: the first batch.
        rows: multiplies it by each row of ``(k, P)``.
        seed: of the direction.
        keep: there is memory for the direction and its product as long as the operator lives.

    Returns:
        The relative difference of product and finite difference; and what other products are held against. None: a
        second product over all data was, since there is no memory to keep them.

    Raises:
        CheckFailed: they disagree by more than rounding and kinks explain.
    """
    v = _direction(whole, seed)
    product = rows(v[None])[0]
    check_finite("a product of the matrix", product, whole, partial(where, whole, 2))
    symmetry = Symmetry(whole, first, v, product) if keep else None
    if symmetry is None:
        x = _other(v)[None]
        Symmetry(whole, first, v, product).check(rows, x, rows(x))
        del x
    still = product == 0  # for linear layers no curvature, for others constants
    del product
    with preserve_rng(), torch.enable_grad():
        error = _first_batch(whole, backend, first, v, still)
    return error, symmetry


def check_bytes(whole: Objective, backend: Backend) -> float:
    """Bytes a sample takes in the check, which goes in float64."""
    return backend.graph_bytes * (2 if whole.vector.dtype == torch.float32 else 1)


def checked_samples(backend: Backend) -> int:
    """How many samples of the first batch the finite difference takes, at most."""
    return 1 if backend.one_by_one else int(max(4, min(CHECKED, CHECK_BYTES / backend.graph_bytes)))


def _direction(whole: Objective, seed: int) -> Tensor:
    """One of length one ``(P,)``, drawn in double precision, of which nothing stays: it may be gigabytes."""
    random = torch.Generator().manual_seed(named_seed(seed, "check"))
    v = fill_normal(torch.empty_like(whole.vector), random)
    if any(getattr(module, "padding_idx", None) is not None for module in whole.model.modules()):
        v.masked_fill_(_padding(whole), 0)
    return v.div_(lengths(v).to(v))


def _other(v: Tensor) -> Tensor:
    """Another direction, of length one, that holds what this one holds."""
    w = fill_normal(torch.empty_like(v), torch.Generator().manual_seed(named_seed(0, "other direction")))
    w.masked_fill_(v == 0, 0)
    return w.div_(lengths(w).to(w))


def _padding(whole: Objective) -> Tensor:
    """Which entries ``(P,)`` embeddings hold constant where they look up; tied weights may move elsewhere."""
    owner = {id(p): name for name, p in whole.model.named_parameters()}
    held = {name: torch.zeros(shape, dtype=torch.bool) for name, shape in zip(whole.names, whole.shapes, strict=True)}
    for module in whole.model.modules():
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.padding_idx is not None:
            name = owner.get(id(module.weight), "")
            if name in held:
                held[name][module.padding_idx] = True
    return torch.cat([part.flatten() for part in held.values()]).to(whole.vector.device)


def _first_batch(whole: Objective, backend: Backend, batch: Batch, v: Tensor, still: Tensor) -> float:
    """Relative difference of a product and finite differences, on a few samples of the first batch if these can say."""
    part = first_samples(batch, checked_samples(backend))
    if count(part) < count(batch):
        try:
            error = _difference(whole, backend, part, v, still)
            if 0 < error < torch.inf:
                return error
        except (torch.OutOfMemoryError, BadLoss):
            raise
        except Exception:  # noqa: S110 - whatever a part of a batch raises: the whole one decides
            pass
    return _difference(whole, backend, batch, v, still)


def _difference(own: Objective, backend: Backend, batch: Batch, v: Tensor, still: Tensor) -> float:
    work = own if own.vector.dtype == torch.float64 or own.vector.device.type == "mps" else own.to(torch.float64)
    product = _product(backend.make, own, batch)
    exact = product(v)
    if work is not own:
        product = partial(_anew, backend, own, batch)  # what it keeps and doubles would lie side by side
    try:
        return _compared(own, work, backend, product, batch, v, exact, still)
    except (CheckFailed, BadLoss, torch.OutOfMemoryError):
        raise
    except Exception:  # a model or loss that holds float32 constants, or casts
        if work is own:
            raise
        product = _product(backend.make, own, batch)  # before the parameters are moved
        return _compared(own, own, backend, product, batch, v, exact, still)


def _anew(backend: Backend, own: Objective, batch: Batch, v: Tensor) -> Tensor:
    return _product(backend.make, own, batch)(v)


def _compared(
    own: Objective,
    work: Objective,
    backend: Backend,
    product: Field,
    batch: Batch,
    v: Tensor,
    exact: Tensor,
    still: Tensor,
) -> float:
    """The relative difference, where the gradients are taken in the precision of ``work``."""
    wide, precision, length = work.cast(batch), work.dtype or v.dtype, float(lengths(own.vector))

    def apart(v: Tensor, exact: Tensor) -> tuple[float, float]:
        with _slope(backend.kind, work, wide, v) as line:
            error, _, scale = compare(line, exact, length, precision)
        return error, scale

    error, scale = apart(v, exact)
    if error > ENOUGH * AGREE[precision] * scale and bool(still.any()):  # of entries held a product knows nothing
        with in_place(own):
            held = [(part == 0).flatten() for part in plain_gradients(own, batch)[1]]
        v = v.masked_fill(still & torch.cat(held), 0)
        exact = product(v)
        error, scale = apart(v, exact)
    if error > AGREE[precision] * scale:  # a wrong layer, or the rounding of float32?
        _check_linear(product, v, exact)
        again = product if work is own else _product(PRODUCTS[backend.kind], work, wide)
        fine = v.to(precision)
        with _slope(backend.kind, work, wide, v) as line:
            wrong = differs(line, again, fine, _other(fine), length)
        if wrong:
            size, rounding = float(again(fine).norm()), _rounding(work, wide, fine)
            _check_not_cancelled(own.vector.dtype, size, rounding)
            wrong = size > rounding / max(STEPS[precision])  # below, gradients differ by rounding at any step
        if wrong:
            raise CheckFailed(
                f"expected a product to agree with finite differences, got a difference of {error / scale:.1e} of its "
                f"length: {_culprit(own, batch)}"
            )
        _check_precision(own, work, exact, again(fine))
        if error > UNSURE * scale:
            warnings.warn(UNDECIDED.format(error / scale), stacklevel=2)
    return error / scale if scale else 0.0


def _check_linear(product: Field, v: Tensor, exact: Tensor) -> None:
    """Raise CheckFailed where twice a direction is not twice the product: a power of two changes no rounding."""
    off, scale = float((product(2 * v) - 2 * exact).norm()), 2 * float(exact.norm())
    if off > AGREE[v.dtype] * scale:
        raise CheckFailed(
            "expected products that are linear, but twice a vector gives one that is "
            f"{off / max(scale, 1e-300):.1e} of its length off twice the product: something changes gradients on their "
            "way by how large they are, as a hook that clips them, or a backward pass of its own. Remove the hook "
            "(handle.remove()), or clip the gradient after it is computed."
        )


def _check_precision(own: Objective, work: Objective, product: Tensor, wide: Tensor) -> None:
    """Raise CheckFailed where a product in the model's precision is mostly rounding, as double precision shows."""
    error, scale = float((product.to(wide) - wide).norm()), float(wide.norm())
    if work is not own and error > UNSURE * scale:
        raise CheckFailed(
            f"expected products in {own.vector.dtype} to be near those in float64, got a difference of "
            f"{error / max(scale, 1e-300):.1e} of their length: they are mostly rounding. Take model.double() and "
            "inputs.double()."
        )


def _culprit(whole: Objective, batch: Batch) -> str:
    if any(getattr(module, "max_norm", None) is not None for module in whole.model.modules()):
        return (
            "an embedding with max_norm shortens rows that are longer whenever it is called, which no gradient sees. "
            "Call the model once, so that they are short, and set its max_norm = None."
        )
    found = locate_wrong_layer(whole, batch)
    return f"{found} Correct its second derivative, or replace it by elementary operations."


def _rounding(whole: Objective, batch: Batch, v: Tensor) -> float:
    """What rounding may leave of a product whose terms cancel.

    How large those are the outputs say: Jᵀ J v is the product for a loss whose curvature by the outputs is one. Where a
    network is sure of its classes, probabilities p and 1 - p lose all digits of the smaller.
    """
    with preserve_rng(), torch.enable_grad():
        terms = _product(PRODUCTS["ggn"], replace(whole, loss=_half_mean_square), batch)(v)
    return CANCELLED * torch.finfo(v.dtype).eps * float(terms.norm())


def _check_not_cancelled(own: torch.dtype, size: float, rounding: float) -> None:
    """Raise CheckFailed where a number is no more than that."""
    if size <= rounding:
        raise CheckFailed(
            f"expected products that are more than rounding, got {size:.1e} where rounding leaves up to "
            f"{rounding:.1e}: the loss is zero, or flat, but for it. "
            + ("Take model.double() and inputs.double(), or an" if own != torch.float64 else "Measure an")
            + " earlier checkpoint."
        )


def _half_mean_square(outputs: Any, _: Any) -> Tensor:
    return flat(outputs)[0].pow(2).mean() / 2


def _product(make: Callable[[Objective, Tensor, Batch], Product], whole: Objective, batch: Batch) -> Field:
    with whole.twice_differentiable():
        product = make(whole, whole.vector.requires_grad_(), batch)

    def multiply(v: Tensor) -> Tensor:
        with autocast_off(v.device.type):
            return product(v)

    return multiply


@contextmanager
def _slope(kind: Curvature, whole: Objective, batch: Batch, v: Tensor) -> Iterator[Line]:
    """What the finite difference is taken of: the gradient, or for GGN the same with the outputs made linear.

    The model's own parameters are moved in place, and model and loss called as a script calls them: what a product
    does not see of them shows here.
    """
    with in_place(whole) as move, whole.twice_differentiable():

        def gradient(t: float) -> list[Tensor]:
            move.along(v, t)
            return joined(plain_gradients(whole, batch)[1])

        if kind == "hessian":
            yield gradient
        elif kind in PER_SAMPLE:
            yield _squared(whole, batch, v)
        else:
            yield _linearised(whole, batch, partial(move.along, v), kind)


def _squared(whole: Objective, batch: Batch, v: Tensor) -> Line:
    """The field t ↦ t Σ_n g_n g_nᵀ v of the gradients of samples that are taken alone, one after the other."""
    total = plain_gradient(whole, batch)[1]
    square, summed, product = 0.0, torch.zeros_like(total), torch.zeros_like(total)
    try:
        for alone in _alone(batch):
            own = part_of(whole, alone, batch) * plain_gradient(whole, alone)[1]
            square += float(dots(own, own))
            summed += own
            product += dots(own, v) * own
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a sample alone raises, as BatchNorm does
        raise mixed() from error
    if float((summed - total).norm()) > MIXED * square**0.5:
        raise mixed()
    scale = per_sample_scale(whole, batch)
    return lambda t: [t * scale * product]


def _alone(batch: Batch) -> list[Batch]:
    parts = microbatches(batch, 1)
    if len(parts) < count(batch):
        raise mixed()
    return parts


def _linearised(whole: Objective, batch: Batch, move: Callable[[float], None], kind: Curvature) -> Line:
    """The field t ↦ Jᵀ ∇loss(z + t J v), with t J v the odd part of the outputs: no second derivatives.

    Where a Fisher matrix is not the loss's Hessian, t ↦ Jᵀ F J t v.
    """
    inputs, targets = batch

    def outputs(t: float) -> tuple[Tensor, Callable[[Tensor], Any]]:
        move(t)
        return flat(whole.call(inputs))

    def slope(t: float) -> list[Tensor]:
        with torch.no_grad():
            ahead, behind = (outputs(sign * t)[0] for sign in (1, -1))
        z, rebuild = outputs(0.0)
        if kind == "fisher" and not is_natural(whole.loss, targets):
            pull = fisher_of_outputs(whole, rebuild(z.detach()), targets)((ahead - behind) / 2)
        else:
            moved = (z.detach() + (ahead - behind) / 2).requires_grad_()
            (pull,) = torch.autograd.grad(whole.loss(rebuild(moved), targets), moved, materialize_grads=True)
        own = list(whole.own.values())
        return list(torch.autograd.grad(z, own, pull, allow_unused=True, materialize_grads=True))

    return slope
