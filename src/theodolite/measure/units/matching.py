"""Which unit of one model is which of another: by weights, or by what the units do on data."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from theodolite.errors import BadModel
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.isolation import preserve_rng
from theodolite.measure.problem.join import objective
from theodolite.measure.problem.objective import check_finite
from theodolite.measure.units.axes import Group, Permutation, Place, permute, tensors_of
from theodolite.measure.units.layers import CONVOLUTIONS, TRANSPOSED, is_weighted, read
from theodolite.measure.units.same_function import any_output

ROUNDS = 1000  # of coordinate descent: the sum of products rises in every one, so it ends; it takes about ten

Matrix = npt.NDArray[np.float64]


def by_weights(
    model_a: nn.Module, model_b: nn.Module, groups: Sequence[Group], random: np.random.Generator
) -> list[Permutation]:
    """Coordinate descent: the best order of one group at a time, until none changes. Statistics are not weights."""
    fixed, moving = tensors_of(model_a), tensors_of(deepcopy(model_b))
    weights = [[p for p in group.places if isinstance(fixed[p.tensor], nn.Parameter)] for group in groups]
    found: list[Permutation] = [np.arange(group.size) for group in groups]
    for _ in range(ROUNDS):
        changed = False
        for number in random.permutation(len(groups)):
            order = _better(fixed, moving, groups[number], weights[number])
            if order is not None:
                found[number] = found[number][order]
                changed = True
        if not changed:
            break
    return found


def _better(
    fixed: Mapping[str, Tensor], moving: Mapping[str, Tensor], group: Group, places: Sequence[Place]
) -> Permutation | None:
    """The best order of one group while all others stay, put into ``moving``; None if it is the one there is."""
    products = np.zeros((group.size, group.size))
    for place in places:
        a, b = (_plain(place.by_unit(tensors[place.tensor])) for tensors in (fixed, moving))
        products += a @ b.T
    order = assignment(products, group.blocks)
    rounding = 1e-12 * np.abs(products).max() * len(order)
    if products[np.arange(len(order)), order].sum() - np.trace(products) <= rounding:
        return None
    tensors = {place.tensor for place in places}
    before = 0.0 if len(tensors) == len(places) else _overlap(fixed, moving, tensors)
    permute(moving, group, order)
    # Where two axes of a tensor hold the same units, each was matched as if the other stayed: that may have been worse.
    if len(tensors) < len(places) and _overlap(fixed, moving, tensors) <= before + rounding:
        permute(moving, group, np.argsort(order))
        return None
    return order


def by_activations(model_a: nn.Module, model_b: nn.Module, groups: Sequence[Group], data: Data) -> list[Permutation]:
    """The order of highest correlation, summed over the layers that read the units.

    Correlations come from sums over the data of what each such layer is given, so that batches are exact.

    Raises:
        BadModel: no layer that is called as a module reads the units.
    """
    models = [deepcopy(model) for model in (model_a, model_b)]
    readers = [_readers(model_a, group) for group in groups]
    given: dict[tuple[int, str], list[Tensor]] = {}
    for which, model in enumerate(models):
        for name in {name for own in readers for name in own}:
            model.get_submodule(name).register_forward_pre_hook(
                lambda _, inputs, key=(which, name): given.setdefault(key, []).append(inputs[0].detach())
            )
    first, second = (objective(model, any_output, data) for model in models)
    sums: dict[tuple[int, str], list[Tensor]] = {}
    with preserve_rng(), torch.no_grad():
        for batch, _ in first.batches():
            given.clear()
            first.outputs({}, batch[0])
            second.outputs({}, batch[0])
            for number, own in enumerate(readers):
                for name, place in own.items():
                    if (0, name) in given:
                        parts = _moments(*(_rows(place, given[which, name]) for which in range(2)))
                        for part in parts:
                            check_finite(f"what layer '{name}' is given", part, first)
                        known = sums.get((number, name))
                        sums[number, name] = (
                            [s + p for s, p in zip(known, parts, strict=True)] if known else list(parts)
                        )
    return [
        assignment(_correlations(group, [sums[number, n] for n in own if (number, n) in sums]), group.blocks)
        for number, (group, own) in enumerate(zip(groups, readers, strict=True))
    ]


def assignment(gains: Matrix, blocks: int) -> Permutation:
    """The order of highest gain, ``(units, units)``, among all that move blocks whole: the best within every pair."""
    if blocks == 1:
        return np.asarray(linear_sum_assignment(gains, maximize=True)[1])
    width = len(gains) // blocks
    parts = gains.reshape(blocks, width, blocks, width).swapaxes(1, 2)
    within = [[np.asarray(linear_sum_assignment(part, maximize=True)[1]) for part in row] for row in parts]
    totals = [
        [part[np.arange(width), order].sum() for part, order in zip(*both, strict=True)]
        for both in zip(parts, within, strict=True)
    ]
    chosen = linear_sum_assignment(np.asarray(totals), maximize=True)[1]
    return np.concatenate([width * to + within[at][to] for at, to in enumerate(chosen)])


def _overlap(fixed: Mapping[str, Tensor], moving: Mapping[str, Tensor], names: set[str]) -> float:
    return sum(float((fixed[n].detach().double() * moving[n].detach().double()).sum()) for n in names)


def _plain(tensor: Tensor) -> Matrix:
    return tensor.detach().double().cpu().numpy()


def _readers(model: nn.Module, group: Group) -> dict[str, Place]:
    """The layers that read these units, and along which axis of their input, counted from the end."""
    places = {(place.tensor, place.axis): place for place in group.places}
    found = {}
    for name, module in model.named_modules():
        if is_weighted(module):
            spatial = len(module.kernel_size) if isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)) else 0
            with suppress(BadModel):
                for axis in read(model, name):
                    if (axis.tensor, axis.axis) in places:
                        found[name] = replace(places[axis.tensor, axis.axis], axis=-1 - spatial)
    return found


def _rows(place: Place, given: Sequence[Tensor]) -> Tensor:
    return torch.cat([place.by_unit(tensor.double()) for tensor in given], 1)


def _moments(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return x.new_tensor(x.shape[1]), x.sum(1), y.sum(1), (x * x).sum(1), (y * y).sum(1), x @ y.T


def _correlations(group: Group, sums: Sequence[Sequence[Tensor]]) -> Matrix:
    if not sums:
        raise BadModel(
            f"expected a linear layer or convolution, called as a module, that reads the units '{group.name}', got "
            "none, so that there are no activations to match. Use method='weights'."
        )
    return np.asarray(sum(_plain(_correlation(*parts)) for parts in sums))


def _correlation(n: Tensor, x: Tensor, y: Tensor, xx: Tensor, yy: Tensor, xy: Tensor) -> Tensor:
    """Pearson's, from sums; 0 for a unit that never changes (a dead one)."""
    spread = ((xx / n - (x / n) ** 2).clamp(min=0)[:, None] * (yy / n - (y / n) ** 2).clamp(min=0)).sqrt()
    covariance = xy / n - torch.outer(x / n, y / n)
    return torch.where(spread > 1e-12, covariance / spread.clamp(min=1e-12), 0.0)
