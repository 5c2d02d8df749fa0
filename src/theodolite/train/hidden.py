"""What an optimizer or a network keeps where a saved state does not reach: with such a thing, no run is resumed inside.

A resumed training would go on without it, and end with other numbers than an undisturbed one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from theodolite.errors import SettingError
from theodolite.measure.results.equality import same
from theodolite.store import states

GROUPS, STATE = "param_groups", "state"
OF_ANY_OPTIMIZER = (GROUPS, STATE, "defaults")  # the last serves for groups that are added
OF_ANY_MODULE = vars(nn.Module()).keys()
PLAIN = (bool, int, float, str, type(None), Tensor, list, tuple, dict)


def check_optimizer(live: Optimizer, make: Callable[[list[Tensor]], Optimizer]) -> None:
    """Refuse an optimizer that is not the same again once a new one has taken its state from a file.

    Args:
        live: some steps on.
        make: makes a new one, of copies of the parameters.

    Raises:
        SettingError: they differ; the message names where.
    """
    fresh = make([_copy(parameter) for parameter in _parameters(live)])
    fresh.load_state_dict(states.from_bytes(states.to_bytes(live.state_dict())))
    if (place := _different(live, fresh)) is not None:
        raise SettingError(
            f"expected an optimizer whose state_dict() holds all that changes, since it is to be resumed, but "
            f"{type(live).__name__} has '{place}' beside. Keep it in self.state, write state_dict() and "
            "load_state_dict(), or leave --resume-every out."
        )


def attributes(model: nn.Module) -> dict[str, Any]:
    """What modules keep on themselves as plain values, by name, and as it is now."""
    return {
        f"{name}.{key}".lstrip("."): _kept(value)
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if key not in OF_ANY_MODULE and isinstance(value, PLAIN)
    }


def check_module(model: nn.Module, before: Mapping[str, Any]) -> None:
    """Refuse a network that keeps on itself, outside of parameters and buffers, what changes in training.

    Raises:
        SettingError: it does; the message names the attribute.
    """
    now = attributes(model)
    changed = [name for name in {**before, **now} if name not in before or not same(before[name], now.get(name))]
    if changed:
        raise SettingError(
            f"expected a network that changes nothing but parameters and buffers, since its training is to be resumed, "
            f"but '{changed[0]}' changed. Register it as a buffer, or leave --resume-every out."
        )


def _different(live: Optimizer, fresh: Optimizer) -> str | None:
    """The name of an attribute in which they differ, if one does."""
    for a, b in zip(live.param_groups, fresh.param_groups, strict=True):
        for name in a:
            if name != "params" and not same(a[name], b.get(name)):
                return name
    for p, q in zip(_parameters(live), _parameters(fresh), strict=True):
        if not same(dict(live.state.get(p, {})), dict(fresh.state.get(q, {}))):
            return STATE
    if type(live).__module__.startswith("torch."):  # beside the state they keep what is counted again
        return None
    own, other = vars(live), vars(fresh)
    return next((n for n in own if n not in OF_ANY_OPTIMIZER and not _same(own[n], other.get(n))), None)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Optimizer):
        return type(a) is type(b) and _different(a, b) is None
    if isinstance(a, torch.Generator):
        return isinstance(b, torch.Generator) and torch.equal(a.get_state(), b.get_state())
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and _same(list(a.items()), list(b.items()))
    if isinstance(a, Sequence) and not isinstance(a, str):
        return type(a) is type(b) and len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, Tensor) or not callable(a):
        return same(a, b)
    return type(a) is type(b) and getattr(a, "__qualname__", "") == getattr(b, "__qualname__", "")


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _copy(parameter: Tensor) -> Tensor:
    return parameter.detach().clone().requires_grad_(parameter.requires_grad)


def _kept(value: Any) -> Any:
    """A copy, as far as it may be changed in place."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _kept(part) for key, part in value.items()}
    return type(value)(map(_kept, value)) if type(value) in (list, tuple) else value
