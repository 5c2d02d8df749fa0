"""Eigenvalues, trace and density of matrices that come from no model."""

import subprocess
import sys

import pytest
import torch

from operators import Dense, Stopped
from theodolite.errors import SettingError, TooLarge
from theodolite.measure.linalg.eigensolver import eigenvalues
from theodolite.measure.linalg.quadrature import density
from theodolite.measure.linalg.sketch import diagonal
from theodolite.measure.linalg.trace import trace

VALUES = torch.cat([torch.tensor([-7.0, 5.0, 8.0, 9.0, 9.0]), torch.linspace(-1, 1, 195)]).double()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_eigenvalues_of_an_operator_that_knows_no_model_are_found_with_their_copies(dtype):
    A = Dense(VALUES, dtype)
    found = eigenvalues(A, k=4, random=generator())
    assert torch.allclose(found.eigenvalues, torch.tensor([5.0, 8.0, 9.0, 9.0]).double(), atol=1e-3)
    assert (found.residuals <= found.tolerance).all()
    both = eigenvalues(A, k=1, which="both", random=generator())
    assert torch.allclose(both.eigenvalues, torch.tensor([-7.0, 9.0]).double(), atol=1e-3)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("which", ["largest", "both"])
@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_fewest_vectors_that_are_taken_are_enough_also_for_copies(dtype, k, which):
    """What a fresh start finds is not kept there; with a byte less it is refused."""
    ends = torch.tensor([-9.0, -9.0, -8.0, -7.0, 6.0, 8.0, 9.0, 9.0])
    values = torch.cat([ends, torch.linspace(-1, 1, 992)]).double()
    wanted = 2 * k if which == "both" else k
    memory = (4 * wanted + 3) * len(values) * dtype.itemsize
    found = eigenvalues(Dense(values, dtype), k=k, which=which, tolerance=1e-3, memory=memory, random=generator())
    order = values.sort().values
    expected = order[-k:] if which == "largest" else torch.cat([order[:k], order[-k:]])
    assert torch.allclose(found.eigenvalues, expected, atol=9e-3)
    assert (found.residuals <= found.tolerance).all()
    assert torch.allclose(found.eigenvectors.norm(dim=1), torch.ones(1, dtype=torch.float64), atol=1e-12)
    with pytest.raises(TooLarge, match=f"{4 * wanted + 3} vectors of 1,000 numbers"):
        eigenvalues(Dense(values, dtype), k=k, which=which, memory=memory - 1, random=generator())


def test_a_direction_whose_product_is_known_is_not_multiplied_again():
    A = Dense(VALUES)
    taken = []
    rows = A.rows
    A.rows = lambda vectors: taken.append(len(vectors)) or rows(vectors)
    start = torch.randn(200, generator=generator(1), dtype=torch.float64)
    starts = [(start, start @ A.matrix)]
    eigenvalues(A, k=1, max_products=5, random=generator(), starts=starts)
    assert starts[0][0] is start
    assert sum(taken) == 5


@pytest.mark.parametrize("method", [None, "hutch++", "hutchinson"])
def test_the_trace_of_an_operator_that_knows_no_model_lies_within_its_error(method):
    found = trace(Dense(VALUES), method=method, products=90, random=generator())
    assert 0 < found.standard_error < 5
    assert abs(found.value - float(VALUES.sum())) < 4 * found.standard_error


def test_the_trace_of_a_small_matrix_is_exact():
    found = trace(Dense(VALUES[:15]), products=60, random=generator())
    assert found.standard_error == 0
    assert found.value == pytest.approx(float(VALUES[:15].sum()))


def test_the_density_of_an_operator_that_knows_no_model_integrates_to_one_and_has_its_mean():
    found = density(Dense(VALUES), probes=8, steps=30, random=generator())
    assert float(torch.trapezoid(found.density, found.grid)) == pytest.approx(1, abs=1e-3)
    assert abs(found.mean - float(VALUES.mean())) < 4 * found.mean_standard_error
    assert float(found.nodes.nan_to_num(0).max()) == pytest.approx(9, abs=1e-6)


def test_who_wants_what_there_is_gets_it():
    A = Dense(VALUES)
    assert len(eigenvalues(A, k=2, random=generator(), progress=Stopped(6)).eigenvalues) == 2
    assert len(trace(A, method="hutchinson", random=generator(), progress=Stopped(8)).samples) == 8
    assert density(A, random=generator(), progress=Stopped(40)).nodes.shape == (8, 5)


def test_what_does_not_fit_the_memory_or_the_range_is_refused():
    A = Dense(VALUES)
    for instrument in (eigenvalues, trace, density, diagonal):
        with pytest.raises(TooLarge, match=r"expected memory for .*, got 1kB, .* Pass more memory, or "):
            instrument(A, random=generator(), memory=1000.0)
    for call in (lambda: eigenvalues(A, k=0, random=generator()), lambda: trace(A, products=5, random=generator())):
        with pytest.raises(SettingError, match="expected"):
            call()
    with pytest.raises(SettingError, match="at least 2 probes"):
        density(A, probes=1, random=generator())


@pytest.mark.slow
def test_the_algorithms_load_nothing_that_knows_a_model():
    script = (
        "import sys\n"
        "from theodolite.measure.linalg import eigensolver, quadrature, trace\n"
        "own = [name for name in sys.modules if name.startswith('theodolite.measure.')]\n"
        "own.remove('theodolite.measure.catalogue')  # names and questions, which the package reads\n"
        "assert own and all(name.startswith('theodolite.measure.linalg') for name in own), own"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
