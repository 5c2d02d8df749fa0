"""The neural tangent kernel: the square of the outputs' derivative, in sample space."""

import torch
from torch import Tensor, nn

from theodolite.measure.curvature.jacobian import Jacobian
from theodolite.measure.curvature.matrix import SymmetricMatrix
from theodolite.measure.problem.batches import Data
from theodolite.measure.problem.memory import Memory
from theodolite.measure.problem.validation import checked


class TangentKernel(SymmetricMatrix):
    r"""The neural tangent kernel of a model over data, as a matrix ``(N C, N C)`` one multiplies by.

    .. math:: \Theta = J J^\top, \qquad
              \Theta_{nc,mk} = \nabla_\theta z_{nc} \cdot \nabla_\theta z_{mk}

    It is never held: a product is one with Jᵀ and one with J. Its nonzero eigenvalues are those of JᵀJ, which is N/2
    times the generalised Gauss-Newton matrix of a squared error that is summed over outputs and averaged over samples.

    Args:
        model: any module, measured in the mode it is in; frozen parameters are left out.
        data: one ``(inputs, targets)`` pair or a re-iterable of such batches; targets are not looked at.
        parameters: a pattern such as ``"0.*"``: the kernel of a part of the model.
        memory: what kept graphs may take; None: half of what is free. Where they take more, one batch's is held at a
            time.
        seed: of the check's directions.

    Raises:
        MeasurementError: as :class:`Jacobian`.

    Source: Jacot, Gabriel and Hongler 2018, "Neural Tangent Kernel: Convergence and Generalization in Neural Networks".

    Example:
        >>> model = nn.Linear(2, 1, bias=False).double()
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0]]).double()
        >>> kernel = TangentKernel(model, (x, torch.zeros(2, 1)))  # X Xᵀ
        >>> kernel.to_dense().tolist(), round(kernel.trace().value, 6)
        ([[1.0, 0.0], [0.0, 4.0]], 5.0)
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
        self.jacobian = Jacobian(model, data, parameters=parameters, memory=memory, seed=seed)
        self.check_error: float = self.jacobian.check_error
        self.products = 0  # with vectors, so far

    @property
    def size(self) -> int:
        """N C."""
        return self.jacobian.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in: the model's own, or float32 for lower precision."""
        return self.jacobian.dtype

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.jacobian.device

    @property
    def backend(self) -> str:
        """How products are computed."""
        return self.jacobian.backend

    def rows(self, vectors: Tensor) -> Tensor:
        """Multiply each row of ``(k, N C)``."""
        self.products += len(vectors)
        return self.jacobian.times(self.jacobian.transposed(vectors))

    def __repr__(self) -> str:
        return f"TangentKernel({self.size} outputs, check {self.check_error:.1e})"
