"""The derivative of a model's outputs by its parameters, over all data."""

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from theodolite.errors import BadData, CheckFailed, NotDifferentiable
from theodolite.measure.curvature.autograd import LinearOutputs, counted, flat, linear_outputs
from theodolite.measure.curvature.finite_difference import AGREE, along, compare
from theodolite.measure.curvature.matrix import columns_by_rows
from theodolite.measure.curvature.operator import in_working_precision
from theodolite.measure.problem.batches import Batch, Data
from theodolite.measure.problem.isolation import autocast_off, plain_torch, preserve_rng
from theodolite.measure.problem.join import objective
from theodolite.measure.problem.memory import Memory, room
from theodolite.measure.problem.objective import Objective
from theodolite.measure.problem.plain import in_place
from theodolite.measure.problem.validation import checked
from theodolite.streams import named_seed

BLOCK = 16  # vectors that are multiplied together


class Jacobian:
    r"""The derivative of all outputs by all parameters, as a matrix ``(M, P)`` one multiplies by.

    .. math:: J = \partial z / \partial \theta, \qquad z = (z_1, \dots, z_N) \in \mathbb{R}^M

    M = N C outputs in the order of the data: all of the first sample, then all of the second; of a model that gives
    several tensors, all of a batch's first tensor come before its second. The graph of each batch is kept where all fit
    the memory, and made anew for each product where they do not.

    When made it checks itself on the first batch, in float64 where the model can: a product with J against central
    finite differences of the outputs, and one with its transpose against the gradient of a model called plainly.

    Args:
        model: any module, measured in the mode it is in; frozen parameters are left out.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches; targets are not looked at.
        parameters: a pattern such as ``"0.*"`` that restricts it to a part of the model.
        memory: what kept graphs may take, as ``"2GB"`` or a number of bytes; None: half of what is free. Where they
            take more, one batch's is held at a time.
        seed: of the check's directions.

    Raises:
        BadData: the model gives no real numbers.
        NotDifferentiable: a layer cannot be differentiated twice, which a product with J takes.
        CheckFailed: a layer's derivative is wrong.
        MeasurementError: model or data cannot be measured; see :func:`~theodolite.measure.problem.join.objective`.

    Example:
        >>> model = nn.Linear(2, 1, bias=False).double()
        >>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double()
        >>> J = Jacobian(model, (x, torch.zeros(2, 1)))  # z = X w
        >>> J.shape, (J @ torch.tensor([1.0, 1.0])).tolist(), (J.T @ torch.tensor([1.0, 0.0])).tolist()
        ((2, 2), [3.0, 7.0], [1.0, 2.0])
    """

    @checked
    def __init__(
        self,
        model: nn.Module,
        data: Data,
        *,
        parameters: str | None = None,
        memory: Memory = None,
        seed: int = 0,
    ) -> None:
        whole = objective(model, _of_outputs, data, parameters=parameters, reduction="sum")
        self.objective: Objective = in_working_precision(whole)
        self._point = self.objective.vector.requires_grad_()
        self._kept: list[LinearOutputs] | None = []
        self._lengths: list[int] = []  # outputs of each batch
        self._keep(room(memory, self.objective.device))
        self.check_error: float = _verify(self.objective, next(self.objective.batches())[0], seed)

    @property
    def shape(self) -> tuple[int, int]:
        """(M, P)."""
        return sum(self._lengths), len(self._point)

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in: the model's own, or float32 for lower precision."""
        return self._point.dtype

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._point.device

    @property
    def backend(self) -> str:
        """How products are computed."""
        return "graph anew" if self._kept is None else "kept graph"

    @property
    def T(self) -> "Transposed":  # noqa: N802 - NumPy's and PyTorch's name
        """The transpose ``(P, M)``."""
        return Transposed(self)

    def __matmul__(self, vectors: Any) -> Any:
        """Multiply a vector ``(P,)`` or a block ``(P, k)``, a tensor or a NumPy array; the answer is alike."""
        return columns_by_rows(self.times, vectors, self.shape[1], self.dtype, self.device)

    def to_scipy(self) -> LinearOperator:
        """The same matrix, with its transpose, for ``scipy.sparse.linalg``."""
        kind = torch.empty(0, dtype=self.dtype).numpy().dtype
        return LinearOperator(
            self.shape,
            matvec=lambda v: self @ v.ravel(),
            rmatvec=lambda v: self.T @ v.ravel(),
            matmat=lambda V: self @ V,
            rmatmat=lambda V: self.T @ V,
            dtype=kind,
        )

    def times(self, vectors: Tensor) -> Tensor:
        """J times each row of ``(k, P)``, as rows ``(k, M)``."""
        with plain_torch():
            found = [_in_blocks(each.times, vectors) for each in self._batches()]
        return torch.cat(found, 1)

    def transposed(self, vectors: Tensor) -> Tensor:
        """Jᵀ times each row of ``(k, M)``, as rows ``(k, P)``."""
        with plain_torch():
            total = vectors.new_zeros(len(vectors), self.shape[1])
            for each, part in zip(self._batches(), vectors.split(self._lengths, 1), strict=True):
                total += _in_blocks(each.transposed, part)
        return total

    def _batches(self) -> Iterator[LinearOutputs]:
        if self._kept is not None:
            with autocast_off(self.device.type):
                yield from self._kept
            return
        with preserve_rng(), torch.enable_grad(), self.objective.twice_differentiable():
            for batch, _ in self.objective.batches():
                yield linear_outputs(self.objective, self._point, batch[0])

    def _keep(self, space: float) -> None:
        used = 0.0
        with preserve_rng(), torch.enable_grad(), self.objective.twice_differentiable():
            for batch, _ in self.objective.batches():
                with counted(self._point) as taken:
                    linear = linear_outputs(self.objective, self._point, batch[0])
                used += sum(taken())
                self._lengths.append(len(linear.outputs))
                if used > space:
                    self._kept = None
                if self._kept is not None:
                    self._kept.append(linear)

    def __repr__(self) -> str:
        return f"Jacobian({self.shape[0]} outputs, {self.shape[1]} parameters, check {self.check_error:.1e})"


class Transposed:
    """The transpose of a :class:`Jacobian`."""

    def __init__(self, jacobian: Jacobian) -> None:
        self.T = jacobian

    @property
    def shape(self) -> tuple[int, int]:
        """(P, M)."""
        return self.T.shape[::-1]

    def __matmul__(self, vectors: Any) -> Any:
        """Multiply a vector ``(M,)`` or a block ``(M, k)``."""
        J = self.T
        return columns_by_rows(J.transposed, vectors, J.shape[0], J.dtype, J.device)


def _of_outputs(outputs: Any, _: Any) -> Tensor:
    """A sum of all outputs with unequal weights: what the model is checked by where there is no loss."""
    parts = [leaf.flatten() for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    if not parts:
        raise BadData("expected a model whose outputs are real numbers, got none. Give logits, not their argmax.")
    z = torch.cat(parts)
    weights = torch.arange(1, len(z) + 1, dtype=torch.float64, device=z.device).cos().to(z.dtype)
    return (z * weights).sum()


def _in_blocks(multiply: Any, vectors: Tensor) -> Tensor:
    """Row by row where PyTorch has no batched form of a layer's derivative."""
    if len(vectors) > 1:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                return torch.cat([multiply(part) for part in vectors.split(BLOCK)])
        except (RuntimeError, UserWarning):
            pass
    return torch.stack([multiply(v) for v in vectors])


def _verify(own: Objective, batch: Batch, seed: int) -> float:
    """The larger relative difference, of a product with J and one with Jᵀ from what first derivatives alone give."""
    work = own if own.vector.dtype == torch.float64 or own.device.type == "mps" else own.to(torch.float64)
    try:
        try:
            return _differences(own, work, batch, seed)
        except (CheckFailed, torch.OutOfMemoryError):
            raise
        except Exception:  # a model that holds float32 constants
            return _differences(own, own, batch, seed)
    except RuntimeError as error:
        raise NotDifferentiable(
            "expected layers that PyTorch can differentiate twice, which a product with J takes, got an error: "
            f"{str(error).splitlines()[0]} HessianOperator names the layer and a way round."
        ) from error


def _differences(own: Objective, work: Objective, batch: Batch, seed: int) -> float:
    random = torch.Generator().manual_seed(named_seed(seed, "check"))
    point = own.vector.requires_grad_()
    with preserve_rng(), torch.enable_grad(), own.twice_differentiable():
        linear = linear_outputs(own, point, batch[0])
        v = torch.randn(len(point), generator=random, dtype=torch.float64).to(point)
        w = torch.randn(len(linear.outputs), generator=random, dtype=torch.float64).to(point)
        backward = linear.transposed(w)
        v = torch.where(backward == 0, 0, v / v.norm())  # what autograd holds constant: rows of padding, detached parts
        forward = linear.times(v)
        wide = work.cast(batch)
        with in_place(work) as move:

            def outputs(at: Tensor) -> Tensor:
                move(at)
                with torch.no_grad():
                    return flat(work.call(wide[0]))[0].detach()

            centre = work.vector
            line = along(outputs, centre, v.to(centre))
            error, spread, scale = compare(line, forward, float(centre.norm()), centre.dtype)
            move(centre)
            z, _ = flat(work.call(wide[0]))
            plain = torch.autograd.grad(z, list(work.own.values()), w.to(z), allow_unused=True, materialize_grads=True)
            slope = torch.cat([part.flatten() for part in plain])
        apart, length = float((backward.to(slope) - slope).norm()), float(slope.norm())
    bound = AGREE[centre.dtype]
    if error > max(bound * scale, 3 * spread) or apart > bound * length:
        raise CheckFailed(
            "expected products with J and its transpose to agree with the outputs of the model moved and with its "
            f"gradient, got differences of {error / max(scale, 1e-300):.1e} and {apart / max(length, 1e-300):.1e}: "
            "some layer's derivative is wrong. Correct its backward pass, or take model.double() and inputs.double()."
        )
    return max(error / scale if scale else 0.0, apart / length if length else 0.0)
