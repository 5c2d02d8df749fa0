"""What is so around a measurement or a training and put back after it: random states, autocast, rounding, warnings."""

import random
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import nn
from torch.nn.modules import module as _module
from torch.overrides import TorchFunctionMode


@contextmanager
def preserve_rng() -> Iterator[None]:
    """Put the random state back: PyTorch's on every device, and those that a user's data may draw from."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def autocast_off(device: str) -> AbstractContextManager[object]:
    """Nothing is rounded by autocast inside, which does it in backward passes too."""
    on = torch.is_autocast_enabled(device)  # the context itself takes a hundredth of a small model's product
    return torch.autocast(device, enabled=False) if on else nullcontext()


@contextmanager
def without_subnormals() -> Iterator[None]:
    """Numbers below the smallest normal one (1e-38 in float32) count as zero on this thread.

    Adam's first moment of a weight whose input is seldom on, as a pixel at the rim of MNIST, loses a tenth a step and
    is below that after 800; a processor takes twenty times as long over each such number, half of all training of
    large perceptrons on MNIST (docs/performance.md). No weight could tell: what they move it by is below 1e-29.
    """
    before = float(torch.tensor(torch.finfo(torch.float32).tiny) / 2) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@contextmanager
def without_fused_transformer() -> Iterator[None]:
    """``nn.TransformerEncoder`` and ``nn.MultiheadAttention`` as they train: their fused form has no derivative.

    PyTorch takes that in evaluation mode wherever nothing asks for a gradient. It rounds in another way, and gives
    zeros at positions that are masked.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def loops_allowed() -> Iterator[None]:
    """Where PyTorch has no batched form of an operation it loops, and warns: not here, where the loop is short."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")
        yield


@contextmanager
def preserve_loader_rng(data: Any) -> Iterator[None]:
    """Put back the states of the generators that a loader draws its order from."""
    found: dict[int, torch.Generator] = {}
    for part in _parts(data):
        generator = getattr(part, "generator", None)
        if isinstance(generator, torch.Generator):
            found[id(generator)] = generator
    states = [(generator, generator.get_state()) for generator in found.values()]
    try:
        yield
    finally:
        for generator, state in states:
            generator.set_state(state)


def _parts(loader: Any) -> Iterator[Any]:
    """A loader, its samplers, and what those wrap."""
    waiting, seen = [loader], set()
    while waiting:
        part = waiting.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        waiting += [getattr(part, name, None) for name in ("sampler", "batch_sampler")]


class ElementaryWeightNorm(TorchFunctionMode):
    """Computes ``torch._weight_norm``, which weight_norm calls, by operations whose second derivative is right."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch._weight_norm:
            v, g, dim = (*args, *(kwargs or {}).values(), 0)[:3]
            return v * (g / torch.norm_except_dim(v, 2, dim))
        return function(*args, **(kwargs or {}))


def of_torch(part: Any) -> bool:
    """Whether a module or function is PyTorch's own as it is, so that it does not normalise weights on its way.

    Looking at every operation takes a seventh of the time that the operator of a small model is made in.
    """
    if not isinstance(part, nn.Module):
        return str(getattr(part, "__module__", "")).startswith("torch.nn.")
    hooked = part._forward_pre_hooks or part._forward_hooks or _any_global_hook()
    if "forward" in vars(part) or hooked:  # weight_norm of old is such a hook
        return False
    kind = type(part).__module__
    return kind.startswith("torch.nn.modules.") and "parametrizations" not in part._modules


def _any_global_hook() -> bool:
    """Whether hooks are on all modules; where PyTorch does not say (before 2.7), as if there were."""
    known = getattr(_module, "_has_any_global_hook", None)
    return True if known is None else bool(known())


CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Caller:
    """What the caller has set for tensors that are made without saying so: the model's and the loss's own code asks."""

    dtype: torch.dtype = torch.float32
    device: torch.device = CPU

    @classmethod
    def now(cls) -> Self:
        """As it is set."""
        try:
            return cls(torch.get_default_dtype(), torch.get_default_device())
        except AttributeError:  # PyTorch 2.6 cannot say it once it was set and taken back
            return cls(torch.get_default_dtype())

    @staticmethod
    def of_instrument() -> "Caller":
        """As it was when the instrument that runs was called."""
        return _caller.get()

    def defaults(self) -> AbstractContextManager[object]:
        """These are the defaults inside."""
        return nullcontext() if self == Caller.now() else _defaults(self)


@contextmanager
def _defaults(wanted: Caller) -> Iterator[None]:
    before = torch.get_default_dtype()
    with torch.device(wanted.device):
        torch.set_default_dtype(wanted.dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


AUTOCAST = ("cpu", "cuda", "mps", "xpu")  # devices that a caller may have switched it on for


_caller: ContextVar[Caller] = ContextVar("caller", default=Caller())  # noqa: B039 - frozen


def plain_torch() -> AbstractContextManager[object]:
    """PyTorch as a script finds it: no autocast, gradients recorded, no inference mode, defaults float32 on the CPU."""
    asked = torch.is_inference_mode_enabled() or not torch.is_grad_enabled()
    asked = asked or any(map(torch.is_autocast_enabled, AUTOCAST))
    return _plain_torch() if asked or Caller.now() != Caller() else nullcontext()


@contextmanager
def _plain_torch() -> Iterator[None]:
    with ExitStack() as stack:
        if (now := Caller.now()) != Caller():
            stack.callback(_caller.reset, _caller.set(now))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in AUTOCAST:
            stack.enter_context(autocast_off(device))
        stack.enter_context(Caller().defaults())
        yield


@contextmanager
def preserve_modules(*roots: object) -> Iterator[None]:
    """Put back what modules keep on themselves: features, counts and lists that a forward pass writes.

    Tensors that a graph or a transformation of PyTorch holds would otherwise stay on them, and could not be copied.
    """
    modules = {id(m): m for root in roots if isinstance(root, nn.Module) for m in root.modules()}
    saved = [(vars(m), dict(vars(m)), *_contents(vars(m))) for m in modules.values()]
    try:
        yield
    finally:
        for now, before, filled, empty in saved:
            for name in [name for name in now if name not in before]:
                del now[name]
            for name, value in before.items():
                if now.get(name, now) is not value:
                    now[name] = value
            for kept, content in filled:
                if not _unchanged(kept, content):
                    kept.clear()
                    (kept.extend if isinstance(kept, list) else kept.update)(content)
            for kept in filter(None, empty):
                kept.clear()


def _contents(attributes: dict[str, Any]) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """Lists, dicts and sets among them, each with a copy of what it holds; and those, most of them, that are empty."""
    found = [value for value in attributes.values() if isinstance(value, (list, dict, set))]
    return [(value, value.copy()) for value in found if value], [value for value in found if not value]


def _unchanged(kept: Any, content: Any) -> bool:
    if len(kept) != len(content):
        return False
    if isinstance(kept, dict):
        return all(a is b for a, b in zip(kept.values(), content.values(), strict=True)) and list(kept) == list(content)
    return all(a is b for a, b in zip(kept, content, strict=True)) if isinstance(kept, list) else kept == content


def unwrapped(model: Any) -> Any:
    """The module whose parameters are trained, without what compiles it or spreads it over processes.

    Compiled code cannot be differentiated twice, and a wrapper's hooks would wait for processes that do not measure.
    A function, as a loss, without what compiles it.
    """
    while not isinstance(model, (nn.Module, type)) and callable(getattr(model, "_torchdynamo_orig_callable", None)):
        model = model._torchdynamo_orig_callable
    while isinstance(model, nn.Module):
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner
    return model
