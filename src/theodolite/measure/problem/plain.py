"""The model as a script calls it: ``loss(model(inputs), targets)``, its own parameters moved in place and put back.

Everything else here evaluates a loss with tensors in place of the parameters. Whatever that does not see (a parameter
that a function caught, a forward pass that was patched, recomputation, hooks) moves the loss or its gradient here and
not there. So the two are compared at a point moved from where the model is, on some samples of the first batch.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from theodolite.errors import BadData, BadLoss, BadModel, CheckFailed, NotDeterministic, TheodoliteError
from theodolite.measure.problem.batches import Batch, copied, count, is_graph, tensors
from theodolite.measure.problem.isolation import preserve_modules, preserve_rng
from theodolite.measure.problem.microbatches import first_samples
from theodolite.measure.problem.objective import Objective, unfit
from theodolite.measure.problem.reduction import lengths
from theodolite.measure.problem.vocabulary import LOGITS_SHARE, logit_bytes
from theodolite.streams import named_seed

LOOKED_AT = 16  # samples
STEP = 1e-2  # of a parameter tensor's own length
ROUNDING = 1e3  # units in the last place: two ways run the same operations on the same numbers
LARGEST_ROUNDING = 0.1  # relative, in bfloat16
ELSEWHERE = 32  # units in the last place: parameters that lie elsewhere in memory may go through another kernel
LARGEST_ELSEWHERE = 1e-4  # relative: below a unit of lower precision, where only the same number is the same

USED_UP = "backward through the graph a second time"  # words of PyTorch's where a tensor is of an earlier call
SILENTLY_WRONG = (  # warnings of PyTorch's where the number would not be what its writer thinks
    "Using a target size",  # all outputs are paired with all targets
    "None of the inputs have requires_grad",  # a reentrant checkpoint: its layers get no gradient
)


@dataclass(frozen=True, slots=True)
class Moves:
    """Moves the parameters that are measured to a flat vector ``(P,)``."""

    whole: Objective
    before: list[tuple[nn.Parameter, Tensor]]  # all parameters, and what was in them

    def __call__(self, vector: Tensor) -> None:
        """Move there."""
        own = self.whole.own
        for name, part in self.whole.unflatten(vector.detach()).items():
            own[name].data.copy_(part)  # not seen by autograd, so that graphs of the user's stay good

    def along(self, direction: Tensor, step: float) -> None:
        """Move from where they were by a step in a direction ``(P,)``, a tensor at a time."""
        own, before = self.whole.own, {id(parameter): values for parameter, values in self.before}
        for name, part in self.whole.unflatten(direction.detach()).items():
            data = own[name].data
            data.copy_(before[id(own[name])])
            data.add_(part.to(data), alpha=step)


@contextmanager
def in_place(whole: Objective) -> Iterator[Moves]:
    """The model's own parameters, to be moved to any flat vector ``(P,)``; all is put back bit for bit.

    Where the loss is computed in another precision, parameters and buffers have that inside.
    """
    roots = _roots(whole)
    moves = Moves(whole, [])
    with ExitStack() as stack:
        stack.enter_context(preserve_rng())
        stack.enter_context(preserve_modules(*roots))
        for root in roots:
            for parameter in root.parameters():
                own = parameter.data
                cast = own.to(whole.dtype) if whole.dtype is not None and own.is_floating_point() else own
                moves.before.append((parameter, own.clone() if cast is own else own))  # what was cast is not written to
                stack.callback(_put_back, parameter, own, moves.before[-1][1])
                parameter.data = cast
            for module in root.modules():
                for name, buffer in module._buffers.items():
                    if buffer is not None:
                        kind = whole.dtype if whole.dtype is not None and buffer.is_floating_point() else buffer.dtype
                        stack.callback(module._buffers.__setitem__, name, buffer)
                        module._buffers[name] = buffer.to(kind, copy=True)
        yield moves


def _put_back(parameter: nn.Parameter, data: Tensor, values: Tensor) -> None:
    data.copy_(values)
    parameter.data = data


def plain_gradient(whole: Objective, batch: Batch) -> tuple[Tensor, Tensor]:
    """Loss and its gradient ``(P,)`` by the model's own parameters, where they are."""
    loss, parts = plain_gradients(whole, batch)
    return loss, torch.cat([part.flatten() for part in parts])


def plain_gradients(whole: Objective, batch: Batch) -> tuple[Tensor, list[Tensor]]:
    """The same, a tensor for each parameter."""
    own = list(whole.own.values())
    with torch.enable_grad():
        loss = whole.loss_of(batch)
        if not loss.requires_grad:
            return loss.detach(), [torch.zeros_like(p) for p in own]
        return loss.detach(), list(torch.autograd.grad(loss, own, allow_unused=True, materialize_grads=True))


def bound_gradient(whole: Objective, vector: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """The same with tensors in place of the model's own."""
    point = vector.detach().requires_grad_()
    parts = _in_own_types(whole, point)
    with torch.enable_grad(), whole.at(parts):
        loss = whole.loss_of(batch)
        if not loss.requires_grad:
            return loss.detach(), torch.zeros_like(point)
        return loss.detach(), torch.autograd.grad(loss, point, materialize_grads=True)[0].detach()


def _in_own_types(whole: Objective, vector: Tensor) -> dict[str, Tensor]:
    return {name: part.to(whole.dtype or whole.own[name].dtype) for name, part in whole.unflatten(vector).items()}


def inspected(whole: Objective, batch: Batch, room: float = math.inf) -> Objective:
    """The same loss with what some samples of the first batch show of it.

    Args:
        whole: the loss.
        batch: the first one.
        room: bytes; fewer samples are taken where their logits over a large vocabulary have a 64th of it.

    Raises:
        BadData: model or loss raise an error.
        BadLoss: the loss is not a finite scalar.
        BadModel: a call writes into the model's parameters.
        NotDeterministic: two passes differ, or one uses what another has kept.
        CheckFailed: the model called plainly, its own parameters moved, gives another loss or gradient.
    """
    each = logit_bytes(whole.model, batch) / max(1, count(batch))
    part = first_samples(batch, max(1, int(min(LOOKED_AT, room * LOGITS_SHARE / each))) if each else LOOKED_AT)
    if part is not batch:
        try:
            return _inspected(whole, part)
        except Exception:  # noqa: S110 - samples that cannot be taken alone; or what is wrong is said of the whole batch
            pass
    return _inspected(whole, batch)


def _inspected(whole: Objective, batch: Batch) -> Objective:
    """From calls that all find modules as they were, but for those with tensors in place of the model's own.

    These find what earlier calls have left there, as in a measurement: what is kept and used again shows.
    """
    vector = whole.vector
    with in_place(whole) as move:
        with _put_back_after(whole):
            whole, first = _called(whole, batch)
        return _agreeing(whole, batch, first, vector, move)


def _put_back_after(whole: Objective) -> AbstractContextManager[None]:
    return preserve_modules(whole.model, whole.loss)


def _called(whole: Objective, batch: Batch) -> tuple[Objective, Tensor]:
    """The loss where the model is, and its form with what this shows of it."""
    given = (_to_write(batch[0]), _to_write(batch[1]))
    inputs, targets = (_versions(part) for part in given)
    first = _value(whole, given)
    if given[1] is not batch[1] and _versions(given[1]) != targets:
        raise BadLoss(
            "expected a loss that leaves its targets as they are, but it writes into them, so that every call sees "
            "others. Compute from a copy: targets = targets.clone()."
        )
    if _versions(given[0]) != inputs:
        whole = replace(whole, writes_inputs=True)
        first = _value(whole, batch)
    return _without_gradients(whole, batch, first), first


def _to_write(part: Any) -> Any:
    """A copy of inputs or targets, in case they are written into; themselves where they are differentiated by."""
    return part if any(t.requires_grad for t in tensors(part) if not t.is_inference()) else copied(part)


def _versions(part: Any) -> list[int]:
    """How often each tensor in a part of a batch was written to."""
    return [t._version for t in tensors(part) if not t.is_inference()]


def _all_tensors(batch: Batch) -> list[Tensor]:
    return [t for t in (*tensors(batch[0]), *tensors(batch[1])) if not t.is_inference()]


def _value(whole: Objective, batch: Batch) -> Tensor:
    try:
        with warnings.catch_warnings():
            for words in SILENTLY_WRONG:
                warnings.filterwarnings("error", words)
            value = whole.batch_loss({}, batch)
    except (TheodoliteError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if is_graph(batch[0]) and "'Tensor' object has no attribute" in str(error):
            raise BadData(
                f"expected a loss of the outputs and a graph's y, which it is given alone, got an error: {error}. Pass "
                "(graph, graph) for a loss that reads more of it."
            ) from error
        sizes = lengths(batch)
        if sizes is not None and sizes[0] != sizes[1]:
            raise BadData(
                f"expected as many targets as inputs, got {sizes[1]:.0f} and {sizes[0]:.0f} in the first batch. Check "
                f"how they were paired. ({error})"
            ) from error
        raise BadData(unfit("the first batch", error)) from error
    if not isinstance(value, Tensor) or value.numel() != 1 or value.is_complex():
        raise BadLoss(f"expected the loss to be a scalar, got {_no_scalar(value)}")
    if not torch.isfinite(value):
        if not all(bool(torch.isfinite(t).all()) for t in _all_tensors(batch) if t.is_floating_point()):
            raise BadData("expected finite data, but batch 0 holds NaN or infinity. Clean it first.")
        raise BadLoss(f"expected a finite loss, got {value.item()}. Check the targets and the model's outputs.")
    return value.detach()


def _no_scalar(value: Any) -> str:
    """What came in its place, and what to do."""
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}. Use reduction='mean', or the sum over samples."
    if isinstance(value, (int, float)):
        return f"{type(value).__name__}, of which no gradient can be taken. Return the tensor: leave out .item()."
    return f"{type(value).__name__}. Return the one number that is minimised, as loss(outputs, targets)['loss']."


def _without_gradients(whole: Objective, batch: Batch, first: Tensor) -> Objective:
    """The loss once more, no gradients recorded: the same, unless it is random, or takes gradients itself."""
    close: Objective | None = None
    rounding = min(ELSEWHERE * torch.finfo(first.dtype).eps, LARGEST_ELSEWHERE)
    for form in (whole, replace(whole, fused=False)):
        try:
            with torch.no_grad():  # and of tensors that no gradient reaches, as evaluations have them
                second = form.batch_loss(_in_own_types(form, form.vector.clone()), batch)  # a call may write into them
            if torch.equal(first, second):
                return form
            if float((second - first).abs()) <= rounding * float(first.abs()):
                close = form
        except Exception:  # noqa: S110 - a loss that takes gradients by the inputs
            pass
    if not torch.equal(first, whole.batch_loss({}, batch).detach()):
        raise NotDeterministic(
            "expected one loss from two passes over the same batch, got two. Call model.eval() (Dropout is off then), "
            "fix the randomness, or reset in forward what the model keeps from one call to the next."
        )
    return replace(whole, grad_in_loss=True) if close is None else close


@dataclass(frozen=True, slots=True)
class _Found:
    """What a point gives."""

    loss: Tensor
    gradient: Tensor | None  # (P,); None where the loss has none

    def differs(self, other: "_Found") -> bool:
        """By more than two ways round that run the same operations."""
        rounding = min(ROUNDING * torch.finfo(self.loss.dtype).eps, LARGEST_ROUNDING)
        a, b = float(self.loss), float(other.loss)
        if not abs(a - b) <= rounding * (abs(a) + abs(b)) and a == a:
            return True
        if self.gradient is None or other.gradient is None or not bool(torch.isfinite(self.gradient).all()):
            return False
        scale = float(self.gradient.norm() + other.gradient.norm()) + abs(a)
        return not float((self.gradient - other.gradient).norm()) <= rounding * scale


def _agreeing(whole: Objective, batch: Batch, first: Tensor, vector: Tensor, move: Moves) -> Objective:
    """The loss in the form that agrees with the model called plainly, where it is, moved, and back again."""
    moved = _moved(whole, vector)
    buffers = {name: b.clone() for root in _roots(whole) for name, b in root.named_buffers()}
    move(vector)
    with _put_back_after(whole):
        here = _Found(whole.loss_of(batch).detach(), None)
    _check_not_written(move, vector)
    move(moved)
    with _put_back_after(whole):
        there = _found(lambda: plain_gradient(whole, batch), lambda: whole.loss_of(batch))
    _check_not_written(move, moved)
    move(vector)
    again = _Found(whole.loss_of(batch).detach(), None)
    if here.differs(again):
        now = {name: b for root in _roots(whole) for name, b in root.named_buffers()}
        kept = [f"'{name}'" for name, before in buffers.items() if not torch.equal(now[name], before)]
        raise NotDeterministic(
            f"expected the same loss before parameters were moved and after they were put back, got {float(here.loss)} "
            f"and {float(again.loss)}: model or loss keep {', '.join(kept) or 'something'} from one call to the next. "
            "Call eval() on what keeps it, or leave it out of the loss that is measured."
        )
    for caught in (False, True):
        tried = replace(whole, caught=caught)
        bound = _found(
            lambda tried=tried: bound_gradient(tried, moved, batch),  # type: ignore[misc]
            lambda tried=tried: tried.batch_loss(tried.unflatten(moved), batch),  # type: ignore[misc]
        )
        if not bound.differs(there) and not _Found(first, None).differs(here):
            return tried
    raise CheckFailed(_disagreement(whole, here, there, bound, first))


def _roots(whole: Objective) -> list[nn.Module]:
    return [root for root in (whole.model, whole.loss) if isinstance(root, nn.Module)]


def _check_not_written(move: Moves, vector: Tensor) -> None:
    """Raise BadModel where a call has written into the parameters, but for weights that PyTorch renormalises."""
    whole = move.whole
    names = {id(p): name for name, p in whole.model.named_parameters()}
    renormed, put = {id(weight) for weight in whole.renormed()}, whole.unflatten(vector)
    for own, before in move.before:
        name = names.get(id(own), "the loss")
        part = put.get(name, before).to(own.dtype)  # of several types, a vector has the widest
        same = torch.equal(own.detach(), part) or not bool(torch.isfinite(part).all())
        if not same and id(own) not in renormed:
            _check_apart(move, own)
            raise BadModel(
                f"expected a model that leaves its parameters as they are, but a call writes into '{name}'. Compute "
                "what it needs from the parameter instead, as self.weight.clamp(-c, c) or self.weight / "
                "self.weight.norm(), or write it once, before the measurement."
            )


def _check_apart(move: Moves, own: nn.Parameter) -> None:
    """Raise BadModel where a parameter has its numbers in the memory of another one."""
    names = {id(p): name for name, p in move.whole.model.named_parameters()}
    for other, _ in move.before:
        if other is not own and _span(other)[0] == _span(own)[0]:
            (_, begin, end), (_, start, stop) = _span(other), _span(own)
            if begin < stop and start < end:
                one, two = (names.get(id(p), "one of the loss") for p in (own, other))
                raise BadModel(
                    f"expected parameters with memory of their own, but '{one}' shares that of '{two}'. Give each a "
                    "clone() of its numbers, or make both one nn.Parameter if they are tied."
                )


def _span(p: Tensor) -> tuple[int, int, int]:
    """Its storage, and the first place there and the one behind its last."""
    last = sum((int(size) - 1) * int(stride) for size, stride in zip(p.shape, p.stride(), strict=True))
    begin = int(p.storage_offset())
    return p.untyped_storage().data_ptr(), begin, begin + last + 1 if p.numel() else begin


def _disagreement(whole: Objective, here: _Found, there: _Found, bound: _Found, first: Tensor) -> str:
    hooked = [name for name, own in whole.own.items() if getattr(own, "_backward_hooks", None)]
    if hooked:
        return (
            f"expected gradients as the loss has them, but '{hooked[0]}' has a hook that changes its own. Remove it "
            "(handle.remove()), and write what it does into the model: a mask as weight * mask + (weight * (1 - "
            "mask)).detach()."
        )
    what = (
        f"expected the loss that the model gives when its parameters are moved in place, {float(there.loss):.6g}, got "
        f"{float(bound.loss):.6g} with other tensors in their place (and {float(here.loss):.6g} and {float(first):.6g} "
        "unmoved)"
    )
    if there.gradient is not None and bound.gradient is not None and not replace(bound, gradient=None).differs(there):
        off = float((bound.gradient - there.gradient).norm() / there.gradient.norm())
        what = (
            "expected the gradient that the model gives when its parameters are moved in place, got one that is "
            f"{off:.1e} of its length off with other tensors in their place"
        )
    return (
        f"{what}: model or loss reach parameters past the model's own attributes, as views, copies, what was kept from "
        "an earlier call or compiled code do. Take them from the model, as model.parameters() or model.layer.weight, "
        "and compute what is made of them anew in each call."
    )


def _found(with_gradient: Callable[[], tuple[Tensor, Tensor]], alone: Callable[[], Tensor]) -> _Found:
    try:
        return _Found(*with_gradient())
    except RuntimeError as error:  # something on the way has no derivative, which not every instrument asks for
        if USED_UP in str(error):
            raise NotDeterministic(
                "expected a loss that is computed anew in each call, got one through a tensor that model or loss keep "
                "from an earlier call. Compute it in each call."
            ) from error
        return _Found(alone().detach(), None)


def _moved(whole: Objective, vector: Tensor) -> Tensor:
    """A point near by: each parameter tensor by a hundredth of its own length, in a random direction."""
    draw = torch.Generator().manual_seed(named_seed(0, "moved parameters"))
    parts = []
    for part in whole.unflatten(vector).values():
        step = torch.empty(part.numel(), dtype=torch.float32, device="cpu").uniform_(-1, 1, generator=draw).to(part)
        size = float(part.norm()) or 1.0
        parts.append(part.flatten().add(step, alpha=STEP * size / max(float(step.norm()), 1e-30)))
    return torch.cat(parts)
