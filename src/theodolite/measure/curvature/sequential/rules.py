"""Which rule of :mod:`~theodolite.measure.curvature.sequential.layers` a module of a plain chain has."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from theodolite.measure.curvature.activations import POINTWISE, value_and_derivatives
from theodolite.measure.curvature.sequential.layers import (
    BatchNorm,
    Convolution,
    LayerRule,
    Linear,
    MaxPool,
    Pointwise,
    Reshaping,
)

CONVOLUTIONS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
POOLS: dict[type[nn.Module], tuple[Callable[..., tuple[Tensor, Tensor]], int]] = {
    nn.MaxPool1d: (functional.max_pool1d_with_indices, 1),
    nn.MaxPool2d: (functional.max_pool2d_with_indices, 2),
}
RESHAPING: tuple[type[nn.Module], ...] = (  # linear, without weights
    *(nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout2d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
)
MODULES = (nn.Linear, *CONVOLUTIONS, *NORMS, *POINTWISE, *POOLS, *RESHAPING)


def has_rule(module: Any) -> bool:
    """Whether a module has a rule."""
    if type(module) in NORMS:
        return not (module.training or module.running_mean is None)
    if type(module) in CONVOLUTIONS:
        return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    if type(module) in (nn.Dropout, nn.Dropout2d):
        return not module.training
    if type(module) in POOLS:
        return not module.return_indices
    return type(module) in MODULES and not any(hasattr(p, "parametrizations") for p in module.modules())


def layer_rule(
    name: str, module: Any, a: Tensor, own: Mapping[str, Any], measured: frozenset[str]
) -> tuple[Tensor, LayerRule]:
    """A module's output and its rule at this input.

    Args:
        name: of the module in the model.
        module: what has a rule.
        a: its input.
        own: parameters and buffers of the model by name.
        measured: names of those whose curvature is asked for.

    Raises:
        RuntimeError: it gets an input of a shape that is not known here.
    """
    title = f"{name}." if name else ""
    names = tuple(each if each in measured else None for each in (f"{title}weight", f"{title}bias"))
    weight: Any = own.get(f"{title}weight")
    bias: Any = own.get(f"{title}bias")
    if type(module) is nn.Linear and a.ndim == 2:
        return functional.linear(a, weight, bias), Linear(names, weight, a)
    if type(module) in CONVOLUTIONS and a.ndim == 2 + len(module.kernel_size):
        options = (module.stride, module.padding, module.dilation, False, [0] * len(module.stride), 1)
        return torch.ops.aten.convolution(a, weight, bias, *options), Convolution(names, weight, a, options)
    if type(module) in NORMS:
        shape = (-1, *[1] * (a.ndim - 2))
        r = torch.rsqrt(own[f"{title}running_var"] + module.eps).view(shape)
        scaled = (a - own[f"{title}running_mean"].view(shape)) * r
        gamma, beta = (t.view(shape) if t is not None else None for t in (weight, bias))
        gamma = torch.ones_like(r) if gamma is None else gamma
        z = scaled * gamma
        return z if beta is None else z + beta, BatchNorm(names, gamma, r, scaled)
    if type(module) in POOLS and a.ndim == 2 + POOLS[type(module)][1]:
        pooling = (module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode)
        z, places = POOLS[type(module)][0](a, *pooling)
        return z, MaxPool(places, a.shape[2:])
    if type(module) in POINTWISE:
        z, slope, bend = value_and_derivatives(module, a)
        return z, Pointwise(slope, bend if bend.any() else None)
    if type(module) in RESHAPING:
        return module(a), Reshaping(module)
    raise RuntimeError(f"{type(module).__name__} with inputs {tuple(a.shape)} has no rule here")


def pool_first(before: LayerRule, pool: LayerRule) -> list[LayerRule] | None:
    """Pooling by the maximum after a pointwise layer, the other way round: φ at the places chosen is all that counts.

    A quarter of the numbers then pass through φ. None if these are two other layers.
    """
    if not isinstance(before, Pointwise) or not isinstance(pool, MaxPool):
        return None
    bend = None if before.bend is None else pool.choose(before.bend)
    return [pool, Pointwise(pool.choose(before.slope), bend)]
