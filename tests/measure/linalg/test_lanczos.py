"""The iteration itself, on diagonal matrices whose eigenvalues are known."""

import pytest
import torch

from theodolite.measure.linalg import lanczos
from theodolite.measure.linalg.eigensolver import Search, ruled_out
from theodolite.measure.linalg.lanczos import krylov_basis
from theodolite.measure.linalg.operator import Silent


class Matrix:
    """A symmetric operator made of a function, which knows no model."""

    def __init__(self, size, dtype, rows):
        self.size, self.dtype, self.device, self.rows = size, dtype, torch.device("cpu"), rows


def diagonal(outliers, bulk, dtype=torch.float64, **options):
    """A basis for diag(outliers, bulk), and the list its products are counted in."""
    values = torch.cat([torch.tensor(outliers).double(), bulk.double()]).to(dtype)
    taken = []

    def multiply(rows):
        taken.append(len(rows))
        return rows * values

    options = {"capacity": 150, "keep_products": True} | options
    random = torch.Generator().manual_seed(options.pop("seed", 0))
    return krylov_basis(Matrix(len(values), dtype, multiply), random=random, **options), values, taken


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


@pytest.mark.parametrize("keep_products", [True, False])
def test_products_known_beforehand_are_taken_and_right(keep_products):
    values = diagonal([5.0, 4.0], torch.linspace(-1, 1, 300))[1]
    pair = torch.randn(2, len(values), generator=torch.Generator().manual_seed(1)).double()
    basis, _, taken = diagonal(
        [5.0, 4.0], torch.linspace(-1, 1, 300), keep_products=keep_products, starts=[(v, v * values) for v in pair]
    )
    for step in range(20):
        if step == 12:
            basis.restart()
        basis.grow()
    assert sum(taken) == (
        18 if keep_products else 19
    )  # without kept products the product with what is left of a direction is new
    rows = basis.rows[:20]
    assert torch.allclose(rows @ rows.T, torch.eye(20).double(), atol=1e-8)
    assert torch.allclose((rows * values) @ rows.T, basis.projection[:20, :20], atol=1e-8)
    assert torch.allclose(rows[0], pair[1] / pair[1].norm())


def test_a_direction_that_the_basis_holds_already_is_passed_over():
    """Of its known product nothing is left but rounding."""
    basis, values, taken = diagonal([3.0, 2.0, 1.0], torch.zeros(0), starts=[])
    for _ in range(2):
        basis.grow()
    basis.starts.append((basis.rows[0].clone(), basis.rows[0] * values))
    basis.restart()
    basis.grow()
    assert taken == [1, 1, 1]
    assert torch.allclose(basis.ritz()[0], torch.tensor([1.0, 2.0, 3.0]).double())


def early(outliers, floor, seed):
    """Steps after which a fresh start rules out eigenvalues at the floor or above; None if it has not by the eighth."""
    basis, _, _ = diagonal(outliers, torch.linspace(-1, 1, 400), seed=seed, capacity=8)
    for step in range(1, 9):
        basis.grow()
        if ruled_out(basis.chain(0), torch.tensor([-1.0, floor]).double(), 0, 1, 0.0):
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


SPECTRA = {
    "close": torch.cat([10 + 1e-6 * torch.arange(5.0).double(), torch.linspace(-1, 1, 395).double()]),
    "multiple": torch.cat([torch.tensor([3.0] * 4 + [2.0] * 4).double(), torch.linspace(-0.5, 0.5, 392).double()]),
    "all of them multiple": torch.arange(1, 21).double().repeat(20),
    "of low rank": torch.cat([torch.arange(1, 13).double(), torch.zeros(388).double()]),
    "ever smaller": 0.8 ** torch.arange(400).double(),
    "indefinite": torch.linspace(-1, 1, 400).double() ** 3,
    "over six orders": torch.cat([10.0 ** torch.arange(6).double(), torch.linspace(-1, 1, 394).double()]),
}


def dense(values, dtype, noise=0.0):
    """Products with Q diag(values) Qᵀ, in what order and with what rounding a GPU may compute them."""
    random = torch.Generator().manual_seed(2)
    turned = torch.linalg.qr(torch.randn(len(values), len(values), generator=random, dtype=torch.float64))[0]
    matrix = (turned * values) @ turned.mT
    cast = matrix.to(dtype)

    def multiply(rows):
        product = rows @ cast
        random_rounding = torch.randn(product.shape, generator=random, dtype=torch.float64).to(dtype)
        return product + noise * product.norm() / len(values) ** 0.5 * random_rounding

    return multiply, torch.linalg.eigvalsh(matrix)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("ends", [(0, 5), (3, 5)])
@pytest.mark.parametrize("capacity", [40, 200])
@pytest.mark.parametrize(
    ("dtype", "tolerance", "noise"),
    [
        (torch.float64, 1e-3, 0.0),
        (torch.float64, 1e-8, 0.0),
        (torch.float32, 1e-3, 0.0),
        (torch.float32, 1e-4, 1e-6),
        (torch.float32, 1e-3, 1e-4),  # far above the type's own rounding, as in a deep model
    ],
)
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_rows_that_are_nearly_orthogonal_give_the_ends_of_any_spectrum(
    spectrum, dtype, tolerance, noise, capacity, ends
):
    multiply, expected = dense(SPECTRA[spectrum], dtype, noise)
    low, high = ends
    random = torch.Generator().manual_seed(0)
    matrix = Matrix(400, dtype, multiply)
    basis = krylov_basis(
        matrix, capacity, random, keep_products=True, max_overlap=0.1 * tolerance
    )  # as eigenvalues does
    found = Search(basis, low, high, tolerance, 600, Silent()).run()
    values, residuals, bound = found.eigenvalues, found.residuals, found.tolerance
    rows = basis.rows[: basis.size].double()
    overlap = float((rows @ rows.mT - torch.eye(basis.size).double()).abs().max())
    assert overlap <= max(0.5 * tolerance, 1e-5 if dtype == torch.float32 else 1e-7)
    wanted = torch.cat([expected[:low], expected[400 - high :]])
    assert float((values.sort().values - wanted).abs().max()) <= 1.1 * max(bound, float(residuals.max()))
    if capacity == 200 or spectrum not in {"all of them multiple", "ever smaller"}:  # which take more than 600 products
        assert (residuals <= bound).all()


def test_a_bulk_narrower_than_the_tolerance_ends_the_search_though_it_always_holds_one_more():
    basis, eigenvalues, taken = diagonal(range(1, 11), torch.linspace(-0.05, 0.05, 3000), max_overlap=1e-3)
    found = Search(basis, 5, 5, 1e-2, 500, Silent()).run()
    values, residuals, bound = found.eigenvalues, found.residuals, found.tolerance
    expected = eigenvalues.sort().values
    assert len(taken) <= 60
    assert bound > 0.09
    assert (residuals <= bound).all()
    assert float((values - torch.cat([expected[:5], expected[-5:]])).abs().max()) <= bound


def test_nearly_orthogonal_rows_are_seldom_made_orthogonal_to_all(monkeypatch):
    """Though without that eigenvalues would come up again: there are several of each after 120 steps."""
    passes = []
    whole = lanczos.orthogonal_part
    monkeypatch.setattr(
        lanczos, "orthogonal_part", lambda product, known: passes.append(len(known)) or whole(product, known)
    )
    outliers = [float(i) for i in range(1, 11)]
    basis, _, _ = diagonal(outliers, torch.linspace(-0.3, 0.3, 2000), max_overlap=1e-8)
    for _ in range(120):
        basis.grow()
    assert len(passes) < 60
    rows = basis.rows[: basis.size]
    assert float((rows @ rows.T - torch.eye(basis.size).double()).abs().max()) < 2e-8
    found = basis.ritz()[0]
    assert torch.allclose(found[-10:], torch.tensor(outliers).double(), rtol=0, atol=1e-13)  # to rounding all the same
    assert found[-11] < 0.31


@pytest.mark.parametrize("keep_products", [True, False])
def test_reorthogonalized_rows_are_orthogonal_and_span_what_they_did(keep_products):
    basis, values, _ = diagonal([3.0, 2.0], torch.linspace(-1, 1, 300), keep_products=keep_products, max_overlap=1e-8)
    for step in range(60):
        if step == 40:
            basis.restart()
        basis.grow()
    before = basis.ritz()[0]
    basis.reorthogonalize()
    rows = basis.rows[:60]
    assert float((rows @ rows.T - torch.eye(60).double()).abs().max()) < 1e-14
    assert torch.allclose((rows * values) @ rows.T, basis.projection[:60, :60], atol=1e-8)
    assert torch.allclose(basis.ritz()[0], before, atol=1e-8)
    if keep_products:
        assert torch.allclose(basis.products[:60], rows * values, atol=1e-12)
    for _ in range(20):
        basis.grow()
    rows = basis.rows[:80]
    assert float((rows @ rows.T - torch.eye(80).double()).abs().max()) < 1e-13
