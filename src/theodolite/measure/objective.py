r"""The loss of a model over a data set, as a function of its parameters: what every instrument measures.

Nothing here changes the model: parameters and buffers enter by ``torch.func.functional_call``, so ``.grad``,
running statistics and mode stay as they were, and the random state is put back by :func:`untouched`.

A batch is a pair ``(inputs, targets)``. Inputs that are a tuple are the model's positional arguments, a mapping its
keyword arguments, and anything else its one argument. A batch that is itself a mapping, as tokenizers and the data
sets of Hugging Face give it, is both: the model gets it as keyword arguments, and the loss as its targets. So a model
that computes its own loss takes ``loss=lambda outputs, _: outputs.loss``, and one whose loss you write
``loss=lambda outputs, batch: cross_entropy(outputs.logits, batch["labels"])``.

What is computed over several batches is :math:`\sum_b (n_b / N)\, \mathrm{loss}_b`, with n_b the first dimension of
the first tensor of the targets. That is the mean over all samples, whatever the batch sizes, where a loss is a mean
over samples. A loss that divides by something else, as class weights, ``ignore_index`` and a language model's mean
over its tokens do, is divided by it within each batch, and the sum above is still exactly what is computed: it
depends on how samples were put into batches. Pass one batch where the whole set's own quotient is wanted.
"""

import fnmatch
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.module import _has_any_global_hook
from torch.overrides import TorchFunctionMode

from theodolite.errors import BadData, BadLoss, BadModel, NotDeterministic

Loss = Callable[[Any, Any], Tensor]
Batch = tuple[Any, Any]
Data = Batch | Mapping[str, Any] | Iterable[Batch | Mapping[str, Any]]

# What a batch of wrong shapes or types raises.
UNFIT = (RuntimeError, ValueError, TypeError, IndexError, AttributeError)


@dataclass(frozen=True, slots=True)
class Objective:
    """L(θ) = Σ_b (n_b / N) loss(model(x_b; θ), y_b): the exact mean over samples, whatever the batch sizes."""

    model: nn.Module
    loss: Loss
    data: Iterable[Batch]
    names: tuple[str, ...]  # of the parameters measured, in the model's order, tied ones once
    shapes: tuple[torch.Size, ...]
    samples: int  # N
    dtype: torch.dtype | None = None  # what is computed in; None: as model and data are

    def to(self, dtype: torch.dtype) -> "Objective":
        """The same loss computed in another precision: parameters, buffers and data are cast on their way in."""
        loss: Loss = deepcopy(self.loss).to(dtype) if isinstance(self.loss, nn.Module) else self.loss
        return replace(self, loss=loss, dtype=dtype)

    @property
    def size(self) -> int:
        """P, the number of parameters measured."""
        return sum(shape.numel() for shape in self.shapes)

    @property
    def vector(self) -> Tensor:
        """The parameters as they are now, flat ``(P,)``, a copy."""
        own = dict(self.model.named_parameters())
        return self._cast(torch.cat([own[name].detach().flatten() for name in self.names]))

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """Views of a flat vector ``(P,)`` by parameter name."""
        parts = vector.split([shape.numel() for shape in self.shapes])
        return {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}

    def batches(self) -> Iterator[tuple[Batch, float]]:
        """Each batch, on the model's device, with its share n_b / N of the samples."""
        device = next(self.model.parameters()).device
        for batch in self.data:
            yield _to(batch, device, self.dtype), samples(batch) / self.samples

    def cast(self, batch: Batch) -> Batch:
        """A batch of :meth:`batches` of the same objective in another precision, in this one's."""
        return _to(batch, next(self.model.parameters()).device, self.dtype)  # type: ignore[no-any-return]

    def outputs(self, parameters: Mapping[str, Tensor], inputs: Any) -> Any:
        """The model's outputs with these tensors in place of its own; buffers not given are copies."""
        buffers = {name: self._cast(buffer.clone()) for name, buffer in self.model.named_buffers()}
        if self.dtype is not None:  # what is not measured is cast as well
            buffers |= {n: self._cast(p.detach()) for n, p in self.model.named_parameters() if n not in parameters}
        arguments = inputs if isinstance(inputs, tuple) else () if isinstance(inputs, Mapping) else (inputs,)
        keywords = dict(inputs) if isinstance(inputs, Mapping) else {}
        everywhere = _everywhere(self.model, {**buffers, **parameters})
        return functional_call(self.model, everywhere, arguments, keywords, tie_weights=False)

    def batch_loss(self, parameters: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Mean loss of one batch, a scalar."""
        inputs, targets = batch
        return self.loss(self.outputs(parameters, inputs), targets)

    @contextmanager
    def twice_differentiable(self) -> Iterator[None]:
        """For forward passes whose gradient is differentiated again: the kernels PyTorch can do that with.

        Fused attention and cuDNN's recurrent layers have no second derivative, that of fused weight normalisation is
        wrong by 10 to 30 %, and autocast would round between the two. The user's own settings are back afterwards.
        """
        device = next(self.model.parameters()).device.type
        with ExitStack() as stack:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            if not (_of_torch(self.loss) and all(map(_of_torch, self.model.modules()))):
                stack.enter_context(_ElementaryWeightNorm())
            stack.enter_context(unrounded(device))
            if device == "cuda" and any(isinstance(m, nn.RNNBase) for m in self.model.modules()):
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            yield

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.dtype) if self.dtype is not None and tensor.is_floating_point() else tensor


@dataclass(frozen=True, slots=True)
class Pairs:
    """Data as they were given, as pairs (a mapping is both parts of one), in the same order at every reading."""

    data: Iterable[Batch | Mapping[str, Any]]

    def __iter__(self) -> Iterator[Batch]:
        """The batches, one reading like the other."""
        with unmoved(self.data):
            for batch in self.data:
                yield (batch, batch) if isinstance(batch, Mapping) else batch


def pairs(data: Data) -> Pairs:
    """Data as pairs, whatever they were given as.

    Raises:
        BadData: an iterator, which can be read once only, or what cannot be read at all.
    """
    given: Any = [data] if is_pair(data) else data
    if not (hasattr(given, "__iter__") or hasattr(given, "__getitem__")):
        raise BadData(f"expected data, got {type(given).__name__}. Pass (inputs, targets) or batches of them.")
    if hasattr(given, "__next__"):
        raise BadData(
            "expected data that can be read more than once, got an iterator. Pass a list of batches or a DataLoader."
        )
    return Pairs(given)


def objective(model: nn.Module, loss: Loss, data: Data, *, parameters: str | None = None) -> Objective:
    """Check model, loss and data, and join them.

    Args:
        model: any module; parameters with ``requires_grad=False`` are left out.
        loss: maps (outputs, targets) to a scalar mean over samples.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches; inputs a tensor, tuple or dict. A batch
            may also be one dict: the model's keyword arguments, and the loss's targets.
        parameters: a pattern such as ``"layers.0.*"`` that restricts the measurement to a part of the model.

    Raises:
        BadModel: no parameter is left, or one holds NaN.
        BadData: no batch, an iterator that can be read once only, NaN in inputs, or shapes that do not fit.
        BadLoss: the loss is not a finite scalar.
        NotDeterministic: two passes over the first batch differ (Dropout in training mode).
    """
    chosen = {
        name: p
        for name, p in model.named_parameters()
        if p.requires_grad and (parameters is None or fnmatch.fnmatchcase(name, parameters))
    }
    if not chosen:
        some = ", ".join(name for name, _ in list(model.named_parameters())[:8]) or "none at all"
        raise BadModel(
            f"expected at least one trainable parameter matching {parameters or '*'!r}; the model has: {some}. "
            "Pass another pattern, or set requires_grad."
        )
    for name, parameter in chosen.items():
        if not torch.isfinite(parameter).all():
            raise BadModel(
                f"expected finite parameters, but '{name}' holds NaN or infinity. Measure an earlier checkpoint."
            )
    whole = pairs(data)
    with untouched(), torch.no_grad():  # a DataLoader draws from the random state whenever it is read
        shapes = tuple(p.shape for p in chosen.values())
        result = Objective(model, loss, whole, tuple(chosen), shapes, _check(whole))
        _check_loss(result)
    return result


class _ElementaryWeightNorm(TorchFunctionMode):
    """Computes ``torch._weight_norm``, which weight_norm calls, by operations whose second derivative is right."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch._weight_norm:
            v, g, dim = (*args, *(kwargs or {}).values(), 0)[:3]
            return v * (g / torch.norm_except_dim(v, 2, dim))
        return function(*args, **(kwargs or {}))


def _of_torch(part: Any) -> bool:
    """Whether a module or function is PyTorch's own as it is, so that it does not normalise weights on its way.

    Looking at every operation takes a seventh of the time that the operator of a small model is made in.
    """
    if not isinstance(part, nn.Module):
        return str(getattr(part, "__module__", "")).startswith("torch.nn.")
    hooked = part._forward_pre_hooks or part._forward_hooks or _has_any_global_hook()
    if "forward" in vars(part) or hooked:  # weight_norm of old is such a hook
        return False
    kind = type(part).__module__
    return kind.startswith("torch.nn.modules.") and "parametrizations" not in part._modules


@contextmanager
def untouched() -> Iterator[None]:
    """Put the random state back: PyTorch's on every device, and those that a user's data may draw from."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def unrounded(device: str) -> AbstractContextManager[object]:
    """Nothing is rounded by autocast inside, which does it in backward passes too."""
    on = torch.is_autocast_enabled(device)  # the context itself takes a hundredth of a small model's product
    return torch.autocast(device, enabled=False) if on else nullcontext()


@contextmanager
def loops_allowed() -> Iterator[None]:
    """Where PyTorch has no batched form of an operation it loops, and warns: not here, where the loop is short."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")
        yield


@contextmanager
def unmoved(data: Any) -> Iterator[None]:
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


def _everywhere(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors by the names of all places that hold them, each place once.

    ``functional_call`` would find tied weights by itself, but leaves a module that occurs twice with our tensors in it.
    """
    first: dict[int, str] = {}
    places = {}
    for prefix, module in model.named_modules():  # a module that occurs twice is given once
        for attribute, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                name = f"{prefix}.{attribute}" if prefix else attribute
                known = first.setdefault(id(tensor), name)
                if known in tensors or name in tensors:
                    places[name] = tensors[known] if known in tensors else tensors[name]
    return places


def blame(model: nn.Module, loss: Loss, data: Data, error: Exception) -> None:
    """Raise BadData with the number of the batch that model or loss do not take, if there is one; else return."""
    whole = Objective(model, loss, pairs(data), (), (), samples=1)
    with untouched(), torch.no_grad():
        for number, (batch, _) in enumerate(whole.batches()):
            try:
                whole.batch_loss({}, batch)
            except UNFIT as local:
                raise BadData(_unfit(f"batch {number}", local)) from error


def check_reached(value: Tensor) -> None:
    """Raise BadLoss where a loss cannot be differentiated: on its way from the parameters it was cut off."""
    if not value.requires_grad:
        raise BadLoss(
            "expected a loss that depends on the parameters measured, got one that no gradient reaches. "
            "Leave out .detach(), .item() and torch.no_grad() on the way from model to loss."
        )


def check_finite(what: str, value: Tensor | float) -> None:
    """Raise BadLoss where a number summed over all batches is none: the first batch alone was checked beforehand."""
    if not bool(torch.isfinite(torch.as_tensor(value)).all()):
        raise BadLoss(
            f"expected {what} to be finite over all batches, got NaN or infinity. Check the data and the loss batch by "
            "batch; where numbers are too large for the model's precision, call model.double()."
        )


def is_pair(data: Any) -> bool:
    """Whether data are one batch, not many: a list of two dicts is two of them, a tuple of two is a pair."""
    if isinstance(data, Mapping):
        return True
    if not (isinstance(data, (tuple, list)) and len(data) == 2):
        return False
    inputs, targets = data
    pair = isinstance(data, tuple) and isinstance(inputs, (Tensor, Mapping))
    return isinstance(targets, Tensor) or (pair and (targets is None or isinstance(targets, Mapping)))


def _tensors(part: Any) -> list[Tensor]:
    if isinstance(part, Tensor):
        return [part]
    if isinstance(part, Mapping):
        part = list(part.values())
    return [t for p in part for t in _tensors(p)] if isinstance(part, (tuple, list)) else []


def samples(batch: Batch) -> int:
    """How many samples a batch holds."""
    tensors = _tensors(batch[1]) or _tensors(batch[0])
    return tensors[0].shape[0] if tensors and tensors[0].ndim else 1


def _to(part: Any, device: torch.device, dtype: torch.dtype | None) -> Any:
    if isinstance(part, Tensor):
        return part.to(device, dtype if part.is_floating_point() else None)
    if isinstance(part, Mapping):
        return {key: _to(value, device, dtype) for key, value in part.items()}
    if not isinstance(part, (tuple, list)):
        return part
    return alike(part, [_to(p, device, dtype) for p in part])


def alike(part: Any, values: list[Any]) -> Any:
    """The values as a tuple or list of the same type, which may be a named tuple."""
    return type(part)(*values) if hasattr(part, "_fields") else type(part)(values)


def _check(data: Iterable[Any]) -> int:
    total = 0
    for number, batch in enumerate(data):
        if not (isinstance(batch, (tuple, list)) and len(batch) == 2):
            raise BadData(
                f"expected batches of (inputs, targets), got {type(batch).__name__} as batch {number}. "
                "Wrap the data in such pairs."
            )
        inputs, targets = _tensors(batch[0]), _tensors(batch[1])
        if inputs and targets and targets[0].ndim and inputs[0].shape[0] != targets[0].shape[0]:
            raise BadData(
                f"expected as many targets as inputs, got {targets[0].shape[0]} and {inputs[0].shape[0]} in batch "
                f"{number}. Check how they were paired."
            )
        for tensor in (*inputs, *targets):
            if tensor.is_floating_point() and not _finite(tensor):
                raise BadData(f"expected finite data, but batch {number} holds NaN or infinity. Clean it first.")
        total += samples((batch[0], batch[1]))
    if total == 0:
        raise BadData("expected at least one sample, got none. Pass (inputs, targets) or batches of them.")
    return total


def _finite(tensor: Tensor) -> bool:
    """Whether all numbers are: their sum is, in a tenth of the time, or they are looked at one by one."""
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def _check_loss(objective: Objective) -> None:
    own = {name: p.detach() for name, p in objective.model.named_parameters() if name in objective.names}
    batch, _ = next(objective.batches(), (None, 0.0))
    if batch is None:
        raise BadData(
            "expected data that can be read more than once, got none at the second reading. Let __iter__ begin anew."
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Using a target size")  # PyTorch's, where it pairs all with all
            first, second = objective.batch_loss(own, batch), objective.batch_loss(own, batch)
    except torch.OutOfMemoryError:
        raise
    except (*UNFIT, UserWarning) as error:
        raise BadData(_unfit("the first batch", error)) from error
    if not isinstance(first, Tensor) or first.numel() != 1 or first.is_complex():
        got = f"{first.dtype} of shape {tuple(first.shape)}" if isinstance(first, Tensor) else type(first).__name__
        raise BadLoss(f"expected the loss to be a scalar mean over samples, got {got}. Use reduction='mean'.")
    if not torch.isfinite(first):
        raise BadLoss(f"expected a finite loss, got {first.item()}. Check the targets and the model's outputs.")
    if not torch.equal(first, second):
        raise NotDeterministic(
            "expected one loss from two passes over the same batch, got two. Call model.eval() (Dropout is off then), "
            "or fix the randomness."
        )


def _unfit(where: str, error: Exception) -> str:
    return (
        f"expected data that model and loss accept, got an error from {where}: {error}. "
        "Check the shapes and types of inputs and targets."
    )
