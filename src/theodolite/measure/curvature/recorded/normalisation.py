"""Operations that normalise, and what follows them: softmax, layers' and batches' statistics, and their weights."""
# ruff: noqa: D102 - the base class says what each method does

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from theodolite.measure.curvature.recorded.operations import Operation, Tangents, added, only

aten = torch.ops.aten


class Affine(Operation):
    """z = γ â + β with â = r (a - μ), and r and μ constant: what follows a normalisation, by channels or features."""

    def __init__(
        self, a: int | None, gamma: tuple[int | None, Tensor], beta: int | None, scaled: Tensor,
        r: Tensor | float, size: torch.Size,
    ) -> None:  # fmt: skip
        self.reached = (a is not None, gamma[0] is not None, beta is not None)
        self.inputs = tuple(slot for slot in (a, gamma[0], beta) if slot is not None)
        self.gamma, self.scaled, self.r, self.size = gamma[1], scaled, r, size
        self.gain = gamma[1] * r
        self.curved = self.reached[0] and self.reached[1]
        self.by_channel = gamma[1].ndim == scaled.ndim - 1 and gamma[1].shape[1:].numel() == 1

    def _each(self, given: Sequence[Any]) -> list[Any]:
        left = iter(given)
        return [next(left) if reached else None for reached in self.reached]

    def jvp(self, tangents: Tangents) -> Tensor:
        a, gamma, beta = self._each(tangents)
        total = None
        if gamma is not None:
            gamma = gamma.view(self.gamma.shape)
            total = (
                gamma * self.scaled if beta is None
                else torch.addcmul(beta.view(self.gamma.shape), gamma, self.scaled)
            )  # fmt: skip
        elif beta is not None:
            total = beta.view(self.gamma.shape).expand(self.scaled.shape)
        if a is not None:
            total = a * self.gain if total is None else torch.addcmul(total, a, self.gain)
        assert total is not None  # noqa: S101 - one of them is a tensor
        return total

    def vjp(self, delta: Tensor) -> list[Tensor | None]:
        if self.by_channel:
            return [part for part in self._by_channel(delta, self.scaled, self.reached) if part is not None]
        found: list[Tensor | None] = []
        if self.reached[0]:
            found.append(delta * self.gain)
        if self.reached[1]:
            found.append(self._summed(delta * self.scaled))
        if self.reached[2]:
            found.append(self._summed(delta))
        return found

    def bend(self, tangents: Tangents, own: Tensor | None, below: list[Tensor | None]) -> None:
        if not self.curved:
            return
        gamma = tangents[1]
        if gamma is not None:
            rate = gamma.view(self.gamma.shape) * self.r
            below[0] = self.delta * rate if below[0] is None else below[0].addcmul_(self.delta, rate)

    def settle(self, tangents: Tangents) -> Tensor | None:
        a = tangents[0]
        if not self.curved or a is None:
            return None
        if self.by_channel:
            return self._by_channel(a, self.delta_r, (False, True, False))[1]
        return self._summed(a * self.delta_r)

    def waits_for(self) -> tuple[int, ...]:
        return self.inputs[1:2] if self.curved else ()

    def keep(self, delta: Tensor) -> None:
        if self.curved:
            self.delta = delta
            self.delta_r = delta * self.r if isinstance(self.r, Tensor) else delta

    def _by_channel(self, delta: Tensor, factor: Tensor, wanted: tuple[bool, ...]) -> list[Tensor | None]:
        """δ times the gain, and the sums of δ times a factor and of δ: one step for what takes five."""
        mean, gain = delta.new_zeros(len(self.gamma)), self.gain.reshape(-1)
        given = (delta, factor, gain, mean, torch.ones_like(mean), None, None, False, 0.0, list(wanted))
        passed, *sums = aten.native_batch_norm_backward(*given)
        return [passed, *(None if each is None else each.reshape(self.size) for each in sums)]

    def _summed(self, values: Tensor) -> Tensor:
        """Over all but the channels or features, of which γ and β have one number each."""
        extra = values.ndim - self.gamma.ndim
        dims = [at for at in range(values.ndim) if at < extra or self.gamma.shape[at - extra] == 1]
        return (values.sum(dims) if dims else values.clone()).reshape(self.size)


class Normalised(Operation):
    r"""z = (a - mean a) r with r = 1 / sqrt(var a + ε), over some dimensions.

    Its derivative is :math:`P u = r\,(u - \overline{u} - z\,\overline{z u})`, which is symmetric.
    """

    uses_own = True

    def __init__(self, a: int, z: Tensor, r: Tensor, dims: list[int]) -> None:
        self.inputs = (a,)
        self.z, self.r, self.dims = z, r, dims

    def _project(self, u: Tensor) -> Tensor:
        shift, along = self._mean(u), self._mean(u * self.z)
        return (u - shift).addcmul_(self.z, along, value=-1).mul_(self.r)

    def _mean(self, u: Tensor) -> Tensor:
        return u.mean(self.dims, keepdim=True)

    def jvp(self, tangents: Tangents) -> Tensor:
        return self._project(only(tangents))

    def vjp(self, delta: Tensor) -> list[Tensor | None]:
        return [self._project(delta)]

    def bend(self, tangents: Tangents, own: Tensor | None, below: list[Tensor | None]) -> None:
        (tangent,) = tangents
        if tangent is None or own is None:
            return
        bent = self.projected * (self._mean(self.z * tangent) * -self.r)
        bent.addcmul_(own, self.along, value=-1).addcmul_(self.z, self._mean(own * self.delta_r), value=-1)
        below[0] = added(below[0], bent)

    def keep(self, delta: Tensor) -> None:
        self.delta_r = delta * self.r
        self.projected = self._project(delta)
        self.along = self._mean(self.z * delta) * self.r


class LayerNormalised(Normalised):
    """The same over the last dimensions, for which PyTorch has P in one step."""

    def __init__(self, a: int, z: Tensor, r: Tensor, dims: list[int], value: Tensor, mean: Tensor) -> None:
        super().__init__(a, z, r, dims)
        self.value, self.mean, self.shape = value.contiguous(), mean, value.shape[dims[0] :]

    def _project(self, u: Tensor) -> Tensor:
        given = (u.contiguous(), self.value, self.shape, self.mean, self.r, None, None, [True, False, False])
        projected: Tensor = aten.native_layer_norm_backward(*given)[0]
        return projected


class Softmax(Operation):
    r"""z = softmax(a), whose derivative is :math:`S u = z\,(u - \sum z u)`, along one dimension."""

    uses_own = True

    def __init__(self, a: int, z: Tensor, dim: int) -> None:
        self.inputs = (a,)
        self.z, self.dim = z, dim

    def _project(self, u: Tensor) -> Tensor:
        projected: Tensor = aten._softmax_backward_data(u, self.z, self.dim, self.z.dtype)
        return projected

    def jvp(self, tangents: Tangents) -> Tensor:
        return self._project(only(tangents))

    def vjp(self, delta: Tensor) -> list[Tensor | None]:
        return [self._project(delta)]

    def bend(self, tangents: Tangents, own: Tensor | None, below: list[Tensor | None]) -> None:
        if own is None:
            return
        bent = own * self.centred
        bent.addcmul_(self.z, bent.sum(self.dim, keepdim=True), value=-1)
        below[0] = added(below[0], bent)

    def waits_for(self) -> tuple[int, ...]:
        return (self.output,)

    def keep(self, delta: Tensor) -> None:
        self.centred = delta - (self.z * delta).sum(self.dim, keepdim=True)


class LogSoftmax(Operation):
    """z = log softmax(a)."""

    def __init__(self, a: int, z: Tensor, dim: int) -> None:
        self.inputs = (a,)
        self.shares, self.dim = z.exp(), dim

    def jvp(self, tangents: Tangents) -> Tensor:
        return only(tangents) - (self.shares * only(tangents)).sum(self.dim, keepdim=True)

    def vjp(self, delta: Tensor) -> list[Tensor | None]:
        return [torch.addcmul(delta, self.shares, delta.sum(self.dim, keepdim=True), value=-1)]

    def bend(self, tangents: Tangents, own: Tensor | None, below: list[Tensor | None]) -> None:
        (tangent,) = tangents
        if tangent is None:
            return
        bent = aten._softmax_backward_data(tangent, self.shares, self.dim, self.shares.dtype).mul_(self.total)
        below[0] = added(below[0], bent)

    def keep(self, delta: Tensor) -> None:
        self.total = -delta.sum(self.dim, keepdim=True)
