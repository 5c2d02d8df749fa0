"""What every symmetric matrix here can do: multiply, become SciPy's, and be asked for its numbers."""

from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from theodolite.errors import SettingError, TheodoliteError, TooLarge
from theodolite.measure.linalg import eigensolver, quadrature, solver
from theodolite.measure.linalg import sketch as sketches
from theodolite.measure.linalg import trace as estimator
from theodolite.measure.linalg.eigensolver import Eigensolution, Which
from theodolite.measure.linalg.generalized import GeneralizedPairs, generalized_eigenvalues
from theodolite.measure.linalg.log_determinant import LogDeterminant, log_determinant
from theodolite.measure.linalg.quadrature import DensityEstimate
from theodolite.measure.linalg.sketch import DiagonalEstimate
from theodolite.measure.linalg.solver import Solution
from theodolite.measure.linalg.trace import TraceEstimate
from theodolite.measure.problem.memory import Memory, in_words, room
from theodolite.measure.problem.validation import checked, unmeasured
from theodolite.streams import named_seed


class SymmetricMatrix:
    """A symmetric matrix ``(n, n)`` that is known by its products; ``rows`` multiplies each row of ``(k, n)``."""

    @property
    def size(self) -> int:
        """Rows, and columns, of the matrix."""
        raise NotImplementedError

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in: the model's own, or float32 for lower precision."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        raise NotImplementedError

    def rows(self, vectors: Tensor) -> Tensor:
        """Multiply each row of ``(k, n)``: what ``@`` does, in the layout it is computed in."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""
        return (self.size, self.size)

    def __matmul__(self, vectors: Any) -> Any:
        """Multiply a vector ``(n,)`` or a block ``(n, k)``, a tensor or a NumPy array; the answer is alike."""
        return columns_by_rows(self.rows, vectors, self.size, self.dtype, self.device)

    def to_scipy(self) -> LinearOperator:
        """The same matrix for ``scipy.sparse.linalg``."""
        kind = torch.empty(0, dtype=self.dtype).numpy().dtype
        return LinearOperator(self.shape, matvec=lambda v: self @ v.ravel(), matmat=lambda V: self @ V, dtype=kind)

    @checked
    def to_dense(self, memory: Memory = None) -> Tensor:
        """The whole matrix ``(n, n)``, by n products.

        Args:
            memory: what may be taken; None: half of what is free.

        Raises:
            TooLarge: it does not fit.
        """
        need, space = 2.0 * self.size**2 * self.dtype.itemsize, room(memory, self.device)
        if need > space:
            raise TooLarge(
                f"expected memory for a matrix of {self.size:,} rows and a copy of it, {in_words(need)}, got "
                f"{in_words(space)}. Take its eigenvalues, trace or density, which need products alone, or fewer "
                "samples or parameters."
            )
        return self.rows(torch.eye(self.size, dtype=self.dtype, device=self.device))

    @checked
    def eigenvalues(
        self, k: int = 10, *, which: Which = "largest", tolerance: float = 1e-4, seed: int = 0
    ) -> Eigensolution:
        """Eigenpairs at the ends of the spectrum with their residuals, as ``hessian_eigenvalues`` finds them."""
        return eigensolver.eigenvalues(self, k=k, which=which, tolerance=tolerance, random=_random(seed, "restarts"))

    @checked
    def trace(self, products: int = 60, *, seed: int = 0) -> TraceEstimate:
        """The sum of all eigenvalues with its standard error; exact where a third of the products is n or more."""
        return estimator.trace(self, products=products, random=_random(seed, "signs"))

    @checked
    def diagonal(self, products: int = 60, *, seed: int = 0) -> DiagonalEstimate:
        """The diagonal with its standard errors; exact where the products are n or more."""
        return sketches.diagonal(self, products=products, random=_random(seed, "signs"))

    @checked
    def solve(
        self, v: Tensor, *, damping: float = 0.0, tolerance: float = 1e-6, max_products: int | None = None
    ) -> Solution:
        """Solve (A + damping) x = v: conjugate gradients, or minimal residuals where damping leaves it indefinite."""
        return solver.solve(self, v, damping=damping, tolerance=tolerance, max_products=max_products)

    @checked
    def log_determinant(
        self, *, damping: float = 0.0, probes: int = 16, steps: int = 60, seed: int = 0
    ) -> LogDeterminant:
        """Estimate log det(A + damping) with its standard error; exact for small matrices."""
        return log_determinant(self, damping=damping, probes=probes, steps=steps, random=_random(seed, "probes"))

    @checked
    def generalized_eigenvalues(
        self, other: "SymmetricMatrix", k: int = 1, *, damping: float = 0.0, tolerance: float = 1e-4, seed: int = 0
    ) -> GeneralizedPairs:
        """The largest μ of A v = μ (B + damping) v with their residuals, B the other matrix."""
        random = _random(seed, "generalized")
        return generalized_eigenvalues(self, other, k=k, damping=damping, tolerance=tolerance, random=random)

    @checked
    def density(self, *, probes: int = 8, steps: int = 60, seed: int = 0) -> DensityEstimate:
        """How the eigenvalues are spread, by stochastic Lanczos quadrature, with its standard error."""
        return quadrature.density(self, probes=probes, steps=steps, random=_random(seed, "probes"))


def columns_by_rows(rows: Any, vectors: Any, size: int, dtype: torch.dtype, device: torch.device) -> Any:
    """Multiply a vector ``(size,)`` or the columns of a block, by what multiplies rows.

    Raises:
        SettingError: another shape.
    """
    if not isinstance(vectors, Tensor):
        given = torch.as_tensor(np.asarray(vectors))
        return columns_by_rows(rows, given, size, dtype, device).cpu().numpy()
    if vectors.ndim not in (1, 2) or len(vectors) != size:
        raise SettingError(
            f"expected a vector ({size},) or a block ({size}, k), got {tuple(vectors.shape)}. One column is one vector."
        )
    try:
        given = vectors.detach().to(device, dtype)
        product = rows(given.mT.contiguous() if given.ndim == 2 else given[None])
    except (TheodoliteError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        raise unmeasured("a product", error) from error
    return product.mT if vectors.ndim == 2 else product[0]


def _random(seed: int, name: str) -> torch.Generator:
    return torch.Generator().manual_seed(named_seed(seed, name))
