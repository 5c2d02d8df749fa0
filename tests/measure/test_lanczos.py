"""The iteration itself, on diagonal matrices whose eigenvalues are known."""

import sys

import pytest
import torch

from theodolite.measure import hessian_eigenvalues  # noqa: F401 - loads the module of the same name
from theodolite.measure.lanczos import start

ruled_out = sys.modules["theodolite.measure.hessian_eigenvalues"]._ruled_out


def diagonal(outliers, bulk, dtype=torch.float64, **options):
    """A basis for diag(outliers, bulk), and the list its products are counted in."""
    values = torch.cat([torch.tensor(outliers).double(), bulk.double()]).to(dtype)
    taken = []

    def multiply(rows):
        taken.append(len(rows))
        return rows * values

    options = {"capacity": 150, "seed": 0, "images": True} | options
    return start(multiply, len(values), like=torch.empty(0, dtype=dtype), **options), values, taken


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_eigenvalue_comes_up_again_however_long_it_goes_on(dtype):
    """Without reorthogonalisation there are several of each after 120 steps."""
    outliers = [float(i) for i in range(1, 11)]
    basis, _, _ = diagonal(outliers, torch.linspace(-0.3, 0.3, 2000), dtype)
    for _ in range(120):
        basis.grow()
    rows = basis.rows[: basis.size].double()
    rounding = 100 * torch.finfo(dtype).eps
    assert float((rows @ rows.T - torch.eye(basis.size).double()).abs().max()) < rounding
    found = basis.ritz()[0]
    assert torch.allclose(found[-10:], torch.tensor(outliers).double(), atol=10 * 10 * torch.finfo(dtype).eps)
    assert found[-11] < 0.31


@pytest.mark.parametrize("images", [True, False])
def test_products_known_beforehand_are_taken_and_right(images):
    values = diagonal([5.0, 4.0], torch.linspace(-1, 1, 300))[1]
    pair = torch.randn(2, len(values), generator=torch.Generator().manual_seed(1)).double()
    basis, _, taken = diagonal(
        [5.0, 4.0], torch.linspace(-1, 1, 300), images=images, fresh=[(v, v * values) for v in pair]
    )
    for step in range(20):
        if step == 12:
            basis.turn()
        basis.grow()
    assert sum(taken) == (18 if images else 19)  # without images the product with what is left of a direction is new
    rows = basis.rows[:20]
    assert torch.allclose(rows @ rows.T, torch.eye(20).double(), atol=1e-8)
    assert torch.allclose((rows * values) @ rows.T, basis.projection[:20, :20], atol=1e-8)
    assert torch.allclose(rows[0], pair[1] / pair[1].norm())


def test_a_direction_that_the_basis_holds_already_is_passed_over():
    """Of its known product nothing is left but rounding."""
    basis, values, taken = diagonal([3.0, 2.0, 1.0], torch.zeros(0), fresh=[])
    for _ in range(2):
        basis.grow()
    basis.fresh.append((basis.rows[0].clone(), basis.rows[0] * values))
    basis.turn()
    basis.grow()
    assert taken == [1, 1, 1]
    assert torch.allclose(basis.ritz()[0], torch.tensor([1.0, 2.0, 3.0]).double())


def early(outliers, floor, seed):
    """Steps after which a fresh start rules out eigenvalues at the floor or above; None if it has not by the eighth."""
    basis, _, _ = diagonal(outliers, torch.linspace(-1, 1, 400), seed=seed, capacity=8)
    for step in range(1, 9):
        basis.grow()
        if ruled_out(basis, 0, torch.tensor([-1.0, floor]).double(), 0, 1):
            return step
    return None


def test_a_fresh_start_rules_out_what_is_there_once_in_200_times_at_most():
    wrong = sum(early([5.0], 5.0, seed) is not None for seed in range(600))
    assert wrong <= 9  # three expected at most


def test_a_fresh_start_rules_out_what_is_far_away_early():
    steps = [early([1.0], 5.0, seed) for seed in range(20)]
    assert all(found is not None and found <= 6 for found in steps)


def test_a_fresh_start_does_not_rule_out_what_is_near():
    assert all(early([1.0], 1.02, seed) is None for seed in range(20))
