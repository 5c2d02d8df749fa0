"""Hidden units of one network permuted to match another's: the function stays, the place in weight space moves."""

import copy
import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from theodolite.errors import BadModel, SettingError
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.isolation import autocast_off
from theodolite.measure.problem.state_dicts import stacked
from theodolite.measure.problem.validation import checked
from theodolite.measure.results.base import Result
from theodolite.measure.units.axes import Units, groups_of, permute, tensors_of
from theodolite.measure.units.matching import by_activations, by_weights
from theodolite.measure.units.networks import chained
from theodolite.measure.units.same_function import difference

Method = Literal["weights", "activations"]


@dataclass(frozen=True, slots=True)
class Alignment(Result, kind="alignment"):
    """A network with its hidden units in another order."""

    model: nn.Module = field(repr=False)  # a copy of model_b that computes what model_b does
    permutations: tuple[Tensor, ...] = field(repr=False)  # per kind of units: its unit i is model_b's permutation[i]
    method: Method
    distance_before: float  # from model_a to model_b in weight space
    distance: float  # from model_a to the copy
    moved: tuple[float, ...]  # share of units of each kind that changed place
    units: tuple[str, ...] = ()  # the names of the kinds; of a chain, the layers that make them
    check_error: float = math.nan  # largest difference between outputs of copy and model_b, over the largest output


@checked
def align(
    model_a: nn.Module,
    model_b: nn.Module,
    *,
    method: Method = "weights",
    data: Data | None = None,
    seed: int = 0,
    units: Units | None = None,
) -> Alignment:
    r"""Permute the hidden units of ``model_b`` so that they match those of ``model_a``.

    ``weights``: coordinate descent on the sum of products between the two models' weights,

    .. math:: \max_{P_1 \ldots P_{L-1}} \sum_l \big\langle W_l^a,\ P_l W_l^b P_{l-1}^T \big\rangle_F ,

    one kind of units at a time in random order, each an exact linear assignment over all weights along whose axes
    they lie, until none changes. A local optimum: another ``seed`` may find a better one.
    ``activations``: for each kind the assignment of highest correlation over ``data`` between what the layers that
    read these units are given in the two models.

    What is returned was compared with ``model_b``: outputs in evaluation mode, in float64 where the model allows it,
    on the first thousand samples of ``data``, or without data on random inputs of the plainest
    shape that the model takes.

    Args:
        model_a: the model to match. Without ``units``, an ``nn.Sequential`` (which may be nested) of linear layers,
            convolutions, transposed and by groups too, embeddings, normalisations, activations, pools, Dropout and
            Flatten; weights may be under ``weight_norm``.
        model_b: a model of the same architecture.
        method: by weights, or by activations, which needs ``data``.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches; targets are not used. ``weights`` needs
            none; a batch is enough to check on.
        seed: of the order of kinds in the descent.
        units: what shares units, for any other network: a name for each kind, and the axes of all tensors along which
            its units lie. :mod:`theodolite.measure.units` has that of residual networks, ``resnet(model)``, and of a
            GPT, ``gpt(model)``, and the parts to write others.

    Returns:
        The aligned copy of ``model_b`` (it computes the same function, up to the rounding of sums in another order)
        with the permutations.

    Raises:
        BadModel: the models do not match, or hold a layer whose units cannot be told apart from their places.
        CheckFailed: with its units permuted as said the network computes another function.
        NotDeterministic: two passes over the same inputs differ, so that no function can be compared.
        SettingError: an unknown method, activations without data, units that the model does not have, or no data
            where no inputs could be found that the model takes.

    Source: Ainsworth et al. 2023, "Git Re-Basin", algorithm 1 and section 3.1; Li et al. 2016, "Convergent Learning",
    for correlation.

    Example:
        >>> a = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
        >>> b = copy.deepcopy(a)
        >>> with torch.no_grad():  # swap the first two hidden units
        ...     for tensor in (b[0].weight, b[0].bias, b[2].weight.T):
        ...         tensor[:2] = tensor[:2].flip(0).clone()
        >>> align(a, b).distance, align(a, b).permutations[0].tolist()
        (0.0, [1, 0, 2])
    """
    if method == "activations" and data is None:
        raise SettingError("expected method 'activations' with data, got none. Pass data, or method='weights'.")
    stacked(model_a, model_b)
    with torch.inference_mode(False), torch.no_grad(), autocast_off(_device(model_a)):
        return _aligned(model_a, model_b, method, data, seed, chained(model_a) if units is None else units)


def _aligned(
    model_a: nn.Module, model_b: nn.Module, method: Method, data: Data | None, seed: int, units: Units
) -> Alignment:
    groups = groups_of(model_a, units)
    aligned = _copied(model_b)
    if method == "activations" and data is not None:
        found = by_activations(model_a, model_b, groups, data)
    else:
        found = by_weights(model_a, model_b, groups, np.random.default_rng(seed))
    for group, order in zip(groups, found, strict=True):
        permute(tensors_of(aligned), group, order)
    return Alignment(
        model=aligned,
        method=method,
        permutations=tuple(torch.from_numpy(order) for order in found),
        distance_before=_distance(model_a, model_b),
        distance=_distance(model_a, aligned),
        moved=tuple(float(np.mean(order != np.arange(len(order)))) for order in found),
        units=tuple(group.name for group in groups),
        check_error=difference(aligned, model_b, data) if groups else 0.0,
    )


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        raise BadModel(
            f"expected a model that can be copied, got an error: {error}. Take away what it keeps of its last pass; "
            "instead of torch.nn.utils.weight_norm use the one of torch.nn.utils.parametrizations."
        ) from error


def _device(model: nn.Module) -> str:
    return next(model.parameters(), torch.zeros(())).device.type


def _distance(model_a: nn.Module, model_b: nn.Module) -> float:
    pairs = zip(model_a.parameters(), model_b.parameters(), strict=True)
    return math.sqrt(sum(float((p.detach().double() - q.detach().to(p).double()).pow(2).sum()) for p, q in pairs))
