r"""The loss of a model over a data set, as a function of its parameters: what every instrument measures.

Nothing here changes the model: parameters and buffers enter by ``torch.func.functional_call``, so ``.grad``,
running statistics and mode stay as they were; what is around it does too
(:mod:`~theodolite.measure.problem.isolation`).
What data and a batch may be: :mod:`~theodolite.measure.problem.batches`.

What is computed over several batches is :math:`\sum_b (n_b / N)\, \mathrm{loss}_b`, with n_b the first dimension of
the first tensor of the targets. That is the mean over all samples, whatever the batch sizes, where a loss is a mean
over samples. A loss that divides by something else, as class weights, ``ignore_index`` and a language model's mean
over its tokens do, is divided by it within each batch, and the sum above is still exactly what is computed: it
depends on how samples were put into batches. Pass one batch where the whole set's own quotient is wanted.
"""

import fnmatch
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from theodolite.errors import BadData, BadLoss, BadModel, NotDeterministic
from theodolite.measure.problem.batches import Batch, Data, moved, pairs, samples, tensors
from theodolite.measure.problem.isolation import ElementaryWeightNorm, autocast_off, of_torch, preserve_rng

Loss = Callable[[Any, Any], Tensor]

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
            yield moved(batch, device, self.dtype), samples(batch) / self.samples

    def cast(self, batch: Batch) -> Batch:
        """A batch of :meth:`batches` of the same objective in another precision, in this one's."""
        return moved(batch, next(self.model.parameters()).device, self.dtype)  # type: ignore[no-any-return]

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
            if not (of_torch(self.loss) and all(map(of_torch, self.model.modules()))):
                stack.enter_context(ElementaryWeightNorm())
            stack.enter_context(autocast_off(device))
            if device == "cuda" and any(isinstance(m, nn.RNNBase) for m in self.model.modules()):
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            yield

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.dtype) if self.dtype is not None and tensor.is_floating_point() else tensor


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
    with preserve_rng(), torch.no_grad():  # a DataLoader draws from the random state whenever it is read
        shapes = tuple(p.shape for p in chosen.values())
        result = Objective(model, loss, whole, tuple(chosen), shapes, _check(whole))
        _check_loss(result)
    return result


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
    with preserve_rng(), torch.no_grad():
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


def _check(data: Iterable[Any]) -> int:
    total = 0
    for number, batch in enumerate(data):
        if not (isinstance(batch, (tuple, list)) and len(batch) == 2):
            raise BadData(
                f"expected batches of (inputs, targets), got {type(batch).__name__} as batch {number}. "
                "Wrap the data in such pairs."
            )
        inputs, targets = tensors(batch[0]), tensors(batch[1])
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
