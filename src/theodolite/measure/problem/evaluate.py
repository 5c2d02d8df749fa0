"""Loss and accuracy at many points that are combinations of a few: lines, planes and curves through weight space."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import cross_entropy
from torch.nn.modules.conv import _ConvNd

from theodolite.errors import NotDeterministic
from theodolite.measure.problem.batches import Batch, count
from theodolite.measure.problem.isolation import of_torch, preserve_rng
from theodolite.measure.problem.microbatches import first_samples
from theodolite.measure.problem.objective import Objective, check_finite
from theodolite.measure.problem.sequential import chain

# Points times samples that go together: on a CPU what its cache holds (from 100 to 2,000 samples of an MLP within
# 10 % of the best; four times as much costs up to 50 %), elsewhere enough to hide the cost of starting a kernel.
CPU, ACCELERATOR = 2**14, 2**18
TRIED = 16  # samples that the quick way is compared on

StackedStates = Mapping[str, Tensor]  # name of a parameter or buffer -> (B, ...), its value at each of B basis points
Forward = Callable[[dict[str, Tensor], Tensor], Any]


@dataclass(frozen=True, slots=True)
class Values:
    """What a network does at K points of weight space."""

    loss: Tensor  # (K,) float64, on the CPU
    accuracy: Tensor  # (K,) float64, share of samples; NaN where targets are not classes

    def checked(self) -> Self:
        """The same, if the loss is finite anywhere: far from its data a network may overflow, but not everywhere.

        Raises:
            BadLoss: it is finite at no point.
        """
        if not torch.isfinite(self.loss).any():
            check_finite("the loss of at least one point", self.loss)
        return self


def evaluate(objective: Objective, basis: StackedStates, weights: Tensor) -> Values:
    r"""Loss and accuracy over all data at the points :math:`\theta_k = \sum_b w_{kb} \theta_b`.

    Three things make it fast (benchmarks/surface.py has the ratios). Points go together, as one
    batch of matrix products. The outputs of the first layer are themselves :math:`\sum_b w_{kb} z_b`, so that layer
    (95 % of the products of an MLP on images) runs B times, not K. And the data are read once. Convolutions on a CPU
    go one after the other: with weights of their own they run as grouped convolutions, which from 400 images of 8 x 8
    or 100 of 28 x 28 on takes 1.2 to 2.4 times as long.

    Args:
        objective: model, loss and data.
        basis: tensors by name, ``(B, ...)``; what is not named keeps the model's own value.
        weights: ``(K, B)``.
    """
    device = next(iter(basis.values())).device
    rows = weights.to(device, torch.promote_types(next(iter(basis.values())).dtype, torch.float32))
    loss, hits = torch.zeros(2, len(weights), dtype=torch.float64, device=device)
    samples, chunk, split_first = 0, None, True
    with preserve_rng(), torch.set_grad_enabled(objective.grad_in_loss):
        for batch, share in objective.batches():
            if chunk is None:
                look = _at_one_point(objective, basis, batch, split_first=False)  # whole: not all can be cut
                begun, _ = look(rows[0])
                saves = len(rows) > rows.shape[1]  # it runs once a basis point, then, and not once a point
                split_first = saves and _may_split_first_layer(objective, basis, rows, batch)
                one = _at_one_point(objective, basis, batch, split_first=split_first)
                room = (CPU if device.type == "cpu" else ACCELERATOR) // max(1, count(batch))
                chunk = min(max(room, 4), 256) if _can_stack(objective, one, rows) else 1
            one = _at_one_point(objective, basis, batch, split_first=split_first)
            samples += count(batch)
            at = 0
            for part in rows.split(chunk):
                values = vmap(one)(part) if chunk > 1 else one(part[0])
                loss[at : at + len(part)] += share * values[0].detach().double()
                hits[at : at + len(part)] += values[1].double()
                at += len(part)
        _check_same(begun, look(rows[0])[0])
    return Values(loss.cpu(), hits.cpu() / samples)


def _check_same(before: Tensor, after: Tensor) -> None:
    """Raise NotDeterministic where the first point's loss is another one once all points were looked at."""
    if bool(torch.isfinite(before)) and not _same(before.reshape(1), after.reshape(1)):
        raise NotDeterministic(
            f"expected the same loss whenever a point is looked at, got {float(before)} and, after others, "
            f"{float(after)}: model or loss change from call to call, as those that count their calls do. Take the "
            "count as a setting that a training moves on."
        )


OnePoint = Callable[[Tensor], tuple[Tensor, Tensor]]  # weights (B,) -> the loss there, and samples that are right


def _at_one_point(objective: Objective, basis: StackedStates, batch: Batch, *, split_first: bool) -> OnePoint:
    forward = _split_first_layer(objective, basis, batch[0]) if split_first else None

    def values(outputs: Any) -> tuple[Tensor, Tensor]:
        return _loss(objective, outputs, batch[1]).reshape(()), _right(outputs, batch[1])

    def one(row: Tensor) -> tuple[Tensor, Tensor]:
        if forward is not None:
            return values(forward(row))
        with objective.at({name: mix(row, tensors) for name, tensors in basis.items()}):
            return values(objective.call(batch[0]))

    return one


def _may_split_first_layer(objective: Objective, basis: StackedStates, rows: Tensor, batch: Batch) -> bool:
    """Whether the first layer's outputs may be combined: the loss is then the same at the point farthest out.

    A loss that takes the parameters, or calls the model again, does not see those of a network taken apart. It would
    see NaN in their place.
    """
    row = rows[rows.double().norm(dim=1).argmax()]
    part = first_samples(batch, TRIED)
    nowhere = {n: torch.full_like(t[0], torch.nan) for n, t in basis.items() if t.is_floating_point()}
    try:
        one = _at_one_point(objective, basis, part, split_first=True)
        with objective.at({}):
            fast, _ = one(row)
        with objective.at(nowhere):
            blind, _ = one(row)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # a hook or a layer that wants the model whole
        return False
    slow, _ = _at_one_point(objective, basis, part, split_first=False)(row)
    return torch.equal(fast, blind) and _same(fast, slow)


def mix(row: Tensor, tensors: Tensor) -> Tensor:
    """One combination of tensors ``(B, ...)`` by coefficients ``(B,)``, computed in float32 at least."""
    work = torch.promote_types(tensors.dtype, torch.float32)
    mixed: Tensor = torch.tensordot(row.to(work), tensors.to(work), 1)
    return mixed.to(tensors.dtype)


def _loss(objective: Objective, outputs: Any, targets: Any) -> Tensor:
    """The loss. Cross entropy gets samples along its last axis: over few classes that softmax is 8 times faster."""
    plain = of_torch(objective.loss) and (
        objective.loss is cross_entropy or type(objective.loss) is nn.CrossEntropyLoss
    )
    if plain and isinstance(outputs, Tensor) and outputs.ndim == 2 and targets.ndim == 1:
        return objective.loss(outputs.T[None], targets[None])  # as of one picture, N pixels wide: the same mean
    with objective.surroundings():
        return objective.loss(outputs, targets)


def _right(outputs: Any, targets: Any) -> Tensor:
    """Samples whose highest output is their class; NaN where targets are not classes."""
    if not isinstance(outputs, Tensor):
        return torch.tensor(torch.nan)
    if outputs.ndim != 2 or not isinstance(targets, Tensor) or targets.ndim != 1 or targets.dtype != torch.int64:
        return torch.tensor(torch.nan, device=outputs.device)
    return (outputs.argmax(1) == targets).sum()


def _split_first_layer(objective: Objective, basis: StackedStates, inputs: Any) -> Callable[[Tensor], Any] | None:
    """The model's outputs as a function of one row of weights, by those of its first layer; None if it has none."""
    found = _first_layer(objective.model) if isinstance(inputs, Tensor) and not objective.writes_inputs else None
    if found is None or any(f"{found[1]}.{name}" not in basis for name, _ in found[2].named_parameters()):
        return None
    before, first, layer, after = found
    for module in before:
        inputs = module(inputs)
    mine = {name: basis[f"{first}.{name}"] for name, _ in layer.named_parameters()}
    points = len(next(iter(mine.values())))
    head = torch.stack([functional_call(layer, {n: t[b] for n, t in mine.items()}, inputs) for b in range(points)])
    own = [{n: t.detach() for n, t in (*m.named_parameters(), *m.named_buffers())} for _, m in after]

    def forward(row: Tensor) -> Tensor:
        x = mix(row, head)
        for (prefix, module), tensors in zip(after, own, strict=True):
            state = {
                n: mix(row, basis[f"{prefix}.{n}"]) if f"{prefix}.{n}" in basis else t.clone()
                for n, t in tensors.items()
            }
            x = functional_call(module, state, x)
        return x

    return forward


def _first_layer(model: nn.Module) -> tuple[list[nn.Module], str, nn.Module, list[tuple[str, nn.Module]]] | None:
    """Split a plain chain at its first layer with weights, if nothing but reshaping lies before; None otherwise."""
    links = chain(model)
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    if links is None or len(names) != len(list(model.parameters())):  # tied weights are known by one name only
        return None
    for position, (name, module) in enumerate(links):
        if type(module) in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d):
            return [m for _, m in links[:position]], name, module, links[position + 1 :]
        if type(module) not in (nn.Flatten, nn.Unflatten, nn.Identity):
            return None
    return None


def _can_stack(objective: Objective, one: Callable[[Tensor], tuple[Tensor, Tensor]], rows: Tensor) -> bool:
    """Whether points may go together: they are enough, it pays, and the first two come out as they do alone."""
    if len(rows) < 4 or (rows.device.type == "cpu" and any(isinstance(m, _ConvNd) for m in objective.model.modules())):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # PyTorch warns where it has no batched form and would loop, slowly
            together = vmap(one)(rows[:2])
    except torch.OutOfMemoryError:
        raise
    except Exception:
        return False  # batch statistics written in place, .item() in the loss, control flow: one by one works
    alone = [one(row)[0] for row in rows[:2]]
    return _same(together[0], torch.stack(alone))


def _same(one: Tensor, other: Tensor) -> bool:
    """Two ways to the same losses: they differ by rounding, which grows with what a network adds up."""
    rounding = min(1e3 * torch.finfo(one.dtype).eps, 1e-2)
    return torch.allclose(one.detach(), other.detach(), rtol=rounding, atol=1e-2 * rounding, equal_nan=True)
