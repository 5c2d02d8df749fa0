"""The Hessian of a loss over a data set, or one of its kin, as a matrix one multiplies by."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial, reduce
from math import inf
from typing import Self, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from theodolite.errors import BadModel, SettingError, TooLarge
from theodolite.measure.curvature.autograd import Product
from theodolite.measure.curvature.backend import WORKING_COPIES, Backend, choose_backend, graph_bytes_once
from theodolite.measure.curvature.diagnosis import raise_not_differentiable
from theodolite.measure.curvature.frame import Frame, frame
from theodolite.measure.curvature.kinds import PER_SAMPLE, Curvature
from theodolite.measure.curvature.matrix import SymmetricMatrix
from theodolite.measure.curvature.old_names import OldNames
from theodolite.measure.curvature.options import CurvatureOptions, ProductOptions
from theodolite.measure.curvature.verification import CHECK_VECTORS, Symmetry, check_bytes, checked_samples, verify
from theodolite.measure.problem import validation as arguments
from theodolite.measure.problem.batches import Batch, Data, count
from theodolite.measure.problem.distributed import Shards, is_sharded
from theodolite.measure.problem.isolation import autocast_off, plain_torch, preserve_rng
from theodolite.measure.problem.join import objective
from theodolite.measure.problem.memory import in_words, room_beside
from theodolite.measure.problem.microbatches import adds_up_in_microbatches, cut_into, first_samples
from theodolite.measure.problem.objective import Loss, Objective
from theodolite.measure.problem.options import PartOptions, describe_options, select_options, with_options
from theodolite.measure.problem.plain import bound_gradient

BLOCK_BYTES = 2**25  # that one block may touch: small graphs gain 10-30 % by going together, large ones lose as much
LARGEST_BLOCK = 64  # vectors
OPERATOR_VECTORS = 4  # of P numbers beside graphs: the point, the sum over batches, and one product in parts and whole
TRIED_SHARE = 1 / 16  # of the memory, for what the check has multiplied
VECTORS_SHARE = 0.5  # of an instrument's memory

Kept = list[tuple[Product, float]]  # the product of each batch, and its share


@describe_options(CurvatureOptions)
class HessianOperator(OldNames, SymmetricMatrix):
    r"""The P × P matrix of second derivatives of the loss over all data, without ever holding it.

    .. math:: H = \nabla^2_\theta L, \quad L(\theta) = \sum_b \frac{n_b}{N} \mathrm{loss}_b(\theta), \qquad
              \text{or}\quad G = \sum_b \frac{n_b}{N} J_b^\top \, (\nabla^2_z \mathrm{loss}_b) \, J_b

    with z the outputs and J = ∂z/∂θ; or, with the score :math:`s_n` of sample n, the derivative of its own loss by its
    outputs,

    .. math:: F = \frac1N \sum_n J_n^\top\, \mathbb{E}_{y \sim p(y|z_n)} [s_n(y) s_n(y)^\top]\, J_n, \qquad
              E = \frac1N \sum_n g_n g_n^\top, \qquad C = E - g g^\top, \qquad g_n = J_n^\top s_n(y_n)

    the Fisher matrix, the empirical one, and the covariance of the samples' own gradients, whose mean is g. For a loss
    that is a mean over samples this is the exact mean, whatever the batch sizes; for one that is a sum, the sum.
    PyTorch's class weights and ``ignore_index`` count as :mod:`~theodolite.measure.problem.reduction` says.

    The gradient is computed once with its graph, and every product is one backward pass through it: 1.7 times faster
    than both passes anew. Plain chains of layers need no graph
    (:mod:`~theodolite.measure.curvature.sequential.product`), which is faster still, and all other networks whose
    operations can be followed are multiplied by operation by operation
    (:mod:`~theodolite.measure.curvature.recorded.product`). On a CPU large batches go in
    microbatches that fit its cache, if the loss is seen to add up over them.
    Where not all fits ``memory``, nothing is kept and all is made again, part by part, for each product or block; the
    numbers are the same to rounding. Where one sample is too much, blocks of the network are computed again on the way
    back (:mod:`~theodolite.measure.curvature.recomputed`). Logits over a large vocabulary that would take more than a
    64th of it go through cross entropy in chunks of tokens (:mod:`~theodolite.measure.problem.vocabulary`); the check
    still holds those of one sample. Squares of samples' gradients are then made of these gradients, one after the
    other.

    Weights in bfloat16 or float16 are taken as the exact numbers they are and everything is computed in float32: the
    curvature of the loss at the rounded weights, not of a loss that is itself rounded (whose second derivative is
    noise). With ReLU or max pooling the Hessian exists almost everywhere, and is that of the piece the weights are on.

    ``operator="ggn"`` is positive semidefinite where the loss is convex in the outputs; ``"fisher"``, exact, asks for a
    likelihood, ``"empirical_fisher"`` and ``"gradient_covariance"`` for a loss of each sample's own. With a
    preconditioner D the matrix is :math:`D^{-1/2} H D^{-1/2}`; with a basis it is ``(r, r)``, Q H Qᵀ with orthonormal
    rows Q that span the same, of the preconditioned one if there is both.

    On a Ray cluster an actor holds a shard of the data each: whole batches, or microbatches where the loss adds up over
    them. Close the operator, or use it in a ``with``, to end the actors.

    The matrix stays that of the weights it was made with. When made it checks itself: a product against central
    finite differences of the gradient on some samples of the first batch, in float64 where the model can. The first
    products that are asked for are held against the check's own over all data: symmetry, uᵀHv = vᵀHu.

    Args:
        model: any module, measured in the mode it is in; frozen parameters are left out.
        loss: maps (outputs, targets) to a scalar mean over samples.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches; inputs a tensor, tuple or dict.
        seed: of the random direction that the check multiplies.

    Raises:
        NotDifferentiable: PyTorch cannot differentiate a layer twice; the message names it.
        CheckFailed: a layer's second derivative is wrong; the message names it. Products may raise it too.
        TooLarge: not even one sample fits the memory, block by block.
        MeasurementError: model, loss or data cannot be measured; see
        :func:`~theodolite.measure.problem.join.objective`.
        MissingExtra, UsageError: Ray is not installed, or cannot be reached, or cannot send this model or loss.
        WorkerDied: an actor's process ended, and again when started anew.

    Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian"; Schraudolph 2002, "Fast curvature
    matrix-vector products for second-order gradient descent".

    Example:
        >>> model = nn.Linear(2, 1, bias=False).double()
        >>> data = torch.tensor([[1.0, 2.0]]).double(), torch.zeros(1, 1).double()
        >>> H = HessianOperator(model, nn.MSELoss(), data)  # L = (w · x)², H = 2 x xᵀ
        >>> H @ torch.tensor([1.0, 0.0]).double()
        tensor([2., 4.], dtype=torch.float64)
        >>> (H @ torch.eye(2).double()).tolist(), H.backend, H.check_error < 1e-6
        ([[2.0, 4.0], [4.0, 8.0]], 'layer by layer', True)
    """

    @arguments.checked
    @with_options(CurvatureOptions)
    def __init__(
        self, model: nn.Module, loss: Loss, data: Data, *, seed: int = 0, **options: Unpack[CurvatureOptions]
    ) -> None:
        self._build(model, loss, data, options, seed=seed, share=1.0)

    def _build(
        self, model: nn.Module, loss: Loss, data: Data, options: CurvatureOptions, *, seed: int, share: float
    ) -> None:
        """Make and check it; graphs may take a share of the memory, the check all of it."""
        self.kind: Curvature = options.get("operator", "hessian")
        memory, sharded = options.get("memory"), is_sharded(options.get("engine", "local"))
        self.products = 0  # with vectors, so far; a block of k counts k
        self.check_error: float  # relative difference of the two ways
        self.tried: list[tuple[Tensor, Tensor]] = []  # the check's direction, and the product with it
        self._symmetry: Symmetry | None = None  # over all data that this process holds
        self.shards: Shards | None = None  # that hold the data, in place of this process
        self._kept: Kept | None = None
        self._block = 1
        self._mean: Tensor | None = None  # gradient over all data, where its square is subtracted
        self.frame = Frame()  # the matrix's own coordinates, until it was checked in them
        if self.kind in PER_SAMPLE and options.get("samples") is not None:
            raise SettingError(
                f"expected samples= to be left out for operator='{self.kind}', whose samples are the rows of a batch, "
                "each with a gradient of its own."
            )
        space = room_beside(model, memory)
        cutter = _Cutter(self.kind, space, share, wanted=not sharded)
        own = select_options(options, PartOptions)
        whole = objective(model, loss, data, look=cutter.look, room=space, **own)
        self.objective: Objective = in_working_precision(whole)
        self._point = self.objective.vector.requires_grad_()
        seen_in = frame(whole, options.get("preconditioner"), options.get("basis"), self._point.detach())
        if sharded:
            each = "empirical_fisher" if self.kind in PER_SAMPLE else self.kind  # the mean is that of all shards
            make = partial(_of_shard, select_options({**own, "operator": each}, CurvatureOptions))
            workers, address = options.get("workers"), options.get("address")
            self.shards = Shards(whole, make, memory=int(space * share), workers=workers, address=address)
            self._ask_shards(self.shards)
            self._see_in(seen_in)
            return
        self._backend = cutter.backend
        if cutter.cuts:
            self.objective = cut_into(self.objective, cutter.size)
        keep = 4 * _vector_bytes(whole) <= TRIED_SHARE * space
        try:
            with preserve_rng(), torch.enable_grad(), self.objective.twice_differentiable():
                self._keep(cutter.space, cutter.beside_check)
            self.check_error, self._symmetry = verify(
                self.objective, self._backend, self.rows, cutter.first, seed, keep=keep
            )
        except RuntimeError as error:
            raise_not_differentiable(self.objective, cutter.first, error)
            raise
        if self._symmetry is not None:
            self.tried = [(self._symmetry.v, self._symmetry.product)]
        self._subtract_mean()
        self._see_in(seen_in)
        self.products = 0

    def _ask_shards(self, shards: Shards) -> None:
        try:
            found = [answer for _, answer in shards.ask(_backend_and_check)]
        except BaseException:  # also Ctrl-C: actors do not outlive it
            self.close()
            raise
        self._backend_name = shards.backend(name for name, _ in found)
        self.check_error = max(error for _, error in found)
        self._subtract_mean()

    def loss_and_gradient(self) -> tuple[float, Tensor]:
        """The loss over all data, and its gradient by all parameters measured ``(P,)``, float64."""
        value, gradient = self.shards.sum(_loss_and_gradient) if self.shards is not None else _loss_and_gradient(self)
        return float(value), torch.from_numpy(gradient).to(self.device)

    def _see_in(self, seen_in: Frame) -> None:
        self.frame = seen_in
        if not seen_in.is_plain:
            self.tried = []

    def _subtract_mean(self) -> None:
        """From here on leave the square of the mean gradient out, where that is asked for."""
        if self.kind != "gradient_covariance":
            return
        self._mean = self.loss_and_gradient()[1].to(self._point)
        if self.objective.reduction == "sum":
            self._mean = self._mean / self.objective.samples**0.5
        self.tried = [(u, self._without_mean(u[None], product[None])[0]) for u, product in self.tried]

    def _without_mean(self, vectors: Tensor, products: Tensor) -> Tensor:
        return products if self._mean is None else products - (vectors @ self._mean)[:, None] * self._mean

    @property
    def size(self) -> int:
        """P, the number of parameters; with a basis, of its rows."""
        return len(self._point) if self.frame.basis is None else len(self.frame.basis)

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
        if self.shards is not None:
            return self._backend_name
        return self._backend.name_anew if self._kept is None else self._backend.name

    def rows(self, vectors: Tensor) -> Tensor:
        """Multiply each row of ``(k, P)``: what ``@`` does, in the layout it is computed in."""
        self.products += len(vectors)
        vectors = vectors.to(self._point)
        if not len(vectors):
            return torch.zeros_like(vectors)
        if self.frame.is_plain:
            return self._rows(vectors)
        return self.frame.back(self._rows(self.frame.into(vectors)))

    def _rows(self, vectors: Tensor) -> Tensor:
        if self.shards is not None:
            (summed,) = self.shards.sum(_rows, vectors.detach().cpu().numpy())
            return self._without_mean(vectors, torch.from_numpy(summed).to(vectors))
        with plain_torch():
            total = self._sum(vectors)
            if self._symmetry is not None:
                self._symmetry.check(self._sum, vectors, total)
        return self._without_mean(vectors, total)

    def _sum(self, vectors: Tensor) -> Tensor:
        total: Tensor | None = None
        for product, share in self.of_batches():
            total = self._add(total, product, vectors, share)
            del product  # what it keeps goes before the next one is made
        return torch.zeros_like(vectors) if total is None else total

    def of_batches(self) -> Iterator[tuple[Product, float]]:
        """Each batch's product, kept or made anew, and its share n_b / N of the matrix."""
        if self._kept is not None:
            with autocast_off(self.device.type):
                yield from self._kept
            return
        with preserve_rng(), torch.enable_grad(), self.objective.twice_differentiable():
            for batch, share in self.objective.batches():
                yield self._backend.make(self.objective, self._point, batch), share

    @property
    def is_sum(self) -> bool:
        """Whether the matrix is the sum of its batches' and nothing else."""
        return self._mean is None and self.frame.is_plain

    @property
    def together(self) -> int:
        """How many vectors go together."""
        return self._block

    def close(self) -> None:
        """End the actors that hold shards of the data, if there are any."""
        if self.shards is not None:
            self.shards.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"HessianOperator({self.kind}, {self.shape[0]} parameters, {self.backend}, check {self.check_error:.1e})"

    def _keep(self, space: float, beside_check: float) -> None:
        """Make every batch's product, or none if they do not fit together: a shuffled loader can't be kept in part."""
        backend = self._backend
        kept: Kept | None = []
        used, largest = 0.0, 1.0
        for batch, share in self.objective.batches():
            taken = backend.batch_bytes + count(batch) * backend.sample_bytes
            largest = max(largest, taken)
            _check_fits(taken if used else check_bytes(self.objective, backend) * count(batch), space)
            used += taken
            if used + WORKING_COPIES * largest > space or used > beside_check:
                kept = None
            if kept is not None:
                kept.append((backend.make(self.objective, self._point, batch), share))
        spare = space - used if kept is not None else space
        self._block = max(1, min(LARGEST_BLOCK, int(BLOCK_BYTES / largest), int(spare / (WORKING_COPIES * largest))))
        self._kept = kept

    def _add(self, total: Tensor | None, product: Product, vectors: Tensor, share: float) -> Tensor:
        """Products of one batch times its share, added to those of others."""
        if self._block > 1 and len(vectors) > 1:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")  # PyTorch warns where it has no batched form and loops, slowly
                    part = torch.cat([product(some) for some in vectors.split(self._block)])
                return part.mul_(share) if total is None else total.add_(part, alpha=share)
            except (RuntimeError, UserWarning):
                self._block = 1  # one by one works for all that can be differentiated twice at all
        if total is None and len(vectors) == 1:
            return product(vectors[0])[None].mul_(share)
        total = torch.zeros_like(vectors) if total is None else total
        for row, vector in zip(total, vectors, strict=True):
            row.add_(product(vector), alpha=share)
        return total


class _Cutter:
    """Shown every batch once: the backend by the first, then whether all of them may go in microbatches of its size."""

    first: Batch
    backend: Backend
    size: int  # of a microbatch
    space: float  # bytes for graphs
    beside_check: float  # bytes that the check leaves

    def __init__(self, kind: Curvature, room: float, share: float, *, wanted: bool) -> None:
        self.cuts = False  # whether some batch is larger, and all add up
        self._kind, self._room, self._share, self._wanted = kind, room, share, wanted
        self._started, self._adds_up = False, True

    def look(self, whole: Objective, batch: Batch) -> None:
        """At one batch, on the one pass over the data before products are made."""
        if not (self._wanted and self._adds_up):
            return
        own = in_working_precision(whole)
        point, batch = own.vector.requires_grad_(), own.cast(batch)
        with torch.enable_grad(), own.twice_differentiable():
            if not self._started:
                self._started = True
                self._start(own, point, batch)
            self._adds_up = adds_up_in_microbatches(
                replace(own, logit_bytes=self.backend.logit_bytes),
                point,
                batch,
                self.size,
                samples_independent=self.backend.samples_independent,
            )
        self.cuts = self._adds_up and (self.cuts or count(batch) > self.size)

    def _start(self, own: Objective, point: Tensor, batch: Batch) -> None:
        self.first = batch
        vectors = OPERATOR_VECTORS * _vector_bytes(own)
        self.space = self._share * self._room - vectors
        if self.space <= 0:
            raise TooLarge(
                f"expected memory for the {OPERATOR_VECTORS} vectors of {own.size:,} numbers that a product takes, "
                f"{in_words(vectors)}, and its graphs, got {in_words(self._share * self._room)} (an instrument keeps "
                "half of its own for others). Pass more, or parameters='NAME.*' for a part of the model."
            )
        try:
            self.backend = choose_backend(own, self._kind, point, batch, self.space)
        except RuntimeError as error:
            raise_not_differentiable(own, batch, error)
            raise
        if _check_needs(own, self.backend, batch) > self._room:
            few = first_samples(batch, 1)
            least = graph_bytes_once(own, point, few, inf) / count(few)
            self.backend = replace(self.backend, one_by_one=True, graph_bytes=least)
        self.size = _microbatch(own, self.backend, self.space)
        self.beside_check = self._room - _check_needs(own, self.backend, batch)
        if self.beside_check < 0:
            raise TooLarge(
                f"expected memory for the check of a product, {in_words(self._room - self.beside_check)} for vectors "
                f"of {own.size:,} numbers, some of them in double precision, and the graph of a few samples, got "
                f"{in_words(self._room)}. Pass more, or parameters='NAME.*' for a part of the model."
            )


def _vector_bytes(own: Objective) -> float:
    """Of one number for each parameter, in the precision that curvature is computed in."""
    return own.size * max(4, own.vector.element_size())


def _check_needs(own: Objective, backend: Backend, first: Batch) -> float:
    """Bytes that the check of a product takes at most, beside graphs that are kept."""
    samples = min(count(first), checked_samples(backend))
    graph = samples * check_bytes(own, backend) * (WORKING_COPIES if backend.one_by_one else 1)
    return CHECK_VECTORS[own.vector.dtype] * _vector_bytes(own) + graph


def _microbatch(own: Objective, backend: Backend, space: float) -> int:
    """Samples that fit the memory, and on a CPU a core's cache."""
    largest = (space / WORKING_COPIES - backend.batch_bytes) / max(check_bytes(own, backend), backend.sample_bytes)
    return max(1, int(min(largest, backend.microbatch) if own.device.type == "cpu" else largest))


def _check_fits(taken: float, space: float) -> None:
    if WORKING_COPIES * taken > space:
        raise TooLarge(
            f"expected memory for the graph of one batch, {in_words(WORKING_COPIES * taken)}, got {in_words(space)} "
            "(an instrument keeps half of its own for vectors). Pass more, or smaller batches."
        )


@contextmanager
def operator_and_room(
    model: nn.Module, loss: Loss, data: Data, options: ProductOptions, *, seed: int
) -> Iterator[tuple[HessianOperator, float]]:
    """The operator, with half of the memory for its graphs, and the other half, in bytes, for vectors."""
    space = room_beside(model, options.get("memory"))
    own = select_options(options, CurvatureOptions)
    own["memory"] = int(space)
    operator = HessianOperator.__new__(HessianOperator)
    operator._build(model, loss, data, own, seed=seed, share=VECTORS_SHARE)
    with operator:
        yield operator, (1 - VECTORS_SHARE) * space


def _of_shard(
    options: CurvatureOptions, model: nn.Module, loss: Loss, batches: list[Batch], memory: int
) -> HessianOperator:
    """What a shard holds: the operator of its own part of the data."""
    own: CurvatureOptions = {**options, "memory": memory}
    return HessianOperator(model, loss, batches, **own)


def _backend_and_check(own: HessianOperator) -> tuple[str, float]:
    return own.backend, own.check_error


def _rows(own: HessianOperator, vectors: np.ndarray) -> tuple[np.ndarray]:
    return (own.rows(torch.tensor(vectors, device=own.device)).cpu().numpy(),)


def _loss_and_gradient(own: HessianOperator) -> tuple[np.ndarray, np.ndarray]:
    """Over all data that this process has, float64."""
    whole, loss = replace(own.objective, logit_bytes=own._backend.logit_bytes), 0.0
    total = torch.zeros(whole.size, dtype=torch.float64, device=whole.device)
    with preserve_rng(), whole.twice_differentiable():
        for batch, share in whole.batches():
            value, gradient = bound_gradient(whole, whole.vector, batch)
            loss += share * float(value)
            total += share * gradient
    return np.asarray(loss), total.cpu().numpy()


def in_working_precision(whole: Objective) -> Objective:
    """The loss in the precision that curvature is computed in: the weights' own, float32 at least.

    Raises:
        BadModel: parameters are not real.
    """
    kinds = {p.dtype for p in whole.own.values()}
    if any(not kind.is_floating_point for kind in kinds):
        raise BadModel(f"expected real parameters, got {kinds}. Take real and imaginary parts as parameters.")
    work = reduce(torch.promote_types, kinds, torch.float32)
    return whole if kinds == {work} else whole.to(work)
