"""What curvature instruments say of random models, by the truth.

``Truth`` is the loss over all data as a script would write it, differentiated row by row on the model's own parameters,
in float64; no instrument's code takes part. ``outcomes`` says of each instrument "right", "refused" (by an error of our
tree), "wrong" or "raw" (another error), and why.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.parametrizations import _WeightNorm

from random_models import Problem, Recipe, build
from theodolite import measure
from theodolite.errors import TheodoliteError

RIGHT = {torch.float64: 1e-8, torch.float32: 1e-4}  # relative to the norms of matrix and gradient
ROUNDINGS = 30  # times the error of row-by-row autograd in the same precision are rounding too
RADIUS = 0.01  # of a step of sharpness
PROBES = 2  # of a density
SEEN = 1e-5  # the weight of a node that stands for an eigenvalue
SIGMAS = 12  # that an estimate may be off: with few draws tails are long


def _row(value: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    if not value.requires_grad:
        return torch.cat([torch.zeros_like(p).flatten() for p in parameters])
    parts = torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in parts])


def _second(value: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    slopes = torch.autograd.grad(value, parameters, create_graph=True, materialize_grads=True)
    return torch.stack([_row(entry, parameters) for slope in slopes for entry in slope.flatten()])


def total_loss(problem: Problem) -> float:
    """As a script writes it: what each batch gives, times what it was divided by, over what all would be divided by.

    Every batch at the same weights: an embedding with max_norm writes into its own, and the next batch would see it.
    """
    total = 0.0
    for x, t, share in _shared(problem):
        with _put_back(problem.model):
            total += share * float(problem.loss(problem.model(x), t).detach())
    return total


@contextmanager
def _put_back(model: nn.Module) -> Iterator[None]:
    before = [p.detach().clone() for p in model.parameters()]
    try:
        yield
    finally:
        for p, start in zip(model.parameters(), before, strict=True):
            p.data.copy_(start)


def _shared(problem: Problem) -> list[tuple[Tensor, Tensor, float]]:
    parts = [(x, t, problem.divisor(t) if problem.divisor else 1.0) for x, t in problem.batches if len(x)]
    whole = sum(part for *_, part in parts) if problem.divisor else 1.0
    if not whole:
        raise ValueError("no target counts")
    return [(x, t, part / whole) for x, t, part in parts if part]


def _weight_by_norm(length: Tensor, direction: Tensor) -> Tensor:
    """What weight_norm is; the second derivative of PyTorch's own kernel for it is wrong."""
    rows = direction.flatten(1).pow(2).sum(1).sqrt()
    return direction * (length.flatten() / rows).view(length.shape)


@dataclass
class Truth:
    """What row-by-row autograd gives on the model's own parameters; nothing is computed before it is asked for."""

    problem: Problem

    def __post_init__(self) -> None:
        for module in self.problem.model.modules():
            if isinstance(module, _WeightNorm):
                module.forward = _weight_by_norm

    @cached_property
    def loss(self) -> float:
        return total_loss(self.problem)

    @cached_property
    def gradient(self) -> Tensor:
        return sum(_row(part, self.problem.parameters) for part in self._parts())

    def matrix(self, operator: str) -> Tensor:
        return self.hessian if operator == "hessian" else self.gauss_newton

    @cached_property
    def hessian(self) -> Tensor:
        return sum(_second(part, self.problem.parameters) for part in self._parts())

    def _parts(self) -> Iterator[Tensor]:
        """The loss, batch by batch, each differentiated before weights are put back where they were."""
        for x, t, share in _shared(self.problem):
            with _put_back(self.problem.model):
                with sdpa_kernel(SDPBackend.MATH), self._measured_alone():
                    part = share * self.problem.loss(self.problem.model(x), t)
                yield part

    @contextmanager
    def _measured_alone(self) -> Iterator[None]:
        """Nothing else asks for a gradient: one that nobody wants may not exist, of a weight that is written into."""
        measured = {id(p) for p in self.problem.parameters}
        before = [(p, p.requires_grad) for p in self.problem.model.parameters()]
        try:
            for p, _ in before:
                p.requires_grad_(id(p) in measured)
            yield
        finally:
            for p, asked in before:
                p.requires_grad_(asked)

    @cached_property
    def gauss_newton(self) -> Tensor:
        """Sum of Jᵀ B J, with B by the outputs and all else in the loss held."""
        total = torch.tensor(0.0)
        for x, t, share in _shared(self.problem):
            with _put_back(self.problem.model):
                with sdpa_kernel(SDPBackend.MATH):
                    outputs = self.problem.model(x)
                J = torch.stack([_row(entry, self.problem.parameters) for entry in outputs.flatten()])
                free = outputs.detach().requires_grad_()
                (slope,) = torch.autograd.grad(self.problem.loss(free, t), free, create_graph=True)
                B = torch.stack([_row(entry, [free]) for entry in slope.flatten()])
                total = total + share * J.T @ B @ J
        return total

    @cached_property
    def rise(self) -> float:
        """Of the loss over a step of length RADIUS up the gradient, on a copy of the model's numbers put back."""
        own, loss = self.problem.parameters, self.loss
        before = [p.detach().clone() for p in own]
        step = RADIUS * self.gradient / self.gradient.norm()
        try:
            for p, part in zip(own, step.split([p.numel() for p in own]), strict=True):
                p.data += part.view_as(p)
            return total_loss(self.problem) - loss
        finally:
            for p, start in zip(own, before, strict=True):
                p.data = start


@dataclass(frozen=True)
class Outcome:
    instrument: str
    said: str  # "right", "refused", "wrong" or "raw"
    why: str = ""


CHEAP = ("products", "gradient_norm", "sharpness")
ROUNDS = (  # what takes most of the time goes by turns, where that is short
    (*CHEAP, "hessian_spectrum"),
    (*CHEAP, "hessian_eigenvalues"),
    (*CHEAP, "minimal_ratio"),
    (*CHEAP, "hessian_trace", "hessian_density"),
)
INSTRUMENTS = tuple(dict.fromkeys(name for names in ROUNDS for name in names))


def outcomes(recipe: Recipe, instruments: Iterable[str] = INSTRUMENTS) -> list[Outcome]:
    """What instruments say of a recipe's model, by its truth."""
    return list(_Comparison(recipe, instruments))


class _Comparison:
    """The instruments, one after the other, on the same model."""

    def __init__(self, recipe: Recipe, instruments: Iterable[str]) -> None:
        self.recipe, self.instruments = recipe, instruments
        self.problem = build(recipe)
        self.truth = Truth(build(recipe, double=True))
        self.right = RIGHT[self.problem.parameters[0].dtype]

    def __iter__(self) -> Iterator[Outcome]:
        runs = self._script_runs()
        problem = self.problem.model, self.problem.loss, self.problem.data
        before = _state(self.problem.model)
        questions = self._questions()
        for instrument in self.instruments:
            ask, compare = questions[instrument]
            try:
                found = ask(*problem, **self.problem.options)
            except TheodoliteError as error:
                yield Outcome(instrument, "refused", f"{type(error).__name__}: {error}")
            except Exception as error:
                yield Outcome(instrument, "raw", f"{type(error).__name__}: {error}")
            else:
                wrong = self._compared(compare, found) if runs else "a number where the script gives none"
                yield Outcome(instrument, "wrong" if wrong else "right", wrong)
            if any(not torch.equal(a, b) for a, b in zip(before, _state(self.problem.model), strict=True)):
                yield Outcome(instrument, "wrong", "the model is not as it was")

    def _script_runs(self) -> bool:
        try:
            return math.isfinite(self.truth.loss)
        except ValueError:
            return False

    @staticmethod
    def _compared(compare: Callable[..., str], found: Any) -> str:
        try:
            return compare(found)
        except RuntimeError as error:
            return f"a number where the script raises {error}"

    def _questions(self) -> dict[str, tuple[Callable[..., Any], Callable[[Any], str]]]:
        part = {"parameters": self.problem.pattern}
        chosen = part | {"operator": self.recipe.operator, "memory": self.recipe.memory}
        ask = {
            name: partial(getattr(measure, name), **chosen)
            for name in ("hessian_spectrum", "minimal_ratio", "hessian_eigenvalues", "hessian_trace", "hessian_density")
        }
        return {
            "products": (partial(_products, chosen), self._products),
            "hessian_spectrum": (ask["hessian_spectrum"], self._spectrum),
            "minimal_ratio": (ask["minimal_ratio"], self._ratio),
            "hessian_eigenvalues": (
                partial(ask["hessian_eigenvalues"], k=1, which="both", tolerance=1e-9), self._eigenvalues
            ),
            "hessian_trace": (ask["hessian_trace"], self._trace),
            "hessian_density": (partial(ask["hessian_density"], probes=PROBES, steps=10), self._density),
            "gradient_norm": (partial(measure.gradient_norm, **part), self._gradient_norm),
            "sharpness": (partial(measure.sharpness, method="sam", radius=RADIUS), self._sharpness),
        }  # fmt: skip

    def _products(self, found: Tensor) -> str:
        return self._apart(found.double() - self._matrix @ _directions(len(self._matrix)))

    def _eigenvalues(self, found: Any) -> str:
        every = self._every
        expected = every[[0, -1]] if len(every) > 1 else every
        if len(found.eigenvalues) != len(expected):
            return f"{len(found.eigenvalues)} eigenvalues for {len(expected)}"
        if bool(found.converged.all()):
            return self._apart(found.eigenvalues - expected, found.tolerance)
        off = (found.eigenvalues[:, None] - every).abs().amin(1) - found.residuals  # near some eigenvalue all the same
        return self._apart(off.clamp(min=0))

    def _trace(self, found: Any) -> str:
        every = self._every
        return self._apart(found.value - every.sum(), SIGMAS * found.standard_error, terms=len(every))

    def _spectrum(self, found: Any) -> str:
        return self._apart(found.eigenvalues - self._every) or self._loss_and_norm(found)

    def _ratio(self, found: Any) -> str:
        """Eigenvalues about as large as the tolerance may fall on either side of it."""
        every, tolerance = self._every, found.tolerance
        sides = every > 10 * tolerance, every < -10 * tolerance, every.abs() < 0.1 * tolerance
        least, counts = [int(side.sum()) for side in sides], [found.positive, found.negative, found.zero]
        if sum(counts) != len(every) or any(a < b for a, b in zip(counts, least, strict=True)):
            return f"{counts} positive, negative, zero for at least {least} of {len(every)}"
        if not math.isclose(found.value, found.positive / len(every)):
            return f"a ratio of {found.value} for {found.positive} of {len(every)}"
        return self._loss_and_norm(found)

    def _density(self, found: Any) -> str:
        """Nodes lie within the spectrum; their mean is that of vᵀHv, whose variance is known for normal directions."""
        every, size = self._every, len(self._every)
        if float((found.weights.nansum(1) - 1).abs().max()) > 1e-6:
            return f"weights that sum to {found.weights.nansum(1).tolist()}"
        nodes = found.nodes[found.weights > SEEN]
        variance = 2 * float((every - every.mean()).pow(2).sum()) / (size * (size + 2))
        return self._apart(nodes - nodes.clamp(every[0], every[-1])) or self._apart(
            found.mean - every.mean(), SIGMAS * (variance / PROBES) ** 0.5
        )

    def _gradient_norm(self, found: Any) -> str:
        truth = self.truth.gradient.split([p.numel() for p in self.truth.problem.parameters])
        for norm, part in zip(found.norms.values(), truth, strict=True):
            if wrong := self._close(norm, float(part.norm()), "part of the gradient"):
                return wrong
        return self._close(found.value, float(self.truth.gradient.norm()), "gradient") or self._loss(found)

    def _sharpness(self, found: Any) -> str:
        everywhere = Truth(replace(self.truth.problem, pattern=None))  # it moves all there is
        return self._close(found.value, everywhere.rise, "rise", everywhere) or self._loss(found)

    def _loss_and_norm(self, found: Any) -> str:
        return self._close(found.gradient_norm, float(self.truth.gradient.norm()), "gradient") or self._loss(found)

    def _loss(self, found: Any) -> str:
        return self._close(found.loss, self.truth.loss, "loss")

    def _close(self, found: float, expected: float, what: str, truth: Truth | None = None) -> str:
        truth = truth or self.truth
        allowed = self.right * (abs(truth.loss) + float(truth.gradient.norm()))
        return "" if abs(found - expected) <= allowed else f"a {what} of {found} for {expected}"

    @property
    def _matrix(self) -> Tensor:
        return self.truth.matrix(self.recipe.operator)

    @cached_property
    def _every(self) -> Tensor:
        return torch.linalg.eigvalsh((self._matrix + self._matrix.T) / 2)

    def _apart(self, off: Tensor, known: float = 0.0, terms: int = 1) -> str:
        """What is wrong, if a difference is more than rounding, and more than an instrument says of itself."""
        size = float(self._matrix.norm())
        allowed = known + terms * self.right * (size + float(self.truth.gradient.norm()))
        error = float(off.abs().max())
        if error <= allowed or (self.recipe.single and error <= allowed + terms * self._rounding()):
            return ""
        return f"{error:.2e} off, where {allowed:.1e} is rounding and |H| is {size:.2e}"

    def _rounding(self) -> float:
        single = Truth(build(self.recipe)).matrix(self.recipe.operator).double()
        return ROUNDINGS * float((single - self._matrix).norm())


def _products(chosen: dict[str, Any], *problem: Any, **options: Any) -> Tensor:
    H = measure.HessianOperator(*problem, **chosen, **options)
    return H @ _directions(H.size)


def _directions(size: int) -> Tensor:
    vectors = torch.randn(size, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return vectors / vectors.norm(dim=0)


def _state(model: nn.Module) -> list[Tensor]:
    return [t.detach().clone() for t in (*model.parameters(), *model.buffers())]
