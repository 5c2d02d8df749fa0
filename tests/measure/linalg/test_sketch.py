"""Diagonal and trace from one sketch, against matrices whose spectra are known."""

import pytest
import torch

from operators import Dense, Stopped
from theodolite.errors import SettingError, TooLarge
from theodolite.measure.linalg.sketch import diagonal
from theodolite.measure.linalg.trace import trace

SIZE, SETS = 120, 40
SPECTRA = {
    "decaying": 100 * 0.8 ** torch.arange(SIZE).double(),
    "both signs": torch.linspace(-1, 1, SIZE).double() ** 5 * 50,
    "low rank": torch.cat([torch.arange(1, 9).double(), torch.zeros(SIZE - 8).double()]),
}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ["decaying", "both signs"])
def test_over_many_draws_both_lie_around_the_truth_as_their_errors_say(name):
    A = Dense(SPECTRA[name])
    traces = [trace(A, method="xtrace", products=40, random=seeded(seed)) for seed in range(SETS)]
    off = torch.tensor([each.value for each in traces]) - float(SPECTRA[name].sum())
    said = torch.tensor([each.standard_error for each in traces])
    assert abs(float(off.mean())) < 4 * float(off.std()) / SETS**0.5
    assert 0.6 < float(said.square().mean().sqrt() / off.square().mean().sqrt()) < 1.6
    entries = [diagonal(A, products=40, random=seeded(seed)) for seed in range(SETS)]
    away = torch.stack([each.diagonal for each in entries]) - A.matrix.diagonal()
    errors = torch.stack([each.standard_error for each in entries])
    assert float((away.mean(0).abs() / (away.std(0) / SETS**0.5)).max()) < 6
    assert 0.6 < float(errors.square().mean().sqrt() / away.square().mean().sqrt()) < 1.6
    assert entries[0].method == "xdiag"


def test_a_decaying_spectrum_is_traced_many_times_surer_than_by_hutch_plus_plus():
    A, truth = Dense(SPECTRA["decaying"]), float(SPECTRA["decaying"].sum())

    def error(method):
        off = [trace(A, method=method, products=60, random=seeded(seed)).value - truth for seed in range(20)]
        return float(torch.tensor(off).square().mean().sqrt())

    assert trace(A, products=60, random=seeded(0)).method == "xtrace"
    assert 4 * error(None) < error("hutch++") < error("hutchinson")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_the_sketch_spans_is_exact(dtype):
    A = Dense(SPECTRA["low rank"], dtype)
    rounding = 1e3 * torch.finfo(dtype).eps
    found = trace(A, method="xtrace", products=40, random=seeded(0))
    assert found.standard_error == 0
    assert found.value == pytest.approx(36, abs=36 * rounding)
    entries = diagonal(A, products=40, random=seeded(0))
    assert not entries.standard_error.any()
    assert torch.allclose(entries.diagonal, A.matrix.diagonal().double(), atol=8 * rounding)


def test_with_as_many_products_as_rows_the_diagonal_is_exact():
    A = Dense(SPECTRA["both signs"])
    found = diagonal(A, products=SIZE, random=seeded(0))
    assert found.method == "exact"
    assert torch.allclose(found.diagonal, A.matrix.diagonal())
    tiny = Dense(torch.tensor([2.0, -1.0]).double())
    assert torch.allclose(diagonal(tiny, products=6, random=seeded(0)).diagonal, tiny.matrix.diagonal())
    assert trace(tiny, method="xtrace", products=6, random=seeded(0)).value == pytest.approx(1.0)


def test_who_wants_what_there_is_gets_a_trace_and_no_half_diagonal():
    A = Dense(SPECTRA["decaying"])
    assert trace(A, products=60, random=seeded(0), progress=Stopped(24)).method == "hutchinson"
    with pytest.raises(KeyboardInterrupt):
        diagonal(A, products=60, random=seeded(0), progress=Stopped(24))
    with pytest.raises(TooLarge, match="expected memory"):
        diagonal(A, random=seeded(0), memory=1000.0)
    with pytest.raises(SettingError, match="at least 6 products"):
        diagonal(A, products=5, random=seeded(0))
