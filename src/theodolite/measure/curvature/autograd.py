"""Products with the Hessian and the generalised Gauss-Newton matrix of one batch, from a graph that is kept."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from theodolite.errors import BadLoss
from theodolite.measure.problem.batches import Batch
from theodolite.measure.problem.binding import Binding
from theodolite.measure.problem.objective import Objective, check_reached

Product = Callable[[Tensor], Tensor]  # (P,) -> (P,), or (k, P) -> (k, P)


def hessian_product(objective: Objective, point: Tensor, batch: Batch) -> Product:
    r""":math:`v \mapsto \partial (g^\top v) / \partial\theta` with the gradient g and its graph computed once."""
    bound = objective.at(objective.unflatten(point))
    with bound:
        loss = varying(objective.loss_of(batch))
        (gradient,) = torch.autograd.grad(loss, point, create_graph=True, materialize_grads=True)

    def product(v: Tensor) -> Tensor:
        with bound:  # for what is computed again on the way back
            return pull_back(gradient, point, v)

    return product


@dataclass(frozen=True, slots=True)
class LinearOutputs:
    """The outputs z of a model on one batch with their graph, for products with J = ∂z/∂θ and its transpose.

    J v by two reverse passes: Jᵀ w is linear in w, so its transpose is its derivative (Townsend 2017).
    """

    outputs: Tensor  # (m,), all real numbers that the model gives
    rebuild: Callable[[Tensor], Any]  # them in their structure
    point: Tensor
    dual: Tensor
    pulled: Tensor  # Jᵀ dual
    bound: Binding

    def times(self, v: Tensor) -> Tensor:
        """J v for one v ``(P,)``, or each row of ``(k, P)``."""
        with self.bound:
            return pull_back(self.pulled, self.dual, v)

    def transposed(self, w: Tensor) -> Tensor:
        """Jᵀ w for one w ``(m,)``, or each row of ``(k, m)``."""
        with self.bound:
            return pull_back(self.outputs, self.point, w)

    def around(self, middle: Product) -> Product:
        """The product with Jᵀ B J, of one with B."""

        def product(v: Tensor) -> Tensor:
            with self.bound:
                return pull_back(self.outputs, self.point, middle(pull_back(self.pulled, self.dual, v)))

        return product


class Linearised(Protocol):
    """The outputs z of a model on one batch, and products with J = ∂z/∂θ, however they are made."""

    @property
    def outputs(self) -> Tensor:
        """All real numbers that the model gives ``(m,)``."""

    @property
    def rebuild(self) -> Callable[[Tensor], Any]:
        """Them in their structure."""

    @property
    def point(self) -> Tensor:
        """The parameters ``(P,)``."""

    @property
    def bound(self) -> Binding:
        """Inside, model and loss have them."""

    def around(self, middle: Product) -> Product:
        """The product with Jᵀ B J, of one with B."""


Linearise = Callable[[Objective, Tensor, Any], Linearised]


def linear_outputs(objective: Objective, point: Tensor, inputs: Any) -> LinearOutputs:
    """Run the model, and keep the graphs of its outputs and of their derivative."""
    bound = objective.at(objective.unflatten(point))
    with bound:
        outputs, rebuild = flat(objective.call(inputs))
        dual = torch.zeros_like(outputs, requires_grad=True)
        pulled = _grad(outputs, point, dual, create_graph=True)
    return LinearOutputs(outputs, rebuild, point, dual, pulled, bound)


def ggn_product(objective: Objective, point: Tensor, batch: Batch, linearise: Linearise = linear_outputs) -> Product:
    r""":math:`v \mapsto J^\top H_L J v`, J the outputs' derivative, H_L the loss's Hessian by the outputs."""
    inputs, targets = batch
    linear = linearise(objective, point, inputs)
    free = linear.outputs.detach().requires_grad_()
    with linear.bound:
        loss = varying(objective.loss(linear.rebuild(free), targets))
        slope, past = torch.autograd.grad(loss, (free, point), create_graph=True, materialize_grads=True)
    if bool(past.any()):
        raise BadLoss(
            "expected a loss of the outputs alone, got one that takes the parameters too, as a penalty does: the "
            "generalised Gauss-Newton matrix is not defined for that part. Leave the penalty out and add its own "
            "curvature (2 c for c times the sum of squares), or take operator='hessian'."
        )
    if not slope.requires_grad and _own_loss(linear.rebuild(slope)):
        raise BadLoss(
            "expected a loss that is computed from outputs such as logits, got one that the model computes itself: "
            "between the two lies nothing curved, and the generalised Gauss-Newton matrix is zero. Pass "
            "loss=lambda outputs, batch: cross_entropy(outputs.logits, batch['labels']), or operator='hessian'."
        )
    return linear.around(lambda w: pull_back(slope, free, w))


def varying(loss: Tensor) -> Tensor:
    """The loss, if it depends on what is measured."""
    check_reached(loss)
    return loss


def _own_loss(slope: Any) -> bool:
    """Whether the loss is nothing but a scalar among the outputs, by its slope there."""
    return any(leaf.ndim == 0 and bool(leaf != 0) for leaf in tree_flatten(slope)[0] if isinstance(leaf, Tensor))


def flat(tree: Any) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """All real tensors in a structure as one vector, and how to put another such vector into their places."""
    leaves, structure = tree_flatten(tree)
    places = [i for i, leaf in enumerate(leaves) if is_real(leaf)]
    sizes = [leaves[i].numel() for i in places]

    def rebuild(vector: Tensor) -> Any:
        parts = dict(zip(places, vector.split(sizes), strict=True))
        return tree_unflatten(
            [parts[i].view(leaf.shape) if i in parts else leaf for i, leaf in enumerate(leaves)], structure
        )

    return torch.cat([leaves[i].flatten() for i in places]) if places else torch.zeros(0), rebuild


def is_real(leaf: Any) -> bool:
    """Whether it is a dense tensor of real numbers."""
    return isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.layout == torch.strided


def _grad(outputs: Tensor, inputs: Tensor, v: Tensor, **options: Any) -> Tensor:
    if not outputs.requires_grad:  # constant in the inputs
        return torch.zeros(*v.shape[:-1], inputs.numel(), dtype=inputs.dtype, device=inputs.device)
    found: Tensor | None = torch.autograd.grad(outputs, inputs, v, allow_unused=True, **options)[0]
    if found is None:  # not reached; torch's own zeros have the wrong shape where v is a block
        return torch.zeros(*v.shape[:-1], inputs.numel(), dtype=inputs.dtype, device=inputs.device)
    return found


def pull_back(outputs: Tensor, inputs: Tensor, v: Tensor) -> Tensor:
    """Jᵀ v of kept outputs, for one v ``(m,)`` or each row of ``(k, m)``."""
    return _grad(outputs, inputs, v, retain_graph=True, is_grads_batched=v.ndim == 2)


@contextmanager
def made(ours: Tensor) -> Iterator[Callable[[], list[int]]]:
    """The same where those cannot be listed, of all that operations inside give: no less than what is kept."""
    listed = _Made()
    with listed:
        yield lambda: [size for place, size in listed.storages.items() if place != ours.untyped_storage().data_ptr()]


class _Made(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.storages: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor) and leaf.layout == torch.strided:
                self.storages[leaf.untyped_storage().data_ptr()] = leaf.untyped_storage().nbytes()
        return found


class GraphTooLarge(Exception):
    """A graph keeps more than it may."""


@contextmanager
def counted(ours: Tensor, most: float = inf) -> Iterator[Callable[[], list[int]]]:
    """Bytes of the storages that graphs made inside keep alive, each once, ``ours`` zero.

    Raises:
        GraphTooLarge: as soon as they are more than ``most``.
    """
    storages = {ours.untyped_storage().data_ptr(): 0}
    total = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal total
        if tensor.layout != torch.strided:
            return tensor
        storage = tensor.untyped_storage()
        place = storage.data_ptr()
        if place not in storages:
            storages[place] = storage.nbytes()
            total += storages[place]
            if total > most:
                raise GraphTooLarge
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield lambda: list(storages.values())
