"""Which layer is at fault: PyTorch cannot differentiate it twice, or its second derivative is wrong."""

from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map

from theodolite.errors import NotDifferentiable
from theodolite.measure.curvature.autograd import flat
from theodolite.measure.curvature.finite_difference import Field, along, differs
from theodolite.measure.problem.batches import Batch
from theodolite.measure.problem.isolation import preserve_rng
from theodolite.measure.problem.objective import Objective
from theodolite.streams import named_seed

WAYS_ROUND = {  # what PyTorch calls an operation that it cannot differentiate twice -> the same by ones that it can
    "cdist": "write it as ((x[:, None] - y) ** 2).sum(-1).sqrt()",
    "pdist": "write it as (x[i] - x[j]).norm(dim=1) with i, j = torch.triu_indices(len(x), len(x), 1)",
    "EmbeddingBag": "take nn.Embedding and the sum, mean or largest of what it gives",
    "embedding_bag": "take nn.Embedding and the sum, mean or largest of what it gives",
    "hardsigmoid": "write it as (x / 6 + 0.5).clamp(0, 1)",
    "multi_margin_loss": "write the loss with clamp(min=0)",
    "multilabel_margin_loss": "write the loss with clamp(min=0)",
    "ctc_loss": "write its recursion with torch.logsumexp",
    "segment_reduce": "take torch.Tensor.index_add",
    "sparse_softmax": "take torch.softmax of the dense tensor",
    "reshape is not implemented for sparse tensors": "pass sparse=False to nn.Embedding",
    "use_reentrant": "pass use_reentrant=False to checkpoint",
    "modified by an inplace operation": "leave out inplace=True",
    "once_differentiable": "leave out @once_differentiable and write its backward in PyTorch's operations",
}


def raise_not_differentiable(whole: Objective, batch: Batch, error: RuntimeError) -> None:
    """Raise NotDifferentiable with the layer's name if PyTorch cannot differentiate one of them twice; else return.

    Of several that fail by themselves it is the first that fails as the whole does; others may need what is around.
    """
    found: list[tuple[str, str]] = []
    with preserve_rng(), torch.enable_grad():
        for name, gradient, point in _layers(whole, batch):
            try:
                _twice(gradient, point)
            except RuntimeError as local:
                found.append((name, _first_line(local)))
    if not found:
        return
    name, why = next((one for one in found if one[1] == _first_line(error)), found[0])
    way = next(
        (way for word, way in WAYS_ROUND.items() if word in f"{name} {why}"), "write it in elementary operations"
    )
    raise NotDifferentiable(
        f"expected layers that PyTorch can differentiate twice, but {name} is not ({why}). The way round: {way}"
        + ("; or measure only the layers after it: parameters='NAME.*'." if name.startswith("layer") else ".")
    ) from error


def locate_wrong_layer(whole: Objective, batch: Batch) -> str:
    """A sentence that names the layer whose second derivative is wrong."""
    random = torch.Generator().manual_seed(named_seed(0, "culprit"))
    with preserve_rng(), torch.enable_grad():
        for name, gradient, point in _layers(whole, batch):
            v, w = torch.randn(2, len(point), generator=random, dtype=torch.float64).to(point)
            try:
                if _wrong(gradient, point, v, w):
                    return f"the second derivative of {name} is wrong, or it detaches a part of what it computes."
            except RuntimeError:  # it cannot be called by itself: its parts and those around it can
                continue
    return "no single layer shows it, so it is in how they are joined."


def _wrong(gradient: Field, point: Tensor, v: Tensor, w: Tensor) -> bool:
    product = partial(_twice, gradient, point)
    still = (product(v) == 0) & (product(w) == 0) & (gradient(point) == 0)  # constants to PyTorch: rows of padding
    v, w = (torch.where(still, 0, each) for each in (v, w))
    return differs(along(gradient, point, v), product, v, w, float(point.norm()))


def _twice(gradient: Field, point: Tensor, v: Tensor | None = None) -> Tensor:
    here = point.clone().requires_grad_()
    slope = gradient(here)
    if not slope.requires_grad:
        return torch.zeros_like(here)
    seed = torch.ones_like(here) if v is None else v
    return torch.autograd.grad(slope, here, seed, materialize_grads=True)[0].detach()


def _layers(whole: Objective, batch: Batch) -> Iterator[tuple[str, Field, Tensor]]:
    """Each module, children before parents, then the loss: its name, a gradient through it alone, and where."""
    if whole.vector.device.type != "mps":
        whole = whole.to(torch.float64)
    batch = whole.cast(batch)
    calls: dict[str, tuple[Any, Any]] = {}
    handles = [
        module.register_forward_pre_hook(
            lambda _, args, kwargs, name=name: calls.setdefault(name, _fresh((args, kwargs))) and None,
            with_kwargs=True,
        )
        for name, module in whole.model.named_modules()
    ]
    own = {name: p.detach().to(whole.vector) for name, p in whole.model.named_parameters()}
    try:
        with torch.no_grad(), whole.twice_differentiable():
            outputs = whole.outputs(own, batch[0])
    finally:
        for handle in handles:
            handle.remove()
    for name, module in reversed(list(whole.model.named_modules())):
        if name in calls:
            title = (
                f"layer '{name}' ({type(module).__name__})" if name else f"the model itself ({type(module).__name__})"
            )
            yield title, *_local(whole, module, calls[name])
    point, rebuild = flat(outputs)
    title = getattr(whole.loss, "__name__", type(whole.loss).__name__)

    def gradient(z: Tensor) -> Tensor:
        with whole.at({}):  # a loss may call the model again, whose statistics would move
            return _gradient(whole.loss_alone(rebuild(z), batch[1]), z)

    yield f"the loss ({title})", gradient, point


def _local(whole: Objective, module: nn.Module, call: tuple[Any, Any]) -> tuple[Field, Tensor]:
    """The gradient of a curved function of one module's outputs by its inputs and parameters."""
    work = whole.vector
    state = {n: t.detach().to(work) for n, t in module.named_parameters()}
    buffers = {n: t.to(work) if t.is_floating_point() else t for n, t in module.named_buffers()}
    point, rebuild = flat((call, state))

    def gradient(p: Tensor) -> Tensor:
        p = p if p.requires_grad else p.detach().requires_grad_()
        (args, kwargs), parameters = _fresh(rebuild(p))
        copies = {n: t.clone() for n, t in buffers.items()}
        with whole.twice_differentiable():
            z, _ = flat(functional_call(module, {**copies, **parameters}, args, kwargs))
        weights = torch.linspace(-1, 1, len(z), dtype=z.dtype, device=z.device)
        return _gradient((weights * z + z**2 / 2).sum(), p)

    return gradient, point


def _fresh(call: Any) -> Any:
    """Copies of the arguments: layers write into them in place, and transformers into the cache that they pass on."""
    return tree_map(_copy, call)


def _copy(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return leaf.clone()
    return leaf if callable(leaf) else deepcopy(leaf)


def _gradient(value: Tensor, point: Tensor) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(point)
    return torch.autograd.grad(value, point, create_graph=True, materialize_grads=True)[0]


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")[:120]
