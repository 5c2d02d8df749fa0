"""Curvature over shards of the data on a real cluster of two nodes, whose processes are killed for real."""

import copy
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from ray.cluster_utils import Cluster
from torch import Tensor, nn

import oracles
from theodolite import measure
from theodolite.errors import BadData, UsageError, WorkerDied

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own: open sockets and files of the cluster
RAY = {"engine": "ray", "progress": False}


@pytest.fixture(scope="module", autouse=True)
def joined(cluster: Cluster) -> Iterator[None]:
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def picture_network() -> nn.Module:
    layers = nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 3, 2, padding=1), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten()
    model = nn.Sequential(*layers, nn.Linear(27, 3)).double()
    model(torch.randn(40, 4).double() * 2 + 1)  # running statistics that are not those of the data
    return model.eval()


def batches(*sizes: int) -> list[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(1)
    inputs = [torch.randn(n, 4, generator=random, dtype=torch.float64) for n in sizes]
    return [(x, torch.randint(3, (len(x),), generator=random)) for x in inputs]


def rounding(matrix: Tensor, samples: int) -> float:
    """Norm of what a product with a unit vector may be off: each entry adds up at most N + P terms, in any order."""
    return float((samples + len(matrix)) * torch.finfo(matrix.dtype).eps * torch.linalg.matrix_norm(matrix, 2))


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("make", "loss", "operator"),
    [
        (mlp, nn.CrossEntropyLoss(), "ggn"),
        (mlp, nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.2]).double(), ignore_index=1), "hessian"),
        (picture_network, nn.CrossEntropyLoss(), "hessian"),
    ],
    ids=["ggn", "class weights and ignore_index", "BatchNorm and convolution"],
)
def test_products_over_shards_are_those_of_the_whole_data(make, loss, operator):
    torch.manual_seed(0)
    model, data = make(), batches(11, 5, 9, 8)
    expected = (oracles.hessian if operator == "hessian" else oracles.gauss_newton)(model, loss, data)
    with measure.HessianOperator(model, loss, data, operator=operator, engine="ray") as H:
        assert H.path.endswith(", in 2 shards")
        assert H.check < 1e-6
        found = H @ torch.eye(len(expected)).double()
        assert torch.equal(found, H @ torch.eye(len(expected)).double())
    assert float(torch.linalg.matrix_norm(found - expected, 2)) <= len(expected) ** 0.5 * rounding(expected, 33)


@pytest.mark.thorough
def test_a_covariance_over_shards_is_that_of_all_gradients():
    torch.manual_seed(0)
    model, data = mlp(), batches(11, 5, 9, 8)
    own = oracles.own_gradients(model, nn.CrossEntropyLoss(), data)
    expected = torch.cov(own.mT, correction=0)
    with measure.HessianOperator(model, nn.CrossEntropyLoss(), data, operator="gradient_covariance", engine="ray") as C:
        found = C @ torch.eye(len(expected)).double()
    assert float(torch.linalg.matrix_norm(found - expected, 2)) <= len(expected) ** 0.5 * rounding(expected, 33)


@pytest.fixture(scope="module")
def problem() -> tuple[nn.Module, nn.Module, list[tuple[Tensor, Tensor]], Tensor]:
    torch.manual_seed(2)
    model, loss, data = mlp(), nn.CrossEntropyLoss(), batches(7, 30, 4)
    return model, loss, data, oracles.hessian(model, loss, data)


def test_eigenvalues_over_shards_are_those_of_the_dense_matrix(problem):
    model, loss, data, matrix = problem
    found = measure.hessian_eigenvalues(model, loss, data, k=3, which="both", tolerance=1e-10, **RAY)
    values = torch.linalg.eigvalsh(matrix)
    assert found.converged.all()
    bound = found.residuals + rounding(matrix, 41)
    assert ((found.eigenvalues - torch.cat([values[:3], values[-3:]])).abs() <= bound).all()


@pytest.mark.thorough
def test_a_density_over_shards_is_that_of_one_process(problem):
    model, loss, data, matrix = problem
    here, there = (
        measure.hessian_density(model, loss, data, probes=3, steps=8, width=0.02, progress=False, **engine)
        for engine in ({}, {"engine": "ray"})
    )
    assert abs(here.mean - there.mean) <= 10 * rounding(matrix, 41)
    assert torch.allclose(here.density, there.density, rtol=1e-8, atol=1e-8)  # eight steps magnify rounding


@pytest.mark.thorough
def test_an_exact_spectrum_over_shards_is_that_of_the_dense_matrix(problem):
    model, loss, data, matrix = problem
    found = measure.hessian_spectrum(model, loss, data, engine="ray")
    assert (found.eigenvalues - torch.linalg.eigvalsh(matrix)).abs().max() <= len(matrix) ** 0.5 * rounding(matrix, 41)
    gradient = oracles.gradient(model, loss, data)
    assert found.gradient_norm == pytest.approx(float(gradient.norm()), rel=1e-12)


def test_a_gradient_over_shards_of_one_batch_leaves_model_gradients_and_random_states_as_they_were(problem):
    model, loss, data, _ = problem
    model = copy.deepcopy(model)
    one = torch.cat([x for x, _ in data]), torch.cat([y for _, y in data])
    loss(model(one[0]), one[1]).backward()
    state = {n: t.clone() for n, t in model.state_dict().items()}
    slopes = [p.grad.clone() for p in model.parameters()]
    randoms = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    found = measure.gradient_norm(model, loss, one, engine="ray")
    assert found.value == pytest.approx(float(oracles.gradient(model, loss, [one]).norm()), rel=1e-12)
    assert found.loss == pytest.approx(float(oracles.total_loss(model, loss, [one])), rel=1e-12)
    assert all(torch.equal(t, state[n]) for n, t in model.state_dict().items())
    assert all(torch.equal(p.grad, slope) for p, slope in zip(model.parameters(), slopes, strict=True))
    assert torch.equal(torch.get_rng_state(), randoms[0])
    assert random.getstate() == randoms[1]
    assert (np.random.get_state()[1] == randoms[2]).all()


class Ending(nn.CrossEntropyLoss):
    """Ends any process but the test's: the first, or every one."""

    def __init__(self, mark: Path, always: bool) -> None:
        super().__init__()
        self.mark, self.always, self.here = mark, always, os.getpid()

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if os.getpid() != self.here and (self.always or not self.mark.exists()):
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(outputs, targets)


def all_processors_free() -> bool:
    deadline = time.monotonic() + 20
    while ray.available_resources().get("CPU", 0) != ray.cluster_resources()["CPU"]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_trace_takes_the_probes_of_one_process_also_where_a_shard_is_killed_and_made_again(problem, tmp_path):
    model, _, data, matrix = problem
    here, there = (
        measure.hessian_trace(model, loss, data, method="hutchinson", products=10, seed=3, progress=False, **engine)
        for loss, engine in ((nn.CrossEntropyLoss(), {}), (Ending(tmp_path / "mark", always=False), {"engine": "ray"}))
    )
    assert (tmp_path / "mark").exists()
    bound = len(matrix) * rounding(matrix, 41)  # |g|² = P
    assert abs(here.value - there.value) <= bound
    assert abs(here.standard_error - there.standard_error) <= bound
    assert here.standard_error > 1e6 * bound


@pytest.mark.thorough
def test_a_shard_whose_process_always_ends_is_an_error_and_the_others_end(problem, tmp_path):
    model, _, data, _ = problem
    with pytest.raises(WorkerDied, match=r"part \d of 2 to stay alive, but it ended 2 times"):
        measure.hessian_trace(model, Ending(tmp_path / "mark", always=True), data, **RAY)
    assert all_processors_free()


def fails_on_large_batches(outputs: Tensor, targets: Tensor) -> Tensor:
    if len(targets) > 20:
        raise ArithmeticError(f"{len(targets)} are too many")
    return nn.functional.cross_entropy(outputs, targets)


def test_an_exception_in_the_loss_is_told_with_its_batch_and_kept_with_where_it_came_from(problem):
    with pytest.raises(BadData, match=r"batch 1: ArithmeticError in line .* 25 are too many") as caught:
        measure.gradient_norm(problem[0], fails_on_large_batches, batches(15, 25, 10), engine="ray")
    cause = caught.value.__cause__
    assert isinstance(cause, ArithmeticError)
    assert "fails_on_large_batches" in cause.__notes__[0]
    assert all_processors_free()


def test_what_cannot_be_sent_is_named_with_the_way_round(problem):
    model, loss, data, _ = problem
    lock = threading.Lock()

    def guarded(outputs: Tensor, targets: Tensor) -> Tensor:
        with lock:
            return loss(outputs, targets)

    with pytest.raises(UsageError, match=r"a model and a loss that can be sent .*lock.* engine='local'"):
        measure.gradient_norm(model, guarded, data, engine="ray")
    found = measure.gradient_norm(model, guarded, data, engine="local").value
    assert found == pytest.approx(float(oracles.gradient(model, loss, data).norm()), rel=1e-12)


def test_another_address_than_the_one_this_program_is_on_is_refused(problem):
    with pytest.raises(UsageError, match="this program is on that at"):
        measure.gradient_norm(*problem[:3], engine="ray", address="127.0.0.1:1")
    found = measure.gradient_norm(*problem[:3], engine="ray").value  # left out, as the message says
    assert found == pytest.approx(float(oracles.gradient(*problem[:3]).norm()), rel=1e-12)


@pytest.mark.thorough
def test_ctrl_c_ends_the_cluster_that_was_started_for_an_operator(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import torch\nfrom torch import nn\nfrom theodolite import measure\n"
        "data = [(torch.randn(50, 4), torch.zeros(50, 3)) for _ in range(3)]\n"
        "with measure.HessianOperator(nn.Linear(4, 3), nn.MSELoss(), data, engine='ray', workers=1) as H:\n"
        "    while True:\n"
        "        print((H @ torch.ones(15)).shape, flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert child.stdout is not None
    assert "15" in child.stdout.readline()
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does
    _, error = child.communicate(timeout=60)
    assert error.strip().endswith("KeyboardInterrupt")
    assert not [path for path in Path("/proc").glob("[0-9]*") if _group(path) == child.pid]


def _group(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rsplit(")", 1)[1].split()[3])  # the session it belongs to
    except OSError:
        return -1
