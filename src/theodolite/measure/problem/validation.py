"""The door of every public instrument: an argument of the wrong kind is named here, before anything is computed.

What an argument may be is its annotation; what range it has, each instrument checks itself. A later batch that model
or loss do not take ends a computation wherever it is by then: the batches are tried once more, one by one, and the
one at fault is named.
"""

import inspect
import math
import sys
from collections.abc import Callable, Mapping
from functools import cache, wraps
from types import NoneType
from typing import Any, ParamSpec, TypeVar, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from theodolite.errors import BadLoss, BadModel, MeasurementError, SettingError, TheodoliteError
from theodolite.measure.problem.batches import pairs
from theodolite.measure.problem.isolation import plain_torch, preserve_modules, unwrapped
from theodolite.measure.problem.objective import Loss, Objective, advice, raise_bad_batch
from theodolite.measure.problem.reduction import weigh
from theodolite.measure.problem.typed import in_words, is_instance, is_plain, parts_of

P = ParamSpec("P")
R = TypeVar("R")

COUNTS = (
    "components", "epochs", "iterations", "k", "max_products", "points", "probes", "products", "starts", "steps",
    "symmetric",
)  # fmt: skip
MOST = 10**8  # of any of these: more would take years, or more memory than there is
OLD_NAMES = {"renew": "update_bn"}  # of arguments, which are still taken


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The same instrument, which refuses what its annotations do not allow.

    Raises:
        BadModel: a model is none, a class, or has parameters without numbers.
        BadLoss: a loss is no function.
        BadData: model or loss raise an error on some batch.
        SettingError: anything else of the wrong kind, a number that is not finite, a seed below zero, a count beyond
            all reason.
    """
    signature = inspect.signature(function)
    hints = cache(lambda: get_type_hints(function))

    @wraps(function)
    def instrument(*args: P.args, **kwargs: P.kwargs) -> R:
        for old in set(kwargs) & set(OLD_NAMES) - set(signature.parameters):
            kwargs[OLD_NAMES[old]] = kwargs.pop(old)
        bound = signature.bind(*args, **kwargs)
        given = bound.arguments
        for name, value in given.items():
            given[name] = _checked(name, unwrapped(value), hints().get(name), signature.parameters[name].default)
        with plain_torch(), preserve_modules(*given.values()):
            try:
                return function(*bound.args, **bound.kwargs)
            except (TheodoliteError, torch.OutOfMemoryError, MemoryError):
                raise
            except Exception as error:
                _raise_bad_batch(given, error)
                raise unmeasured(function.__name__, error) from error

    instrument.__annotations__ = dict(function.__annotations__)  # which `wraps` leaves behind from Python 3.14 on
    return instrument


def unmeasured(where: str, error: Exception) -> MeasurementError:
    """What is said of an error of PyTorch's, the model's or the loss's."""
    return MeasurementError(
        f"expected to measure, got an error from PyTorch, the model or the loss in {where}: "
        f"{type(error).__name__}: {str(error).rstrip('. ')}. "
        + advice(error, "Call the model and the loss on a batch by hand to see where.")
    )


def _raise_bad_batch(given: Mapping[str, Any], error: Exception) -> None:
    """Raise BadData with the batch at fault, if model or loss do not take one."""
    model, loss = given.get("model", given.get("model_a")), given.get("loss", _any_loss)
    for data in (given.get("data"), given.get("update_bn")):
        if isinstance(model, nn.Module) and data is not None and any(True for _ in model.parameters()):
            raise_bad_batch(Objective(model, loss, pairs(data), (), (), 1, weigh), error)


def coordinates(name: str, values: Any) -> Tensor:
    """Places along an axis as ``(K,)`` float64 on the CPU.

    Raises:
        SettingError: there is none, or one that is not a finite number.
    """
    try:
        axis = torch.as_tensor(values, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        axis = torch.zeros(0)
    if axis.ndim != 1 or not len(axis) or not torch.isfinite(axis).all():
        raise SettingError(f"expected {name} as a non-empty list of finite numbers, got {values}. Try [-1, 0, 1].")
    return axis


def check_module(name: str, value: Any) -> None:
    """Raise BadModel where a model is none."""
    if not isinstance(value, nn.Module):
        kind = type(value).__name__
        got, hint = kind, "Pass the network itself."
        if isinstance(value, type) and issubclass(value, nn.Module):
            got, hint = f"the class {value.__name__}", f"Make one: {value.__name__}(…)."
        elif isinstance(value, Mapping):
            got, hint = f"{kind}, maybe a state dict", "Put it into its network: model.load_state_dict(…)."
        elif callable(value):
            hint = "Make it the forward of an nn.Module that holds the parameters as nn.Parameter."
        raise BadModel(f"expected {name} as a torch.nn.Module, got {got}. {hint}")


def check_shaped(name: str, model: nn.Module) -> None:
    """Raise BadModel where a parameter or buffer waits for a first batch to have a shape."""
    for own, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise BadModel(f"expected parameters with a shape, but '{own}' has none yet. Pass a batch through {name}.")


def _check_not_spread(model: nn.Module) -> None:
    """Raise BadModel where FSDP has spread the parameters over processes.

    What it gives has no second derivative: "FSDP does not support gradients of gradients", and with ``fully_shard`` no
    gradient by a tensor reaches the shards.
    """
    fsdp = sys.modules.get("torch.distributed.fsdp")
    kinds = [getattr(fsdp, name, None) for name in ("FullyShardedDataParallel", "FSDPModule")]
    if any(isinstance(module, tuple(filter(None, kinds))) for module in model.modules()):
        raise BadModel(
            "expected a model with all its parameters in each process, got one that FSDP has spread over processes, "
            "which PyTorch cannot differentiate twice. Measure a plain model in each process, with state = "
            "get_model_state_dict(model, options=StateDictOptions(full_state_dict=True)) of "
            "torch.distributed.checkpoint.state_dict and plain.load_state_dict(state): the mean of their products, "
            "dist.all_reduce, is that of all samples."
        )


def _check_model(name: str, value: Any) -> None:
    check_module(name, value)
    _check_not_spread(value)
    check_shaped(name, value)
    for own, tensor in (*value.named_parameters(), *value.named_buffers()):
        if tensor.is_meta:
            raise BadModel(f"expected parameters with numbers, but '{own}' is on the device 'meta'. Load weights.")
        if tensor.is_complex() and tensor.requires_grad:
            raise BadModel(
                f"expected real parameters, but '{own}' is {tensor.dtype}. Take real and imaginary parts as "
                "parameters: torch.view_as_real."
            )


def _checked(name: str, value: Any, hint: Any, default: Any) -> Any:
    """The argument, a number as Python's own."""
    parts = parts_of(hint)
    if name in COUNTS and isinstance(value, int) and value > MOST:
        got = f"{value:.3g}" if value < 1e300 else "far more"
        raise SettingError(
            f"expected {name} of at most {MOST:,}, got {got}: no machine ends or holds that. Take fewer."
        )
    if hint == Loss:
        _check_loss(value)
    elif nn.Module in parts:
        if value is not None or NoneType not in parts:
            _check_model(name, value)
    elif is_plain(hint):
        value = value if is_instance(value, hint) else _plain(value)
        finite = not isinstance(value, float) or math.isfinite(value)
        seed = name != "seed" or not isinstance(value, int) or 0 <= value < 2**63
        if not (is_instance(value, hint) and finite and seed):
            words = in_words(hint) + (" from 0 on" if name == "seed" else "")
            advice = "" if default is inspect.Parameter.empty else f" Leave it out for its default, {default!r}."
            raise SettingError(f"expected {name} as {words}, got {_shown(value)}.{advice}")
    return value


def _check_loss(value: Any) -> None:
    if not callable(value) or isinstance(value, type):
        got = f"the class {value.__name__}" if isinstance(value, type) else _shown(value)
        raise BadLoss(
            f"expected the loss as a function of (outputs, targets), got {got}. Pass for example nn.CrossEntropyLoss()."
        )


def _plain(value: Any) -> Any:
    """NumPy's and PyTorch's numbers, arrays and ranges as Python's."""
    if isinstance(value, (np.ndarray, np.generic)) or (isinstance(value, Tensor) and value.ndim == 0):
        return value.tolist()
    return list(value) if isinstance(value, range) else value


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text}" if len(text) <= 60 and "\n" not in text else type(value).__name__


def _any_loss(outputs: Any, _: Any) -> Any:
    return outputs
