"""The operations that parameters reach, from the list of all calls: each with its rule, in the order they ran."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from theodolite.measure.curvature.recorded import operations
from theodolite.measure.curvature.recorded.calls import Call, NotRecordable
from theodolite.measure.curvature.recorded.operations import Operation

PARTS = ("split", "split_with_sizes", "unbind", "unsafe_split", "unsafe_split_with_sizes", "unsafe_chunk")

Rule = Callable[..., bool]  # (recording, what a call gave, its arguments): False where the use is not known


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """A tensor that parameters reach, as φ of what has a number: slope and second derivative of φ there."""

    slot: int
    slope: Tensor | float = 1.0
    bend: Tensor | float = 0.0

    @property
    def is_itself(self) -> bool:
        """Whether φ adds a constant at most."""
        return isinstance(self.slope, float) and self.slope == 1 and not isinstance(self.bend, Tensor)


class Recording:
    """What is done with some tensors, and with all that is computed from them."""

    def __init__(self, sources: Sequence[Tensor], calls: Sequence[Call], rules: Mapping[str, Rule]) -> None:
        """Follow tensors.

        Args:
            sources: the parameters, which get the first numbers.
            calls: in the order they were made.
            rules: by the name of an operation, what records it; all others are taken apart by autograd.
        """
        self.operations: list[Operation] = []
        self.slots = 0  # how many numbers were given
        self._rules = rules
        self._dtype = sources[0].dtype
        self._followed: dict[int, Followed] = {}
        self._made: dict[Followed, int] = {}  # functions that got a number of their own
        self._held: list[Tensor] = []  # so that ids stay those of one tensor
        self._sharing: dict[int, set[int]] = {}  # the tensors of one storage
        self._stale: set[int] = set()  # what was written to through another one
        self._apart: dict[int, set[int]] = {}  # parts of one tensor that do not overlap
        self._repeated: dict[int, Tensor] = {}
        self._versions: dict[int, int] = {}
        for source in sources:
            self._follow(source, Followed(self._number()))
        for call in calls:
            self._take(call)

    def slot(self, tensor: Tensor) -> int | None:
        """The number of what this tensor holds; None where no parameter reaches it."""
        found = self._of(tensor)
        return None if found is None else self._materialised(found)

    def reaches(self, tensor: Any) -> bool:
        """Whether parameters reach it."""
        return isinstance(tensor, Tensor) and self._of(tensor) is not None

    def _take(self, call: Call) -> None:
        for tensor in (*call.tensors, *call.outputs):
            self._sharing.setdefault(_storage(tensor), set()).add(id(tensor))
        if call.name in PARTS:
            together = {id(part) for part in call.outputs}
            self._apart.update(dict.fromkeys(together, together))
        self._versions = call.versions
        if not any(self.reaches(tensor) for tensor in call.tensors) or call.function is torch.ops.aten.detach.default:
            return
        if not call.differentiated:  # a backward pass of the user's own may go another way
            raise NotRecordable(f"{call.name} where no gradient is computed")
        if call.in_place:
            self._written(call)
        self._record(call)

    def _written(self, call: Call) -> None:
        """Let no other view stand for what was written to."""
        if call.name.endswith("_"):
            raise NotRecordable(f"{call.name}, which has no form that is not in place")
        (target,), (before, *_) = call.outputs, call.tensors
        apart = self._apart.get(id(before), set())
        apart.add(id(target))
        self._apart[id(target)] = apart
        self._stale |= self._sharing[_storage(target)] - apart

    def _record(self, call: Call) -> None:
        outputs, (args, kwargs) = call.outputs, call.arguments
        if not any(each.is_floating_point() or each.is_complex() for each in outputs):
            return
        if any(each.layout != torch.strided or each.is_complex() for each in outputs):
            raise NotRecordable(f"{call.name} gives numbers that are no dense real ones")
        if call.function._schema.is_mutable and call.name not in self._rules:
            raise NotRecordable(f"{call.name} writes to what it gets")
        alike = all(t.dtype == self._dtype for t in (*call.tensors, *outputs) if t.is_floating_point())
        rule = self._rules.get(call.name) if alike else None
        if rule is not None and rule(self, call.found, *args, **kwargs):
            return
        places = [at for at, leaf in enumerate(call.leaves) if self.reaches(leaf)]
        if not (alike and self._pointwise(call, places)):
            self._by_autograd(call, places)

    def _pointwise(self, call: Call, places: list[int]) -> bool:
        """A function of one number, everything else constant: by its two derivatives."""
        if torch.Tag.pointwise not in call.function.tags or len(places) != 1 or len(call.outputs) != 1:
            return False
        a, (z,) = call.leaves[places[0]], call.outputs
        if a.shape != z.shape:
            return False
        with torch.enable_grad():
            free = a.detach().requires_grad_()
            (slope,) = torch.autograd.grad(
                call.again(places, [free]).sum(), free, create_graph=True, materialize_grads=True
            )
            bend: Tensor | float = 0.0
            if slope.requires_grad:
                (second,) = torch.autograd.grad(slope.sum(), free, materialize_grads=True)
                bend = second if bool(second.any()) else 0.0
        self.follow_function(z, a, slope.detach(), bend)
        return True

    def _by_autograd(self, call: Call, places: list[int]) -> None:
        own = [call.leaves[at] for at in places]
        slots = [slot for t in own if (slot := self.slot(t)) is not None]
        for at, output in enumerate(tree_leaves(call.found)):
            if isinstance(output, Tensor) and output.is_floating_point():
                operation = operations.ByAutograd(slots, own, partial(_output, call, places, at))
                if operation.z.requires_grad:
                    self.add(operation, output)

    def add(self, operation: Operation, output: Tensor) -> None:
        """Record an operation, and follow what it gives."""
        operation.output = self._number()
        self.operations.append(operation)
        for kept in operation.tensors():
            if self._versions.get(id(kept), kept._version) != kept._version:
                raise NotRecordable("a tensor that is needed later was written to")
        self._follow(output, Followed(operation.output))

    def follow_function(self, output: Tensor, a: Tensor, slope: Tensor | float, bend: Tensor | float) -> None:
        """Follow z = g(a), number by number, by the chain rule."""
        before = self._of(a)
        assert before is not None  # noqa: S101 - it is asked for what is reached
        second: Tensor | float = 0.0
        if isinstance(bend, Tensor) or bend:
            second = bend * (before.slope * before.slope)
        if isinstance(before.bend, Tensor) or before.bend:
            second = slope * before.bend + second
        self._follow(output, Followed(before.slot, slope * before.slope, second))

    def follow_product(self, output: Tensor, a: Tensor, b: Tensor) -> bool:
        """Follow z = a b, if both are functions of the same numbers."""
        one, other = self._of(a), self._of(b)
        if one is None or other is None or one.slot != other.slot or not a.shape == b.shape == output.shape:
            return False
        second = one.bend * b + other.bend * a + 2 * (one.slope * other.slope)
        self._follow(output, Followed(one.slot, one.slope * b + other.slope * a, second))
        return True

    def follow_sum(self, output: Tensor, a: Tensor, b: Tensor, factor: float) -> bool:
        """Follow z = a + factor b, if both are functions of the same numbers."""
        one, other = self._of(a), self._of(b)
        if one is None or other is None or one.slot != other.slot or not a.shape == b.shape == output.shape:
            return False
        if one.is_itself and other.is_itself:
            return False
        slope, bend = one.slope + factor * other.slope, one.bend + factor * other.bend
        self._follow(output, Followed(one.slot, slope, bend))
        return True

    def follow_alike(self, output: Tensor, a: Tensor) -> None:
        """Follow what differs from ``a`` by a constant."""
        found = self._of(a)
        assert found is not None  # noqa: S101 - it is asked for what is reached
        self._follow(output, found)

    def repeat(self, output: Tensor, a: Tensor) -> None:
        """Know what was made larger without being copied."""
        self._repeated[id(output)] = a

    def repeat_alike(self, output: Tensor, a: Tensor) -> None:
        """Know it of another view of the same."""
        if id(a) in self._repeated:
            self._repeated[id(output)] = self._repeated[id(a)]

    def repeated(self, tensor: Tensor) -> Tensor | None:
        """What it is the same of many times, if it is."""
        return self._repeated.get(id(tensor))

    def _materialised(self, found: Followed) -> int:
        if found.is_itself:
            return found.slot
        if found not in self._made:
            operation = operations.Pointwise(found.slot, found.slope, found.bend)
            operation.output = self._made[found] = self._number()
            self.operations.append(operation)
        return self._made[found]

    def _of(self, tensor: Tensor) -> Followed | None:
        if id(tensor) in self._stale:
            raise NotRecordable("what was written to in place is reached by another view")
        return self._followed.get(id(tensor))

    def _follow(self, tensor: Tensor, what: Followed) -> None:
        self._held.append(tensor)
        self._followed[id(tensor)] = what

    def _number(self) -> int:
        self.slots += 1
        return self.slots - 1


def _output(call: Call, places: list[int], at: int, free: list[Tensor]) -> Tensor:
    found: Tensor = tree_leaves(call.again(places, free))[at]
    return found


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
