"""The Hessian, or the generalised Gauss-Newton matrix, of a loss over a data set, as a matrix one multiplies by."""

import warnings
from functools import reduce
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor, nn

from theodolite.errors import BadModel, SettingError
from theodolite.measure.check import explain, verify
from theodolite.measure.graph import PRODUCTS, Kind, Product, counted
from theodolite.measure.objective import Data, Loss, Objective, objective, untouched

SHARE = 0.5  # of the free memory, at most, for graphs
TOGETHER = 2**25  # bytes one block may touch: small graphs gain 10-30 % by going together, large ones lose as much


class HessianOperator:
    r"""The P × P matrix of second derivatives of the loss over all data, without ever holding it.

    .. math:: H = \nabla^2_\theta L, \quad L(\theta) = \sum_b \frac{n_b}{N} \mathrm{loss}_b(\theta), \qquad
              \text{or}\quad G = \sum_b \frac{n_b}{N} J_b^\top \, (\nabla^2_z \mathrm{loss}_b) \, J_b

    with z the outputs and J = ∂z/∂θ. For a loss that is a mean over samples this is the exact mean, whatever the
    batch sizes. A loss with class weights or ``ignore_index`` divides by something else than n_b within each batch;
    the sum above, weighted by n_b / N, is still what is computed. Pass one batch where the whole set's own mean is
    wanted.

    The gradient is computed once with its graph, and every product is one backward pass through it: 1.7 times faster
    than both passes anew. Where the graphs of all batches do not fit ``memory``, they are made again, batch by batch,
    for each product or block; the numbers are the same to rounding. Weights in bfloat16 or float16 are taken as the
    exact numbers they are and everything is computed in float32: the curvature of the loss at the rounded weights,
    not of a loss that is itself rounded (whose second derivative is noise). With ReLU or max pooling the Hessian
    exists almost everywhere, and is that of the piece the weights are on.

    The matrix stays that of the weights it was made with. When made it checks itself: a product against central
    finite differences of the gradient on the first batch, in float64 where the model can, and symmetry, uᵀHv = vᵀHu,
    over all data.

    Args:
        model: any module, measured in the mode it is in; frozen parameters are left out.
        loss: maps (outputs, targets) to a scalar mean over samples.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches; inputs a tensor, tuple or dict.
        operator: ``"hessian"``, or ``"ggn"`` for the generalised Gauss-Newton matrix, positive semidefinite where
            the loss is convex in the outputs.
        parameters: a pattern such as ``"0.*"`` that restricts the matrix to a part of the model.
        memory: bytes that kept graphs may take; None: half of what is free.

    Raises:
        NotDifferentiable: PyTorch cannot differentiate a layer twice; the message names it.
        CheckFailed: a layer's second derivative is wrong; the message names it.
        MeasurementError: model, loss or data cannot be measured; see :func:`~theodolite.measure.objective.objective`.

    Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian"; Schraudolph 2002, "Fast curvature
    matrix-vector products for second-order gradient descent".

    Example:
        >>> model = nn.Linear(2, 1, bias=False).double()
        >>> data = torch.tensor([[1.0, 2.0]]).double(), torch.zeros(1, 1).double()
        >>> H = HessianOperator(model, nn.MSELoss(), data)  # L = (w · x)², H = 2 x xᵀ
        >>> H @ torch.tensor([1.0, 0.0]).double()
        tensor([2., 4.], dtype=torch.float64)
        >>> (H @ torch.eye(2).double()).tolist(), H.path, H.check < 1e-6
        ([[2.0, 4.0], [4.0, 8.0]], 'kept graph', True)
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        data: Data,
        *,
        operator: Kind = "hessian",
        parameters: str | None = None,
        memory: int | None = None,
    ) -> None:
        if operator not in PRODUCTS:
            raise SettingError(f"expected operator 'hessian' or 'ggn', got {operator!r}.")
        self.objective: Objective = _in_working_precision(objective(model, loss, data, parameters=parameters))
        self.kind: Kind = operator
        self.products = 0  # with vectors, so far; a block of k counts k
        self._point = self.objective.vector.requires_grad_()
        self._room = free_memory(self._point.device) * SHARE if memory is None else memory
        self._kept: list[tuple[Product, float]] | None = None
        self._block = 1
        try:
            self._keep()
            self.check: float = verify(self)  # relative difference of the two ways
        except RuntimeError as error:
            explain(self.objective, error)
            raise
        self.products = 0

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P)."""
        return (len(self._point), len(self._point))

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in: the model's own, or float32 for lower precision."""
        return self._point.dtype

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._point.device

    @property
    def path(self) -> str:
        """How products are computed."""
        return "kept graph" if self._kept is not None else "graph anew"

    def __matmul__(self, vectors: Any) -> Any:
        """Multiply a vector ``(P,)`` or a block ``(P, k)``, a tensor or a NumPy array; the answer is alike."""
        if not isinstance(vectors, Tensor):
            return (self @ torch.as_tensor(np.asarray(vectors))).cpu().numpy()
        if vectors.ndim not in (1, 2) or len(vectors) != len(self._point):
            raise SettingError(
                f"expected a vector ({len(self._point)},) or a block ({len(self._point)}, k), got "
                f"{tuple(vectors.shape)}. One column is one vector."
            )
        rows = vectors.detach().to(self._point)
        product = self.rows(rows.mT.contiguous() if rows.ndim == 2 else rows[None])
        return product.mT if vectors.ndim == 2 else product[0]

    def rows(self, vectors: Tensor) -> Tensor:
        """Multiply each row of ``(k, P)``: what ``@`` does, in the layout it is computed in."""
        self.products += len(vectors)
        total = torch.zeros_like(vectors)
        if not len(vectors):
            return total
        if self._kept is not None:
            with torch.autocast(self.device.type, enabled=False):  # it would round in backward passes too
                for product, share in self._kept:
                    total += share * self._apply(product, vectors)
            return total
        make = PRODUCTS[self.kind]
        with untouched(), torch.enable_grad(), self.objective.twice_differentiable():
            for batch, share in self.objective.batches():
                total += share * self._apply(make(self.objective, self._point, batch), vectors)
        return total

    def to_scipy(self) -> LinearOperator:
        """The same matrix for ``scipy.sparse.linalg``."""
        kind = torch.empty(0, dtype=self.dtype).numpy().dtype
        return LinearOperator(self.shape, matvec=lambda v: self @ v.ravel(), matmat=lambda V: self @ V, dtype=kind)

    def __repr__(self) -> str:
        return f"HessianOperator({self.kind}, {self.shape[0]} parameters, path {self.path}, check {self.check:.1e})"

    def _keep(self) -> None:
        """Make every batch's graph, or none if they do not fit together: a shuffled loader cannot be kept in part."""
        kept, used, largest = [], 0, 1
        with untouched(), torch.enable_grad(), self.objective.twice_differentiable():
            for batch, share in self.objective.batches():
                with counted(self._point) as size:
                    product = PRODUCTS[self.kind](self.objective, self._point, batch)
                used, largest = used + size(), max(largest, size())
                self._block = max(1, min(64, TOGETHER // largest))
                if used > self._room:
                    return
                kept.append((product, share))
        self._kept = kept

    def _apply(self, product: Product, vectors: Tensor) -> Tensor:
        if self._block > 1 and len(vectors) > 1:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")  # PyTorch warns where it has no batched form and loops, slowly
                    return torch.cat([product(part) for part in vectors.split(self._block)])
            except (RuntimeError, UserWarning):
                self._block = 1  # one by one works for all that can be differentiated twice at all
        return torch.stack([product(vector) for vector in vectors])


def _in_working_precision(whole: Objective) -> Objective:
    own = dict(whole.model.named_parameters())
    kinds = {own[name].dtype for name in whole.names}
    if any(not kind.is_floating_point for kind in kinds):
        raise BadModel(f"expected real parameters, got {kinds}. Take real and imaginary parts as parameters.")
    work = reduce(torch.promote_types, kinds, torch.float32)
    return whole if kinds == {work} else whole.to(work)


def free_memory(device: torch.device) -> float:
    """Bytes free on the device that graphs would be kept on."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo") as lines:
            return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 2.0**32
