"""A bar for people, and Ctrl-C that hands back what there is."""

import io
import signal
import threading

import pytest
import torch

import cases
import oracles
from theodolite.measure import HessianOperator, hessian_density, hessian_eigenvalues, hessian_trace
from theodolite.measure.problem.progress import watch


@pytest.fixture
def case():
    return cases.make("conv_transpose2d", "cross_entropy")


def interrupt_after(monkeypatch, products):
    """Press Ctrl-C while that product is computed."""
    original, done = HessianOperator.rows, []

    def rows(self, vectors):
        done.extend(vectors if hasattr(self, "check") else [])  # not the check's own
        if len(done) >= products and len(done) - len(vectors) < products:
            signal.raise_signal(signal.SIGINT)
        return original(self, vectors)

    monkeypatch.setattr(HessianOperator, "rows", rows)


def test_eigenvalues_come_back_with_their_residuals(case, monkeypatch):
    H = oracles.hessian(case.model, case.loss, case.batches)
    interrupt_after(monkeypatch, 6)
    found = hessian_eigenvalues(case.model, case.loss, case.batches, k=3, tolerance=1e-12)
    assert found.interrupted
    assert not found.converged.all()
    miss = found.eigenvectors @ H - found.eigenvalues[:, None] * found.eigenvectors
    assert torch.allclose(found.residuals, miss.norm(dim=1), atol=1e-12)
    assert "interrupted" in str(found)


def test_a_density_comes_back_from_the_steps_done(case, monkeypatch):
    interrupt_after(monkeypatch, 12)
    found = hessian_density(case.model, case.loss, case.batches, probes=4, steps=30)
    assert found.interrupted
    assert found.nodes.shape == (4, 3)
    assert float(torch.trapezoid(found.density, found.grid)) == pytest.approx(1, abs=1e-4)
    assert (found.standard_error > 0).any()


@pytest.mark.parametrize(
    ("after", "asked", "method"),
    [(5, None, "hutchinson"), (25, None, "hutchinson"), (44, None, "hutchinson"), (44, "hutch++", "hutch++")],
)
def test_a_trace_comes_back_from_the_products_done(case, monkeypatch, after, asked, method):
    expected = float(oracles.hessian(case.model, case.loss, case.batches).trace())
    interrupt_after(monkeypatch, after)
    found = hessian_trace(case.model, case.loss, case.batches, products=60, method=asked)
    assert found.interrupted
    assert found.method == method
    assert found.products < 60
    assert abs(found.value - expected) < 5 * found.standard_error


def test_a_whole_result_says_it_was_not_interrupted(case):
    assert not hessian_trace(case.model, case.loss, case.batches, products=6).interrupted


def test_the_second_interrupt_ends_the_program():
    with watch("work", None, False) as watched:
        signal.raise_signal(signal.SIGINT)
        assert watched.interrupted
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_users_stays():
    def own(number, frame):
        raise RuntimeError("mine")

    before = signal.signal(signal.SIGINT, own)
    try:
        with watch("work", None, False), pytest.raises(RuntimeError, match="mine"):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_are_left_alone():
    found = []

    def work():
        with watch("work", 3, False) as watched:
            watched.advance()
        found.append(watched.interrupted)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


def test_a_bar_is_shown_where_asked_for_and_only_there(case, monkeypatch):
    for progress, shown in ((True, True), (None, False), (False, False)):
        stream = io.StringIO()
        monkeypatch.setattr("sys.stderr", stream)
        hessian_trace(case.model, case.loss, case.batches, products=6, progress=progress)
        assert ("trace" in stream.getvalue()) == shown
