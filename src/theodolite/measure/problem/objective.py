r"""The loss of a model over a data set, as a function of its parameters: what every instrument measures.

Parameters and buffers enter in place of the model's own, for as long as model, loss and backward pass run
(:mod:`~theodolite.measure.problem.binding`), so that ``.grad``, running statistics and mode stay as they were; what is
around them does too (:mod:`~theodolite.measure.problem.isolation`). That this gives what the model gives when it is
called plainly is seen on some samples of the first batch (:mod:`~theodolite.measure.problem.plain`).
What data and a batch may be: :mod:`~theodolite.measure.problem.batches`; what several of them sum to:
:mod:`~theodolite.measure.problem.reduction`.
"""

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from theodolite.errors import BadData, BadLoss, TheodoliteError
from theodolite.measure.problem.batches import Batch, arguments_of, copied, count, moved
from theodolite.measure.problem.binding import Binding
from theodolite.measure.problem.isolation import (
    Caller,
    ElementaryWeightNorm,
    autocast_off,
    of_torch,
    preserve_rng,
    without_fused_transformer,
)
from theodolite.measure.problem.reduction import Reduction
from theodolite.measure.problem.vocabulary import unheld_logits

Loss = Callable[[Any, Any], Tensor]


@dataclass(frozen=True, slots=True)
class Objective:
    """L(θ) = Σ_b share_b loss(model(x_b; θ), y_b), with shares w_b / W where the loss is a mean, and 1 where a sum."""

    model: nn.Module
    loss: Loss
    data: Iterable[Batch]
    names: tuple[str, ...]  # of the parameters measured, in the model's order, tied ones once
    shapes: tuple[torch.Size, ...]
    samples: int  # N, of all batches
    weight: Callable[[Batch], float]  # w, of one batch: its samples, but for those a loss leaves out
    total: float = 1.0  # W, of all batches
    reduction: Reduction = "mean"
    dtype: torch.dtype | None = None  # what is computed in; None: as model and data are
    grad_in_loss: bool = False  # model or loss take gradients themselves, also where ours are not asked for
    fused: bool = True  # False: the model has fused layers that give other numbers where nothing asks for a gradient
    writes_inputs: bool = False  # the model alters what it gets
    caught: bool = False  # a function holds parameters by themselves
    bad_batches: tuple[int, ...] = ()  # that hold NaN or infinity, which the loss may know how to leave out
    caller: Caller = field(default_factory=Caller)
    logit_bytes: float | None = None  # of logits over a large vocabulary that may be held at once; None: all

    def to(self, dtype: torch.dtype) -> "Objective":
        """The same loss computed in another precision: all tensors are cast on their way in."""
        return replace(self, dtype=dtype)

    @property
    def size(self) -> int:
        """P, the number of parameters measured."""
        return sum(shape.numel() for shape in self.shapes)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def own(self) -> dict[str, nn.Parameter]:
        """The model's own parameters that are measured, by name."""
        return {name: _at(self.model, name) for name in self.names}

    @property
    def loss_alone(self) -> Loss:
        """The loss as a function of outputs in this precision, for those who need no model; a module stays one."""
        if self.dtype is None or not isinstance(self.loss, nn.Module):
            return self.loss
        return deepcopy(self.loss).to(self.dtype)

    @property
    def vector(self) -> Tensor:
        """The parameters as they are now, flat ``(P,)``, a copy."""
        return self._cast(torch.cat([p.detach().flatten() for p in self.own.values()]))

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """The parts of a flat vector ``(P,)`` by parameter name.

        Those that may be real and imaginary parts are no views: PyTorch takes complex numbers at even places alone.
        """
        return {name: part * 1 if part.shape[-1:] == (2,) else part for name, part in self.views(vector).items()}

    def views(self, vector: Tensor) -> dict[str, Tensor]:
        """The same parts, to be written to."""
        parts = vector.split([shape.numel() for shape in self.shapes])
        return {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}

    def batches(self) -> Iterator[tuple[Batch, float]]:
        """Each batch that counts, on the model's device, with its share of the loss."""
        for batch in self.data:
            share = self.share(batch)
            if share and count(batch):  # a mean over no sample is none
                yield moved(batch, self.device, self.dtype), share

    def share(self, batch: Batch) -> float:
        """By what the loss of a batch is multiplied: w_b / W, or 1."""
        return 1.0 if self.reduction == "sum" else self.weight(batch) / self.total

    def over(self, batches: list[Batch]) -> "Objective":
        """The same loss over other batches, which are not checked anew."""
        total = sum(self.weight(batch) for batch in batches)
        return replace(self, data=batches, samples=sum(map(count, batches)), total=total)

    def cast(self, batch: Batch) -> Batch:
        """A batch of :meth:`batches` of the same objective in another precision, in this one's."""
        return moved(batch, self.device, self.dtype)  # type: ignore[no-any-return]

    def at(self, parameters: Mapping[str, Tensor]) -> Binding:
        """Inside, model and loss have these tensors in place of their own; buffers not given are copies.

        A backward pass belongs inside too: recomputation calls the model once more.
        """
        roots = [root for root in (self.model, self.loss) if isinstance(root, nn.Module)]
        tensors: dict[int, Tensor] = {}
        for root in roots:
            tensors |= {id(buffer): self._cast(buffer.clone()) for buffer in root.buffers()}
            if self.dtype is not None:  # what is not measured is cast as well
                tensors |= {id(p): self._cast(p.detach()) for p in root.parameters()}
        places: dict[str, Tensor] = dict(self.model.named_parameters(remove_duplicate=False))
        places |= dict(self.model.named_buffers(remove_duplicate=False))
        given = {name: tensor for name, tensor in parameters.items() if name in places}
        if self.grad_in_loss:  # the model may take gradients by its parameters itself, as of an inner step
            given = {name: _differentiable(tensor, places[name]) for name, tensor in given.items()}
        tensors |= {id(places[name]): tensor for name, tensor in given.items()}
        for weight in self.renormed():
            tensors[id(weight)] = tensors.get(id(weight), weight.detach()).clone()
        return Binding(roots, tensors, caught=self.caught)

    def renormed(self) -> Iterator[nn.Parameter]:
        """Weights that PyTorch's own layers write into when they are called: of embeddings with ``max_norm``."""
        for module in self.model.modules():
            if getattr(module, "max_norm", None) is not None:  # asked first: to look at a weight may compute it anew
                weight = getattr(module, "weight", None)
                if isinstance(weight, nn.Parameter):
                    yield weight

    def call(self, inputs: Any) -> Any:
        """The model's outputs, with the tensors it has: see :meth:`at`."""
        args, keywords = arguments_of(self.model, copied(inputs) if self.writes_inputs else inputs)
        with self.surroundings(), unheld_logits(self.logit_bytes):
            return self.model(*args, **keywords)

    def loss_of(self, batch: Batch) -> Tensor:
        """The loss of one batch, a scalar, with the tensors that model and loss have: see :meth:`at`."""
        outputs = self.call(batch[0])
        with self.surroundings():  # a loss may call the model again
            return self.loss(outputs, batch[1])

    def surroundings(self) -> AbstractContextManager[object]:
        """What is set while the model or the loss runs."""
        if self.fused:
            return self.caller.defaults()
        with ExitStack() as stack:
            stack.enter_context(self.caller.defaults())
            stack.enter_context(without_fused_transformer())
            return stack.pop_all()

    def outputs(self, parameters: Mapping[str, Tensor], inputs: Any) -> Any:
        """The model's outputs with these tensors in place of its own."""
        with self.at(parameters):
            return self.call(inputs)

    def batch_loss(self, parameters: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Loss of one batch with these tensors in place of the model's own; no backward pass must follow."""
        with self.at(parameters):
            return self.loss_of(batch)

    @contextmanager
    def twice_differentiable(self) -> Iterator[None]:
        """For forward passes whose gradient is differentiated again: the kernels PyTorch can do that with.

        Fused attention and cuDNN's recurrent layers have no second derivative, that of fused weight normalisation is
        wrong by 10 to 30 %, and autocast would round between the two. The user's own settings are back afterwards.
        """
        device = self.device.type
        with ExitStack() as stack:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            if not (of_torch(self.loss) and all(map(of_torch, self.model.modules()))):
                stack.enter_context(ElementaryWeightNorm())
            stack.enter_context(autocast_off(device))
            if device == "cuda" and any(isinstance(m, nn.RNNBase) for m in self.model.modules()):
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            yield

    def _cast(self, tensor: Tensor) -> Tensor:
        tensor = tensor.clone() if tensor.is_inference() else tensor  # autograd does not take those
        return tensor.to(self.dtype) if self.dtype is not None and tensor.is_floating_point() else tensor


def _at(module: nn.Module, name: str) -> nn.Parameter:
    """A parameter by its name, without a walk over all."""
    *path, last = name.split(".")
    for part in path:
        module = module._modules[part]  # type: ignore[assignment]
    return module._parameters[last]  # type: ignore[return-value]


def _differentiable(tensor: Tensor, place: Tensor) -> Tensor:
    return tensor.detach().requires_grad_() if place.requires_grad and not tensor.requires_grad else tensor


def raise_bad_batch(whole: Objective, error: Exception) -> None:
    """Raise BadData with the number of the batch that model or loss do not take, if there is one; else return."""
    with preserve_rng():
        for number, (batch, _) in enumerate(whole.batches()):
            try:
                whole.batch_loss({}, batch)
            except TheodoliteError:
                raise
            except Exception as local:
                raise BadData(unfit(f"batch {number}", local)) from error


def check_reached(value: Tensor) -> None:
    """Raise BadLoss where a loss cannot be differentiated: on its way from the parameters it was cut off."""
    if not value.requires_grad:
        raise BadLoss(
            "expected a loss that depends on the parameters measured, got one that no gradient reaches. "
            "Leave out .detach(), .item() and torch.no_grad() on the way from model to loss."
        )


def check_finite(
    what: str, value: Tensor | float, whole: Objective | None = None, find: Callable[[], str] | None = None
) -> None:
    """Raise BadLoss where a number summed over all batches is none: the first batch alone was checked beforehand.

    Args:
        what: it is.
        value: the number, or several.
        whole: the loss that it is of.
        find: of a derivative: gives a sentence that says where it becomes NaN, or "".
    """
    numbers = torch.as_tensor(value)
    if bool(torch.isfinite(numbers.sum())) or bool(torch.isfinite(numbers).all()):  # the first holds no copy of them
        return
    if whole is not None and whole.bad_batches:
        raise BadData(
            f"expected {what} to be finite, but batch {whole.bad_batches[0]} holds NaN or infinity, and no loss that "
            "leaves them out. Clean the data first."
        )
    cause = (
        "Check the data and the loss batch by batch."
        if find is None
        else (
            f"{find()}A root, a norm or a power at zero has no derivative: add a small number within it, as in "
            "(z.pow(2).sum(1) + 1e-12).sqrt()."
        )
    )
    if whole is None or whole.vector.dtype != torch.float64:
        cause += " Where numbers are too large for the model's precision, take model.double() and inputs.double()."
    raise BadLoss(f"expected {what} to be finite over all batches, got NaN or infinity. {cause}")


ADVICE = {  # words of an error of PyTorch's -> what helps
    "use_reentrant": "Pass use_reentrant=False to checkpoint.",
    "None of the inputs have requires_grad": "Pass use_reentrant=False to checkpoint.",
    "not compatible with .grad()": "Pass use_reentrant=False to checkpoint.",
    "One of the differentiated Tensors does not require grad": (
        "A derivative by the inputs needs inputs that have one: call x.requires_grad_() in the model before x is used, "
        "or on the data."
    ),
    "does not require grad": "Let gradients through: leave out .detach() and torch.no_grad() on the way.",
    "modified by an inplace operation": (
        "A number that a gradient needs was overwritten: leave out inplace=True, and max_norm= of an embedding that is "
        "called more than once."
    ),
    "can't allocate memory": "Pass smaller batches.",
    "Expected more than 1 value per channel": (
        "Call model.eval(), or leave out batches of one sample, as drop_last=True of a DataLoader does."
    ),
    "must have the same dtype": "Give model and inputs one type, as by model.double() and inputs.double().",
}


def advice(error: Exception, otherwise: str) -> str:
    """What to do about an error of PyTorch's, if we know."""
    return next((way for words, way in ADVICE.items() if words in str(error)), otherwise)


def unfit(where: str, error: Exception) -> str:
    """That a batch does not suit model or loss, in PyTorch's words."""
    return f"expected data that model and loss accept, got an error from {where}: {_words(error)}. " + advice(
        error, "Check the shapes and types of inputs and targets."
    )


def _words(error: Exception) -> str:
    """What an error says, and where it came from if it says little: an error of a dict is its key alone."""
    text = str(error).rstrip(". ") or type(error).__name__
    if isinstance(error, (RuntimeError, ValueError, TypeError)):
        return text
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in line {place.lineno} of {Path(place.filename).name}: {text}"
