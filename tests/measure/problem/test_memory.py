"""memory="2GB" means the same to every instrument: as little as fits, the same numbers, or a clear error."""

import pytest
import torch
from torch import nn

from theodolite.errors import SettingError, TooLarge
from theodolite.measure import (
    HessianOperator,
    hessian_density,
    hessian_eigenvalues,
    hessian_spectrum,
    hessian_trace,
    minimal_ratio,
)
from theodolite.measure.problem.memory import free, in_words, room

CPU = torch.device("cpu")
INSTRUMENTS = [
    HessianOperator,
    hessian_density,
    hessian_eigenvalues,
    hessian_spectrum,
    hessian_trace,
    minimal_ratio,
]


@pytest.mark.parametrize(
    ("text", "count"),
    [("2GB", 2e9), ("2 gb", 2e9), ("1.5 MiB", 1.5 * 2**20), ("64kB", 64e3), ("7", 7), ("3TiB", 3 * 2**40), (12, 12)],
)
def test_sizes_are_read_as_people_write_them(text, count):
    assert room(text, CPU) == count


@pytest.mark.parametrize("bad", ["", "much", "2XB", "GB", "-1GB", "0", 0, -5, True, 1.5, "1e3MB"])
def test_what_is_no_size_is_refused(bad):
    with pytest.raises(SettingError, match="2GB"):
        room(bad, CPU)


def test_half_of_what_is_free_is_the_default():
    assert room(None, CPU) == pytest.approx(free(CPU) / 2, rel=0.2)


def test_sizes_are_written_as_they_are_read():
    assert [room(in_words(n), CPU) for n in (5.0, 12e3, 3.5e6, 2e9, 1e12)] == [5.0, 12e3, 3.5e6, 2e9, 1e12]


@pytest.fixture
def problem():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 10), nn.LayerNorm(10), nn.Tanh(), nn.Linear(10, 3)).double()
    return model, nn.CrossEntropyLoss(), (torch.randn(300, 12).double(), torch.randint(0, 3, (300,)))


@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_every_instrument_reads_it_and_refuses_nonsense(instrument, problem):
    with pytest.raises(SettingError, match="much"):
        instrument(*problem, memory="much")


@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_too_little_is_an_error_that_says_so(instrument, problem):
    with pytest.raises(TooLarge, match="expected"):
        instrument(*problem, memory="1kB")


def test_results_are_the_same_to_rounding(problem):
    """300 kB: eigenvectors and graphs do not fit at once, and a density's probes go one after the other."""
    for instrument, options, field in (
        (hessian_eigenvalues, {"k": 3, "tolerance": 1e-8}, "eigenvalues"),
        (hessian_density, {"probes": 3, "steps": 20}, "nodes"),
        (hessian_trace, {"products": 24}, "value"),
        (hessian_trace, {"products": 24, "method": "hutchinson"}, "value"),
    ):
        wide, tight = (instrument(*problem, **options, memory=memory) for memory in (None, "300kB"))
        assert (wide.path, tight.path) == ("operation by operation", "operation by operation, anew")
        expected, found = (torch.as_tensor(getattr(each, field)) for each in (wide, tight))
        assert torch.allclose(found, expected, rtol=1e-6, atol=1e-9 * float(expected.abs().max()))
