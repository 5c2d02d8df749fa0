"""The cases of peers' own test suites: each right by the dense row-by-row matrix, or refused with its reason."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peer_suites.row import Row, gradient, matrix
from peer_suites.table import ROWS, table
from theodolite import measure

PAGE = Path(__file__).parents[2] / "docs" / "correctness.md"
CALLS: dict[str, Callable[..., Any]] = {
    "HessianOperator": measure.HessianOperator,
    "hessian_eigenvalues": lambda *case, **options: measure.hessian_eigenvalues(*case, k=1, **options),
    "hessian_trace": lambda *case, **options: measure.hessian_trace(*case, products=6, **options),
    "gradient_norm": measure.gradient_norm,
}
CURVATURE = [name for name in CALLS if name != "gradient_norm"]


def named(rows: list[Row]) -> list[Any]:
    return [pytest.param(row, id=row.name) for row in rows]


def afresh(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Called with the random state that decides in what order a shuffled loader is read."""
    torch.manual_seed(1)
    return function(*arguments, **options)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("row", named([row for row in ROWS if not row.refused]))
def test_a_peers_case_is_right(row):
    case = row.made()
    before = [p.detach().clone() for p in case[0].parameters()]
    for parameter in case[0].parameters():
        parameter.grad = torch.ones_like(parameter)  # of a training under way, which no measurement may touch
    options = {"parameters": row.parameters}
    slope = float(afresh(gradient, row, case).norm())
    assert afresh(measure.gradient_norm, *case, **options).value == pytest.approx(slope, rel=row.tolerance)
    for operator in row.matrices:
        options["operator"] = operator
        dense = afresh(matrix, row, case, operator)
        every = torch.linalg.eigvalsh((dense + dense.T) / 2)
        size, bound = len(every), row.tolerance * (float(every.abs().max()) or 1.0)

        H = afresh(measure.HessianOperator, *case, **options)
        assert float((H @ torch.eye(size, dtype=torch.float64) - dense).abs().max()) < bound
        if operator != row.matrices[-1]:  # what instruments make of a right product is the same for each
            continue

        ends = afresh(measure.hessian_eigenvalues, *case, k=1, which="both", tolerance=1e-9, **options)
        assert float((ends.eigenvalues - every[[0, -1]]).abs().max()) < bound

        trace = afresh(measure.hessian_trace, *case, products=3 * size, **options)
        assert abs(trace.value - float(every.sum())) < size * bound
    assert all(torch.equal(p, b) for p, b in zip(case[0].parameters(), before, strict=True))
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in case[0].parameters())


@pytest.mark.parametrize("operator", ["hessian", "ggn"])
@pytest.mark.parametrize("variant", ["linear regression", "logistic regression", "softmax regression"])
def test_closed_forms_are_what_the_dense_matrix_and_the_operator_say(variant, operator):
    (row,) = (row for row in ROWS if (row.case, row.variant) == ("closed forms", variant))
    model, _, (x, _) = case = row.made()
    outputs = model(x).detach()
    if variant == "linear regression":  # 2/N XᵀX
        expected = 2 * x.T @ x / len(x)
    elif variant == "logistic regression":  # 1/N Xᵀ diag(p (1 - p)) X
        p = outputs.sigmoid()
        expected = x.T @ (p * (1 - p) * x) / len(x)
    else:  # 1/N Σ (diag(p) - p pᵀ) ⊗ x xᵀ
        parts = [torch.kron(p.diag() - p.outer(p), z.outer(z)) for p, z in zip(outputs.softmax(1), x, strict=True)]
        expected = torch.stack(parts).mean(0)
    found = measure.HessianOperator(*case, operator=operator) @ torch.eye(len(expected), dtype=torch.float64)
    for matrix_found in (found, matrix(row, case, operator)):
        assert torch.allclose(matrix_found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("row", named([row for row in ROWS if row.refused]))
def test_a_peers_case_is_refused_with_its_reason(row, name):
    with pytest.raises(row.refused.error, match=re.escape(row.refused.words)):
        CALLS[name](*row.made(), parameters=row.parameters)


@pytest.mark.parametrize("name", CURVATURE)
@pytest.mark.parametrize("row", named([row for row in ROWS if row.ggn_refused]))
def test_the_gauss_newton_matrix_of_a_peers_case_is_refused_with_its_reason(row, name):
    with pytest.raises(row.ggn_refused.error, match=re.escape(row.ggn_refused.words)):
        CALLS[name](*row.made(), parameters=row.parameters, operator="ggn")


def test_the_page_has_the_table_as_the_rows_are():
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert table() in PAGE.read_text(), "put what `PYTHONPATH=src:tests python -m peer_suites.table` prints there"
