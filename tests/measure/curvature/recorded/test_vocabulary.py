"""Cross entropy over a large vocabulary in chunks: the numbers of PyTorch's own, with all logits held."""

from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from theodolite.measure import hessian_eigenvalues
from theodolite.measure.curvature.operator import HessianOperator
from theodolite.measure.problem.join import objective
from theodolite.measure.problem.vocabulary import Logits, unheld_logits

VOCABULARY, WIDTH, LENGTH = 4099, 3, 5
ROWS = 3  # of logits in float64 that a 64th part of the memory holds
SMALL = int(64 * (ROWS + 0.5) * VOCABULARY * 8)


class Language(nn.Module):
    """An embedding, something nonlinear, and a head that may be tied to the embedding."""

    def __init__(self, *, tied: bool = False, bias: bool = True, padding: int | None = None) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH, padding_idx=padding)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=bias)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.tanh(self.mix(self.embed(tokens))))


class NextToken(nn.Module):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.own = nn.CrossEntropyLoss(**settings)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return self.own(z.reshape(-1, VOCABULARY), y.flatten())


def weights() -> Tensor:
    return torch.linspace(0.5, 2.0, VOCABULARY, dtype=torch.float64)


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {  # model, settings of the loss, targets ignored
    "plain": ({}, {}, False),
    "tied": ({"tied": True, "bias": False}, {}, False),
    "ignored": ({"tied": True}, {}, True),
    "ignored by a class": ({}, {"ignore_index": 7}, False),
    "smoothed": ({"tied": True, "bias": False}, {"label_smoothing": 0.1}, True),
    "class weights, smoothed": ({}, {"weight": weights(), "label_smoothing": 0.2}, True),
    "sum": ({"tied": True, "bias": False}, {"reduction": "sum"}, False),
    "padding": ({"bias": False, "padding": 0}, {}, False),
    "padding, tied": ({"tied": True, "padding": 0}, {}, False),
}


class Largest(TorchDispatchMode):
    """The most rows over the vocabulary that any tensor made inside has, and keeps its own numbers for."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        for each in tree_leaves(found):
            if isinstance(each, Tensor) and not each.is_meta and each.ndim == 2 and VOCABULARY in each.shape:
                self.rows = max(self.rows, each.numel() // VOCABULARY)
        return found


def problem(case: str) -> tuple[Language, NextToken, tuple[Tensor, Tensor]]:
    made, settings, ignored = CASES[case]
    torch.manual_seed(0)
    model = Language(**made).double()
    tokens, targets = torch.randint(0, VOCABULARY, (2, 4, LENGTH))
    targets[0, 0], tokens[1, 2] = 7, 0
    if ignored:
        targets[:, -2:] = -100
    return model, NextToken(**settings), (tokens, targets)


def expected(model: nn.Module, loss: nn.Module, data: tuple[Tensor, Tensor], v: Tensor, *, ggn: bool) -> Tensor:
    """The product of PyTorch's own: reverse over reverse of the whole batch, or forwards and back through J."""
    names, own = zip(*model.named_parameters(), strict=True)

    def outputs(*parameters: Tensor) -> Tensor:
        found: Tensor = functional_call(model, dict(zip(names, parameters, strict=True)), (data[0],))
        return found

    parts = tuple(p.view_as(q) for p, q in zip(v.split([q.numel() for q in own]), own, strict=True))
    if ggn:
        z, along = torch.autograd.functional.jvp(outputs, own, parts)
        _, curved = torch.autograd.functional.vhp(lambda z: loss(z, data[1]), z, along)
        found = torch.autograd.functional.vjp(outputs, own, curved)[1]
    else:
        found = torch.autograd.functional.vhp(lambda *p: loss(outputs(*p), data[1]), own, parts)[1]
    return torch.cat([part.flatten() for part in found])


def squares(model: nn.Module, loss: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
    """The gradients of samples' own losses, taken one by one ``(N, P)``, so that E = GᵀG / N."""
    rows = []
    for x, y in zip(*data, strict=True):
        parts = torch.autograd.grad(loss(model(x[None]), y[None]), list(model.parameters()))
        rows.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(rows)


@pytest.mark.parametrize("operator", ["empirical_fisher", "gradient_covariance"])
@pytest.mark.parametrize("case", ["plain", "tied", "smoothed", "sum"])
def test_squares_of_gradients_in_chunks_are_those_of_samples_taken_alone(case: str, operator: Any) -> None:
    model, loss, data = problem(case)
    reduction = "sum" if case == "sum" else "mean"
    H = HessianOperator(model, loss, data, operator=operator, memory=SMALL, reduction=reduction)
    assert H.backend.startswith("gradient by gradient, logits in chunks")
    v = torch.randn(2, H.size, dtype=torch.float64)
    G = squares(model, loss, data)
    with Largest() as seen:
        found = (H @ v.mT).mT
    assert seen.rows <= max(ROWS, WIDTH)
    if operator == "gradient_covariance":
        G = G - G.mean(0)
    right = (v @ G.mT) @ G / (1 if reduction == "sum" else len(G))
    assert float((found - right).norm()) <= 1e-11 * float(right.norm())


def test_the_fisher_matrix_of_classes_in_chunks_is_the_gauss_newton_matrix() -> None:
    model, _, (tokens, targets) = problem("tied")
    flat = nn.Sequential(model, nn.Flatten(0, 1))
    data = tokens[:, :1], targets[:, 0]
    H = HessianOperator(flat, nn.CrossEntropyLoss(), data, operator="fisher", memory=SMALL)
    assert H.backend.startswith("operation by operation, logits in chunks")
    v = torch.randn(H.size, dtype=torch.float64)
    with Largest() as seen:
        found = H @ v
    assert seen.rows <= max(ROWS, WIDTH)
    right = expected(flat, nn.CrossEntropyLoss(), data, v, ggn=True)
    assert float((found - right).norm()) <= 1e-12 * float(right.norm())


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_in_chunks_is_that_of_all_logits(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, loss, data = problem(case)
    parts = torch.autograd.grad(loss(model(data[0]), data[1]), list(model.parameters()))
    value, names = loss(model(data[0]), data[1]), [name for name, _ in model.named_parameters()]
    gradient_norm = import_module("theodolite.measure.gradient_norm")  # the name in the package is the function's
    monkeypatch.setattr(gradient_norm, "room_beside", lambda model, memory: SMALL)
    whole = objective(model, loss, data)
    with Largest() as seen:
        found, gradient = gradient_norm.loss_and_gradient(whole)
    assert seen.rows <= max(ROWS, WIDTH)
    assert found == pytest.approx(float(value.detach()), rel=1e-13)
    for name, part in zip(names, parts, strict=True):
        torch.testing.assert_close(gradient[name], part, rtol=1e-11, atol=1e-16)


@pytest.mark.parametrize("operator", ["hessian", "ggn"])
@pytest.mark.parametrize("case", CASES)
def test_products_in_chunks_are_those_of_all_logits(case: str, operator: Any) -> None:
    model, loss, data = problem(case)
    H = HessianOperator(model, loss, data, operator=operator, memory=SMALL)
    assert H.backend.startswith("operation by operation, logits in chunks")
    v = torch.randn(H.size, dtype=torch.float64)
    right = expected(model, loss, data, v, ggn=operator == "ggn")
    with Largest() as seen:
        found = H @ v
    assert seen.rows <= max(ROWS, WIDTH)
    assert float((found - right).norm()) <= 1e-12 * float(right.norm())
    assert H.check_error < 1e-5


USES: dict[str, Any] = {
    "scaled": lambda z, y: functional.cross_entropy(2 * z.reshape(-1, VOCABULARY), y.flatten()),
    "classes second": lambda z, y: functional.cross_entropy(z.transpose(1, 2), y),
    "with a penalty": lambda z, y: functional.cross_entropy(z.flatten(0, 1), y.flatten()) + z.logsumexp(-1).mean(),
    "in place": lambda z, y: functional.cross_entropy(z.mul_(0.5).flatten(0, 1), y.flatten()),
    "some classes": lambda z, y: functional.cross_entropy(z[..., :100].flatten(0, 1), y.flatten() % 100),
    "per token": lambda z, y: functional.cross_entropy(z.flatten(0, 1), y.flatten(), reduction="none").mean(),
    "probabilities": lambda z, y: functional.cross_entropy(
        z.flatten(0, 1), functional.one_hot(y.flatten(), VOCABULARY).to(z.dtype)
    ),
}


@pytest.mark.parametrize("use", USES)
def test_any_other_use_has_the_logits_computed(use: str) -> None:
    model, _, (tokens, targets) = problem("tied")
    right = USES[use](model(tokens), targets)
    with unheld_logits(VOCABULARY * 8.0):
        unheld = model(tokens)
    assert isinstance(unheld, Logits)
    torch.testing.assert_close(USES[use](unheld, targets), right)


def test_slices_of_positions_are_not_computed_and_slices_of_classes_are() -> None:
    model, _, (tokens, _) = problem("plain")
    right = model(tokens)
    with unheld_logits(0.0):
        for index in ((slice(None), slice(0, -1)), (..., slice(1, None), slice(None)), (slice(2), ...)):
            part = model(tokens)[index]
            assert isinstance(part, Logits)
            torch.testing.assert_close(part.computed(), right[index])
        for index in ((..., slice(0, 3)), (slice(None), slice(None), slice(0, 3), ...), 0):
            part = model(tokens)[index]
            assert not isinstance(part, Logits)
            torch.testing.assert_close(part, right[index])


def test_the_largest_eigenvalue_within_little_memory_is_that_with_much() -> None:
    model, loss, data = problem("smoothed")
    much, little = (hessian_eigenvalues(model, loss, data, k=1, tolerance=1e-8, memory=m) for m in (None, 2 * SMALL))
    assert "logits in chunks" in little.backend
    assert "logits in chunks" not in much.backend
    assert float(little.eigenvalues[0]) == pytest.approx(float(much.eigenvalues[0]), rel=1e-10)


def test_the_largest_eigenvalue_with_few_vectors_is_that_of_power_iteration() -> None:
    """22 in all, of which graphs have half: a shifted power iteration of PyTorch's own products."""
    model, loss, (tokens, targets) = problem("tied")
    data = tokens[:, :2], targets[:, :2]
    own = list(model.parameters())
    slopes = torch.autograd.grad(loss(model(data[0]), data[1]), own, create_graph=True)
    slope = torch.cat([part.flatten() for part in slopes])

    def product(v: Tensor) -> Tensor:
        parts = torch.autograd.grad(slope, own, v, retain_graph=True, materialize_grads=True)
        return torch.cat([part.flatten() for part in parts])

    v, shift = torch.randn(len(slope), dtype=torch.float64), 0.0
    for step in range(400):
        v = product(v) + shift * v
        length = v.norm()
        v = v / length
        shift = float(length) if step == 40 else shift  # beyond the largest absolute eigenvalue, or nearly
    right = float(v @ product(v))
    found = hessian_eigenvalues(model, loss, data, k=1, tolerance=1e-5, memory=22 * 8 * len(slope))
    assert "logits in chunks" in found.backend
    assert bool(found.converged.all())
    assert float(found.eigenvalues[0]) == pytest.approx(right, rel=1e-5)
