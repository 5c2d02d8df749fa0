"""Gradients of many networks of any architecture: one call of their module, by ``vmap`` of ``functional_call``."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, mse_loss

from theodolite.recipes import Loss
from theodolite.train.aligned import AlignedStack, Layer, padded
from theodolite.train.rules import Rules


@dataclass(frozen=True, slots=True)
class Together:
    """R networks as one function of the weights that are trained."""

    module: nn.Module  # in training mode; its own weights are not read
    constants: Mapping[str, Tensor]  # (R, ...) of what is not trained: buffers, and parameters without a gradient

    @classmethod
    def of(cls, modules: Sequence[nn.Module]) -> Self:
        """Of networks that differ in their numbers alone."""
        fixed = [untrained(module) for module in modules]
        constants = {name: torch.stack([own[name].detach() for own in fixed]) for name in fixed[0]}
        return cls(copy.deepcopy(modules[0]).train(), constants)

    def select(self, keep: Sequence[int]) -> "Together":
        """These networks only."""
        return replace(self, constants={name: whole[list(keep)] for name, whole in self.constants.items()})

    def gradients(
        self, weights: Mapping[str, Tensor], inputs: Tensor, targets: Tensor, loss: str | Loss, shares: Tensor
    ) -> tuple[Tensor, ...]:
        """Derivatives of each network's loss by its own weights.

        Convolutions of a single network round otherwise than those of several, so one alone is computed with a twin.

        Args:
            weights: ``(R, ...)`` each, in the order in which their gradients come back.
            inputs: ``(R, batch, ...)``.
            targets: as many.
            loss: of the training.
            shares: ``(batch,)``, what each sample's loss counts.
        """
        given = {**self.constants, **weights}
        if len(inputs) == 1:
            given, inputs = {name: _twice(part) for name, part in given.items()}, _twice(inputs)
        with Rules(), sdpa_kernel(SDPBackend.MATH):  # vmap calls fused attention one network after another
            outputs = vmap(self._outputs)(given, inputs)[: len(targets)]
        total = (per_sample(loss, outputs, targets) * shares).sum()
        return torch.autograd.grad(total, list(weights.values()))

    def _outputs(self, given: dict[str, Tensor], inputs: Tensor) -> Tensor:
        outputs: Tensor = functional_call(self.module, given, (inputs,))
        return outputs


def trained(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that a training changes."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def laid_out(modules: Sequence[nn.Module]) -> AlignedStack:
    """What is trained of networks, each parameter a row that is filled up to whole alignment units."""
    rows = [list(trained(module).values()) for module in modules]
    layout = [Layer(one.numel(), 1, bias=False, rows=1, columns=padded(one.numel(), one.dtype)) for one in rows[0]]
    whole = AlignedStack.zeros(layout, len(modules), rows[0][0].dtype, rows[0][0].device)
    for number, own in enumerate(rows):
        for matrix, parameter in zip(whole.matrices, own, strict=True):
            matrix[number, 0, : parameter.numel()] = parameter.detach().flatten()
    return whole


def views(whole: AlignedStack, module: nn.Module) -> dict[str, Tensor]:
    """What :func:`laid_out` made, as ``(R, ...)`` by name: the same memory, each a leaf that asks for a gradient."""
    rows = zip(whole.matrices, trained(module).items(), strict=True)
    return {
        name: matrix[:, 0, : one.numel()].view(whole.replicas, *one.shape).detach().requires_grad_()
        for matrix, (name, one) in rows
    }


def untrained(module: nn.Module) -> dict[str, Tensor]:
    """Parameters that are frozen, and buffers."""
    frozen = {name: parameter for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {**frozen, **dict(module.named_buffers())}


def per_sample(loss: str | Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of each sample ``(R, batch)``, of outputs ``(R, batch, ..., outputs)``; of tokens their mean."""
    rows, wanted = outputs.flatten(0, 1), targets.flatten(0, 1)
    if isinstance(loss, Loss):
        values = loss.per_sample(rows, wanted)
    elif loss == "cross_entropy":
        values = cross_entropy(rows.flatten(0, -2), wanted.flatten(), reduction="none").view(len(rows), -1).mean(1)
    else:
        values = mse_loss(rows, wanted, reduction="none").flatten(1).mean(1)
    return values.view(outputs.shape[:2])


def _twice(part: Tensor) -> Tensor:
    return torch.cat([part, part.detach()])
