"""Several models as points of one space: their tensors side by side, or an error that names what does not match."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from theodolite.errors import BadModel
from theodolite.measure.problem.evaluate import StackedStates


def stacked(*models: nn.Module) -> tuple[StackedStates, StackedStates]:
    """Parameters and floating-point buffers of several models, each ``(models, ...)`` by name, tied ones once.

    Raises:
        BadModel: a parameter or buffer is missing in one of them, has another shape, type or device, or is not finite.
    """
    parameters = _stack([{n: p.detach() for n, p in m.named_parameters()} for m in models], "parameter", "model")
    buffers = _stack([{n: b for n, b in m.named_buffers() if _moves(b)} for m in models], "buffer", "model")
    alike(*models)
    return parameters, buffers


def alike(*models: nn.Module) -> None:
    """Raise BadModel where a tensor of one model has another type, or lies on another device, than in the first."""
    own = state_of(models[0])
    for number, model in enumerate(models[1:], 2):
        for name, tensor in state_of(model).items():
            like = own.get(name, tensor)
            if (tensor.dtype, tensor.device) != (like.dtype, like.device):
                raise BadModel(
                    f"expected models of one type on one device, but '{name}' of model {number} is {tensor.dtype} on "
                    f"{tensor.device}, and {like.dtype} on {like.device} in model 1. Call model.to(…) first."
                )


def stacked_states(model: nn.Module, states: Sequence[Mapping[str, Tensor]]) -> StackedStates:
    """Checkpoints ``(M, ...)`` by the names of the model's parameters and floating-point buffers.

    They get the model's own type and device: recorded ones lie on the CPU.

    Raises:
        BadModel: there is no checkpoint, or one of them is not of this model.
    """
    if not isinstance(states, Sequence) or not states:
        got = "none" if isinstance(states, (list, tuple)) else type(states).__name__
        raise BadModel(
            f"expected a list of checkpoints of the model, got {got}. Pass state dicts in order of training."
        )
    for number, state in enumerate(states, 1):
        if not isinstance(state, Mapping):
            raise BadModel(
                f"expected checkpoints as state dicts, but number {number} is {type(state).__name__}. "
                "Pass model.state_dict()."
            )
    own, tied = state_of(model), _second_names(model)
    kept = [{n: t.detach() for n, t in s.items() if n not in tied and _moves(t)} for s in states]
    return _stack(kept, "tensor", "checkpoint", own)


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint holds that can move: floating-point tensors of the state dict, tied ones once, not copied."""
    tied = _second_names(model)
    return {n: t.detach() for n, t in model.state_dict().items() if n not in tied and _moves(t)}


def _second_names(model: nn.Module) -> set[str]:
    once = {n for n, _ in model.named_parameters()}
    return {n for n, _ in model.named_parameters(remove_duplicate=False)} - once


def _moves(tensor: object) -> bool:
    return isinstance(tensor, Tensor) and tensor.is_floating_point()


def _stack(
    tensors: Sequence[Mapping[str, Tensor]], kind: str, owner: str, first: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    first = tensors[0] if first is None else first
    for number, own in enumerate(tensors, 1):
        for name in (*first, *own):
            if name not in first or name not in own:
                raise BadModel(
                    f"expected {owner}s of one architecture, but {kind} '{name}' is "
                    f"{'missing in' if name in first else 'only in'} {owner} {number}. Build all from one description."
                )
            if first[name].shape != own[name].shape:
                raise BadModel(
                    f"expected {owner}s of one architecture, but {kind} '{name}' of {owner} {number} has shape "
                    f"{tuple(own[name].shape)}, not {tuple(first[name].shape)}. Build all from one description."
                )
        for name, tensor in own.items():
            if not torch.isfinite(tensor).all():
                raise BadModel(
                    f"expected finite weights, but {kind} '{name}' of {owner} {number} holds NaN or infinity. "
                    "Use an earlier checkpoint."
                )
    return {name: torch.stack([own[name].to(t) for own in tensors]) for name, t in first.items()}
