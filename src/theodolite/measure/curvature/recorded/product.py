r"""Products with the curvature of any network, by Pearlmutter's operator on a recording of its operations.

A batch's loss is computed once while every operation is recorded that parameters reach, and its gradient once. Each
keeps what its derivatives ask for. A product is then one pass of tangents forwards and one backwards, as in
:mod:`~theodolite.measure.curvature.sequential.product`, without a graph:

.. math:: \dot z = \sum_i J_i \dot a_i, \qquad
          \dot\delta_i = J_i^\top \dot\delta + \dot J_i^\top \delta .

It computes no tangent that nothing asks for, no loss and no gradient again, and one number at a time through any
sequence of pointwise functions. Without the terms in :math:`\delta` the passes are J and its transpose.

Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian"; Griewank and Walther 2008, "Evaluating
Derivatives", on recordings.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from theodolite.errors import BadData
from theodolite.measure.curvature.autograd import Product, flat, is_real
from theodolite.measure.curvature.kinds import AROUND, Curvature
from theodolite.measure.curvature.recorded.calls import Calls, NotRecordable
from theodolite.measure.curvature.recorded.operations import Narrow, Operation
from theodolite.measure.curvature.recorded.recording import Recording
from theodolite.measure.curvature.recorded.rules import RULES
from theodolite.measure.curvature.recorded.vocabulary import CrossEntropyOfRows
from theodolite.measure.problem.batches import Batch
from theodolite.measure.problem.binding import Binding
from theodolite.measure.problem.objective import Objective, check_reached

Known = dict[int, Tensor]  # by number of what is recorded


class Passes:
    """Tangents through what was recorded, forwards and backwards."""

    def __init__(self, recording: Recording, shapes: tuple[torch.Size, ...], ends: list[int], *, exact: bool) -> None:
        """Leave out what no end asks for.

        Args:
            recording: whose first numbers are the parameters.
            shapes: of the parameters.
            ends: numbers of what derivatives are taken of.
            exact: second derivatives are asked for, of the one end that there is; else first ones of all.
        """
        self._shapes, self._slots, self._exact = shapes, recording.slots, exact
        reached, self.operations = set(ends), list[Operation]()
        for each in reversed(recording.operations):
            if each.output in reached:
                reached.update(each.inputs)
                self.operations.append(each)
        self.operations.reverse()
        self._needed = set() if exact else set(ends)  # of which a tangent is asked for
        self._spent: list[list[int]] = []  # by operation, the numbers whose tangents nothing asks for after it

    def keep(self, delta: Tensor, end: int) -> None:
        """Go back once from the loss, and have each operation keep its δ."""
        self._backwards({end: delta}, set(), None, lambda each, known: each.keep(known))
        for each in reversed(self.operations):
            if each.curved or each.output in self._needed:
                self._needed.update(each.inputs)
            if each.curved and each.uses_own:
                self._needed.add(each.output)
        self._plan({slot for each in self.operations for slot in each.waits_for()})

    def need_all(self) -> None:
        """Ask for the tangents of the ends."""
        ends = set(self._needed)
        for each in reversed(self.operations):
            if each.output in self._needed:
                self._needed.update(each.inputs)
        self._plan(ends)

    def _plan(self, asked: set[int]) -> None:
        """When each tangent is let go: those that are not asked for later, as soon as all was computed from them."""
        seen = asked | set(range(len(self._shapes)))  # the direction is there anyway
        self._spent = []
        for each in reversed(self.operations):
            self._spent.append([slot for slot in {*each.inputs, each.output} if slot not in seen])
            seen.update(each.inputs)
        self._spent.reverse()

    def tensors(self) -> list[Tensor]:
        """All that is kept."""
        return [tensor for each in self.operations for tensor in each.tensors()]

    def forwards(self, v: Tensor) -> tuple[Known, Known]:
        """Along v ``(P,)``: the tangents that are asked for later, and what of the way back is there already."""
        parts = v.split([shape.numel() for shape in self._shapes])
        tangents = {at: part.view(shape) for at, (part, shape) in enumerate(zip(parts, self._shapes, strict=True))}
        settled, ours = Known(), set[int]()
        for each, spent in zip(self.operations, self._spent, strict=True):
            own = [tangents.get(slot) for slot in each.inputs]
            if any(tangent is not None for tangent in own):
                if each.output in self._needed:
                    tangents[each.output] = each.jvp(own)
                if self._exact and (term := each.settle(own)) is not None:
                    _add(settled, ours, each.inputs[1], term, fresh=True)
            for slot in spent:
                tangents.pop(slot, None)
        return tangents, settled

    def product(self, v: Tensor) -> Tensor:
        """The Hessian of the one end times v ``(P,)``."""
        tangents, settled = self.forwards(v)
        return self._flat(self._backwards(settled, set(settled), tangents, None), v)

    def backwards(self, ends: Known) -> Tensor:
        """What parameters get ``(P,)`` of the ends."""
        return self._flat(self._backwards(ends, set(), None, None), next(iter(ends.values())))

    def _flat(self, found: Known, like: Tensor) -> Tensor:
        return torch.cat(
            [
                found[at].reshape(-1) if at in found else like.new_zeros(shape.numel())
                for at, shape in enumerate(self._shapes)
            ]
        )

    def _backwards(
        self, ends: Known, ours: set[int], tangents: Known | None, visit: Callable[[Operation, Tensor], None] | None
    ) -> Known:
        """From the ends down; ``ours`` are the numbers whose sum may be written to."""
        sums = dict(ends)
        for each in reversed(self.operations):
            delta = sums.pop(each.output, None)
            if delta is not None and visit is not None:
                visit(each, delta)
            if isinstance(each, Narrow):
                if delta is not None:
                    _gather(each, delta, sums, ours)
                continue
            below: list[Tensor | None] = [None] * len(each.inputs) if delta is None else each.vjp(delta)
            if tangents is not None:
                own = tangents.pop(each.output, None)  # what is computed from it was passed already
                if each.curved:
                    each.bend([tangents.get(slot) for slot in each.inputs], own, below)
            for slot, term in zip(each.inputs, below, strict=True):
                if term is not None:
                    _add(sums, ours, slot, term, fresh=each.fresh)
        return sums


def _add(sums: Known, ours: set[int], slot: int, term: Tensor, *, fresh: bool) -> None:
    before = sums.get(slot)
    if before is None:
        sums[slot] = term
        if fresh:
            ours.add(slot)
    elif slot in ours:
        before.add_(term)
    elif fresh:
        sums[slot] = term.add_(before)
        ours.add(slot)
    else:
        sums[slot] = before + term
        ours.add(slot)


def _gather(each: Narrow, delta: Tensor, sums: Known, ours: set[int]) -> None:
    (slot,) = each.inputs
    if slot not in sums:
        sums[slot] = delta.new_zeros(each.shape)
    elif slot not in ours:
        sums[slot] = sums[slot].clone()
    ours.add(slot)
    each.add_into(sums[slot], delta)


@dataclass(frozen=True, slots=True)
class RecordedProduct:
    """The product with the curvature of one batch."""

    one: Product  # for one direction (P,)
    passes: Passes
    holds_logits: bool  # over a large vocabulary, or has none
    written: tuple[tuple[Tensor, int], ...]  # the data, and how often each was written to

    def __call__(self, vectors: Tensor) -> Tensor:
        """``(P,)`` to ``(P,)``, or ``(k, P)`` to ``(k, P)``."""
        if any(tensor._version != version for tensor, version in self.written):
            raise BadData(
                "expected data that stay as they were when the operator was made, but they were written to since. "
                "Pass a copy of them."
            )
        with torch.no_grad():
            return self.one(vectors) if vectors.ndim == 1 else torch.stack([self.one(v) for v in vectors])

    def bytes(self, point: Tensor) -> int:
        """What it keeps, but for the parameters and the data."""
        storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in self.passes.tensors()}
        for own in (point, *(tensor for tensor, _ in self.written)):
            storages.pop(own.untyped_storage()._cdata, None)
        return sum(storages.values())


def recorded_product(objective: Objective, kind: Curvature, point: Tensor, batch: Batch) -> RecordedProduct:
    """Run a batch once, and keep what products need.

    Raises:
        NotRecordable: something in the model or loss is not followed.
    """
    if objective.grad_in_loss:
        raise NotRecordable("gradients within the loss")
    written = tuple((leaf, leaf._version) for leaf in tree_leaves(batch) if isinstance(leaf, Tensor))
    try:
        one, passes, chunked = _product(objective, kind, point, _channels_last(objective, batch))
    except RuntimeError:  # a view that asks for the other layout
        one, passes, chunked = _product(objective, kind, point, batch)
    return RecordedProduct(one, passes, not chunked, written)


def _product(objective: Objective, kind: Curvature, point: Tensor, batch: Batch) -> tuple[Product, Passes, bool]:
    if kind == "hessian":
        return _hessian_product(objective, point, batch)
    if objective.logit_bytes is not None:
        return _product_by_logits(objective, point, batch)
    found: list[RecordedOutputs] = []

    def linearise(*given: Any) -> RecordedOutputs:
        found.append(recorded_outputs(*given))
        return found[-1]

    return AROUND[kind](objective, point, batch, linearise), found[0].passes, False


def _hessian_product(objective: Objective, point: Tensor, batch: Batch) -> tuple[Product, Passes, bool]:
    loss, recording = _recorded(objective, point, lambda: objective.loss_of(batch))
    end = recording.slot(loss)
    if end is None:
        check_reached(loss)
        raise NotRecordable("a loss that parameters reach in another way")
    with torch.no_grad():
        passes = Passes(recording, objective.shapes, [end], exact=True)
        passes.keep(torch.ones_like(loss), end)

    return passes.product, passes, any(isinstance(each, CrossEntropyOfRows) for each in passes.operations)


def _product_by_logits(objective: Objective, point: Tensor, batch: Batch) -> tuple[Product, Passes, bool]:
    """With the generalised Gauss-Newton matrix of a loss that is one cross entropy of logits that are not held."""
    loss, recording = _recorded(objective, point, lambda: objective.loss_of(batch))
    end = recording.slot(loss)
    last = next((each for each in recording.operations if each.output == end), None)
    if not isinstance(last, CrossEntropyOfRows):
        raise NotRecordable("a loss that is more than the cross entropy of logits")
    passes = Passes(recording, objective.shapes, list(last.inputs), exact=False)
    passes.need_all()

    def product(v: Tensor) -> Tensor:
        tangents, _ = passes.forwards(v)
        parts = last.curvature([tangents.get(slot) for slot in last.inputs], gauss_newton=True)
        return passes.backwards(dict(zip(last.inputs, parts, strict=True)))

    return product, passes, True


def _channels_last(objective: Objective, batch: Batch) -> Batch:
    """Images as convolutions on a CPU are fastest: up to 1.4 times with 16 channels."""
    if objective.device.type != "cpu" or not any(isinstance(m, nn.Conv2d) for m in objective.model.modules()):
        return batch

    def laid_out(leaf: Any) -> Any:
        images = isinstance(leaf, Tensor) and leaf.ndim == 4 and leaf.is_floating_point()
        return leaf.contiguous(memory_format=torch.channels_last) if images else leaf

    return tree_map(laid_out, batch[0]), batch[1]


@dataclass(frozen=True, slots=True)
class RecordedOutputs:
    """The outputs z of a model on one batch, and what was recorded, for products with J = ∂z/∂θ and its transpose."""

    outputs: Tensor  # (m,), all real numbers that the model gives
    rebuild: Callable[[Tensor], Any]  # them in their structure
    point: Tensor
    bound: Binding
    passes: Passes
    leaves: list[tuple[int | None, torch.Size]]  # of the outputs, with their numbers

    def times(self, v: Tensor) -> Tensor:
        """J v for one v ``(P,)``."""
        tangents, _ = self.passes.forwards(v)
        return torch.cat(
            [
                tangents[slot].reshape(-1) if slot in tangents else v.new_zeros(shape.numel())
                for slot, shape in self.leaves
            ]
        )

    def transposed(self, w: Tensor) -> Tensor:
        """Jᵀ w for one w ``(m,)``."""
        ends: Known = {}
        for (slot, shape), part in zip(self.leaves, w.split([s.numel() for _, s in self.leaves]), strict=True):
            if slot is not None:
                ends[slot] = ends[slot] + part.view(shape) if slot in ends else part.view(shape)
        return self.passes.backwards(ends) if ends else torch.zeros_like(self.point)

    def around(self, middle: Product) -> Product:
        """The product with Jᵀ B J, of one with B."""
        return lambda v: self.transposed(middle(self.times(v)))


def recorded_outputs(objective: Objective, point: Tensor, inputs: Any) -> RecordedOutputs:
    """Run the model, and keep what products with the derivative of its outputs need."""
    found, recording = _recorded(objective, point, lambda: objective.call(inputs))
    leaves = [(recording.slot(leaf), leaf.shape) for leaf in tree_leaves(found) if is_real(leaf)]
    outputs, rebuild = flat(found)
    passes = Passes(recording, objective.shapes, [slot for slot, _ in leaves if slot is not None], exact=False)
    passes.need_all()
    return RecordedOutputs(outputs.detach(), rebuild, point, objective.at(objective.unflatten(point)), passes, leaves)


def _recorded(objective: Objective, point: Tensor, run: Callable[[], Any]) -> tuple[Any, Recording]:
    """What a run gives, and the operations that parameters reach in it."""
    parameters = objective.unflatten(point.detach())
    with objective.at(parameters), _elementary(objective), Calls() as listed:
        found = run()
    return found, Recording(list(parameters.values()), listed.calls, RULES)


@contextmanager
def _elementary(objective: Objective) -> Iterator[None]:
    """Recurrent layers as operations that have a second derivative."""
    if not any(isinstance(m, nn.RNNBase) for m in objective.model.modules()):
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TF32 acceleration")  # of oneDNN on another device, when its flags are read
        with torch.backends.mkldnn.flags(enabled=False):
            yield
