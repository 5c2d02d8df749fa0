"""A model as it is measured: in the mode asked for, and afterwards as it was, whatever measured it."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from theodolite.measure.problem.batches import copied, tensors
from theodolite.measure.problem.isolation import Caller, plain_torch, preserve_modules, preserve_rng

Mode = Literal["evaluation", "training", "as it is"]
IN_PLACE = 2**30  # bytes of a model up to which what may change is copied beside it; above, to the CPU


@contextmanager
def measuring(model: nn.Module, mode: Mode) -> Iterator[None]:
    """Measure within: every module in ``mode``, PyTorch as a script finds it, whatever the caller has set.

    Flags are set one by one and not by ``model.eval()``, which a user's model may have made do more. Afterwards each
    module has its own flag again, and the random state is what it was.
    """
    flags = [(module, module.training) for module in model.modules()]
    try:
        if mode != "as it is":
            for module, _ in flags:
                module.training = mode == "training"
        with preserve_rng(), plain_torch():
            yield
    finally:
        for module, training in flags:
            module.training = training


@contextmanager
def guarded(model: nn.Module, loss: Any, data: Any) -> Iterator[Any]:
    """Run a function of the user's own within: it gets these data, and whatever it changes is put back, bit for bit.

    That is what modules keep on themselves, parameters, buffers and gradients, also where nobody thinks of it: an
    embedding with ``max_norm`` writes into its weight, a layer may write into its input. Our instruments see to that
    by themselves, and without copies.
    """
    with ExitStack() as stack:
        stack.enter_context(_preserve_switches())
        stack.enter_context(Caller.of_instrument().defaults())  # for the user's own code, as for the model's
        stack.enter_context(preserve_modules(model, loss))
        stack.enter_context(_preserve_tensors(model, loss, data))
        inference = any(tensor.is_inference() for tensor in _of(data))  # which autograd does not take
        yield copied(data) if inference else data


@contextmanager
def _preserve_switches() -> Iterator[None]:
    """Put back what a function may set for the whole process or thread, and what follows would be computed by."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    dtype, gradients = torch.get_default_dtype(), torch.is_grad_enabled()
    strict = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    folder = os.getcwd()
    try:
        with np.errstate():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(gradients)
        torch.use_deterministic_algorithms(strict[0], warn_only=strict[1])
        with suppress(OSError):  # it was removed
            os.chdir(folder)


@contextmanager
def _preserve_tensors(model: nn.Module, loss: Any, data: Any) -> Iterator[None]:
    roots = [root for root in (model, loss) if isinstance(root, nn.Module)]
    parameters = {id(p): p for root in roots for p in root.parameters()}
    buffers = {id(b): b for root in roots for b in root.buffers()}
    gradients = [(p, p.grad, p.requires_grad) for p in parameters.values()]
    held = [*parameters.values(), *buffers.values(), *(grad for _, grad, _ in gradients if grad is not None)]
    held += [tensor for tensor in _of(data) if not tensor.is_inference()]
    beside = sum(tensor.numel() * tensor.element_size() for tensor in held) <= IN_PLACE
    saved = [(tensor, tensor.data, _copy(tensor, beside)) for tensor in held]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, storage, before in saved:
                if tensor.data_ptr() != storage.data_ptr() or tensor.dtype != storage.dtype:
                    tensor.data = storage
                before = before.to(tensor.device)
                if not torch.equal(tensor, before):
                    tensor.data.copy_(before)
        for p, grad, wanted in gradients:  # last: a gradient is taken by a parameter of its own shape alone
            p.grad, p.requires_grad = grad, wanted


def _copy(tensor: Tensor, beside: bool) -> Tensor:
    return tensor.detach().clone() if beside else tensor.detach().to("cpu", copy=True)


def _of(data: Any) -> list[Tensor]:
    found = {id(tensor): tensor for tensor in tensors(data)}
    return list(found.values())


def synchronize(device: torch.device) -> None:
    """Wait for what training has queued on an accelerator, so that its time is not taken for ours."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters lie."""
    first: Any = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device
