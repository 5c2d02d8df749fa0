"""Hidden units of one network permuted to match another's: the function stays, the place in weight space moves."""

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from theodolite.errors import BadModel, SettingError
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.isolation import preserve_rng
from theodolite.measure.problem.join import objective
from theodolite.measure.problem.sequential import chain
from theodolite.measure.problem.state_dicts import stacked
from theodolite.measure.problem.validation import checked
from theodolite.measure.results.base import Result
from theodolite.models.pool import HalvingPool

Method = Literal["weights", "activations"]
WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
UNITWISE = (  # layers that treat every unit by itself and alike
    *(nn.ReLU, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Sigmoid, nn.Tanh),
    *(nn.ReLU6, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Softsign, nn.LogSigmoid, nn.Tanhshrink, nn.Identity),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Flatten),
    *(nn.MaxPool1d, nn.MaxPool2d, HalvingPool, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d),
)
ROUNDS = 1000  # of coordinate descent: the sum of products rises in every one, so it ends; it takes about ten

Permutation = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Alignment(Result, kind="alignment"):
    """A network with its hidden units in another order."""

    model: nn.Module = field(repr=False)  # a copy of model_b that computes what model_b does
    permutations: tuple[Tensor, ...] = field(repr=False)  # per hidden layer: its unit i is model_b's permutation[i]
    method: Method
    distance_before: float  # from model_a to model_b in weight space
    distance: float  # from model_a to the copy
    moved: tuple[float, ...]  # share of units of each hidden layer that changed place


@dataclass(frozen=True, slots=True)
class _Hidden:
    """A hidden layer: what makes its units, what treats them one by one, and what reads them, by name."""

    layer: str
    unitwise: tuple[str, ...]  # that hold a number per unit (BatchNorm, PReLU)
    reader: str


@checked
def align(
    model_a: nn.Module,
    model_b: nn.Module,
    *,
    method: Method = "weights",
    data: Data | None = None,
    seed: int = 0,
) -> Alignment:
    r"""Permute the hidden units of ``model_b`` so that they match those of ``model_a``.

    ``weights``: coordinate descent on the sum of products between the two models' weights,

    .. math:: \max_{P_1 \ldots P_{L-1}} \sum_l \big\langle W_l^a,\ P_l W_l^b P_{l-1}^T \big\rangle_F ,

    one layer at a time in random order, each an exact linear assignment over what comes in (weights, bias,
    normalisation) and what goes out, until none changes. A local optimum: another ``seed`` may find a better one.
    ``activations``: for each layer the assignment of highest correlation over ``data`` between what the next layer
    reads of the two models.

    Args:
        model_a: the model to match; an ``nn.Sequential`` (which may be nested) of linear layers, convolutions
            without groups, BatchNorm, activations, pools, Dropout and Flatten.
        model_b: a model of the same architecture.
        method: by weights, or by activations, which needs ``data``.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches; targets are not used.
        seed: of the order of layers in the descent.

    Returns:
        The aligned copy of ``model_b`` (it computes the same function, up to the rounding of sums in another order)
        with the permutations.

    Raises:
        BadModel: the models do not match, or hold a layer whose units cannot be told apart from their places.
        SettingError: an unknown method, or activations without data.

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
    stacked(model_a, model_b)
    hidden = _hidden_layers(model_a)
    if method == "weights":
        found = _by_weights(model_a, model_b, hidden, np.random.default_rng(seed))
    elif method == "activations" and data is not None:
        found = _by_activations(model_a, model_b, hidden, data)
    else:
        raise SettingError("expected method 'activations' with data, got none. Pass data, or method='weights'.")
    aligned = copy.deepcopy(model_b)
    for layer, order in zip(hidden, found, strict=True):
        _permute(aligned, layer, order)
    return Alignment(
        model=aligned,
        method=method,
        permutations=tuple(torch.from_numpy(order) for order in found),
        distance_before=_distance(model_a, model_b),
        distance=_distance(model_a, aligned),
        moved=tuple(float(np.mean(order != np.arange(len(order)))) for order in found),
    )


def _hidden_layers(model: nn.Module) -> list[_Hidden]:
    links = chain(model)
    if links is None or len(links) < 2:
        raise BadModel(
            f"expected an nn.Sequential without hooks, got {type(model).__name__}. Rebuild the model as a chain."
        )
    names = [n for n, _ in model.named_parameters(remove_duplicate=False)]
    if len(names) != len(list(model.parameters())):
        raise BadModel("expected every weight used once, but some are tied, so that their units are. Untie them.")
    weighted = [i for i, (_, module) in enumerate(links) if type(module) in WEIGHTED]
    if not weighted:
        raise BadModel("expected layers with weights, whose units can be matched, got none. Pass a network with some.")
    return [_hidden_layer(links[start : end + 1]) for start, end in itertools.pairwise(weighted)]


def _hidden_layer(links: list[tuple[str, nn.Module]]) -> _Hidden:
    """What lies from one layer with weights to the next, both included."""
    (maker, made), *between, (reader, reads) = links
    for name, module in links:
        if getattr(module, "groups", 1) != 1:
            raise BadModel(f"expected convolutions without groups, but '{name}' has {module.groups}. Align around it.")
    for name, module in between:
        if type(module) not in UNITWISE and not isinstance(module, (_BatchNorm, nn.PReLU)):
            raise BadModel(
                f"expected layers that treat units one by one, but '{name}' is {type(module).__name__}, for which a "
                "permutation is not known. Take it out, or align the parts around it."
            )
    flat = any(isinstance(m, nn.Flatten) and (m.start_dim, m.end_dim) == (1, -1) for _, m in between)
    if type(made) is not type(reads) and not (flat and type(reads) is nn.Linear):
        raise BadModel(
            f"expected nn.Flatten() between '{maker}' ({type(made).__name__}) and '{reader}' ({type(reads).__name__}), "
            "got none, so that units are not what is read. Put it in."
        )
    return _Hidden(maker, tuple(n for n, m in between if isinstance(m, (_BatchNorm, nn.PReLU))), reader)


def _permute(model: nn.Module, layer: _Hidden, order: Permutation) -> None:
    """Put unit ``order[i]`` of a hidden layer in place i, in all that makes, treats and reads it."""
    units = len(order)
    with torch.no_grad():
        for name in (layer.layer, *layer.unitwise):
            module = model.get_submodule(name)
            for tensor in (*module.parameters(), *module.buffers()):
                if tensor.ndim and tensor.shape[0] % units == 0 and not _shared(tensor, units):
                    tensor.copy_(tensor[_in_blocks(order, tensor.shape[0])])
        weight = _weight(model, layer.reader)
        weight.copy_(weight[:, _in_blocks(order, weight.shape[1])])


def _weight(model: nn.Module, name: str) -> Tensor:
    return model.get_parameter(f"{name}.weight")


def _shared(tensor: Tensor, units: int) -> bool:
    return tensor.shape[0] == 1 and units > 1  # one slope of PReLU for all


def _in_blocks(order: Permutation, size: int) -> Tensor:
    """The order of flattened channels: each unit is a block of ``size / units`` numbers."""
    block = size // len(order)
    return torch.from_numpy((order[:, None] * block + np.arange(block)).ravel())


def _by_weights(
    model_a: nn.Module, model_b: nn.Module, hidden: list[_Hidden], random: np.random.Generator
) -> list[Permutation]:
    moving = copy.deepcopy(model_b)
    found: list[Permutation] = [np.arange(len(_weight(model_a, h.layer))) for h in hidden]
    for _ in range(ROUNDS):
        changed = False
        for number in random.permutation(len(hidden)):
            a, b = (_units(model, hidden[number]) for model in (model_a, moving))
            products = a @ b.T
            order = linear_sum_assignment(products, maximize=True)[1]
            gain = products[np.arange(len(order)), order].sum() - np.trace(products)
            if gain > 1e-12 * np.abs(products).max() * len(order):
                _permute(moving, hidden[number], order)
                found[number] = found[number][order]
                changed = True
        if not changed:
            break
    return found


def _units(model: nn.Module, layer: _Hidden) -> npt.NDArray[np.float64]:
    """A row for each unit: the weights that make it and those that read it. Running statistics are not weights."""
    units = len(_weight(model, layer.layer))
    made = [p for name in (layer.layer, *layer.unitwise) for p in model.get_submodule(name).parameters()]
    rows = [
        p.detach().double().cpu().reshape(units, -1) for p in made if p.shape[0] % units == 0 and not _shared(p, units)
    ]
    reader = _weight(model, layer.reader).detach().double().cpu()
    columns = reader.reshape(reader.shape[0], units, -1).transpose(0, 1).reshape(units, -1)
    return torch.cat([*rows, columns], 1).numpy()


def _by_activations(model_a: nn.Module, model_b: nn.Module, hidden: list[_Hidden], data: Data) -> list[Permutation]:
    """Correlations from sums over the data of what each layer's reader is given, so that batches are exact."""
    a, b = copy.deepcopy(model_a), copy.deepcopy(model_b)
    read: dict[tuple[int, int], Tensor] = {}

    def keep(which: int, number: int, units: int) -> Callable[..., None]:
        def hook(reader: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].detach().double()
            by_unit = (-1, units, x.shape[-1] // units) if isinstance(reader, nn.Linear) else (len(x), units, -1)
            read[which, number] = x.reshape(by_unit).transpose(0, 1).reshape(units, -1)

        return hook

    for which, model in enumerate((a, b)):
        for number, layer in enumerate(hidden):
            units = len(_weight(model, layer.layer))
            model.get_submodule(layer.reader).register_forward_pre_hook(keep(which, number, units))
    sums: list[list[Tensor]] = [[] for _ in hidden]
    first, second = (objective(m, lambda outputs, _: outputs.double().mean(), data) for m in (a, b))
    with preserve_rng(), torch.no_grad():
        for batch, _ in first.batches():
            first.outputs({}, batch[0])
            second.outputs({}, batch[0])
            for number in range(len(hidden)):
                x, y = read[0, number], read[1, number]
                parts = [x.new_tensor(x.shape[1]), x.sum(1), y.sum(1), (x * x).sum(1), (y * y).sum(1), x @ y.T]
                sums[number] = [s + p for s, p in zip(sums[number], parts, strict=True)] if sums[number] else parts
    return [np.asarray(linear_sum_assignment(_correlation(*s).cpu().numpy(), maximize=True)[1]) for s in sums]


def _correlation(n: Tensor, x: Tensor, y: Tensor, xx: Tensor, yy: Tensor, xy: Tensor) -> Tensor:
    """Pearson's, from sums; 0 for a unit that never changes (a dead one)."""
    spread = ((xx / n - (x / n) ** 2).clamp(min=0)[:, None] * (yy / n - (y / n) ** 2).clamp(min=0)).sqrt()
    covariance = xy / n - torch.outer(x / n, y / n)
    return torch.where(spread > 1e-12, covariance / spread.clamp(min=1e-12), 0.0)


def _distance(model_a: nn.Module, model_b: nn.Module) -> float:
    pairs = zip(model_a.parameters(), model_b.parameters(), strict=True)
    return math.sqrt(sum(float((p.detach().double() - q.detach().to(p).double()).pow(2).sum()) for p, q in pairs))
