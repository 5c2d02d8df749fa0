"""What ``vmap`` does with the layers of many networks: here in whole vector registers, so that no network sees another.

``torch.func.vmap`` lays the networks of a stack one behind the other wherever they fall, and kernels round otherwise
where a matrix lies otherwise, or where a loop over all elements ends (:mod:`theodolite.train.aligned`). So what vmap
makes of these functions is written out:

- a linear layer has as many rows as fill whole alignment units, its own and zeros, so its gradient lies alike for each
  network;
- a convolution is one of oneDNN's with a group a network and the channels of a pixel side by side, which is also up to
  twice as fast as vmap's own (benchmarks/replicas.py); a group's numbers do not depend on how many there are, from two
  on. A pool leaves that order alone;
- GELU is its formula, since oneDNN's kernel for it rounds by where an element lies.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch._C import _functorch
from torch.nn import functional as F  # noqa: N812  its usual name
from torch.overrides import TorchFunctionMode

from theodolite.train.aligned import lanes


@dataclass(frozen=True, slots=True)
class _Stacked:
    """The arguments of a function, all networks together: ``(R, ...)``."""

    tensors: list[Tensor]
    level: int  # of vmap

    @classmethod
    def of(cls, *given: Tensor | None) -> Self | None:
        """What vmap has under its tensors; None where there is nothing, or a vmap within this one."""
        tensors = [t for t in given if t is not None]
        batched = [t for t in tensors if _functorch.is_batchedtensor(t)]
        inner = [_functorch.get_unwrapped(t).movedim(_functorch.maybe_get_bdim(t), 0) for t in batched]
        levels = {_functorch.maybe_get_level(t) for t in batched}
        if len(levels) != 1 or any(map(_functorch.is_batchedtensor, inner)):
            return None
        known = dict(zip(map(id, batched), inner, strict=True))
        replicas = len(inner[0])
        return cls([known.get(id(t), t.expand(replicas, *t.shape)) for t in tensors], levels.pop())

    def given_back(self, result: Tensor, dim: int) -> Tensor:
        """What vmap goes on with."""
        returned: Tensor = _functorch._add_batch_dim(result, dim, self.level)
        return returned


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:  # noqa: A002  PyTorch's name
    stacked = _Stacked.of(input, weight, bias)
    if stacked is None or weight.ndim != 2:
        return F.linear(input, weight, bias)
    x, w, *b = stacked.tensors
    outputs, inputs = w.shape[1:]
    unit = lanes(w.dtype)
    unit //= math.gcd(inputs, unit)
    filled = F.pad(w, (0, 0, 0, -outputs % unit)).contiguous()
    rows = x.reshape(len(x), -1, inputs).contiguous()
    result = torch.bmm(rows, filled.mT)[..., :outputs]
    result = result + b[0][:, None] if b else result
    return stacked.given_back(result.reshape(*x.shape[:-1], outputs), 0)


def _conv2d(
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    stacked = _Stacked.of(input, weight, bias)
    if stacked is None or input.ndim != 4:
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    x, w, *b = stacked.tensors
    of_all = b[0].flatten() if b else None
    result = F.conv2d(_side_by_side(x), w.flatten(0, 1), of_all, stride, padding, dilation, len(x) * groups)
    return stacked.given_back(result.unflatten(1, (len(x), -1)), 1)


def _max_pool2d(
    input: Tensor,  # noqa: A002
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    stacked = _Stacked.of(input)
    if stacked is None or input.ndim != 4 or return_indices:
        plain: Any = F.max_pool2d
        return plain(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    (x,) = stacked.tensors
    result = F.max_pool2d(_side_by_side(x), kernel_size, stride, padding, dilation, ceil_mode)
    return stacked.given_back(result.unflatten(1, (len(x), -1)), 1)


def _gelu(input: Tensor, approximate: str = "none") -> Tensor:  # noqa: A002
    if approximate == "none":
        return input * (0.5 * (1 + torch.erf(input * math.sqrt(0.5))))
    return input * (0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (input + 0.044715 * input**3))))


def _side_by_side(images: Tensor) -> Tensor:
    """``(R, N, channels, height, width)`` as ``(N, R * channels, height, width)``, all numbers of a pixel together."""
    return images.transpose(0, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)


RULES: Mapping[Callable[..., Any], Callable[..., Any]] = {
    F.linear: _linear, F.conv2d: _conv2d, F.max_pool2d: _max_pool2d, F.gelu: _gelu
}  # fmt: skip


class Rules(TorchFunctionMode):
    """Within it, vmap goes by these rules."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call what stands for a function."""
        return RULES.get(func, func)(*args, **(kwargs or {}))
